"""Test accuracy against what the budgets differ in: the number of labels, or the rate of the candidates."""

from __future__ import annotations

from typing import TYPE_CHECKING

import polars as pl

from pipeline_lib.compare.figures.bands import SCHEMA, Axis, draw_bands

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from matplotlib.figure import Figure

    from pipeline_lib.figures.style import Theme

LABELS = Axis("labeled training images", "test accuracy", marked=True)
CANDIDATES = Axis("candidate rate", "test accuracy", marked=True)


def data(cells: pl.DataFrame, amounts: Mapping[str, float]) -> pl.DataFrame:
    """Accuracies of the budgets that differ in an amount: mean, lowest and highest seed.

    Args:
        cells: contender, budget, accuracy.
        amounts: by budget, of those that belong on this axis.

    Returns:
        Rows of `bands.SCHEMA`, the budget left empty; none where no two amounts differ, or where two are the
        same: such budgets differ in something else.
    """
    if not 2 <= len(set(amounts.values())) == len(amounts):
        return SCHEMA.to_frame()
    own = cells.filter(pl.col("budget").is_in(list(amounts)))
    x = pl.col("budget").replace_strict(amounts, return_dtype=pl.Float64).alias("x")
    accuracy = pl.col("accuracy")
    return (
        own.group_by("contender", x, maintain_order=True)
        .agg(value=accuracy.mean().round(6), low=accuracy.min(), high=accuracy.max())
        .select(pl.lit("").alias("budget"), *list(SCHEMA)[1:])
    )


def draw(frame: pl.DataFrame, theme: Theme, *, axis: Axis, contenders: Sequence[str]) -> Figure:
    """Lines with bands over seeds (see `draw_bands`)."""
    return draw_bands(frame, theme, axis, contenders)
