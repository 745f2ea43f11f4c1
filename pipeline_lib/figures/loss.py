"""Training loss, validation loss, and the parts that a method's loss is made of."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipeline_lib.figures.lines import draw_lines, tidy

if TYPE_CHECKING:
    import polars as pl
    from matplotlib.figure import Figure

    from pipeline_lib.figures.style import Theme

TOTALS = {"loss": "training", "val_loss": "validation"}


def data(history: pl.DataFrame) -> pl.DataFrame:
    """The losses per epoch; a part is any other column whose name ends in `_loss`.

    Args:
        history: reports/train/history.csv.

    Returns:
        Columns epoch, series, value; empty where nothing was trained.
    """
    parts = {
        column: column.replace("_", " ")
        for column in history.columns
        if column.endswith("_loss") and not column.startswith("val_")
    }
    return tidy(history, TOTALS | parts)


def draw(frame: pl.DataFrame, theme: Theme) -> Figure:
    """Lines over epochs (see `draw_lines`)."""
    return draw_lines(frame, theme, "loss")
