"""What can be wrong with the user's folder: classes without images, and files that cannot be read."""

from __future__ import annotations

import errno
import gzip
import os
import shutil
import tarfile
from pathlib import Path

import pytest

from pipeline_lib.datasets.files import archives, fetch
from pipeline_lib.errors import UserError


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
    assert message == "classes without images: 'emu'; add images or remove the folder"
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


def test_a_full_disk_while_unpacking_is_said(tmp_path: Path, monkeypatch):
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


def test_an_empty_folder_is_said_to_hold_no_image(workspace):
    (workspace.photos / "cat").mkdir(parents=True)
    message = workspace.refused("ingest", "download")
    assert message.startswith("photos: holds no image; names of images end in .jpg .jpeg")


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
        f"photos: {found}; use <class>/<file> with two classes or more, or give labels in data.table"
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
