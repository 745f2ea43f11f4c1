"""What an evaluation measures, over steps, views or seconds: mean over seeds, from the lowest to the highest."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipeline_lib.compare.figures.bands import Axis, draw_bands, over_seeds

if TYPE_CHECKING:
    from collections.abc import Sequence

    import polars as pl
    from matplotlib.figure import Figure

    from pipeline_lib.figures.style import Theme

COSTS = {
    "seconds": "seconds of training",
    "views": "views looked at",
    "steps": "steps",
}
MEASURES = {
    "val_accuracy": "validation accuracy",
    "disambiguation_accuracy": "training labels right",
    "coverage": "confident guesses",
    "precision": "right among these",
}


def data(curves: pl.DataFrame, cost: str, measure: str) -> pl.DataFrame:
    """Curves of a measure over what the training has cost by then.

    Args:
        curves: budget, contender, seed, step, views, seconds and measures.
        cost: of `COSTS`.
        measure: of `MEASURES`.

    Returns:
        Rows of `bands.SCHEMA`; none where the cost or the measure is unknown.
    """
    return over_seeds(curves, "step" if cost == "steps" else cost, measure)


def draw(
    frame: pl.DataFrame, theme: Theme, *, cost: str, measure: str, contenders: Sequence[str]
) -> Figure:
    """Lines with bands (see `draw_bands`)."""
    return draw_bands(frame, theme, Axis(COSTS[cost], MEASURES[measure]), contenders)
