"""Fashion-MNIST: grey pictures of clothes, 28x28, 60,000 to train and 10,000 to test.

Xiao, Rasul and Vollgraf (2017), Fashion-MNIST: a Novel Image Dataset for Benchmarking Machine Learning
Algorithms, arXiv:1708.07747.
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
# The publisher's bucket speaks plain http only; these are the same files in the publisher's repository.
BASE = "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion"
# Keras, datasets/fashion_mnist.py (the same sha256), and Paddle, vision/datasets/mnist.py (torchvision's MD5).
MIRRORS = (
    "https://storage.googleapis.com/tensorflow/tf-keras-datasets",
    "https://dataset.bj.bcebos.com/fashion_mnist",
)
# Bytes and sha256: TensorFlow Datasets, url_checksums/fashion_mnist.txt.
FILES = (
    public.PublicFile(
        f"{BASE}/train-images-idx3-ubyte.gz",
        26_421_880,
        "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
        MIRRORS,
    ),
    public.PublicFile(
        f"{BASE}/train-labels-idx1-ubyte.gz",
        29_515,
        "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845",
        MIRRORS,
    ),
    public.PublicFile(
        f"{BASE}/t10k-images-idx3-ubyte.gz",
        4_422_102,
        "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073",
        MIRRORS,
    ),
    public.PublicFile(
        f"{BASE}/t10k-labels-idx1-ubyte.gz",
        5_148,
        "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5",
        MIRRORS,
    ),
)
CLASSES = (
    "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat",
    "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
)  # fmt: skip
download = partial(public.download, FILES)


def read(raw: Path, data: Data) -> Iterator[Row]:
    """Give the images in the order of the files.

    Raises:
        UserError: See `idx.read`.
    """
    del data
    yield from idx.read(raw, "fashion_mnist", CLASSES)
