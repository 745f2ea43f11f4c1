"""Kuzushiji-MNIST: cursive hiragana of old books, 28x28, 60,000 to train and 10,000 to test.

Clanuwat et al. (2018), Deep Learning for Classical Japanese Literature, arXiv:1812.01718.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from pipeline_lib.datasets.files import idx, public

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from pipeline_lib.params.sections import Data
    from pipeline_lib.records import Row

POLICY = "characters"
CHANNELS = "gray"
BASE = "https://codh.rois.ac.jp/kmnist/dataset/kmnist"
# Bytes and sha256: TensorFlow Datasets, url_checksums/kmnist.txt.
FILES = (
    public.PublicFile(
        f"{BASE}/train-images-idx3-ubyte.gz",
        18_165_135,
        "51467d22d8cc72929e2a028a0428f2086b092bb31cfb79c69cc0a90ce135fde4",
    ),
    public.PublicFile(
        f"{BASE}/train-labels-idx1-ubyte.gz",
        29_497,
        "e38f9ebcd0f3ebcdec7fc8eabdcdaef93bb0df8ea12bee65224341c8183d8e17",
    ),
    public.PublicFile(
        f"{BASE}/t10k-images-idx3-ubyte.gz",
        3_041_136,
        "edd7a857845ad6bb1d0ba43fe7e794d164fe2dce499a1694695a792adfac43c5",
    ),
    public.PublicFile(
        f"{BASE}/t10k-labels-idx1-ubyte.gz",
        5_120,
        "20bb9a0ef54c7db3efc55a92eef5582c109615df22683c380526788f98e42a1c",
    ),
)
# The publisher's kmnist_classmap.csv has them in hiragana, which fonts of figures often lack.
CLASSES = ("o", "ki", "su", "tsu", "na", "ha", "ma", "ya", "re", "wo")
download = partial(public.download, FILES)


def read(raw: Path, data: Data) -> Iterator[Row]:
    """Give the images in the order of the files.

    Raises:
        UserError: See `idx.read`.
    """
    del data
    yield from idx.read(raw, "kuzushiji_mnist", CLASSES)
