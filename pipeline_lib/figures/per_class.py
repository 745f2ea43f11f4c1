"""Accuracy within each class on the test images."""

from __future__ import annotations

from typing import TYPE_CHECKING

import polars as pl
from matplotlib.ticker import PercentFormatter

from pipeline_lib.figures import style

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SHOWN = 24  # classes; more bars do not fit on a phone
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
    """One bar per class with test images; of many classes, those with the lowest accuracy.

    Raises:
        ValueError: `frame` is empty.
    """
    style.require_rows(frame, "per class")
    measured = frame.drop_nulls("accuracy")
    if len(measured) > SHOWN:
        measured = measured.sort("accuracy", maintain_order=True).head(SHOWN)
    shares = measured["accuracy"].to_list()
    with style.applied(theme):
        pitch = min(max(3.6 / len(measured), 0.26), 0.55)
        figure, axes = style.new_figure(height=0.8 + pitch * len(measured))
        places = range(len(measured))
        axes.barh(places, [1] * len(shares), height=0.62, color=theme.rule, alpha=0.55)
        axes.barh(places, shares, height=0.62, color=theme.series[0])
        axes.set_yticks(places, [style.label(name) for name in measured["class"]])
        for place, share in zip(places, shares, strict=True):
            text = f"{100 * share:.1f}"
            axes.text(1.015, place, text, va="center", color=theme.ink, fontsize=9.5)
        axes.invert_yaxis()
        axes.grid(visible=False)
        axes.spines[:].set_visible(False)
        axes.set(xlim=(0, 1.09), xlabel="accuracy within the class")
        axes.set_xticks([0, 0.25, 0.5, 0.75, 1])
        axes.xaxis.set_major_formatter(PercentFormatter(1.0))
        return figure
