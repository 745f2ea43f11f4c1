"""From rows to tables: decode every image once, and keep what is said of it beside.

Memory stays flat: a few hundred images are in flight at a time, whatever their number.
"""

from __future__ import annotations

import dataclasses
import hashlib
import os
import warnings
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from pipeline_lib.artifacts import ROW_GROUP_SIZE, publish_json, publish_rows, publish_table
from pipeline_lib.datasets.load import load_dataset
from pipeline_lib.datasets.progress import progress
from pipeline_lib.errors import UserError, listed
from pipeline_lib.images import Channels, UnreadableImageError, convert, decode

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from pipeline_lib.params.sections import Data
    from pipeline_lib.records import Row

# No name of a file: its folder is often the true label, and training opens this table.
IMAGES = pa.schema(
    {
        "id": pa.int32(),
        "height": pa.int16(),
        "width": pa.int16(),
        "channels": pa.int8(),
        "sha256": pa.string(),
        "image": pa.binary(),
    }
)
# `annotators` and `annotations` go together: who said it (a position in classes.json), and what.
# `twin` is the first image with the same pixels, null for that one and for those that have none.
LABELS = pa.schema(
    {
        "id": pa.int32(),
        "source": pa.string(),
        "split": pa.string(),
        "label": pa.int16(),
        "candidates": pa.list_(pa.int16()),
        "annotators": pa.list_(pa.int32()),
        "annotations": pa.list_(pa.int16()),
        "true_label": pa.int16(),
        "twin": pa.int32(),
    }
)
REJECTED = pa.schema({"source": pa.string(), "reason": pa.string()})

THREADS = min(4, os.cpu_count() or 1)
CHUNK_IMAGES = 256
CHUNK_BYTES = 1 << 20
ROW_GROUP_BYTES = 1 << 26


@dataclasses.dataclass(frozen=True)
class Prepared:
    """One row after decoding: its pixels, or the reason why there are none."""

    row: Row  # without its image
    pixels: bytes = b""
    shape: tuple[int, int, int] = (0, 0, 0)
    digest: str = ""
    reason: str | None = None


class Intake:
    """What has come in so far: the rows that were kept, those that were not, and the one shape."""

    def __init__(self) -> None:
        self.kept: list[Row] = []
        self.rejected: list[tuple[str, str]] = []
        self.digests: list[str] = []
        self.names: set[str] = set()
        self.shape: tuple[int, int, int] | None = None

    def take(self, chunk: Iterable[Prepared]) -> pa.Table:
        """Number the images that were decoded and give their part of images.parquet.

        Raises:
            UserError: An image has another shape than those before it.
        """
        columns: dict[str, list[object]] = {name: [] for name in IMAGES.names}
        for image in chunk:
            self.names.update(_names(image.row))
            if image.reason is not None:
                self.rejected.append((image.row.source_id, image.reason))
                continue
            self._check_shape(image)
            values = (len(self.kept), *image.shape, image.digest, image.pixels)
            for column, value in zip(columns.values(), values, strict=True):
                column.append(value)
            self.kept.append(image.row)
            self.digests.append(image.digest)
        return pa.table(columns, schema=IMAGES)

    def _check_shape(self, image: Prepared) -> None:
        self.shape = self.shape or image.shape
        if image.shape != self.shape:
            sizes = [f"{width}x{height}" for height, width, _ in (self.shape, image.shape)]
            msg = (
                f"images differ in size: {self.kept[0].source_id} is {sizes[0]}, "
                f"{image.row.source_id} is {sizes[1]}; set data.image_size"
            )
            raise UserError(msg)

    def check(self, on_bad_image: str) -> None:
        """Refuse unreadable images, unless they are to be skipped and others are left.

        Raises:
            UserError: The first of them, with reasons.
        """
        if self.rejected and (on_bad_image == "fail" or not self.kept):
            shown = [f"  {source}: {reason}" for source, reason in self.rejected[:10]]
            rest = len(self.rejected) - len(shown)
            more = [f"  and {rest} more"] if rest else []
            advice = "repair or remove them, or set data.on_bad_image: skip"
            head = f"{len(self.rejected)} images cannot be read; {advice}:"
            raise UserError("\n".join([head, *shown, *more]))
        if not self.kept:
            msg = "there are no images; check data.path"
            raise UserError(msg)
        if len(self.names) < 2:
            msg = f"a classifier needs at least two classes, found {listed(self.names) or 'none'}; check data.path"
            raise UserError(msg)


def ingest(raw: Path, data: Data, out: Path) -> str:
    """Read the dataset `data.name` from `raw` and write its tables to `out`.

    Writes images.parquet, labels.parquet, classes.json and rejected.parquet; none of them if there is
    a mistake.

    Returns:
        One line that sums up what was read.

    Raises:
        UserError: An image cannot be read, images differ in shape, or the dataset has a mistake.
    """
    dataset = load_dataset(data.name)
    channels = dataset.CHANNELS if data.channels == "auto" else data.channels
    chunks = _prepare(dataset.read(raw, data), channels, data.image_size)
    intake = Intake()
    _write_images(out / "images.parquet", chunks, intake, data.on_bad_image)
    classes = sorted(intake.names)
    height, width, depth = intake.shape or (0, 0, 0)
    annotators = sorted({name for row in intake.kept for name, _ in row.annotations or ()})
    publish_table(out / "labels.parquet", _labels(intake.kept, classes, annotators, intake.digests))
    described = {
        "dataset": data.name,
        "classes": classes,
        "annotators": annotators,
        "superclasses": getattr(dataset, "SUPERCLASSES", None),
        "height": height,
        "width": width,
        "channels": depth,
        "policy": dataset.POLICY,
        "store": "pixels",
        "resize": data.resize,
    }
    publish_json(out / "classes.json", described)
    columns = [list(column) for column in zip(*intake.rejected, strict=True)] or [[], []]
    publish_table(out / "rejected.parquet", pa.table(columns, schema=REJECTED))
    skipped = f", {len(intake.rejected)} skipped (data/rejected.parquet)" if intake.rejected else ""
    return f"{len(intake.kept)} images of {width}x{height}x{depth}, {len(classes)} classes{skipped}"


def _write_images(
    path: Path, chunks: Iterator[list[Prepared]], intake: Intake, on_bad_image: str
) -> None:
    tables = (intake.take(chunk) for chunk in chunks)
    # Pillow warns of odd metadata, which does not change a pixel.
    with warnings.catch_warnings(), progress("reading", "images") as advance:
        warnings.filterwarnings("ignore", module="PIL")
        first = next((table for table in tables if table.num_rows), None)
        if first is None:
            intake.check(on_bad_image)
        bytes_per_image = int(np.prod(intake.shape or (1,)))
        fitting = max(1, min(ROW_GROUP_SIZE, ROW_GROUP_BYTES // bytes_per_image))
        with publish_rows(path, IMAGES, row_group_size=fitting) as write:
            for table in _with(first, tables):
                write(table)
                advance(table.num_rows)
            intake.check(on_bad_image)


def _with(first: pa.Table | None, tables: Iterator[pa.Table]) -> Iterator[pa.Table]:
    if first is not None:
        yield first
    yield from tables


def _prepare(rows: Iterator[Row], channels: Channels, size: int | None) -> Iterator[list[Prepared]]:
    """Decode rows in a few threads; they come out in the order in which they went in."""
    waiting: deque[Future[list[Prepared]]] = deque()
    with ThreadPoolExecutor(THREADS) as pool:
        for chunk in _chunks(rows):
            waiting.append(pool.submit(_decode_chunk, chunk, channels, size))
            if len(waiting) > THREADS:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def _chunks(rows: Iterator[Row]) -> Iterator[list[Row]]:
    chunk: list[Row] = []
    size = 0
    for row in rows:
        chunk.append(row)
        size += len(row.image)
        if len(chunk) == CHUNK_IMAGES or size >= CHUNK_BYTES:
            yield chunk
            chunk, size = [], 0
    if chunk:
        yield chunk


def _decode_chunk(rows: Sequence[Row], channels: Channels, size: int | None) -> list[Prepared]:
    return [_decode(row, channels, size) for row in rows]


def _decode(row: Row, channels: Channels, size: int | None) -> Prepared:
    said = dataclasses.replace(row, image=b"")
    try:
        if isinstance(row.image, bytes):
            pixels_HWC = decode(row.image, channels, size)
        else:
            pixels_HWC = convert(row.image, channels, size)
    except UnreadableImageError as error:
        return Prepared(said, reason=str(error))
    pixels = pixels_HWC.tobytes()
    height, width, depth = pixels_HWC.shape
    return Prepared(said, pixels, (height, width, depth), hashlib.sha256(pixels).hexdigest())


def _names(row: Row) -> Iterator[str]:
    said = (name for _, name in row.annotations or ())
    names = (row.label, row.true_label, *(row.candidates or ()), *said)
    return (name for name in names if name is not None)


def _labels(
    rows: Sequence[Row], classes: Sequence[str], annotators: Sequence[str], digests: Sequence[str]
) -> pa.Table:
    """Write names as positions in `classes` and `annotators`."""
    number: Mapping[str | None, int | None] = {name: i for i, name in enumerate(classes)} | {
        None: None
    }
    position = {name: i for i, name in enumerate(annotators)}
    first: dict[str, int] = {}
    for i, digest in enumerate(digests):
        first.setdefault(digest, i)

    columns = {
        "id": range(len(rows)),
        "source": [row.source_id for row in rows],
        "split": [row.split for row in rows],
        "label": [number[row.label] for row in rows],
        "candidates": [
            None if row.candidates is None else sorted(number[name] or 0 for name in row.candidates)
            for row in rows
        ],
        "annotators": [
            None if row.annotations is None else [position[who] for who, _ in row.annotations]
            for row in rows
        ],
        "annotations": [
            None if row.annotations is None else [number[name] for _, name in row.annotations]
            for row in rows
        ],
        "true_label": [number[row.true_label] for row in rows],
        "twin": [None if first[d] == i else first[d] for i, d in enumerate(digests)],
    }
    return pa.table(
        {name: pa.array(values, LABELS.field(name).type) for name, values in columns.items()}
    )
