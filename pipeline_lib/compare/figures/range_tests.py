"""The searches for a learning rate: the smoothed loss while the rate rises, a chart per contender and budget."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import polars as pl
from matplotlib.ticker import LogLocator

from pipeline_lib.compare.figures.small_charts import draw_seeds, small_charts
from pipeline_lib.figures import range_test, style

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from matplotlib.figure import Figure

OWN = pl.Schema({"contender": pl.String, "budget": pl.String, "seed": pl.Int64})
SCHEMA = pl.Schema([*OWN.items(), *range_test.SCHEMA.items()])


def data(
    cells: pl.DataFrame,
    range_tests: Mapping[str, pl.DataFrame],
    phases: Mapping[str, Mapping[str, Any]],
) -> pl.DataFrame:
    """The smoothed curves and the rates that were chosen.

    Args:
        cells: key, contender, budget, seed.
        range_tests: range_test.csv, by key, of the trainings that had a rate sought.
        phases: what phases.json says, by key.

    Returns:
        Rows of `SCHEMA`.
    """
    found = [SCHEMA.to_frame()]
    for row in cells.rows(named=True):
        if row["key"] not in range_tests:
            continue
        rate = float(phases[row["key"]]["found"]["learning_rate"])
        curve = range_test.data(range_tests[row["key"]], rate)
        own = [pl.lit(row[name]).alias(name) for name in OWN]
        found.append(
            curve.filter(pl.col("series") != range_test.STEP)
            .select(*own, *range_test.SCHEMA)
            .cast(SCHEMA)
        )
    return pl.concat(found)


def draw(frame: pl.DataFrame, theme: style.Theme, *, contenders: Sequence[str]) -> Figure:
    """A line per seed, and a dot at the rate that it was trained with."""
    groups = frame.select("contender", "budget").unique(maintain_order=True).rows()
    titles = [f"{style.in_lines(name, 22)}\n{style.label(budget, 22)}" for name, budget in groups]
    with style.applied(theme):
        figure, places = small_charts(
            titles, theme, x="learning rate", y="training loss", share_y=False
        )
        for axes, (name, budget) in zip(places, groups, strict=True):
            own = frame.filter((pl.col("contender") == name) & (pl.col("budget") == budget))
            colour = style.stroke(theme, contenders.index(name))[0]
            smoothed = own.filter(pl.col("series") == range_test.SMOOTHED)
            curves = [curve for _, curve in smoothed.group_by("seed", maintain_order=True)]
            draw_seeds(axes, [_points(curve) for curve in curves], colour)
            axes.plot(
                *_points(own.filter(pl.col("series") == range_test.CHOSEN)), "o", color=colour
            )
            axes.set_xscale("log")
            highest = range_test.HIGHEST * max(float(curve["value"][0]) for curve in curves)
            axes.set_ylim(0, highest if highest > 0 else 1)
            axes.xaxis.set_major_locator(LogLocator(numticks=4))
            axes.minorticks_off()
            axes.xaxis.set_major_formatter(lambda rate, _: f"{rate:g}".replace("e-0", "e-"))
        return figure


def _points(frame: pl.DataFrame) -> tuple[Any, Any]:
    return frame["learning_rate"].to_numpy(), frame["value"].to_numpy()
