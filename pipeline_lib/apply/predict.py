"""A trained predictor on images of anybody, in memory that does not grow with their number.

Images are decoded in processes (`datasets.decoding`), as `ingest` decodes them, while the network runs on
those before them. On a processor whole batches run side by side, each on one thread: so no core waits,
and the result does not depend on their number.
"""

from __future__ import annotations

from collections import deque
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np
import torch

from pipeline_lib.apply.folding import fold_batch_norms
from pipeline_lib.apply.table import PREDICTIONS, Top, likeliest, predictions
from pipeline_lib.artifacts import publish_rows
from pipeline_lib.datasets.decoding import MAX_SIDE, Target, cores, decoding
from pipeline_lib.datasets.progress import progress
from pipeline_lib.errors import UserError
from pipeline_lib.free_memory import enough_memory
from pipeline_lib.models.description import read_description
from pipeline_lib.models.predictor import load_predictor

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from concurrent.futures import Future
    from pathlib import Path

    from pipeline_lib.apply.sources import Given, Images
    from pipeline_lib.datasets.decoding import Decoded
    from pipeline_lib.models.predictor import Predictor

SMALLEST_BATCH, LARGEST_BATCH = 8, 256
# On a processor: larger batches take memory, and more time, as they leave its cache.
BATCH_PIXELS = 128 * 32 * 32
KEPT_BYTES = 31 << 20

Precision: TypeAlias = Literal["fp32", "bf16"]


@dataclass(frozen=True)
class Model:
    """A predictor with what it takes to bring images to it.

    Attributes:
        network: in evaluation mode.
        classes: K names.
        shape: (H, W, C) of its images.
        target: what images are to become for it.
    """

    network: Predictor
    classes: Sequence[str]
    shape: tuple[int, int, int]
    target: Target


def load_model(folder: Path) -> Model:
    """Read the predictor in `folder`, and how `ingest` prepared its images.

    Raises:
        UserError: See `load_predictor`.
    """
    about = read_description(folder)
    network = about["architecture"]
    shape = tuple(network[name] for name in ("image_height", "image_width", "channels"))
    # Images that are not square were never resized: data.image_size is one side.
    size = shape[0] if shape[0] == shape[1] else None
    target = Target("rgb" if shape[2] == 3 else "gray", size, about["resize"], "pixels")
    predictor = load_predictor(folder)
    fold_batch_norms(predictor)
    return Model(predictor, about["classes"], shape, target)


@dataclass(frozen=True)
class Settings:
    """How predictions are made.

    Attributes:
        top_k: likeliest classes to name.
        abstain_below: images whose largest probability is lower get no label.
        batch_size: images per forward pass; None is LARGEST_BATCH, on a processor fewer of large ones.
        precision: of what the network computes up to its embedding; the probabilities are fp32.
    """

    top_k: int
    abstain_below: float
    batch_size: int | None
    precision: Precision = "fp32"

    def images_per_batch(self, model: Model, device: torch.device) -> int:
        """The batch size for images of this model."""
        if self.batch_size or device.type != "cpu":
            return self.batch_size or LARGEST_BATCH
        height, width, _ = model.shape
        return min(LARGEST_BATCH, max(SMALLEST_BATCH, BATCH_PIXELS // (height * width)))


@dataclass
class Counts:
    """How many images there were, could not be read, and got no label."""

    images: int = 0
    unreadable: int = 0
    abstained: int = 0

    def __str__(self) -> str:
        """In words; what did not happen is left out."""
        words = [f"{self.images} images"]
        if self.abstained:
            words.append(f"{self.abstained} too uncertain for a label")
        if self.unreadable:
            words.append(f"{self.unreadable} could not be read (column problem)")
        return ", ".join(words)


@dataclass
class Batch:
    """Consecutive images: the pixels of those that could be read, and what is wrong with the others."""

    sources: list[str] = field(default_factory=list)
    problems: list[str | None] = field(default_factory=list)
    pixels: list[memoryview] = field(default_factory=list)


def predict(
    images: Images, model: Model, settings: Settings, device: torch.device, output: Path
) -> Counts:
    """Write what the predictor says of each image to a Parquet table (see `table.PREDICTIONS`).

    Args:
        images: any number of them.
        model: to apply.
        settings: how.
        device: where the network runs.
        output: is written when all is done, or not at all.

    Raises:
        UserError: A probability is NaN, the memory does not suffice, or `output` cannot be written.
    """
    counts = Counts()
    size = settings.images_per_batch(model, device)
    top = min(settings.top_k, len(model.classes))
    with (
        publish_rows(output, PREDICTIONS, sidecar=False) as write,
        decoding(images.rows, model.target) as chunks,
        progress("predicting", "images", images.count) as advance,
    ):
        batches = _batches(chunks, model.shape, size)
        for batch, answer in _answered(batches, model, settings.precision, device, top):
            table = predictions(
                batch.sources, batch.problems, answer, model.classes, settings.abstain_below
            )
            write(table)
            counts.images += table.num_rows
            counts.unreadable += len(batch.sources) - len(batch.pixels)
            counts.abstained += table["label"].null_count
            advance(table.num_rows)
    counts.abstained -= counts.unreadable
    return counts


def _batches(
    chunks: Iterable[tuple[list[Given], Decoded]], shape: tuple[int, int, int], size: int
) -> Iterator[Batch]:
    """Put `size` images together, less those of them that could not be read."""
    batch = Batch()
    for rows, decoded in chunks:
        for row, pixels, problem in _looked_at(rows, decoded, shape):
            batch.sources.append(row.source)
            batch.problems.append(problem)
            if problem is None:
                batch.pixels.append(pixels)
            if len(batch.sources) == size:
                yield batch
                batch = Batch()
    if batch.sources:
        yield batch


def _looked_at(
    rows: Sequence[Given], decoded: Decoded, shape: tuple[int, int, int]
) -> Iterator[tuple[Given, memoryview, str | None]]:
    """Each image of a chunk with its pixels, or with what is wrong with it."""
    shapes, pixels, start = iter(decoded.shapes), memoryview(decoded.pixels), 0
    for position, row in enumerate(rows):
        if position in decoded.reasons:
            yield row, pixels[:0], row.problem or decoded.reasons[position]
            continue
        height, width, channels = found = next(shapes)
        stop = start + (height * width * channels if max(found) <= MAX_SIDE else 0)
        problem = None
        if found != shape:
            problem = f"{width}x{height} pixels, the network takes {shape[1]}x{shape[0]} only"
        yield row, pixels[start:stop], problem
        start = stop


def _answered(
    batches: Iterable[Batch], model: Model, precision: Precision, device: torch.device, top: int
) -> Iterator[tuple[Batch, Top]]:
    """Run the network on some batches at a time; they come back in their order."""
    model.network.to(device)
    # glibc gives back no more than twice the largest block that was freed; else every batch would fetch
    # its memory from the system anew.
    torch.empty(KEPT_BYTES, dtype=torch.uint8)
    at_once = cores() if device.type == "cpu" else 1
    waiting: deque[tuple[Batch, Future[Top]]] = deque()
    with ThreadPoolExecutor(at_once) as pool:
        for batch in batches:
            waiting.append((batch, pool.submit(_answer, model, precision, batch, device, top)))
            if len(waiting) > at_once + 1:
                first, answer = waiting.popleft()
                yield first, answer.result()
        for first, answer in waiting:
            yield first, answer.result()


def _answer(
    model: Model, precision: Precision, batch: Batch, device: torch.device, top: int
) -> Top:
    """The likeliest classes of the images of a batch.

    Raises:
        UserError: A probability is NaN, or the device has too little memory.
    """
    count = len(batch.pixels)
    if not count:
        return Top(np.zeros((0, top), np.int64), np.zeros((0, top), np.float32))
    flat = torch.frombuffer(bytearray().join(batch.pixels), dtype=torch.uint8)
    images_BCHW = flat.view(count, *model.shape).permute(0, 3, 1, 2)
    memory = enough_memory(f"--batch-size: {count} images do not fit on {device}; lower it")
    with memory, torch.inference_mode():
        with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16"):
            embedding_BD = model.network.embed(images_BCHW.to(device))
        probabilities_BK: Any = model.network.classify(embedding_BD.float()).cpu().numpy()
    broken_B = ~np.isfinite(probabilities_BK).all(axis=1)
    if broken_B.any():
        msg = f"the predictor answers {int(broken_B.sum())} of {count} images with NaN; train again with a lower train.learning_rate"
        raise UserError(msg)
    return likeliest(probabilities_BK, top)
