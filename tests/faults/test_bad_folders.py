"""What can be wrong with the user's folder: classes without images, and files that cannot be read."""

from __future__ import annotations

import errno
import gzip
import json
import os
import shutil
import tarfile
import unicodedata
import zipfile
from pathlib import Path

import pytest

from pipeline_lib.datasets.files import archives, fetch
from pipeline_lib.errors import UserError
from pipeline_lib.own_data import AGAIN


def packed(workspace, form: str) -> None:
    if form != "folder":
        shutil.make_archive("photos", form, workspace.root, "photos")
        name = {"zip": "photos.zip", "tar": "photos.tar", "gztar": "photos.tar.gz"}[form]
        workspace.set(data={"path": name})


@pytest.mark.parametrize("form", ["folder", "tar", "gztar", "zip"])
@pytest.mark.parametrize("split", ["", "train/"])
def test_a_class_folder_without_images_is_named(workspace, form: str, split: str):
    for shade, name in enumerate(("cat/1.png", "cat/2.png", "dog/1.png")):
        workspace.add(split + name, shade)
    for name in ("emu", ".hidden", "cat/notes"):
        (workspace.photos / split / name).mkdir()
    (workspace.photos / "val").mkdir()
    packed(workspace, form)
    message = workspace.refused("ingest", "download")
    assert message == f"classes without images: 'emu'; add images or remove the folder; {AGAIN}"
    (workspace.photos / split / "emu").rmdir()
    packed(workspace, form)
    workspace.run("download", "ingest")


class Broken:
    def __init__(self, *_: object) -> None:
        pass

    def __getattr__(self, name: str) -> object:
        raise OSError(errno.EIO, os.strerror(errno.EIO))


@pytest.mark.parametrize("form", ["folder", "tar"])
def test_a_file_that_cannot_be_read_is_the_one_named(workspace, monkeypatch, form: str):
    workspace.two_classes(2)
    packed(workspace, form)
    whole = fetch._Reader.__init__
    monkeypatch.setattr(
        fetch._Reader, "__init__", lambda self, _, shown: whole(self, Broken(), shown)
    )
    name = "photos/cat/00.png" if form == "folder" else "photos.tar"
    assert workspace.refused("download").startswith(f"{name}: cannot be read (Input/output error)")


def test_row_28_a_full_disk_while_unpacking_is_said(tmp_path: Path, monkeypatch):
    path = tmp_path / "photos.tar.gz"
    with gzip.open(path, "wb") as file, tarfile.open(fileobj=file, mode="w"):
        pass
    full = Path("/dev/full")
    if not full.exists():
        pytest.skip("no /dev/full here")
    monkeypatch.setattr(
        archives.tempfile, "TemporaryFile", lambda **_: full.open("wb", buffering=0)
    )
    failing = pytest.raises(UserError, match=r"cannot be unpacked in .* free space")
    with failing, archives.open_archive(path, "photos.tar.gz"):
        pass


EMPTY = "photos: holds no image; names of images end in .jpg .jpeg"


@pytest.mark.parametrize("name", ["", "cat", "notes.txt"])
def test_an_empty_folder_is_said_to_hold_no_image(workspace, name: str):
    if name.endswith(".txt"):
        workspace.write(name, b"x")
    else:
        (workspace.photos / name).mkdir(parents=True)
    assert workspace.refused("download").startswith(EMPTY)


def test_an_empty_archive_is_said_to_hold_no_image(workspace):
    with zipfile.ZipFile(workspace.root / "photos", "w"):
        pass
    assert workspace.refused("ingest", "download").startswith(EMPTY)


def test_what_is_left_out_is_counted_by_ending(workspace, capsys):
    workspace.two_classes(2)
    for name in ("cat/a.HEIC", "cat/b.heic", "dog/film.mp4", "readme", ".hidden", "Thumbs.db"):
        workspace.write(name, b"x")
    workspace.run("download")
    left = "left out 4 files that are no images we read (2 .heic, 1 .mp4, 1 without ending)"
    assert f"photos: {left}" in capsys.readouterr().out


@pytest.mark.parametrize("names", [("Train", "Test"), ("Training", "Testing"), ("TRAIN", "valid")])
def test_splits_are_found_whatever_their_letters(workspace, names: tuple[str, str]):
    for place, split in enumerate(names):
        for shade, name in enumerate(("cat", "dog")):
            workspace.add(f"{split}/{name}/1.png", 2 * place + shade)
    workspace.run("download", "ingest")
    rows = workspace.read("labels.parquet")
    assert {(row["source"].split("/")[0], row["split"]) for row in rows} == {
        (names[0], "train"),
        (names[1], "val" if names[1] == "valid" else "test"),
    }
    assert {row["label"] for row in rows} == {0, 1}


def test_a_folder_beside_splits_that_is_none_is_named(workspace):
    for name in ("train/cat/1.png", "train/dog/1.png", "extra/cat/1.png"):
        workspace.add(name, len(name))
    message = workspace.refused("ingest", "download")
    assert message.startswith("photos: extra/cat/1.png: lies too deep")
    assert message.endswith(f"; no split is named 'extra'; {AGAIN}")


@pytest.mark.parametrize("name", ["unlabeled", "Unlabelled"])
@pytest.mark.parametrize("form", ["folder", "zip"])
def test_a_folder_of_unlabeled_images_beside_splits_is_for_training(
    workspace, capsys, name: str, form: str
):
    for shade, file in enumerate((f"{name}/1.png", f"{name}/cat/2.png", f"{name}/0/3.png")):
        workspace.add(file, 200 + shade)
    for shade in range(6):
        for split in ("train", "test"):
            workspace.add(f"{split}/cat/{shade}.png", shade + 40 * (split == "test"))
            workspace.add(f"{split}/dog/{shade}.png", 20 + shade + 40 * (split == "test"))
    packed(workspace, form)
    workspace.run("configure", "download", "ingest", "split")
    told = "3 images in a folder `unlabeled` have no class: split.protocol auto means given\n"
    out = capsys.readouterr().out
    assert told in out
    assert "lie in no class folder" not in out
    rows = workspace.read("labels.parquet")
    loose = [row for row in rows if row["source"].startswith(name)]
    assert len(loose) == 3
    assert {(row["split"], row["label"], row["true_label"]) for row in loose} == {
        ("train", None, None)
    }
    classes = json.loads((workspace.root / "data/classes.json").read_text())["classes"]
    assert classes == ["cat", "dog"]
    trained = {row["id"]: row["role"] for row in workspace.read("split/train.parquet")}
    held = {row["id"] for row in workspace.read("split/val.parquet")}
    assert {row["id"] for row in loose} <= set(trained) | held
    assert {trained[row["id"]] for row in loose if row["id"] in trained} == {"unlabeled"}
    assert len(workspace.read("split/test.parquet")) == 12


@pytest.mark.parametrize(
    ("files", "unlabeled"),
    [
        (("cat/1.png", "dog/2.png", "unlabeled/3.png"), 1),
        (("a/cat/1.png", "a/dog/2.png", "a/Unlabelled/3.png"), 1),
        (("train/cat/1.png", "train/dog/2.png", "train/unlabeled/3.png", "test/cat/4.png"), 1),
        (("unlabeled/cat/1.png", "unlabeled/dog/2.png"), 0),
        (("train/cat/1.png", "train/dog/2.png", "test/cat/4.png", "test/unlabeled/5.png"), 0),
        (("train/cat/1.png", "train/dog/2.png", "unlabeled/3.png"), 1),
    ],
)
def test_unlabeled_is_no_class(workspace, capsys, files: tuple[str, ...], unlabeled: int):
    for shade, name in enumerate(files):
        workspace.add(name, shade)
    workspace.run("download", "ingest")
    told = "1 images in a folder `unlabeled` have no class" in capsys.readouterr().out
    assert told == bool(unlabeled)
    rows = workspace.read("labels.parquet")
    silent = [row for row in rows if row["label"] is None and row["true_label"] is None]
    loose = [row for row in silent if row["split"] != "test"]
    assert [row["source"].split("/")[-1] for row in loose] == ["3.png"] * unlabeled
    classes = json.loads((workspace.root / "data/classes.json").read_text())["classes"]
    assert classes == ["cat", "dog"]


def test_unlabeled_images_lie_at_most_one_folder_deep(workspace):
    for shade, name in enumerate(("train/cat/1.png", "train/dog/2.png", "unlabeled/a/b/3.png")):
        workspace.add(name, shade)
    message = workspace.refused("ingest", "download")
    assert message.startswith("photos: unlabeled/a/b/3.png: lies too deep; arrange files as")
    assert "without classes: unlabeled" in message


def test_a_class_is_one_however_its_accent_is_written(workspace):
    """Training images came from a Mac, test images did not."""
    for split, form in (("train", "NFD"), ("test", "NFC")):
        workspace.add(unicodedata.normalize(form, f"{split}/ch\u00e2t/1.png"), 1 + len(split))
        workspace.add(f"{split}/dog/1.png", 100 + len(split))
    workspace.run("download", "ingest")
    classes = json.loads((workspace.root / "data/classes.json").read_text())["classes"]
    assert classes == ["ch\u00e2t", "dog"]


@pytest.mark.parametrize(
    ("path", "told"),
    [
        ("~nobody_of_this_name/photos", "~nobody_of_this_name/photos: there is no such user"),
        ("", "params.yaml: data.path: image_folder needs the folder, archive or URL"),
    ],
)
def test_a_path_to_nowhere_is_refused(workspace, path: str, told: str):
    workspace.set(data={"path": path})
    assert workspace.refused("download").startswith(told)


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("1.png", "no folders name classes"),
        ("cat/1.png", "all images lie in one folder (cat)"),
        ("train/cat/1.png", "only one folder names a class (cat)"),
        ("train/1.png", "no folders name classes"),
    ],
)
def test_folders_that_name_no_two_classes_are_refused(workspace, name: str, found: str):
    workspace.add(name)
    message = workspace.refused("ingest", "download")
    assert message == (
        f"photos: {found}; use <class>/<file> with two classes or more, or give labels in data.table; "
        f"{AGAIN}"
    )


def test_an_image_beside_the_class_folders_is_mentioned(workspace, capsys):
    workspace.two_classes(2)
    workspace.run("download", "ingest")
    assert "lie in no class folder" not in capsys.readouterr().out
    workspace.add("stray.png", 50)
    workspace.run("download", "ingest")
    assert (
        "photos: 1 images lie in no class folder (stray.png): they are unlabeled, and split.protocol "
        "auto means given; move them if that is not meant"
    ) in capsys.readouterr().out
    workspace.table("file,label\nstray.png,cat\n")
    workspace.run("download", "ingest")
    assert "lie in no class folder" not in capsys.readouterr().out
