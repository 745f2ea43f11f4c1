"""CIFAR-100: small photographs of objects, 32x32, 50,000 to train and 10,000 to test.

Krizhevsky (2009), Learning Multiple Layers of Features from Tiny Images.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipeline_lib.datasets.files import cifar, public

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from pipeline_lib.params.sections import Data
    from pipeline_lib.records import Row

POLICY = "natural"
CHANNELS = "rgb"
# sha256: Keras, datasets/cifar100.py. Bytes: what Keras and torchvision log while they fetch it.
FILES = (
    public.PublicFile(
        "https://www.cs.toronto.edu/~kriz/cifar-100-python.tar.gz",
        169_001_437,
        "85cd44d02ba6437773c5bbd22e183051d648de2e7d6b014e1ef29b855ba677a7",
        cifar.MIRRORS,
    ),
)
LAYOUT = cifar.Layout(
    dataset="cifar100",
    parts={"train": ("cifar-100-python/train",), "test": ("cifar-100-python/test",)},
    labels=b"fine_labels",
    meta="cifar-100-python/meta",
    names=b"fine_label_names",
)


def download(data: Data, raw: Path) -> None:
    """Fetch the archive.

    Raises:
        UserError: See `public.download`.
    """
    public.download(FILES, data, raw)


def read(raw: Path, data: Data) -> Iterator[Row]:
    """Give the images with their fine labels, of a hundred classes, in the order of the files.

    Raises:
        UserError: See `cifar.read`.
    """
    del data
    yield from cifar.read(raw / FILES[0].name, LAYOUT)
