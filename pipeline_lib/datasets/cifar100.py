"""CIFAR-100: small photographs of objects, 32x32, 50,000 to train and 10,000 to test.

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
# sha256: Keras, datasets/cifar100.py. Bytes: what Keras and torchvision log while they fetch it.
FILES = (
    public.PublicFile(
        "https://www.cs.toronto.edu/~kriz/cifar-100-python.tar.gz",
        169_001_437,
        "85cd44d02ba6437773c5bbd22e183051d648de2e7d6b014e1ef29b855ba677a7",
        cifar.MIRRORS,
    ),
)
# The publisher's twenty superclasses; `cifar.read` compares them with the files.
SUPERCLASSES = {
    "aquatic_mammals": ["beaver", "dolphin", "otter", "seal", "whale"],
    "fish": ["aquarium_fish", "flatfish", "ray", "shark", "trout"],
    "flowers": ["orchid", "poppy", "rose", "sunflower", "tulip"],
    "food_containers": ["bottle", "bowl", "can", "cup", "plate"],
    "fruit_and_vegetables": ["apple", "mushroom", "orange", "pear", "sweet_pepper"],
    "household_electrical_devices": ["clock", "keyboard", "lamp", "telephone", "television"],
    "household_furniture": ["bed", "chair", "couch", "table", "wardrobe"],
    "insects": ["bee", "beetle", "butterfly", "caterpillar", "cockroach"],
    "large_carnivores": ["bear", "leopard", "lion", "tiger", "wolf"],
    "large_man-made_outdoor_things": ["bridge", "castle", "house", "road", "skyscraper"],
    "large_natural_outdoor_scenes": ["cloud", "forest", "mountain", "plain", "sea"],
    "large_omnivores_and_herbivores": ["camel", "cattle", "chimpanzee", "elephant", "kangaroo"],
    "medium_mammals": ["fox", "porcupine", "possum", "raccoon", "skunk"],
    "non-insect_invertebrates": ["crab", "lobster", "snail", "spider", "worm"],
    "people": ["baby", "boy", "girl", "man", "woman"],
    "reptiles": ["crocodile", "dinosaur", "lizard", "snake", "turtle"],
    "small_mammals": ["hamster", "mouse", "rabbit", "shrew", "squirrel"],
    "trees": ["maple_tree", "oak_tree", "palm_tree", "pine_tree", "willow_tree"],
    "vehicles_1": ["bicycle", "bus", "motorcycle", "pickup_truck", "train"],
    "vehicles_2": ["lawn_mower", "rocket", "streetcar", "tank", "tractor"],
}
LAYOUT = cifar.Layout(
    dataset="cifar100",
    parts={"train": ("cifar-100-python/train",), "test": ("cifar-100-python/test",)},
    labels=b"fine_labels",
    meta="cifar-100-python/meta",
    names=b"fine_label_names",
    superclasses=SUPERCLASSES,
)
download = partial(public.download, FILES)


def read(raw: Path, data: Data) -> Iterator[Row]:
    """Give the images with their fine labels, of a hundred classes, in the order of the files.

    Raises:
        UserError: See `cifar.read`.
    """
    del data
    yield from cifar.read(raw / FILES[0].name, LAYOUT)
