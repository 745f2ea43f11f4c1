"""How often the label that a method chose for a training image is the true one, over epochs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipeline_lib.figures.lines import draw_lines, tidy

if TYPE_CHECKING:
    import polars as pl
    from matplotlib.figure import Figure

    from pipeline_lib.figures.style import Theme

NAMES = {"disambiguation_accuracy": "chosen label is the true one"}


def data(label_curve: pl.DataFrame) -> pl.DataFrame:
    """The disambiguation accuracy per epoch.

    Args:
        label_curve: reports/evaluate/label_curve.csv.

    Returns:
        Columns epoch, series, value (shares); empty for a method that keeps no labels.
    """
    return tidy(label_curve, NAMES)


def draw(frame: pl.DataFrame, theme: Theme) -> Figure:
    """One line over epochs (see `draw_lines`)."""
    return draw_lines(frame, theme, "training images", percent=True)
