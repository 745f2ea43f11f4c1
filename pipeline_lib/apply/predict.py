"""A trained predictor on images of anybody, in memory that does not grow with their number.

Images are decoded in processes (`datasets.decoding`), as `ingest` decodes them, while the predictor answers
those before them. On a processor whole batches run side by side, each on one thread: so no core waits,
and the result does not depend on their number.
"""

from __future__ import annotations

from collections import deque
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from pipeline_lib.apply.table import PREDICTIONS, Top, likeliest, predictions
from pipeline_lib.datasets.decoding import MAX_SIDE, decoding
from pipeline_lib.datasets.oddities import Oddities
from pipeline_lib.errors import UserError
from pipeline_lib.parquet import publish_rows
from pipeline_lib.progress import progress, say

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from concurrent.futures import Future
    from pathlib import Path

    from pipeline_lib.apply.model import Answer, Model
    from pipeline_lib.apply.sources import Given, Images
    from pipeline_lib.datasets.decoding import Decoded


@dataclass(frozen=True)
class Settings:
    """How predictions are made.

    Attributes:
        top_k: likeliest classes to name.
        abstain_below: images whose largest probability is lower get no label.
        batch_size: images that the model is asked at a time; None is the model's own.
    """

    top_k: int
    abstain_below: float
    batch_size: int | None


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


def predict(images: Images, model: Model, settings: Settings, output: Path) -> Counts:
    """Write what the predictor says of each image to a Parquet table (see `table.PREDICTIONS`).

    Images that may be of no use are counted in a line, as `ingest` does.

    Args:
        images: any number of them.
        model: to apply.
        settings: how.
        output: is written when all is done, or not at all.

    Raises:
        UserError: The model cannot be loaded or cannot answer, a probability is NaN, or `output` cannot be
            written.
    """
    counts, oddities = Counts(), Oddities()
    top = min(settings.top_k, len(model.classes))
    with (
        publish_rows(output, PREDICTIONS, sidecar=False) as write,
        decoding(images.rows, model.target) as chunks,
        progress("predicting", "images", images.count) as advance,
    ):
        loaded = model.load()  # while the first images are decoded
        ask = partial(_answer, loaded.answer, model.shape, top)
        size = settings.batch_size or loaded.batch_size
        batches = _batches(_noting(oddities, chunks), model.shape, size)
        for batch, answer in _answered(batches, ask, loaded.at_once):
            table = predictions(
                batch.sources, batch.problems, answer, model.classes, settings.abstain_below
            )
            write(table)
            counts.images += table.num_rows
            counts.unreadable += len(batch.sources) - len(batch.pixels)
            counts.abstained += table["label"].null_count
            advance(table.num_rows)
    counts.abstained -= counts.unreadable
    if warning := oddities.warning():
        say(warning)
    return counts


def _noting(
    oddities: Oddities, chunks: Iterable[tuple[list[Given], Decoded]]
) -> Iterator[tuple[list[Given], Decoded]]:
    for rows, decoded in chunks:
        oddities.add(decoded.odd, [row.source for row in rows])
        yield rows, decoded


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
    batches: Iterable[Batch], ask: Callable[[Batch], Top], at_once: int
) -> Iterator[tuple[Batch, Top]]:
    """Ask of some batches at a time; they come back in their order."""
    waiting: deque[tuple[Batch, Future[Top]]] = deque()
    with ThreadPoolExecutor(at_once) as pool:
        for batch in batches:
            waiting.append((batch, pool.submit(ask, batch)))
            if len(waiting) > at_once + 1:
                first, answer = waiting.popleft()
                yield first, answer.result()
        for first, answer in waiting:
            yield first, answer.result()


def _answer(answer: Answer, shape: tuple[int, int, int], top: int, batch: Batch) -> Top:
    """The likeliest classes of the images of a batch.

    Raises:
        UserError: A probability is NaN, or the model cannot answer.
    """
    count = len(batch.pixels)
    if not count:
        return Top(np.zeros((0, top), np.int64), np.zeros((0, top), np.float32))
    flat = np.frombuffer(bytearray().join(batch.pixels), np.uint8)
    probabilities_BK = answer(flat.reshape(count, *shape))
    broken_B = ~np.isfinite(probabilities_BK).all(axis=1)
    if broken_B.any():
        msg = f"the predictor answers {int(broken_B.sum())} of {count} images with NaN; train again with a lower learning rate"
        raise UserError(msg)
    return likeliest(probabilities_BK, top)
