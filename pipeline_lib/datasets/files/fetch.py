"""Bringing the user's images here: a folder is packed, an archive copied, a URL fetched."""

from __future__ import annotations

import os
import shutil
import tarfile
from pathlib import Path, PurePosixPath
from typing import IO, TYPE_CHECKING, cast
from urllib.parse import urlsplit

from pipeline_lib.artifacts import publish, sha256
from pipeline_lib.datasets.files import archives, https
from pipeline_lib.datasets.files.layout import endings, holds_no_image, is_clutter, is_image
from pipeline_lib.errors import UserError
from pipeline_lib.own_data import OF_A_COLLEAGUE, resolve
from pipeline_lib.progress import progress, say

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pipeline_lib.params.sections import Data


def take(data: Data, target: Path) -> None:
    """Take a snapshot of the images at `data.path`: a folder as one tar, an archive as it is.

    Raises:
        UserError: Something is not there, not readable, not an archive, or not what its sha256 says.
    """
    shown = data.path or ""
    with publish(target) as temporary:
        if shown.startswith("https://"):
            fetch(shown, data.sha256 or "", temporary, target.parent)
        elif resolve(shown).is_dir():
            if data.sha256:
                msg = f"data.sha256: {shown} is a folder, which has none; set it to null"
                raise UserError(msg)
            pack(resolve(shown), temporary, shown)
        else:
            copy(resolve(shown), temporary, shown)
            if data.sha256:
                check_sha256(temporary, data.sha256, shown)
        archives.kind(temporary, shown)


def fetch(url: str, expected: str, target: Path, raw: Path) -> None:
    """Fetch the https URL `data.path`; what comes of it before a failure is kept beside the folder `raw`.

    Raises:
        UserError: See `https.fetch`.
    """
    name = PurePosixPath(urlsplit(url).path).name[-100:]
    wanted = https.Wanted((url,), name, expected, None, "check data.path and data.sha256")
    https.fetch(wanted, target, raw.parent / https.PARTIAL)


def copy(source: Path, target: Path, shown: str) -> None:
    """Copy a file of the user.

    Raises:
        UserError: It is not there, no file, or not readable.
    """
    if not source.is_file():
        problem = "not a file" if source.exists() else "not found"
        msg = f"{shown}: {problem} (looked for {source}); correct the path in params.yaml, or, {OF_A_COLLEAGUE}"
        raise UserError(msg)
    with _open(source, shown) as file, target.open("wb") as copied:
        shutil.copyfileobj(_Reader(file, shown), copied, https.BLOCK)


def pack(folder: Path, target: Path, shown: str) -> None:
    """Pack the images under `folder` into a tar whose bytes depend on names and contents only.

    Raises:
        UserError: There is no image, a file cannot be read, or a link leads out of the folder.
    """
    entries = sorted(_entries(folder, shown))
    folders = [name for name in entries if name.endswith("/")]
    files = [name for name in entries if not name.endswith("/")]
    images = [name for name in files if is_image(name)]
    if not images:
        raise holds_no_image(shown)
    if others := [name for name in files if not is_image(name)]:
        say(f"{shown}: left out {len(others)} files that are no images we read ({endings(others)})")
    with (
        tarfile.open(target, "w", format=tarfile.PAX_FORMAT) as archive,
        progress("packing", "images", len(images)) as advance,
    ):
        for name in folders:  # a class folder without images is not to vanish
            header = tarfile.TarInfo(archives.safe_name(name, shown))
            header.type, header.mode = tarfile.DIRTYPE, 0o755
            archive.addfile(header)
        for name in images:
            with _open(folder / name, f"{shown}/{name}") as file:
                header = tarfile.TarInfo(archives.safe_name(name, shown))
                header.size = os.fstat(file.fileno()).st_size
                header.mode = 0o644
                archive.addfile(header, cast("IO[bytes]", _Reader(file, f"{shown}/{name}")))
            advance(1)


def _entries(folder: Path, shown: str) -> Iterator[str]:
    """Name every file and folder (with a slash) under `folder` that is the user's, relative to it."""

    def refuse(error: OSError) -> None:
        raise _unreadable(error.filename, error) from error

    for place, folders, names in os.walk(folder, onerror=refuse):
        relative = Path(place).relative_to(folder)
        for name in folders:
            if (Path(place) / name).is_symlink():
                msg = f"{shown}/{relative / name}: a link to a folder; put the folder itself there"
                raise UserError(msg)
        folders[:] = [name for name in folders if not is_clutter(name)]
        yield from (f"{(relative / name).as_posix()}/" for name in folders)
        for name in names:
            path = Path(place) / name
            if is_clutter(name):
                continue
            if path.is_symlink() and not path.resolve().is_relative_to(folder.resolve()):
                msg = f"{shown}/{relative / name}: a link out of the folder; put the file itself there"
                raise UserError(msg)
            if not path.is_file():  # opening a pipe would wait for ever
                msg = f"{shown}/{relative / name}: a pipe, a device or a link to nothing; remove it"
                raise UserError(msg)
            yield (relative / name).as_posix()


def _open(path: Path, shown: str) -> IO[bytes]:
    try:
        return path.open("rb")
    except OSError as error:
        raise _unreadable(shown, error) from error


class _Reader:
    """A file of the user: an error in it is not taken for one in the file that is being written."""

    def __init__(self, file: IO[bytes], shown: str) -> None:
        self._file, self._shown = file, shown

    def read(self, size: int = -1) -> bytes:
        try:
            return self._file.read(size)
        except OSError as error:
            raise _unreadable(self._shown, error) from error


def _unreadable(shown: str, error: OSError) -> UserError:
    why = error.strerror or error
    return UserError(
        f"{shown}: cannot be read ({why}); give yourself the right to, or move it away"
    )


def check_sha256(path: Path, expected: str, shown: str) -> None:
    """Compare a file with `data.sha256`.

    Raises:
        UserError: It is another file.
    """
    actual = sha256(path)
    if actual != expected:
        msg = f"{shown}: sha256 is {actual}, data.sha256 says {expected}; get the file again or correct it"
        raise UserError(msg)
