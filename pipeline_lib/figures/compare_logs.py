"""Every training on its own: one small chart per contender, one line per seed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import polars as pl
from matplotlib.ticker import MaxNLocator

from pipeline_lib.figures import style

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MEASURES = {"loss": "loss", "val_accuracy": "validation accuracy"}
COLUMNS = 2
HEIGHT = 1.25  # inches of a chart


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
    """Accuracies have one axis; losses have one each, as methods minimise different things.

    Raises:
        ValueError: `frame` is empty.
    """
    style.require_rows(frame, measure)
    shown = [name for name in contenders if name in set(frame["contender"])]
    seeds = frame["seed"].unique().sort().to_list()
    rows = -(-len(shown) // COLUMNS)
    shares = measure != "loss"
    with style.applied(theme):
        figure = style.plain_figure(
            style.WIDTH, 0.55 + (HEIGHT + 0.15 * any(", " in name for name in shown)) * rows
        )
        figure.set_layout_engine("constrained", h_pad=0.06)
        grid = figure.subplots(rows, COLUMNS, sharex=True, sharey=shares, squeeze=False)
        places = list(grid.flat)
        for axes, name in zip(places, shown, strict=False):
            own = frame.filter(pl.col("contender") == name)
            _draw_chart(axes, own, seeds, style.stroke(theme, contenders.index(name))[0])
            axes.set_title(
                style.in_lines(name, 22), loc="left", fontsize=9.5, color=theme.ink, pad=3
            )
            if shares:
                axes.yaxis.set_major_formatter(style.PERCENT)
        for axes in places[len(shown) :]:
            axes.set_visible(False)
        figure.supxlabel("steps", fontsize=9.5, color=theme.muted)
        figure.supylabel(MEASURES[measure], fontsize=9.5, color=theme.muted)
        return figure


def _draw_chart(axes: Axes, frame: pl.DataFrame, seeds: Sequence[int], colour: str) -> None:
    for number, seed in enumerate(seeds):
        line = frame.filter(pl.col("seed") == seed).sort("step")
        axes.plot(
            line["step"].to_numpy(),
            line["value"].to_numpy(),
            color=colour,
            linestyle=style.DASHES[number % len(style.DASHES)],
            linewidth=1.3,
            marker="o" if len(line) < 3 else None,
        )
    axes.tick_params(labelsize=8.5)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=3, integer=True))
    axes.yaxis.set_major_locator(MaxNLocator(nbins=3))
    axes.grid(visible=False, axis="x")
