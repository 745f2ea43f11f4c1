"""STL-10: photographs of ten classes, 96x96: 5,000 labeled and 100,000 unlabeled to train, 8,000 to test.

The unlabeled images are of more kinds than the ten classes. With `data.fold`, the labeled images outside
that fold of the publisher's join them. Coates, Lee and Ng (2011), An Analysis of Single-Layer Networks in
Unsupervised Feature Learning.
"""

from __future__ import annotations

from functools import partial
from typing import IO, TYPE_CHECKING, Literal

import numpy as np

from pipeline_lib.artifacts import verify
from pipeline_lib.datasets.files import archives, public
from pipeline_lib.errors import UserError
from pipeline_lib.records import Row

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from pipeline_lib.params.sections import Data

POLICY = "natural"
CHANNELS = "rgb"
# Bytes and sha256: TensorFlow Datasets, url_checksums/stl10.txt, which fetches the same by plain http.
FILES = (
    public.PublicFile(
        "https://cs.stanford.edu/~acoates/stl10/stl10_binary.tar.gz",
        2_640_397_119,
        "f31fd99273a1acb8609c8db427cebb1de3f71de77758cdc0e22956e1289b9866",
        # The publisher's former address, which the Adversarial Robustness Toolbox, utils.py, asks by https.
        ("https://ai.stanford.edu/~acoates/stl10",),
    ),
)
FOLDER = "stl10_binary"
NAMES = f"{FOLDER}/class_names.txt"
FOLDS = f"{FOLDER}/fold_indices.txt"
SPLITS: dict[str, Literal["train", "test"]] = {
    "train": "train",
    "unlabeled": "train",
    "test": "test",
}
SIDE = 96
IMAGE_BYTES = 3 * SIDE * SIDE
SMALL_BYTES = 1 << 20  # no label file is larger
download = partial(public.download, FILES)


def read(raw: Path, data: Data) -> Iterator[Row]:
    """Give the images in the order of the archive.

    It is read twice, for labels come after their images in it, and 3 GB are too much to keep.

    Raises:
        UserError: The archive is damaged, or a file of it is not what it should be.
    """
    path = raw / FILES[0].name
    verify(path)
    sizes: dict[str, int] = {}
    small: dict[str, bytes] = {}
    with archives.open_stream(path, path.name) as members:
        for name, size, file in members:
            sizes[name] = size
            if size <= SMALL_BYTES:
                small[name] = file.read()
    labels = {part: _labels(part, sizes, small, path.name) for part in SPLITS}
    hidden: set[int] = set()
    if data.fold is not None:
        everything = set(range(len(labels["train"] or ())))
        hidden = everything - _fold(data.fold, everything, small, path.name)
    with archives.open_stream(path, path.name) as members:
        for name, size, file in members:
            part = name.removeprefix(f"{FOLDER}/").removesuffix("_X.bin")
            if name == _images(part) and part in SPLITS:
                without = hidden if part == "train" else set()
                yield from _rows(part, file, size // IMAGE_BYTES, labels[part], without)


def _rows(
    part: str, file: IO[bytes], count: int, labels: Sequence[str] | None, hidden: set[int]
) -> Iterator[Row]:
    for number in range(count):
        name = labels[number] if labels else None
        given = None if number in hidden else name
        image = _image(file.read(IMAGE_BYTES))
        source = f"stl10/{part}/{number:06d}"
        yield Row(source, image, label=given, true_label=name, split=SPLITS[part])


def _image(content: bytes) -> NDArray[np.uint8]:
    """Turn three planes, red, green, blue, each column by column, into (H, W, C)."""
    planes_CWH = np.frombuffer(content, np.uint8).reshape(3, SIDE, SIDE)
    return np.ascontiguousarray(planes_CWH.transpose(2, 1, 0))


def _images(part: str) -> str:
    return f"{FOLDER}/{part}_X.bin"


def _labels(
    part: str, sizes: Mapping[str, int], small: Mapping[str, bytes], shown: str
) -> list[str] | None:
    """Name the class of every image of a part; None for the part without labels."""
    name = f"{FOLDER}/{part}_y.bin"
    for needed in (_images(part),) if part == "unlabeled" else (_images(part), name, NAMES):
        if needed not in sizes:
            raise _unusable(shown, needed, "not in the archive")
    size = sizes[_images(part)]
    if size % IMAGE_BYTES:
        raise _unusable(shown, _images(part), f"{size} bytes are no {SIDE}x{SIDE} images")
    if part == "unlabeled":
        return None
    classes = small[NAMES].decode("utf-8", "replace").split()
    numbers = small.get(name, b"")
    if len(numbers) != size // IMAGE_BYTES:
        raise _unusable(shown, name, f"{sizes[name]} labels, {size // IMAGE_BYTES} images")
    if any(not 1 <= number <= len(classes) for number in numbers):
        raise _unusable(shown, name, f"labels are not 1 to {len(classes)}")
    return [classes[number - 1] for number in numbers]


def _fold(number: int, everything: set[int], small: Mapping[str, bytes], shown: str) -> set[int]:
    """Read which training images a fold consists of: a line of positions, from 0."""
    if FOLDS not in small:
        raise _unusable(shown, FOLDS, "not in the archive")
    lines = small[FOLDS].decode("ascii", "replace").splitlines()
    words = lines[number].split() if number < len(lines) else []
    fold = {int(word) for word in words if word.isdecimal()} & everything
    if not words or len(fold) != len(words):
        problem = f"line {number + 1} is no list of different positions below {len(everything)}"
        raise _unusable(shown, FOLDS, problem)
    return fold


def _unusable(shown: str, member: str, problem: str) -> UserError:
    return UserError(f"{shown}: {member}: {problem}; fetch it again: dvc repro --force download")
