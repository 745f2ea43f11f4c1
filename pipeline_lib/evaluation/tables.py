"""What evaluation writes for the report, for DVC's plots and for people."""

from __future__ import annotations

import csv
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, NamedTuple

import polars as pl
import pyarrow as pa

from pipeline_lib.artifacts import publish
from pipeline_lib.evaluation.labels import MEASURED
from pipeline_lib.parquet import publish_table
from pipeline_lib.spreadsheet import joined

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from pipeline_lib.metrics import CalibrationBin, ClassScores, Floats, Integers

DIGITS = 6  # beyond them, sums of floats differ between processors

PREDICTIONS_SCHEMA = pa.schema(
    {
        "id": pa.int32(),
        "group": pa.int32(),
        "label": pa.int16(),
        "predicted": pa.int16(),
        "probabilities": pa.list_(pa.float32()),
    }
)


class HeldOut(NamedTuple):
    """The test images: their ids, the ids of the first ones of their groups (`split.group_by`), and their true classes."""

    id_N: Integers
    group_N: Integers
    label_N: Integers


def rounded(value: Any) -> Any:  # noqa: ANN401  # anything that JSON can hold
    """Round every float inside dicts and lists to DIGITS decimals."""
    if isinstance(value, dict):
        return {key: rounded(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [rounded(inner) for inner in value]
    return round(value, DIGITS) if isinstance(value, float) else value


def publish_csv(
    path: Path, columns: Sequence[str], rows: Iterable[Mapping[str, Any]], *, sidecar: bool = True
) -> None:
    """Write rows as CSV with line feeds; None becomes an empty cell."""
    with (
        publish(path, sidecar=sidecar) as temporary,
        temporary.open("w", encoding="utf-8", newline="") as file,
    ):
        writer = csv.DictWriter(file, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rounded(dict(row)) for row in rows)


def publish_predictions(
    path: Path, tested: HeldOut, predicted_N: Integers, probabilities_NK: Floats
) -> None:
    """Write predictions.parquet: id, group, label, predicted and probabilities of every test image."""
    columns = {
        "id": tested.id_N,
        "group": tested.group_N,
        "label": tested.label_N,
        "predicted": predicted_N,
        "probabilities": list(probabilities_NK),
    }
    publish_table(path, pa.table(columns, schema=PREDICTIONS_SCHEMA))


def publish_confusion(
    path: Path, labels_N: Integers, predicted_N: Integers, classes: Sequence[str]
) -> None:
    """Write confusion.csv, one row per test image: DVC counts them itself."""
    rows = (
        {"actual": classes[actual], "predicted": classes[predicted]}
        for actual, predicted in zip(labels_N, predicted_N, strict=True)
    )
    publish_csv(path, ("actual", "predicted"), rows)


def publish_per_class(path: Path, scores: Sequence[ClassScores], classes: Sequence[str]) -> None:
    """Write per_class.csv: class, images, recall, precision, f1."""
    rows = ({"class": name, **asdict(row)} for name, row in zip(classes, scores, strict=True))
    publish_csv(path, ("class", "images", "recall", "precision", "f1"), rows)


def publish_calibration(path: Path, table: Sequence[CalibrationBin]) -> None:
    """Write calibration.csv: bin, lower, upper, count, mean_confidence, accuracy."""
    columns = ("bin", "lower", "upper", "count", "mean_confidence", "accuracy")
    publish_csv(path, columns, map(asdict, table))


def publish_embedding(path: Path, points: Iterable[Mapping[str, Any]]) -> None:
    """Write embedding.csv: x, y, kind, class, predicted; no rows for a predictor without embeddings."""
    publish_csv(path, ("x", "y", "kind", "class", "predicted"), points)


def publish_label_curve(path: Path, curve: Sequence[Mapping[str, Any]]) -> None:
    """Write label_curve.csv: epoch, val_accuracy, disambiguation_accuracy, coverage, precision."""
    publish_csv(path, ("epoch", *MEASURED), curve)


def publish_cleaned_labels(reports: Path, table: pa.Table) -> None:
    """Write labels.parquet, and labels.csv for people, which no stage reads and has no sidecar.

    Args:
        reports: the folder.
        table: of `labels.CLEANED_SCHEMA`; candidates become one cell (see `spreadsheet`), empty where they are null, any class.
    """
    publish_table(reports / "labels.parquet", table)
    rows = (
        row
        for part in pl.DataFrame(table).iter_slices(1024)
        for row in part.with_columns(joined("candidates")).iter_rows(named=True)
    )
    publish_csv(reports / "labels.csv", table.column_names, rows, sidecar=False)
