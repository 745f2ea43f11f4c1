"""SVHN with its extra digits: 73,257 and 531,131 somewhat easier ones to train, 26,032 to test.

Netzer et al. (2011), Reading Digits in Natural Images with Unsupervised Feature Learning.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from pipeline_lib.datasets.files import house_numbers, public

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from pipeline_lib.params.sections import Data
    from pipeline_lib.records import Row

POLICY = "numbers"
CHANNELS = "rgb"
FILES = (house_numbers.TRAIN, house_numbers.EXTRA, house_numbers.TEST)
download = partial(public.download, FILES)


def read(raw: Path, data: Data) -> Iterator[Row]:
    """Give the digits, training, extra, then test, in the order of the files.

    Raises:
        UserError: See `house_numbers.read`.
    """
    del data
    train, extra, test = (raw / file.name for file in FILES)
    yield from house_numbers.read(train, "svhn/train", "train")
    yield from house_numbers.read(extra, "svhn/extra", "train")
    yield from house_numbers.read(test, "svhn/test", "test")
