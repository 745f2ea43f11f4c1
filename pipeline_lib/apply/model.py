"""What `predict` asks of a trained predictor, however it is computed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from pipeline_lib.artifacts import verify
from pipeline_lib.datasets.decoding import Target
from pipeline_lib.models.description import (
    WEIGHTS,
    image_shape,
    read_description,
    stop_if_replaced,
    weights_sha256,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from pipeline_lib.images import Resize

    Answer: TypeAlias = Callable[[NDArray[np.uint8]], NDArray[np.float32]]

SMALLEST_BATCH, LARGEST_BATCH = 8, 256
# On a processor: larger batches take memory, and more time, as they leave its cache.
BATCH_PIXELS = 128 * 32 * 32


@dataclass(frozen=True)
class Loaded:
    """A predictor that answers.

    Attributes:
        answer: uint8 images (B, H, W, C) -> float32 probabilities (B, K). Several threads may call it.
        batch_size: of images that it answers fast.
        at_once: how many threads make it fastest.
    """

    answer: Answer
    batch_size: int
    at_once: int


@dataclass(frozen=True)
class Model:
    """What is known of a predictor before it is loaded: enough to decode images for it meanwhile.

    Attributes:
        classes: K names.
        shape: (H, W, C) of its images.
        target: what images are to become for it.
        load: makes it ready, which can take seconds.
    """

    classes: Sequence[str]
    shape: tuple[int, int, int]
    target: Target
    load: Callable[[], Loaded]


def target_of(shape: tuple[int, int, int], resize: Resize) -> Target:
    """What images are to become for a network of images (H, W, C)."""
    height, width, channels = shape
    # Images that are not square were never resized: data.image_size is one side.
    size = height if height == width else None
    return Target("rgb" if channels == 3 else "gray", size, resize, "pixels")


def described(folder: Path, load: Callable[[tuple[int, int, int]], Loaded]) -> Model:
    """What predictor.json in a folder says of it.

    Args:
        folder: that training wrote.
        load: makes it ready for images (H, W, C).

    Raises:
        UserError: See `read_description`; or the weights beside it are missing or damaged. When it is loaded: see `stop_if_replaced`.
    """
    about = read_description(folder)
    weights = weights_sha256(folder)
    verify(folder / WEIGHTS)  # damage is told before any image is decoded
    shape = image_shape(about)

    def loaded() -> Loaded:
        network = load(shape)
        stop_if_replaced(folder, about, weights)
        return network

    return Model(about["classes"], shape, target_of(shape, about["resize"]), loaded)


def batch_size_on_processor(shape: tuple[int, int, int]) -> int:
    """How many images of (H, W, C) are fast together; of large ones fewer."""
    height, width, _ = shape
    return min(LARGEST_BATCH, max(SMALLEST_BATCH, BATCH_PIXELS // (height * width)))


def too_many_images(count: int, device: str) -> str:
    """What to do where so many at a time do not fit."""
    return f"--batch-size: {count} images do not fit on {device}; lower it"
