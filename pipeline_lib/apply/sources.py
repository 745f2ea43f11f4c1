"""Images of anybody: files, folders, archives and Parquet tables, read one after the other."""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import os
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline_lib.artifacts import sidecar_of, verify
from pipeline_lib.datasets.files.archives import DAMAGED, MAX_MEMBER_BYTES, open_archive
from pipeline_lib.datasets.files.layout import endings, holds_no_image, is_clutter, is_image
from pipeline_lib.datasets.files.parquet_pages import batches, open_parquet
from pipeline_lib.datasets.files.shards import encoded, image_column
from pipeline_lib.errors import UserError, in_one_line
from pipeline_lib.progress import say

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    import pyarrow.parquet as pq

    from pipeline_lib.datasets.decoding import Encoded

PARQUET = ".parquet"
SHAPE = ("height", "width", "channels")
OURS = {"id", *SHAPE, "sha256", "image"}  # columns of data/images.parquet


@dataclass(frozen=True)
class Given:
    """One image as it was given.

    Attributes:
        source: the path of a file, that of an archive with the member's, or `table.parquet:row`.
        image: the file, or uint8 (H, W, C).
        problem: why there is no image, in a line.
    """

    source: str
    image: Encoded
    problem: str | None = None


@dataclass(frozen=True)
class Images:
    """How many there are, and each of them in turn."""

    count: int
    rows: Iterator[Given]


@contextlib.contextmanager
def open_images(paths: Sequence[Path], scratch: Path) -> Iterator[Images]:
    """Find all images at some paths. In memory are their names, and one image at a time.

    Args:
        paths: of image files, folders, archives and Parquet tables.
        scratch: a folder that may be written; see `open_archive`.

    Raises:
        UserError: There is no image at one of the paths, or what is there cannot be opened.
    """
    with contextlib.ExitStack() as stack:
        parts = [_open(path, scratch, stack) for path in paths]
        yield Images(
            sum(part.count for part in parts),
            itertools.chain.from_iterable(part.rows for part in parts),
        )


def _open(path: Path, scratch: Path, stack: contextlib.ExitStack) -> Images:
    shown = str(path)
    if path.is_dir():
        names = _chosen(sorted(_within(path)), shown)
        return Images(len(names), (_read_file(path / name, path) for name in names))
    if not path.is_file():
        problem = "not a file" if path.exists() else "not found"
        msg = f"{shown}: {problem}; give image files, folders, archives or Parquet tables"
        raise UserError(msg)
    if is_image(path.name):
        return Images(1, iter([_read_file(path)]))
    if path.name.lower().endswith(PARQUET):
        file = stack.enter_context(open_parquet(path, shown))
        return Images(file.metadata.num_rows, _table_rows(file, path))
    archive = stack.enter_context(open_archive(path, shown, scratch))
    names = _chosen(sorted(name for name in archive.names if not is_clutter(name)), shown)
    members = (_read(f"{shown}/{name}", partial(archive.read, name)) for name in names)
    return Images(len(names), members)


def _within(folder: Path) -> Iterator[str]:
    """Name every file below a folder that is the user's, relative to it."""

    def refuse(error: OSError) -> None:
        msg = f"{error.filename}: cannot be read ({error.strerror}); give yourself the right to"
        raise UserError(msg) from error

    for place, folders, names in os.walk(folder, onerror=refuse):
        for name in folders:
            if Path(place, name).is_symlink():
                msg = f"{Path(place, name)}: a link to a folder; name the folder itself"
                raise UserError(msg)
        folders[:] = [name for name in folders if not is_clutter(name)]
        relative = Path(place).relative_to(folder)
        yield from ((relative / name).as_posix() for name in names if not is_clutter(name))


def _chosen(names: Sequence[str], shown: str) -> list[str]:
    """Those that end like images.

    Raises:
        UserError: There are none.
    """
    images = [name for name in names if is_image(name)]
    if not images:
        raise holds_no_image(shown)
    if others := [name for name in names if not is_image(name)]:
        say(f"{shown}: left out {len(others)} files that are no images we read ({endings(others)})")
    return images


def _read_file(path: Path, folder: Path | None = None) -> Given:
    """Read a file; one found in a `folder` must lie there too."""
    problem = _unlike_a_file(path, folder)
    return (
        Given(_name(path), b"", problem) if problem else _read(_name(path), partial(_content, path))
    )


def _unlike_a_file(path: Path, folder: Path | None) -> str | None:
    """What it is in place of a plain file; opening a pipe would wait for ever."""
    try:
        if not path.is_file():
            return "gone, or a pipe, a device, a folder or a link to nothing"
        # Of links only, since this takes long; `_within` has refused those to folders.
        inside = (
            folder is None
            or not path.is_symlink()
            or path.resolve().is_relative_to(folder.resolve())
        )
    except OSError as error:  # of a folder on the way
        return f"cannot be read ({error.strerror})"
    return None if inside else "a link out of the folder; put the file itself there"


def _name(path: Path) -> str:
    """The path as text, also where it is not UTF-8."""
    return os.fsencode(path).decode(errors="replace")


def _content(path: Path) -> bytes:
    with path.open("rb") as file:
        if os.fstat(file.fileno()).st_size > MAX_MEMBER_BYTES:
            msg = f"more than {MAX_MEMBER_BYTES} bytes"
            raise OSError(msg)
        return file.read()


def _read(source: str, content: Callable[[], bytes]) -> Given:
    try:
        return Given(source, content())
    except (OSError, *DAMAGED) as error:
        why = getattr(error, "strerror", None) or error
        return Given(source, b"", f"cannot be read ({in_one_line(why)})")


def _table_rows(file: pq.ParquetFile, path: Path) -> Iterator[Given]:
    """Read a table with a column of image files, or data/images.parquet with its pixels."""
    ours = set(file.schema_arrow.names) >= OURS
    if ours and sidecar_of(path).exists():
        verify(path)
    image = "image" if ours else image_column(file.schema_arrow, str(path))
    number = 0
    columns = [image, *SHAPE, "sha256"] if ours else [image]
    for batch in batches(file, columns, str(path)):
        files = encoded(batch.column(image), str(path), number)
        said = batch.select([*SHAPE, "sha256"]).to_pylist() if ours else [{}] * batch.num_rows
        for content, row in zip(files, said, strict=True):
            source = f"{path}:{number}"
            yield _stored(source, content, row) if ours else Given(source, content)
            number += 1


def _stored(source: str, content: bytes, said: dict[str, Any]) -> Given:
    """An image of data/images.parquet: pixels, which have the sha256 beside them, or else a file."""
    if hashlib.sha256(content).hexdigest() != said["sha256"]:
        return Given(source, content)
    shape = tuple(said[name] for name in SHAPE)
    try:
        image_HWC = np.frombuffer(content, np.uint8).reshape(shape)
    except (TypeError, ValueError):  # no numbers, or not those of so many bytes
        shape = (0, 0, 0)
    if shape[2] not in {1, 3}:
        return Given(source, b"", "its pixels are not of the shape that the table tells")
    return Given(source, image_HWC)
