"""CIFAR-10: small photographs of objects, 32x32, 50,000 to train and 10,000 to test.

Krizhevsky (2009), Learning Multiple Layers of Features from Tiny Images.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from pipeline_lib.datasets.files import cifar, public

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from pipeline_lib.params.sections import Data
    from pipeline_lib.records import Row

POLICY = "natural"
CHANNELS = "rgb"
# sha256: Keras, datasets/cifar10.py. Bytes: what the server announces, as TensorFlow models log it.
FILES = (
    public.PublicFile(
        "https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz",
        170_498_071,
        "6d958be074577803d12ecdefd02955f39262c83c16fe9348329d7fe0b5c001ce",
        cifar.MIRRORS,
    ),
)
LAYOUT = cifar.Layout(
    dataset="cifar10",
    parts={
        "train": tuple(f"cifar-10-batches-py/data_batch_{number}" for number in range(1, 6)),
        "test": ("cifar-10-batches-py/test_batch",),
    },
    labels=b"labels",
    meta="cifar-10-batches-py/batches.meta",
    names=b"label_names",
)
download = partial(public.download, FILES)


def read(raw: Path, data: Data) -> Iterator[Row]:
    """Give the images of ten classes in the order of the files.

    Raises:
        UserError: See `cifar.read`.
    """
    del data
    yield from cifar.read(raw / FILES[0].name, LAYOUT)
