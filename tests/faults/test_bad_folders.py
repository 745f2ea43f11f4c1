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
