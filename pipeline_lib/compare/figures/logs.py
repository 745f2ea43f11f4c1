"""Every training on its own: one small chart per contender, one line per seed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import polars as pl
from matplotlib.ticker import MaxNLocator

from pipeline_lib.compare.figures.small_charts import draw_seeds, small_charts
from pipeline_lib.figures import style

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.figure import Figure

MEASURES = {"loss": "loss", "val_accuracy": "validation accuracy"}


def data(curves: pl.DataFrame, measure: str, budget: str) -> pl.DataFrame:
    """The history of every training with a budget.

    Args:
        curves: contender, budget, seed, step and measures.
        measure: of `MEASURES`.
        budget: its name.

    Returns:
        contender, seed, step, value.
    """
    own = curves.filter(pl.col("budget") == budget)
    value = pl.col(measure).cast(pl.Float64).alias("value")
    return own.select("contender", "seed", "step", value).filter(pl.col("value").is_finite())


def draw(
    frame: pl.DataFrame, theme: style.Theme, *, measure: str, contenders: Sequence[str]
) -> Figure:
    """Accuracies have one axis; losses have one each, as methods minimise different things."""
    shown = [name for name in contenders if name in set(frame["contender"])]
    seeds = frame["seed"].unique().sort().to_list()
    shares = measure != "loss"
    titles = [style.in_lines(name, 22) for name in shown]
    with style.applied(theme):
        figure, places = small_charts(titles, theme, x="steps", y=MEASURES[measure], share_y=shares)
        for axes, name in zip(places, shown, strict=True):
            own = frame.filter(pl.col("contender") == name)
            lines = [own.filter(pl.col("seed") == seed).sort("step") for seed in seeds]
            points = [(line["step"].to_numpy(), line["value"].to_numpy()) for line in lines]
            draw_seeds(axes, points, style.stroke(theme, contenders.index(name))[0])
            axes.xaxis.set_major_locator(MaxNLocator(nbins=3, integer=True))
            axes.xaxis.set_major_formatter(style.NUMBER)
        for axes in places if shares else ():  # once all are drawn: they share their range
            style.share_axis(axes)
        return figure
