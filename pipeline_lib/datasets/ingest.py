"""From rows to tables: decode every image once, and keep what is said of it beside.

Memory stays flat: some hundreds of images are in flight at a time, whatever their number. Of an image
that went by, 8 bytes stay (see `sayings`).
"""

from __future__ import annotations

import tempfile
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from pipeline_lib.artifacts import publish, publish_json
from pipeline_lib.datasets.decoding import MAX_SIDE, Decoded, Target, decoding
from pipeline_lib.datasets.files.sheet import brief
from pipeline_lib.datasets.load import load_dataset
from pipeline_lib.datasets.oddities import Oddities
from pipeline_lib.datasets.sayings import DIGEST_BYTES, LABELS, Sayings
from pipeline_lib.errors import UserError, listed
from pipeline_lib.own_data import reading_snapshot
from pipeline_lib.parquet import write_rows
from pipeline_lib.progress import progress, say

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from pipeline_lib.datasets.decoding import Shape
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
REJECTED = pa.schema({"source": pa.string(), "reason": pa.string()})
MAX_CLASSES = np.iinfo(np.int16).max


class Intake:
    """What has come in so far: how many images were kept, why others were not, and the one shape."""

    def __init__(self, sayings: Sayings, target: Target) -> None:
        self.sayings, self.target = sayings, target
        self.kept = self.rejected = 0
        self.shape: Shape | None = None
        self.store = "pixels"
        self._first = ""
        self._complaints: list[str] = []
        self.oddities = Oddities()

    def take(self, rows: Sequence[Row], decoded: Decoded) -> tuple[pa.Table, pa.Table]:
        """Number the images of a chunk that were decoded.

        Returns:
            Its part of images.parquet, and of rejected.parquet.

        Raises:
            UserError: An image has another shape than those before it, or needs to be resized.
        """
        good = [row for position, row in enumerate(rows) if position not in decoded.reasons]
        bad = [rows[position].source_id for position in decoded.reasons]
        for position in decoded.reasons:
            self.sayings.mention(rows[position])
        self._complain(bad, list(decoded.reasons.values()))
        self.oddities.add(decoded.odd, [row.source_id for row in rows])
        for row, shape in zip(good, decoded.shapes, strict=True):
            self._check_shape(row, shape)
        images = self._images(good, decoded)
        self.sayings.add(good, decoded.digests)
        self.kept += len(good)
        return images, pa.table([bad, list(decoded.reasons.values())], schema=REJECTED)

    def _images(self, rows: Sequence[Row], decoded: Decoded) -> pa.Table:
        count, hexes = len(rows), decoded.digests.hex().encode()
        height, width, channels = self.shape or (0, 0, 0)
        if rows and self.target.keeps_file(rows[0].image, (height, width, channels)):
            self.store = "files"
            files = pa.array([row.image for row in rows], pa.binary())
        else:
            files = _evenly(pa.binary(), decoded.pixels, height * width * channels, count)
        columns = {
            "id": np.arange(self.kept, self.kept + count, dtype=np.int32),
            "height": np.full(count, height, np.int16),
            "width": np.full(count, width, np.int16),
            "channels": np.full(count, channels, np.int8),
            "sha256": _evenly(pa.string(), hexes, 2 * DIGEST_BYTES, count),
            "image": files,
        }
        return pa.table(columns, schema=IMAGES)

    def _check_shape(self, row: Row, shape: Shape) -> None:
        if self.shape is None:
            self.shape, self._first = shape, row.source_id
        height, width, _ = shape
        if shape != self.shape:
            msg = (
                f"images differ in size: {self._first} is {self.shape[1]}x{self.shape[0]}, "
                f"{row.source_id} is {width}x{height}; set data.image_size"
            )
            raise UserError(msg)
        if max(height, width) > MAX_SIDE:
            msg = (
                f"images are too large to train on: {row.source_id} is {width}x{height}, the limit "
                f"is {MAX_SIDE} a side; set data.image_size"
            )
            raise UserError(msg)

    def _complain(self, sources: Sequence[str], reasons: Sequence[str]) -> None:
        self.rejected += len(sources)
        if len(self._complaints) < 10:
            lines = [
                f"  {brief(source, 200)}: {reason}"
                for source, reason in zip(sources, reasons, strict=True)
            ]
            self._complaints = [*self._complaints, *lines][:10]

    def check(self, on_bad_image: str) -> None:
        """Refuse unreadable images, unless they are to be skipped and others are left.

        Raises:
            UserError: The first of them, with reasons.
        """
        if self.rejected and (on_bad_image == "fail" or not self.kept):
            rest = self.rejected - len(self._complaints)
            more = [f"  and {rest} more"] if rest else []
            advice = "repair or remove them, or set data.on_bad_image: skip"
            head = f"{self.rejected} images cannot be read; {advice}:"
            raise UserError("\n".join([head, *self._complaints, *more]))
        if not self.kept:
            msg = "there are no images; check data.path"
            raise UserError(msg)
        names = sorted(self.sayings.classes)
        if len(names) < 2:
            msg = f"a classifier needs at least two classes, found {listed(map(brief, names)) or 'none'}; check data.path and data.table"
            raise UserError(msg)
        if len(names) > MAX_CLASSES:
            msg = f"{len(names)} classes ({listed(map(brief, names), 3)}), the limit is {MAX_CLASSES}; check data.path"
            raise UserError(msg)


def ingest(raw: Path, data: Data, out: Path, workers: int | None = None) -> str:
    """Read the dataset `data.name` from `raw` and write its tables to `out`.

    Writes images.parquet, labels.parquet, classes.json and rejected.parquet, all at the end; none of
    them if there is a mistake. Their bytes do not depend on the number of `workers`, which is that
    of the cores by default.

    Returns:
        One line that sums up what was read.

    Raises:
        UserError: An image cannot be read, images differ in shape, or the dataset has a mistake.
    """
    dataset = load_dataset(data.name)
    channels = dataset.CHANNELS if data.channels == "auto" else data.channels
    target = Target(channels, data.image_size, data.resize, data.store)
    with (
        publish(out / "labels.parquet") as labels_file,
        publish(out / "rejected.parquet") as rejected_file,
        publish(out / "images.parquet") as images_file,
        tempfile.TemporaryFile(dir=out) as said_file,
    ):
        intake = Intake(Sayings(said_file), target)
        with (
            write_rows(images_file, IMAGES) as write_images,
            write_rows(rejected_file, REJECTED) as write_rejected,
            decoding(dataset.read(raw, data), target, workers) as chunks,
            progress("reading", "images") as advance,
        ):
            for rows, decoded in chunks:
                images, rejected = intake.take(rows, decoded)
                write_images(images)
                write_rejected(rejected)
                advance(len(rows))
        with reading_snapshot(data):
            intake.check(data.on_bad_image)
        with write_rows(labels_file, LABELS) as write_labels:
            for table in intake.sayings.tables():
                write_labels(table)
        described = _describe(intake, data, dataset.POLICY, getattr(dataset, "SUPERCLASSES", None))
        publish_json(out / "classes.json", described)
    if warning := intake.oddities.warning():
        say(warning)
    height, width, depth = intake.shape or (0, 0, 0)
    counts = [_counted(described[kind], kind) for kind in ("classes", "annotators")]
    if intake.rejected:
        counts.append(f"{intake.rejected} skipped (data/rejected.parquet)")
    return ", ".join([f"{intake.kept} images of {width}x{height}x{depth}", *filter(None, counts)])


def _counted(names: Sequence[str], kind: str) -> str:
    """Name the first ones: of what was taken for a class or an annotator by mistake, nothing else tells."""
    return f"{len(names)} {kind} ({listed(map(brief, names))})" if names else ""


def _describe(
    intake: Intake, data: Data, policy: str, superclasses: dict[str, list[str]] | None
) -> dict[str, Any]:
    height, width, channels = intake.shape or (0, 0, 0)
    return {
        "dataset": data.name,
        "classes": sorted(intake.sayings.classes),
        "annotators": sorted(intake.sayings.annotators),
        "superclasses": superclasses,
        "height": height,
        "width": width,
        "channels": channels,
        "policy": policy,
        "store": intake.store,
        "resize": data.resize,
    }


def _evenly(kind: pa.DataType, content: bytes, size: int, count: int) -> pa.Array:
    """View `count` values of `size` bytes each as a column, without a copy."""
    offsets = np.arange(count + 1, dtype=np.int32) * np.int32(size)
    return pa.Array.from_buffers(kind, count, [None, pa.py_buffer(offsets), pa.py_buffer(content)])
