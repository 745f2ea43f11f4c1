"""Everything that the report shows, read and checked."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import polars as pl

from pipeline_lib.artifacts import read_json, verify
from pipeline_lib.errors import UserError
from pipeline_lib.parquet import needs_columns, read_table
from pipeline_lib.pixels import Stored, read_pixels

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True)
class Inputs:
    """What the earlier stages found out.

    Attributes:
        metrics: reports/metrics.json.
        classes: K names.
        images: data/images.parquet.
        stored: how it holds them.
        summary: data/split/summary.json.
        rejected: how many images could not be read.
        labels: reports/labels.parquet.
        truth: id and true_label (name or null) of the training and validation images.
        predictions: reports/evaluate/predictions.parquet.
        phases: reports/train/phases.json.
        range_test: reports/train/range_test.csv, empty where nothing was sought; all cells as text.
        history, label_curve, per_class, calibration, embedding: the CSV files of these names, all cells as text.
    """

    metrics: dict[str, Any]
    classes: list[str]
    images: Path
    stored: Stored
    summary: dict[str, Any]
    rejected: int
    labels: pl.DataFrame
    truth: pl.DataFrame
    predictions: pl.DataFrame
    phases: dict[str, Any]
    range_test: pl.DataFrame
    history: pl.DataFrame
    label_curve: pl.DataFrame
    per_class: pl.DataFrame
    calibration: pl.DataFrame
    embedding: pl.DataFrame

    @property
    def shape(self) -> tuple[int, int, int]:
        """(height, width, channels) of every image."""
        return self.stored.shape

    def pixels(self, ids: pl.Series) -> NDArray[np.uint8]:
        """The images `ids` in that order, uint8 (N, H, W, C)."""
        return read_pixels(self.images, ids.to_numpy(), self.stored)


def read_inputs(data: Path, reports: Path) -> Inputs:
    """Read the files that the report stage depends on.

    Raises:
        UserError: One of them is missing or damaged.
    """
    about = read_json(data / "classes.json")
    classes: list[str] = about["classes"]
    names = dict(enumerate(classes))
    oracle = read_frame(data / "split/oracle.parquet")
    evaluated, trained = reports / "evaluate", reports / "train"
    phases = read_json(trained / "phases.json")
    predictions = read_table(evaluated / "predictions.parquet")
    needs_columns(evaluated / "predictions.parquet", predictions, ("group",), "dvc repro")
    return Inputs(
        metrics=read_plain_json(reports / "metrics.json"),
        classes=classes,
        images=data / "images.parquet",
        stored=Stored.described_by(about),
        summary=read_json(data / "split/summary.json"),
        rejected=read_table(data / "rejected.parquet").num_rows,
        labels=read_frame(reports / "labels.parquet"),
        truth=oracle.select(
            "id", true_label=pl.col("label").replace_strict(names, return_dtype=pl.String)
        ),
        predictions=pl.DataFrame(pl.from_arrow(predictions)),
        phases=phases,
        range_test=read_csv(trained / "range_test.csv") if "found" in phases else pl.DataFrame(),
        history=read_csv(trained / "history.csv"),
        label_curve=read_csv(evaluated / "label_curve.csv"),
        per_class=read_csv(evaluated / "per_class.csv"),
        calibration=read_csv(evaluated / "calibration.csv"),
        embedding=read_csv(evaluated / "embedding.csv"),
    )


def read_frame(path: Path) -> pl.DataFrame:
    """Verify and read a Parquet table."""
    return pl.DataFrame(pl.from_arrow(read_table(path)))


def read_csv(path: Path) -> pl.DataFrame:
    """Read every cell as text: a column may be all numbers, all empty, or class names like `1`."""
    verify(path)
    return pl.read_csv(path, infer_schema=False, raise_if_empty=False)


def read_plain_json(path: Path) -> dict[str, Any]:
    """Read a JSON file that has no sidecar, because Git holds it."""
    try:
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        msg = f"{path}: missing or damaged; delete it, and run again what writes it (`dvc repro`, or `make compare`)"
        raise UserError(msg) from error
    return content
