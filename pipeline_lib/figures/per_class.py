"""Accuracy within each class on the test images."""

from __future__ import annotations

from typing import TYPE_CHECKING

import polars as pl

from pipeline_lib.figures import style
from pipeline_lib.figures.bars import SHOWN, draw_shares

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SCORES = ("recall", "precision", "f1")


def data(per_class: pl.DataFrame) -> pl.DataFrame:
    """The per-class table.

    Args:
        per_class: reports/evaluate/per_class.csv.

    Returns:
        Columns class (string), images (int64), accuracy (the recall), precision, f1 (shares; null
        where undefined), in the order of the classes; no rows where no class has test images.
    """
    table = per_class.select(
        pl.col("class").cast(pl.String),
        pl.col("images").cast(pl.Float64, strict=False).cast(pl.Int64, strict=False),
        *(pl.col(name).cast(pl.Float64, strict=False).fill_nan(None) for name in SCORES),
    ).rename({"recall": "accuracy"})
    return table if table["images"].sum() else table.clear()


def draw(frame: pl.DataFrame, theme: style.Theme) -> Figure:
    """One bar per class with test images; of many classes, those with the lowest accuracy."""
    measured = frame.drop_nulls("accuracy")
    if len(measured) > SHOWN:
        measured = measured.sort("accuracy", maintain_order=True).head(SHOWN)
    names, shares = measured["class"].to_list(), measured["accuracy"].to_list()
    with style.applied(theme):
        figure, _ = draw_shares(names, shares, theme, "accuracy within the class")
        return figure
