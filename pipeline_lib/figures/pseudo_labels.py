"""How many labels a method guesses with confidence, and how many of those are right, over epochs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import polars as pl

from pipeline_lib.figures.lines import draw_lines, tidy

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from pipeline_lib.figures.style import Theme

MEASURED = {"coverage": "coverage", "precision": "precision"}
OWN = {"pseudo_label_rate": "used by the method"}


def data(history: pl.DataFrame, label_curve: pl.DataFrame) -> pl.DataFrame:
    """The quality of the guesses per epoch, and the share of them that the method itself learns from.

    Args:
        history: reports/train/history.csv.
        label_curve: reports/evaluate/label_curve.csv.

    Returns:
        Columns epoch, series, value (shares); empty for a method that guesses no label of an unlabeled
        image.
    """
    return pl.concat([tidy(label_curve, MEASURED), tidy(history, OWN)])


def draw(frame: pl.DataFrame, theme: Theme) -> Figure:
    """Lines over epochs (see `draw_lines`)."""
    return draw_lines(frame, theme, "share", percent=True)
