"""ImageNet's official archives (ILSVRC 2012), read where they lie: nothing is copied or unpacked.

The training images are a tar of a tar per class, the validation images one flat tar, and the development kit
says which class each of them shows.
"""

from __future__ import annotations

import hashlib
import io
import os
import struct
import tarfile
import zlib
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Any, Literal

from pipeline_lib.datasets.files import archives
from pipeline_lib.datasets.files.layout import Place
from pipeline_lib.errors import UserError, listed
from pipeline_lib.progress import progress

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

TRAIN = "ILSVRC2012_img_train.tar"
VAL = "ILSVRC2012_img_val.tar"
DEVKIT = "ILSVRC2012_devkit_t12.tar.gz"
META, TRUTH = "data/meta.mat", "data/ILSVRC2012_validation_ground_truth.txt"
BLOCK = 1 << 22
LARGEST = archives.MAX_MEMBER_BYTES
SMALL_BYTES = 1 << 24  # nothing that is read of the kit is larger


@dataclass(frozen=True)
class Image:
    """An image in one of the tars.

    Attributes:
        place: as if it lay in `<split>/<class>/<file>`.
    """

    place: Place
    file: IO[bytes]
    found: _Found

    def read(self) -> bytes:
        """Give the bytes of the file."""
        return os.pread(self.file.fileno(), self.found.size, self.found.start)


@dataclass(frozen=True)
class _Found:
    name: str
    start: int
    size: int


def describe(folder: Path, shown: str) -> dict[str, dict[str, Any]]:
    """Give size and sha256 of each of the archives in `folder`.

    Raises:
        UserError: One is missing or cannot be read.
    """
    paths = {name: folder / name for name in (TRAIN, VAL, DEVKIT)}
    for name, path in paths.items():
        if not path.is_file():
            msg = f"{shown}/{name}: not found; data.path is to hold {TRAIN}, {VAL} and {DEVKIT}"
            raise UserError(msg)
    sizes = {name: path.stat().st_size for name, path in paths.items()}
    with progress("verifying", "bytes", sum(sizes.values())) as advance:
        return {
            name: {"size": sizes[name], "sha256": _sha256(paths[name], advance)} for name in paths
        }


def verify(folder: Path, described: Mapping[str, Any], shown: str) -> None:
    """Refuse archives that are not those that were described.

    Raises:
        UserError: One is missing, or has changed.
    """
    for name, found in describe(folder, shown).items():
        if found != described.get(name):
            msg = f"{shown}/{name}: is not the file that it was; dvc repro --force download, then dvc repro"
            raise UserError(msg)


def images(folder: Path, shown: str) -> Iterator[Image]:
    """Give the images, training first, by class and name; they can be read until the next one comes.

    Raises:
        UserError: An archive is damaged, or they do not fit together.
    """
    classes, truth = _kit(folder / DEVKIT, f"{shown}/{DEVKIT}")
    with (folder / TRAIN).open("rb") as train, (folder / VAL).open("rb") as val:
        # First the smaller one: what is wrong with it is to be said at once.
        validation = _validation(val, truth, f"{shown}/{VAL}")
        yield from _training(train, classes, f"{shown}/{TRAIN}")
        yield from validation


def _training(file: IO[bytes], classes: set[str], shown: str) -> Iterator[Image]:
    tars = _listing(file, shown, largest=archives.MAX_BYTES)
    parts = {part.name.removesuffix(".tar"): part for part in tars}
    for problem, names in (("lacks", classes - set(parts)), ("has unknown", set(parts) - classes)):
        if names:
            msg = f"{shown}: {problem} classes: {listed(sorted(names))}; download it again"
            raise UserError(msg)
    for name in sorted(classes):
        part = parts[name]
        for found in _listing(file, f"{shown}: {part.name}", part):
            yield Image(_place("train", name, found.name), file, found)


def _validation(file: IO[bytes], truth: list[str], shown: str) -> list[Image]:
    found = _listing(file, shown)
    if len(found) != len(truth):
        msg = f"{shown}: {len(found)} images, but {TRUTH} in {DEVKIT} has {len(truth)} lines; download both again"
        raise UserError(msg)
    named = [Image(_place("val", n, f.name), file, f) for n, f in zip(truth, found, strict=True)]
    return sorted(named, key=lambda image: image.place.source)


def _place(folder: str, name: str, file: str) -> Place:
    split: Literal["train", "test"] = "train" if folder == "train" else "test"
    return Place(f"{name}/{file}", f"{folder}/{name}/{file}", split, name)


def _listing(
    file: IO[bytes], shown: str, part: _Found | None = None, *, largest: int = LARGEST
) -> list[_Found]:
    """List a tar by name: the whole file, or the `part` of it that is a tar itself."""
    start = part.start if part else 0
    behind = start + part.size if part else os.fstat(file.fileno()).st_size
    found: list[_Found] = []
    end = file.seek(start)
    try:
        with tarfile.open(fileobj=file, mode="r:") as archive:
            while (member := archive.next()) is not None:
                archive.members = []  # type: ignore[attr-defined]  # tarfile would keep every header
                name = archives.safe_name(member.name, shown)
                if not member.isreg() or member.issparse() or member.size > largest:
                    msg = f"{shown}: {name}: no plain file of at most {largest} bytes; download it again"
                    raise UserError(msg)
                found.append(_Found(name, member.offset_data, member.size))
                end = member.offset_data + member.size
    except (tarfile.TarError, EOFError, UnicodeError) as error:
        raise _damaged(shown, error) from error
    if end + archives.RECORD > behind:  # the mark of the end is a record of zeros
        raise _damaged(shown, "it ends too early")
    return sorted(found, key=lambda one: one.name)


def _kit(path: Path, shown: str) -> tuple[set[str], list[str]]:
    """Read the names of the classes, and the class of each validation image."""
    content: dict[str, bytes] = {}
    with archives.open_stream(path, shown) as members:
        for name, size, file in members:
            for wanted in (META, TRUTH):
                if name.endswith(wanted) and size <= SMALL_BYTES:
                    content[wanted] = file.read()
    for wanted in (META, TRUTH):
        if wanted not in content:
            msg = f"{shown}: {wanted}: not in the archive; download it again"
            raise UserError(msg)
    classes = _classes(content[META], f"{shown}: {META}")
    lines = content[TRUTH].decode("ascii", "replace").split()
    unknown = next((line for line in lines if line not in classes), None)
    if unknown is not None:
        msg = f"{shown}: {TRUTH}: {unknown[:20]!r} is not the number of a class; download it again"
        raise UserError(msg)
    return set(classes.values()), [classes[line] for line in lines]


def _classes(content: bytes, shown: str) -> dict[str, str]:
    """Name the classes by their number: those of WordNet's synsets that have no others below them."""
    # Imported here: it takes a second, which the other datasets need not wait for.
    from scipy.io import loadmat
    from scipy.io.matlab import MatReadError

    damaged = (MatReadError, zlib.error, struct.error, OSError, ValueError, TypeError)
    try:
        synsets = loadmat(io.BytesIO(content), squeeze_me=True)["synsets"]
        rows = [synsets[key] for key in ("ILSVRC2012_ID", "WNID", "num_children")]
        return {str(int(i)): str(n) for i, n, below in zip(*rows, strict=True) if not below}
    except (*damaged, LookupError, NotImplementedError) as error:
        raise _damaged(shown, error) from error


def _sha256(path: Path, advance: Callable[[int], None]) -> str:
    digest = hashlib.sha256()
    try:
        with path.open("rb") as file:
            while block := file.read(BLOCK):
                digest.update(block)
                advance(len(block))
    except OSError as error:
        msg = f"{path}: cannot be read ({error.strerror or error}); give yourself the right to"
        raise UserError(msg) from error
    return digest.hexdigest()


def _damaged(shown: str, problem: object) -> UserError:
    return UserError(f"{shown}: damaged archive ({problem}); copy or download it again")
