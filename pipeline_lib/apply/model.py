"""What `predict` asks of a trained predictor, however it is computed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from pipeline_lib.datasets.decoding import Target

SMALLEST_BATCH, LARGEST_BATCH = 8, 256
# On a processor: larger batches take memory, and more time, as they leave its cache.
BATCH_PIXELS = 128 * 32 * 32


@dataclass(frozen=True)
class Model:
    """A predictor with what it takes to bring images to it.

    Attributes:
        answer: uint8 images (B, H, W, C) -> float32 probabilities (B, K). Several threads may call it.
        classes: K names.
        shape: (H, W, C) of its images.
        target: what images are to become for it.
        batch_size: of images that it answers fast.
        at_once: how many threads make it fastest.
    """

    answer: Callable[[NDArray[np.uint8]], NDArray[np.float32]]
    classes: Sequence[str]
    shape: tuple[int, int, int]
    target: Target
    batch_size: int
    at_once: int


def batch_size_on_processor(shape: tuple[int, int, int]) -> int:
    """How many images of (H, W, C) are fast together; of large ones fewer."""
    height, width, _ = shape
    return min(LARGEST_BATCH, max(SMALLEST_BATCH, BATCH_PIXELS // (height * width)))


def too_many_images(count: int, device: str) -> str:
    """What to do where so many at a time do not fit."""
    return f"--batch-size: {count} images do not fit on {device}; lower it"
