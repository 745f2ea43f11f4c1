"""What the datasets give, whatever way the files came."""

from __future__ import annotations

import gzip
import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from ruamel.yaml import YAML

from pipeline_lib.artifacts import read_json, sha256
from pipeline_lib.datasets import digits
from pipeline_lib.datasets.files.layout import arrange
from pipeline_lib.datasets.ingest import ingest
from pipeline_lib.datasets.load import snapshot
from pipeline_lib.errors import UserError
from pipeline_lib.params.sections import Data
from pipeline_lib.parquet import read_table

ROOT = Path(__file__).resolve().parents[2]
PARAMS = YAML(typ="safe").load((ROOT / "params.yaml").read_text())["data"]
FILES = [
    "train/cat/2.png",
    "train/cat/10.png",
    "train/dog/1.png",
    "valid/dog/9.png",
    "test/cat/3.png",
]


def data(**changes) -> Data:
    return Data.model_validate(PARAMS | {"name": "image_folder"} | changes)


def picture(shade: int) -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.full((6, 5, 3), shade, np.uint8)).save(file, "PNG")
    return file.getvalue()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for shade, name in enumerate(FILES):
        path = tmp_path / "photos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(picture(shade))
    for name in (".git/x.png", "__MACOSX/train/cat/._2.png", "train/cat/Thumbs.db", "notes.txt"):
        path = tmp_path / "photos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"clutter")
    return tmp_path / "photos"


def tables(options: Data, root: Path) -> tuple[list[dict], list[dict], dict]:
    snapshot(options, root / "raw")
    ingest(root / "raw", options, root)
    images, labels = (
        read_table(root / f"{name}.parquet").to_pylist() for name in ("images", "labels")
    )
    return images, labels, read_json(root / "classes.json")


def test_a_folder_is_read_in_the_order_of_names(folder: Path, tmp_path: Path):
    images, labels, classes = tables(data(path=str(folder)), tmp_path / "out")
    assert [row["source"] for row in labels] == sorted(FILES)
    assert [row["id"] for row in images] == [0, 1, 2, 3, 4]
    assert [row["image"][0] for row in images] == [FILES.index(name) for name in sorted(FILES)]
    assert [(row["split"], row["label"], row["true_label"]) for row in labels] == [
        ("test", 0, 0),
        ("train", 0, 0),
        ("train", 0, 0),
        ("train", 1, 1),
        ("val", 1, 1),
    ]
    assert classes == {
        "dataset": "image_folder",
        "classes": ["cat", "dog"],
        "annotators": [],
        "superclasses": None,
        "height": 6,
        "width": 5,
        "channels": 3,
        "policy": "natural",
        "store": "pixels",
        "resize": "stretch",
    }


@pytest.mark.parametrize("form", ["tar", "tar.gz", "zip"])
@pytest.mark.parametrize("top", ["", "./", "photos/"])
def test_every_archive_gives_the_same_tables_as_the_folder(folder, tmp_path, form: str, top: str):
    archive = tmp_path / "archive"
    names = [*FILES, ".git/x.png", "notes.txt"][::-1]  # neither sorted nor tidy
    if form == "zip":
        with zipfile.ZipFile(archive, "w") as packed:
            for name in names:
                packed.write(folder / name, top + name)
    else:
        with tarfile.open(archive, "w:gz" if form == "tar.gz" else "w") as packed:
            for name in names:
                packed.add(folder / name, top + name)
    tables(data(path=str(folder)), tmp_path / "a")
    tables(data(path=str(archive), sha256=sha256(archive)), tmp_path / "b")
    for name in ("images.parquet", "labels.parquet", "classes.json", "rejected.parquet"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_packing_a_folder_depends_on_names_and_contents_only(folder: Path, tmp_path: Path):
    snapshot(data(path=str(folder)), tmp_path / "a")
    other = tmp_path / "elsewhere"
    for name in reversed(FILES):
        (other / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(folder / name, other / name)
        os.utime(other / name, (1, 1))
        (other / name).chmod(0o600)
    snapshot(data(path=str(other)), tmp_path / "b")
    assert sha256(tmp_path / "a/images.archive") == sha256(tmp_path / "b/images.archive")


def test_a_table_may_use_the_names_inside_the_archive(folder: Path, tmp_path: Path):
    with zipfile.ZipFile(tmp_path / "photos.zip", "w") as packed:
        for name in FILES:
            packed.write(folder / name, f"photos/{name}")
    table = "file,candidates\nphotos/train/cat/2.png,dog|cat\ntrain/dog/1.png,cat\n"
    (tmp_path / "labels.csv.gz").write_bytes(gzip.compress(table.encode()))
    options = data(path=str(tmp_path / "photos.zip"), table=str(tmp_path / "labels.csv.gz"))
    _, labels, _ = tables(options, tmp_path / "out")
    rows = {row["source"]: (row["label"], row["candidates"], row["true_label"]) for row in labels}
    assert rows["train/cat/2.png"] == (None, [0, 1], 0)
    assert rows["train/dog/1.png"] == (None, [0], 1)
    assert rows["train/cat/10.png"] == (0, None, 0)


def test_relative_paths_start_at_the_repository_that_dvc_names(folder, tmp_path, monkeypatch):
    elsewhere = tmp_path / "copy"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    with pytest.raises(UserError, match="photos: not found"):
        snapshot(data(path="photos"), tmp_path / "raw")
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    snapshot(data(path="photos"), tmp_path / "raw")
    assert (tmp_path / "raw/images.archive").is_file()


def test_the_digits_are_scikit_learns(tmp_path: Path):
    from sklearn.datasets import load_digits

    options = data(name="digits")
    images, labels, classes = tables(options, tmp_path)
    expected = load_digits()
    pixels = np.array([np.frombuffer(row["image"], np.uint8) for row in images])
    assert np.abs(pixels / 255 * 16 - expected.data).max() <= 0.5 / 255 * 16 + 1e-9
    assert [row["label"] for row in labels] == expected.target.tolist()
    assert (classes["channels"], classes["height"], classes["policy"]) == (1, 8, "digits")
    assert len({row["sha256"] for row in images}) == len(images)
    assert {row["split"] for row in labels} == {None}


def test_another_digits_file_is_refused(tmp_path: Path, monkeypatch):
    monkeypatch.setattr(digits, "SHA256", "0" * 64)
    with pytest.raises(UserError, match=r"digits.csv.gz: scikit-learn's file has sha256 09f66e6d"):
        snapshot(data(name="digits"), tmp_path / "raw")
    assert not (tmp_path / "raw").exists()


def test_the_data_stages_import_neither_torch_nor_sklearn(tmp_path: Path):
    shutil.copyfile(ROOT / "params.yaml", tmp_path / "params.yaml")
    program = (
        "import sys; from stages import configure, download, ingest, split;"
        "[stage.main() for stage in (configure, download, ingest, split)];"
        "sys.exit(str({'torch', 'sklearn', 'polars', 'scipy'} & set(sys.modules) or ''))"
    )
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-W", "error", "-c", program]
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert done.stderr.strip() == ""
    summary = json.loads((tmp_path / "data/split/summary.json").read_text())
    assert summary["images"] == {"train": 1213, "val": 135, "test": 449}


PATHS = {
    "classes": (["cat/1.png", "dog/2.png"], [(None, "cat"), (None, "dog")]),
    "one enclosing folder": (["top/cat/1.png", "top/dog/2.png"], [(None, "cat"), (None, "dog")]),
    "flat": (["1.png", "2.png"], [(None, None), (None, None)]),
    "flat in a folder": (["top/1.png", "top/2.png"], [(None, None), (None, None)]),
    "splits": (["test/a/1.png", "train/b/2.png"], [("test", "a"), ("train", "b")]),
    "splits in a folder": (
        ["x/test/a/1.png", "x/validation/b/2.png"],
        [("test", "a"), ("val", "b")],
    ),
    "flat inside of a split": (["test/a/1.png", "train/2.png"], [("test", "a"), ("train", None)]),
    "flat beside splits": (["1.png", "train/a/2.png"], [(None, None), ("train", "a")]),
    "a class called train": (["car/1.png", "train/2.png"], [(None, "car"), (None, "train")]),
}


@pytest.mark.parametrize("case", PATHS)
def test_paths_tell_split_and_class(case: str):
    names, expected = PATHS[case]
    assert [(place.split, place.label) for place in arrange(names, "x")] == expected
