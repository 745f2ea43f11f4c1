"""Decoding many images: here while they are few, else in one process per core.

Processes, not threads: of a small image, Pillow spends most of the time in Python. They import this
module and nothing heavy, so that they start fast.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import multiprocessing
import os
import signal
import threading
import warnings
from collections import deque
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, Protocol, TypeAlias, TypeVar

import numpy as np

from pipeline_lib.control_groups import cores
from pipeline_lib.errors import UserError
from pipeline_lib.images import (
    Channels,
    Loaded,
    Resize,
    UnreadableImageError,
    fit,
    from_array,
    load,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from concurrent.futures import Future

    from numpy.typing import NDArray

CHUNK_IMAGES = 256
CHUNK_BYTES = 1 << 20
FEW_CHUNKS = 16  # decoded sooner here than processes start
AHEAD = 8  # chunks at least that wait beside those at work, so that no process ever does
# Of images whose size is known: what is decoded while a predictor is being loaded.
AHEAD_BYTES = 48 << 20
MAX_SIDE = 1024  # of images that keep their size
PIXELS_UP_TO = 96  # a side, for `data.store: auto`
STRIP = 20  # longer side over shorter
ENLARGED = 4
DARK = 16  # of 255: what is left of 12 bits in a file of 16
# What is odd about images that may be of no use.
LONG = f"longer than {STRIP}:1"
SMALL = f"enlarged over {ENLARGED} times"
BLACK = f"nearly black (none of 255 above {DARK - 1}), as 12 bits stored in 16 are"
FEW = "of 16 bits that use few of the 256 levels that are kept: rescale them first"
SEVERAL = "with several pages or frames: the first is taken"
ODDITIES = (LONG, SMALL, BLACK, FEW, SEVERAL)

Shape: TypeAlias = tuple[int, int, int]
Encoded: TypeAlias = "bytes | NDArray[np.uint8]"


class Pictured(Protocol):
    """What has an image: a `Row` of a dataset, or whatever else is kept beside it."""

    @property
    def image(self) -> Encoded:
        """An encoded file, or uint8 (H, W, C)."""


R = TypeVar("R", bound=Pictured)


@dataclass(frozen=True)
class Target:
    """What images are to become: see `data` in params.yaml."""

    channels: Channels
    size: int | None
    resize: Resize
    store: Literal["auto", "pixels", "files"]

    def keeps_file(self, image: Encoded, shape: Shape) -> bool:
        """Whether the file is stored as it came; `shape` is that of the image after decoding."""
        large = self.store == "auto" and max(shape[:2]) > PIXELS_UP_TO
        return isinstance(image, bytes) and (large or self.store == "files")


@dataclass
class Decoded:
    """A chunk of images after decoding; positions are those in the chunk.

    Attributes:
        reasons: by position, why an image cannot be read. The other attributes leave it out.
        shapes: (height, width, channels).
        digests: sha256 of the pixels, 32 bytes each.
        pixels: one image after the other, without those whose file is kept.
        odd: positions of images that may be of no use, by which of the ODDITIES they have.
    """

    reasons: dict[int, str] = field(default_factory=dict)
    shapes: list[Shape] = field(default_factory=list)
    digests: bytes = b""
    pixels: bytes = b""
    odd: dict[str, list[int]] = field(default_factory=dict)


@contextlib.contextmanager
def decoding(
    rows: Iterable[R], target: Target, workers: int | None = None
) -> Iterator[Iterator[tuple[list[R], Decoded]]]:
    """Give rows in chunks, in their order, with what became of their images.

    Where there is work for processes, they begin before the first chunk is asked for.

    Args:
        rows: may be any number; tens of megabytes of them are in memory at a time.
        target: what the images are to become.
        workers: processes; None is one per core. The result does not depend on it.

    Raises:
        UserError: A process was killed.
    """
    workers = workers or cores()
    chunks = _chunks(rows, target)
    few = list(itertools.islice(chunks, FEW_CHUNKS))
    everything = itertools.chain(few, chunks)
    pool = _pool(workers) if len(few) == FEW_CHUNKS and workers > 1 else None
    if pool is None:
        with warnings.catch_warnings():
            _ignore_odd_metadata()
            yield ((chunk, decode_chunk(_images(chunk), target)) for chunk in everything)
        return
    try:
        yield _in_order(pool, everything, target, workers)
    except BrokenProcessPool as error:
        msg = (
            "a process that decodes images was killed, most likely for lack of memory; "
            "close other programs or take a machine with more, then run again"
        )
        raise UserError(msg) from error
    finally:
        pool.shutdown(cancel_futures=True)


def _pool(workers: int) -> ProcessPoolExecutor | None:
    """Processes that decode, or None in a container whose /dev/shm is missing or not for writing."""
    try:
        return ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), _begin)
    except (ImportError, NotImplementedError, OSError) as error:
        from pipeline_lib.progress import say

        say(f"no processes can be started here ({error}): images are decoded one after the other")
        return None


def decode_chunk(images: Sequence[Encoded], target: Target) -> Decoded:
    """Decode images as `target` says."""
    chunk = Decoded()
    digests, pixels = [], []
    for position, encoded in enumerate(images):
        try:
            loaded = load(encoded) if isinstance(encoded, bytes) else Loaded(from_array(encoded))
        except UnreadableImageError as error:
            chunk.reasons[position] = str(error)
            continue
        pixels_HWC = fit(loaded.image, target.channels, target.size, target.resize)
        for what in _oddities(loaded, pixels_HWC, target):
            chunk.odd.setdefault(what, []).append(position)
        height, width, channels = pixels_HWC.shape
        shape = (height, width, channels)
        raw = pixels_HWC.tobytes()
        chunk.shapes.append(shape)
        digests.append(hashlib.sha256(raw).digest())
        if max(shape) <= MAX_SIDE and not target.keeps_file(encoded, shape):
            pixels.append(raw)
    chunk.digests, chunk.pixels = b"".join(digests), b"".join(pixels)
    return chunk


def _oddities(loaded: Loaded, pixels_HWC: NDArray[np.uint8], target: Target) -> Iterator[str]:
    """What resizing, few bits or a format of several images may have spoilt."""
    shorter, longer = sorted(loaded.image.size)
    if target.size is not None and longer > STRIP * shorter:
        yield LONG
    side = shorter if target.resize == "center_crop" else longer
    if target.size is not None and side * ENLARGED < target.size:
        yield SMALL
    if pixels_HWC.max() < DARK:
        yield BLACK
    elif loaded.few_levels:
        yield FEW
    if loaded.several:
        yield SEVERAL


def _images(rows: Sequence[Pictured]) -> list[Encoded]:
    return [row.image for row in rows]


def _chunks(rows: Iterable[R], target: Target) -> Iterator[list[R]]:
    """Put rows together that make work for some milliseconds and results of a few megabytes."""
    most = max(1, min(CHUNK_IMAGES, 8 * CHUNK_BYTES // _pixels(target)))
    chunk: list[R] = []
    size = 0
    for row in rows:
        if isinstance(row.image, np.ndarray) and target.store == "files":
            msg = "data.store: files: these images come as pixels, not as files; set it to auto or pixels"
            raise UserError(msg)
        chunk.append(row)
        size += _size(row)
        if len(chunk) == most or size >= CHUNK_BYTES:
            yield chunk
            chunk, size = [], 0
    if chunk:
        yield chunk


def _pixels(target: Target) -> int:
    """Bytes of a decoded image, or what they are taken for where images keep their size."""
    return 3 * (target.size or PIXELS_UP_TO) ** 2


def _size(row: Pictured) -> int:
    return len(row.image) if isinstance(row.image, bytes) else row.image.nbytes


def _in_order(
    pool: ProcessPoolExecutor, chunks: Iterator[list[R]], target: Target, workers: int
) -> Iterator[tuple[list[R], Decoded]]:
    """Submit the first chunks at once, and more whenever one is taken."""
    waiting: deque[tuple[list[R], int, Future[Decoded]]] = deque()

    def submit() -> None:
        while len(waiting) < workers + AHEAD or (
            target.size is not None and sum(size for _, size, _ in waiting) < AHEAD_BYTES
        ):
            if (chunk := next(chunks, None)) is None:
                return
            size = sum(_size(row) + _pixels(target) for row in chunk)
            waiting.append((chunk, size, _submit(pool, chunk, target)))

    def taken() -> Iterator[tuple[list[R], Decoded]]:
        while waiting:
            chunk, _, result = waiting.popleft()
            submit()
            yield chunk, result.result()

    submit()
    return taken()


def _submit(
    pool: ProcessPoolExecutor, chunk: Sequence[Pictured], target: Target
) -> Future[Decoded]:
    """Submit with Ctrl-C blocked: a process that starts for it inherits that, from before its first import.

    So a process leaves Ctrl-C to the one that started it, which ends the pool.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        return pool.submit(decode_chunk, _images(chunk), target)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _begin() -> None:
    """Make a new process end when the one that started it is gone."""
    _ignore_odd_metadata()
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    if (parent := multiprocessing.parent_process()) is not None:
        parent.join()
        os._exit(1)


def _ignore_odd_metadata() -> None:
    """Silence what Pillow says of metadata, none of which changes a pixel."""
    warnings.filterwarnings("ignore", module="PIL")
