"""CIFAR-10 and CIFAR-100 as their publisher packs them: pickles of Python 2 in a tar.gz.

Unpickling runs what a file says. These files name three things of numpy and nothing else; here they
stand for a plain record, so that no code that a file names is ever called.
"""

from __future__ import annotations

import io
import pickle
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from pipeline_lib.artifacts import verify
from pipeline_lib.datasets.files import archives
from pipeline_lib.errors import UserError
from pipeline_lib.records import Row

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

# Paddle, vision/datasets/cifar.py, which compares the same MD5 as torchvision.
MIRRORS = ("https://dataset.bj.bcebos.com/cifar",)
COARSE_LABELS, COARSE_NAMES = b"coarse_labels", b"coarse_label_names"
SIDE = 32
PIXELS = 3 * SIDE * SIDE
ADMITTED = {("numpy.core.multiarray", "_reconstruct"), ("numpy", "ndarray"), ("numpy", "dtype")}
# What the unpickler raises on bytes that are no pickle.
_DAMAGED = (
    pickle.UnpicklingError,
    EOFError,
    LookupError,
    TypeError,
    ValueError,
    AttributeError,
    OverflowError,
    MemoryError,
)


@dataclass(frozen=True)
class Layout:
    """Where things are in the archive.

    Attributes:
        dataset: how the images are named here.
        parts: of each split, its files in order.
        labels: key of the class numbers in these.
        meta: the file that names the classes.
        names: key of the names in it.
        superclasses: classes by superclass, which the files are to confirm; none where they know none.
    """

    dataset: str
    parts: dict[Literal["train", "test"], tuple[str, ...]]
    labels: bytes
    meta: str
    names: bytes
    superclasses: Mapping[str, Sequence[str]] = field(default_factory=dict)


def read(path: Path, layout: Layout) -> Iterator[Row]:
    """Give the images in the order of the files.

    Raises:
        UserError: The archive is damaged, or a file of it is not what it should be.
    """
    verify(path)
    with archives.open_archive(path, path.name) as archive:

        def load(member: str) -> dict[bytes, Any]:
            return _unpickle(archive, member, f"{path.name}: {member}")

        meta, named = load(layout.meta), f"{path.name}: {layout.meta}"
        classes = _names(meta, layout.names, named)
        groups = _names(meta, COARSE_NAMES, named) if layout.superclasses else []
        for split, members in layout.parts.items():
            number = 0
            for member in members:
                shown = f"{path.name}: {member}"
                content = load(member)
                images_NHWC, labels_N = _batch(content, layout, shown)
                if layout.superclasses:
                    coarse_N = _numbers(content, COARSE_LABELS, len(labels_N), shown)
                    pairs = zip(labels_N, coarse_N, strict=True)
                    found = ((_name(classes, c, shown), _name(groups, g, shown)) for c, g in pairs)
                    _check_superclasses(set(found), layout.superclasses, shown)
                for image_HWC, label in zip(images_NHWC, labels_N, strict=True):
                    name = _name(classes, label, shown)
                    source = f"{layout.dataset}/{split}/{number:05d}"
                    yield Row(source, image_HWC, label=name, true_label=name, split=split)
                    number += 1


class _Record:
    """Stands for whatever the pickle builds: keeps what it is given, and does nothing."""

    def __init__(self, *arguments: object) -> None:
        self.arguments = arguments
        self.state: Any = None

    def __setstate__(self, state: object) -> None:
        self.state = state


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str, /) -> type[_Record]:
        if (module, name) not in ADMITTED:
            msg = f"names {module}.{name}, which images do not need"
            raise pickle.UnpicklingError(msg)
        return _Record


def _unpickle(archive: archives.Archive, member: str, shown: str) -> dict[bytes, Any]:
    if member not in archive.names:
        msg = f"{shown}: not in the archive; fetch it again: dvc repro --force download"
        raise UserError(msg)
    try:
        # The strings of Python 2 are bytes.
        content = _Unpickler(io.BytesIO(archive.read(member)), encoding="bytes").load()
    except _DAMAGED as error:
        raise _unusable(shown, str(error) or type(error).__name__) from error
    if not isinstance(content, dict):
        raise _unusable(shown, f"holds a {type(content).__name__}, not a dict")
    return content


def _names(meta: dict[bytes, Any], key: bytes, shown: str) -> list[str]:
    names = meta.get(key)
    if not isinstance(names, list) or not all(isinstance(name, bytes) for name in names):
        raise _unusable(shown, f"no names under {key.decode()}")
    return [name.decode("utf-8", "replace") for name in names]


def _batch(
    content: dict[bytes, Any], layout: Layout, shown: str
) -> tuple[NDArray[np.uint8], list[Any]]:
    """Give the images (N, 32, 32, 3) and the class numbers of one file."""
    rows_NP = _array(content.get(b"data"), shown)
    labels_N = _numbers(content, layout.labels, len(rows_NP), shown)
    # A row is the red plane, then the green, then the blue one, each row by row.
    images_NCHW = rows_NP.reshape(-1, 3, SIDE, SIDE)
    return np.ascontiguousarray(images_NCHW.transpose(0, 2, 3, 1)), labels_N


def _numbers(content: dict[bytes, Any], key: bytes, count: int, shown: str) -> list[Any]:
    numbers = content.get(key)
    if not isinstance(numbers, list) or len(numbers) != count:
        raise _unusable(shown, f"not one of {key.decode()} per image")
    return numbers


def _check_superclasses(
    found: set[tuple[str, str]], superclasses: Mapping[str, Sequence[str]], shown: str
) -> None:
    """Compare the class and superclass of each image with what is known of the dataset."""
    known = {(name, group) for group, names in superclasses.items() for name in names}
    for name, group in sorted(found - known):
        raise _unusable(shown, f"{name} is said to be of {group}, which it is not")


def _array(pickled: object, shown: str) -> NDArray[np.uint8]:
    """Rebuild the bytes (N, 3072) of a pickled numpy array: version, shape, type, order, content."""
    match pickled:
        case _Record(
            state=(
                _,
                (int(count), int(width)),
                _Record(arguments=(b"u1", *_)),
                by_columns,
                bytes(raw),
            )
        ) if width == PIXELS and len(raw) == count * PIXELS:
            flat = np.frombuffer(raw, np.uint8)
            return flat.reshape((count, width), order="F" if by_columns else "C")
    raise _unusable(shown, f"data is not an array of bytes with {PIXELS} columns")


def _name(classes: list[str], label: object, shown: str) -> str:
    if not isinstance(label, int) or not 0 <= label < len(classes):
        raise _unusable(shown, f"{label!r} is not the number of a class")
    return classes[label]


def _unusable(shown: str, problem: str) -> UserError:
    return UserError(
        f"{shown}: {problem}; it was refused; fetch it again: dvc repro --force download"
    )
