"""SVHN, cropped digits: one MATLAB file (version 5) of 32x32 images for each part."""

from __future__ import annotations

import math
import struct
import zlib
from typing import TYPE_CHECKING, Literal

import numpy as np

from pipeline_lib.artifacts import verify
from pipeline_lib.datasets.files import matlab
from pipeline_lib.datasets.files.public import PublicFile
from pipeline_lib.errors import UserError
from pipeline_lib.records import Row

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray

BASE = "https://ufldl.stanford.edu/housenumbers"
# Bytes and sha256: TensorFlow Datasets, url_checksums/svhn_cropped.txt.
TRAIN = PublicFile(
    f"{BASE}/train_32x32.mat",
    182_040_794,
    "435e94d69a87fde4fd4d7f3dd208dfc32cb6ae8af2240d066de1df7508d083b8",
)
TEST = PublicFile(
    f"{BASE}/test_32x32.mat",
    64_275_384,
    "cdce80dfb2a2c4c6160906d0bd7c68ec5a99d7ca4831afa54f09182025b6a75b",
)
EXTRA = PublicFile(
    f"{BASE}/extra_32x32.mat",
    1_329_278_602,
    "a133a4beb38a00fcdda90c9489e0c04f900b660ce8a316a5e854838379a71eb3",
)
SHAPE = (32, 32, 3)
ZERO = 10  # the label of the digit 0
# What scipy and `matlab` raise on bytes that are no such file.
_DAMAGED = (
    zlib.error,
    struct.error,
    EOFError,
    OSError,
    ValueError,
    TypeError,
    NotImplementedError,
)


def read(path: Path, source: str, split: Literal["train", "test"]) -> Iterator[Row]:
    """Give the digits in the order of the file.

    Args:
        path: the file.
        source: what the images are named after.
        split: of these images.

    Raises:
        UserError: The file is damaged, or is not what it should be.
    """
    verify(path)
    labels_N = _labels(path)
    for number, (image_HWC, label) in enumerate(
        zip(_images(path, len(labels_N)), labels_N, strict=True)
    ):
        digit = str(label % ZERO)
        source_id = f"{source}/{number:06d}"
        yield Row(source_id, image_HWC, label=digit, true_label=digit, split=split)


def _images(path: Path, count: int) -> Iterator[NDArray[np.uint8]]:
    try:
        for content in matlab.slices(path, "X", math.prod(SHAPE), count):
            image_HWC = np.frombuffer(content, np.uint8).reshape(SHAPE, order="F")
            yield np.ascontiguousarray(image_HWC)
    except _DAMAGED as error:
        raise _damaged(path, error) from error


def _labels(path: Path) -> list[int]:
    """Read the labels, and see that the images, which scipy only looks at, fit to them."""
    # Imported here: it takes a second, which the other datasets need not wait for.
    from scipy.io import loadmat, whosmat
    from scipy.io.matlab import MatReadError

    try:
        shapes = {name: (shape, kind) for name, shape, kind in whosmat(path)}
        labels = loadmat(path, variable_names=("y",)).get("y")
    except (MatReadError, *_DAMAGED) as error:
        raise _damaged(path, error) from error
    if "X" not in shapes or labels is None:
        raise _unusable(path, "no variables X and y")
    shape, kind = shapes["X"]
    if kind != "uint8" or shape[:-1] != SHAPE:
        raise _unusable(path, f"X is {kind} {shape}, not bytes 32x32x3xN")
    if labels.size != shape[-1]:
        raise _unusable(path, f"{labels.size} labels for {shape[-1]} images")
    if labels.dtype.kind not in "iu" or not np.isin(labels, range(1, ZERO + 1)).all():
        raise _unusable(path, f"labels are not 1 to {ZERO}")
    numbers: list[int] = labels.ravel().tolist()
    return numbers


def _damaged(path: Path, error: Exception) -> UserError:
    reason = str(error).partition("\n")[0] or type(error).__name__
    return _unusable(path, f"damaged MATLAB file ({reason})")


def _unusable(path: Path, problem: str) -> UserError:
    return UserError(f"{path.name}: {problem}; fetch it again: dvc repro --force download")
