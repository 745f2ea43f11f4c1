"""A line per contender with a band over its seeds: what the curves of a comparison have in common."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
from matplotlib.ticker import FixedLocator, MaxNLocator, NullLocator

from pipeline_lib.figures import style

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SCHEMA = pl.Schema(
    {
        "budget": pl.String,
        "contender": pl.String,
        "x": pl.Float64,
        "value": pl.Float64,
        "low": pl.Float64,
        "high": pl.Float64,
    }
)
MOST_BANDS = 6  # more of them on top of each other hide the lines
LEGEND_LINE = 0.2  # inches
LEGEND_LETTERS = 46  # of all names in one line of the legend; each has a stroke of six letters
STROKE_LETTERS = 6
LOGARITHMIC = 8  # a range of as many times the smallest x, or more


@dataclass(frozen=True)
class Axis:
    """What the axes say.

    Attributes:
        x, y: their words.
        percent: values are shares.
        marked: the x of the lines are few and get a tick each.
    """

    x: str
    y: str
    percent: bool = True
    marked: bool = False


def over_seeds(curves: pl.DataFrame, x: str, y: str) -> pl.DataFrame:
    """Mean, lowest and highest curve of the seeds, as far as the shortest of them goes.

    Seeds that were evaluated at different x are interpolated linearly.

    Args:
        curves: columns budget, contender, seed, `x` and `y`, one row per evaluation.
        x: what the curves go over.
        y: what they show.

    Returns:
        Rows of `SCHEMA`; none for a contender without `x` or `y`.
    """
    rows = []
    known = curves.drop_nulls([x, y]).filter(pl.col(y).cast(pl.Float64).is_finite())
    for (budget, contender), own in known.group_by("budget", "contender", maintain_order=True):
        seeds = [curve.sort(x) for _, curve in own.group_by("seed", maintain_order=True)]
        end = min(float(curve[x][-1]) for curve in seeds)
        start = max(float(curve[x][0]) for curve in seeds)
        for at in own.filter(pl.col(x).is_between(start, end))[x].unique().sort().to_list():
            values = [float(np.interp(at, curve[x], curve[y])) for curve in seeds]
            mean = round(sum(values) / len(values), 6)
            rows.append((budget, contender, float(at), mean, min(values), max(values)))
    return pl.DataFrame(rows, schema=SCHEMA, orient="row")


def draw_bands(
    frame: pl.DataFrame, theme: style.Theme, axis: Axis, contenders: Sequence[str]
) -> Figure:
    """One pair of axes per budget below each other, all with the same x.

    Args:
        frame: of `SCHEMA`; low and high may be null.
        theme: the colours.
        axis: what the axes say.
        contenders: all of the comparison, so that each has its colour in every figure.
    """
    budgets = frame["budget"].unique(maintain_order=True).to_list()
    shown = [name for name in contenders if name in set(frame["contender"])]
    columns = _columns(shown)
    rows = -(-len(shown) // columns)
    with style.applied(theme):
        figure = style.plain_figure(
            style.WIDTH, 0.55 + LEGEND_LINE * rows + 2.1 * max(len(budgets), 1)
        )
        figure.set_layout_engine("constrained")
        all_axes = figure.subplots(len(budgets), 1, sharex=True, squeeze=False)[:, 0]
        for axes, budget in zip(all_axes, budgets, strict=True):
            _draw_budget(axes, frame.filter(pl.col("budget") == budget), theme, axis, contenders)
            if budget:
                axes.set_title(style.label(budget, 40), loc="left", fontsize=10.5, color=theme.ink)
        _finish(all_axes[-1], frame["x"].unique().sort().to_list(), axis)
        handles, labels = _legend(list(all_axes), shown)
        figure.legend(
            handles,
            [style.label(name, 40) for name in labels],
            loc="outside upper left",
            ncols=columns,
            handlelength=2.6,
            fontsize=9.5,
            borderpad=0,
            labelspacing=0.3,
        )
        return figure


def _columns(names: Sequence[str]) -> int:
    """Of the legend: as many as the longest name allows."""
    longest = max(style.width(style.label(name, 40)) for name in names) + STROKE_LETTERS
    return min(max(LEGEND_LETTERS // longest, 1), len(names), 3)


def _legend(all_axes: Sequence[Axes], shown: Sequence[str]) -> tuple[list[Artist], list[str]]:
    """The strokes in the order of the contenders, each once."""
    found: dict[str, Artist] = {}
    for axes in all_axes:
        for handle, name in zip(*axes.get_legend_handles_labels(), strict=True):
            found.setdefault(str(name), handle)
    return [found[name] for name in shown], list(shown)


def _draw_budget(
    axes: Axes, frame: pl.DataFrame, theme: style.Theme, axis: Axis, contenders: Sequence[str]
) -> None:
    present = set(frame["contender"])
    for number, name in enumerate(contenders):
        if name not in present:
            continue
        line = frame.filter(pl.col("contender") == name).sort("x")
        x = line["x"].to_numpy()
        colour, dash = style.stroke(theme, number)
        dotted = axis.marked or len(line) < 3
        axes.plot(
            x,
            line["value"].to_numpy(),
            color=colour,
            linestyle=dash,
            marker="o" if dotted else None,
            label=name,
        )
        band = line.drop_nulls(["low", "high"])
        if len(present) <= MOST_BANDS and not band.is_empty():
            axes.fill_between(
                band["x"].to_numpy(),
                band["low"].to_numpy(),
                band["high"].to_numpy(),
                color=colour,
                alpha=0.14,
                linewidth=0,
            )
    if axis.percent:
        style.share_axis(axes)
    axes.set_ylabel(axis.y)
    axes.grid(visible=False, axis="x")
    axes.margins(x=0.02)


def _finish(axes: Axes, values: Sequence[float], axis: Axis) -> None:
    """The axis that all budgets share."""
    axes.set_xlabel(axis.x)
    if not axis.marked:
        axes.xaxis.set_major_locator(MaxNLocator(nbins=4, min_n_ticks=1))
        axes.xaxis.set_major_formatter(style.NUMBER)
        return
    if values[0] > 0 and values[-1] / values[0] >= LOGARITHMIC:
        axes.set_xscale("log")
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_locator(FixedLocator(list(values)))
    axes.xaxis.set_major_formatter(style.NUMBER)
