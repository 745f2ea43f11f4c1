"""Validation accuracy over epochs, beside what a run may select its epoch by."""

from __future__ import annotations

from typing import TYPE_CHECKING

import polars as pl

from pipeline_lib.figures.lines import draw_lines, tidy

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from pipeline_lib.figures.style import Theme

TRUE = {"val_accuracy": "accuracy (true labels)"}
CRITERIA = {
    "val_covering_rate": "covering rate",
    "val_approximated_accuracy": "approximated accuracy",
}


def data(history: pl.DataFrame, label_curve: pl.DataFrame) -> pl.DataFrame:
    """Accuracy on the validation images, and the criteria that need no true labels.

    Where the validation labels are true, the criteria say the same as the accuracy and are left out.

    Args:
        history: reports/train/history.csv.
        label_curve: reports/evaluate/label_curve.csv.

    Returns:
        Columns epoch, series, value (shares); empty without validation images.
    """
    criteria = {} if "val_accuracy" in history.columns else CRITERIA
    return pl.concat([tidy(label_curve, TRUE), tidy(history, criteria)])


def draw(frame: pl.DataFrame, theme: Theme) -> Figure:
    """Lines over epochs (see `draw_lines`)."""
    return draw_lines(frame, theme, "validation images", percent=True)
