"""`doctor` says when the user's images or table are not what the snapshot was taken of."""

from __future__ import annotations

import shutil

import polars
import pytest
from ruamel.yaml import YAML

from pipeline_lib.doctor import examine, recorded, snapshot
from tests.faults.conftest import Workspace, png

ADVICE = "take a new one: `dvc repro --force download && dvc repro`"
TABLE = "file,label\ncat/00.png,cat\n"


def said(workspace: Workspace) -> list[str]:
    """What is wrong with the snapshot."""
    workspace.run()
    findings = snapshot.check(workspace.root).findings
    assert all(finding.problem for finding in findings)
    return [str(finding) for finding in findings]


def summary(workspace: Workspace) -> str:
    workspace.run()
    return snapshot.check(workspace.root).summary


def test_a_table_that_changed_is_named(workspace: Workspace) -> None:
    workspace.two_classes()
    workspace.table(TABLE)
    workspace.run("download")
    assert (said(workspace), summary(workspace)) == (
        [],
        "compared with photos, labels.csv (a folder of images by names and sizes)",
    )
    workspace.table("quatsch")
    assert said(workspace) == [f"labels.csv: changed since its snapshot was taken; {ADVICE}"]
    assert snapshot.changed_table(workspace.root) == "labels.csv"
    assert examine.CHECKS["snapshot"] is snapshot.check
    workspace.run("download")
    assert said(workspace) == []
    assert snapshot.changed_table(workspace.root) is None
    (workspace.root / "data/raw/table.sha256").unlink()
    assert snapshot.changed_table(workspace.root) is None  # the other checks tell that


def test_images_in_a_folder_are_compared_by_name_and_size(workspace: Workspace) -> None:
    workspace.two_classes()
    (workspace.photos / "fox").mkdir()
    workspace.write("notes.txt", b"left out")
    workspace.run("download")
    assert said(workspace) == []
    workspace.write("cat/.hidden.png", b"")
    workspace.write("dog/notes.txt", b"left out too")
    assert said(workspace) == [], "none of these is in a snapshot"
    (workspace.photos / "fox").rmdir()
    workspace.add("cat/00.png", size=(90, 9))
    (workspace.photos / "dog/01.png").rename(workspace.photos / "cat/dog\n01.png")
    assert said(workspace) == [
        "photos: changed since its snapshot was taken: 1 new (cat/dog 01.png), 2 gone (dog/01.png, fox/), 1 changed "
        f"(cat/00.png); {ADVICE}"
    ]


def test_an_archive_is_compared_by_its_sha256(workspace: Workspace) -> None:
    workspace.two_classes()
    shutil.make_archive("photos", "zip", workspace.root, "photos")
    workspace.set(data={"path": "photos.zip"})
    workspace.run("download")
    assert said(workspace) == []
    path = workspace.root / "photos.zip"
    path.write_bytes(path.read_bytes().replace(b"cat/00.png", b"cat/xx.png"))
    assert said(workspace) == [f"photos.zip: changed since its snapshot was taken; {ADVICE}"]


def test_parquet_is_compared_by_its_sha256(workspace: Workspace) -> None:
    for name, shade in (("train", 0), ("test", 9)):
        image = [{"bytes": png(shade)}, {"bytes": png(shade + 1)}]
        path = workspace.write(f"{name}.parquet", b"")
        polars.DataFrame({"image": image, "label": ["cat", "dog"]}).write_parquet(path)
    workspace.set(data={"name": "image_parquet"})
    workspace.run("download")
    assert said(workspace) == []
    shutil.copy(path, workspace.photos / "train.parquet")
    path.unlink()
    assert said(workspace) == [
        "photos: changed since its snapshot was taken: 1 gone (test.parquet), 1 changed (train.parquet); "
        f"{ADVICE}"
    ]


def test_without_the_source_the_snapshot_stands_for_it(workspace: Workspace) -> None:
    workspace.two_classes()
    workspace.run("download")
    shutil.rmtree(workspace.photos)
    assert said(workspace) == []
    assert summary(workspace) == "compared with nothing, as its source is not here"
    workspace.set(data={"path": "https://example.org/photos.zip", "sha256": "0" * 64})
    assert said(workspace) == []


@pytest.mark.parametrize(
    ("data", "told"),
    [
        ({"name": "digits", "path": None}, "none needed of digits"),
        ({"path": "others"}, "none of what params.yaml names so far; `dvc repro` takes it"),
        ({"name": "image_foldr"}, "not compared, as params.yaml cannot be used"),
    ],
)
def test_only_the_snapshot_that_the_params_name_is_compared(
    workspace: Workspace, data: dict, told: str
) -> None:
    workspace.two_classes()
    workspace.run("download")
    shutil.copytree(workspace.photos, workspace.root / "others")
    (workspace.root / "others/cat/00.png").unlink()
    taken = {"data.name": "image_folder", "data.path": "photos", "data.table": None}
    lock = {"schema": "2.0", "stages": {"download": {"params": {"params.yaml": taken}}}}
    with (workspace.root / "dvc.lock").open("w") as file:
        YAML().dump(lock, file)
    assert recorded.params(workspace.root, "dvc.yaml", "download") == taken
    assert recorded.params(workspace.root, "dvc.yaml", "ingest") == {}
    workspace.set(data=data)
    assert (said(workspace), summary(workspace)) == ([], told)


def test_a_blank_that_takes_a_table_out_is_none(workspace: Workspace) -> None:
    """After `-S data.table=`, params.yaml and dvc.lock hold it."""
    workspace.two_classes()
    workspace.set(data={"table": ""})
    workspace.run("download")
    taken = {"data.name": "image_folder", "data.path": "photos", "data.table": ""}
    lock = {"schema": "2.0", "stages": {"download": {"params": {"params.yaml": taken}}}}
    with (workspace.root / "dvc.lock").open("w") as file:
        YAML().dump(lock, file)
    assert said(workspace) == []
    workspace.add("cat/77.png")
    assert said(workspace) == [
        f"photos: changed since its snapshot was taken: 1 new (cat/77.png); {ADVICE}"
    ]
