"""Test accuracy of every contender with one budget: mean, interval, single seeds, and what is significant.

Dots, not bars: the axis starts where the results do, and the length of a bar that does not start at 0 misleads.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import polars as pl
from matplotlib.ticker import MaxNLocator

from pipeline_lib.figures import style

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SCHEMA = pl.Schema(
    {
        "what": pl.String,
        "contender": pl.String,
        "other": pl.String,
        "seed": pl.Int64,
        "value": pl.Float64,
        "low": pl.Float64,
        "high": pl.Float64,
    }
)
MOST_BRACKETS = 4
PITCH = 0.46  # inches per contender
LANE = 0.27  # inches per lane of brackets
NUMBERS = 0.5  # inches for the means in numbers
LETTERS = 1.35  # rows that a p-value takes, written upwards
STEP = 0.05  # the axis starts and ends at a multiple


def data(
    cells: pl.DataFrame, groups: pl.DataFrame, comparisons: pl.DataFrame, budget: str
) -> pl.DataFrame:
    """What is drawn of a budget, the best contender first.

    Args:
        cells: contender, budget, seed, accuracy.
        groups: contender, budget, mean, low, high.
        comparisons: budget, first, second, p_holm, significant.
        budget: its name.

    Returns:
        Rows of `SCHEMA`: `mean` (value with low and high), `seed` (value), and `bracket` (value is p after
        Holm's correction) for at most `MOST_BRACKETS` significant pairs: those of the best contender first,
        then those of the smallest p.
    """
    own = groups.filter(pl.col("budget") == budget)
    ranked = own.sort("mean", descending=True, maintain_order=True)
    best = ranked["contender"][0] if len(ranked) else None
    rows: list[tuple[object, ...]] = [
        ("mean", row["contender"], None, None, row["mean"], row["low"], row["high"])
        for row in ranked.rows(named=True)
    ]
    rows += [
        ("seed", row["contender"], None, row["seed"], row["accuracy"], None, None)
        for row in cells.filter(pl.col("budget") == budget).rows(named=True)
    ]
    found = comparisons.filter((pl.col("budget") == budget) & pl.col("significant"))
    about_best = (pl.col("first") == best) | (pl.col("second") == best)
    found = found.sort(about_best.not_(), "p_holm", maintain_order=True).head(MOST_BRACKETS)
    rows += [
        ("bracket", row["first"], row["second"], None, row["p_holm"], None, None)
        for row in found.rows(named=True)
    ]
    return pl.DataFrame(rows, schema=SCHEMA, orient="row")


def limits(groups: pl.DataFrame, cells: pl.DataFrame) -> tuple[float, float]:
    """Where the axis of all budgets starts and ends: around the seeds, and their intervals where these fit."""
    accuracy = cells["accuracy"].to_list()
    room = max(max(accuracy) - min(accuracy), STEP)
    bounds = groups.drop_nulls(["low", "high"])
    lowest = max(min([*accuracy, *bounds["low"]]), min(accuracy) - room)
    highest = min(max([*accuracy, *bounds["high"]]), max(accuracy) + room)
    start = math.floor((lowest - 0.004) / STEP) * STEP
    end = math.ceil((highest + 0.004) / STEP) * STEP
    return (0.0 if start < 0.25 else round(start, 2)), round(min(end, 1.0), 2)


def draw(
    frame: pl.DataFrame,
    theme: style.Theme,
    *,
    contenders: Sequence[str],
    between: tuple[float, float],
) -> Figure:
    """A row per contender, brackets to the right of it.

    Args:
        frame: what `data` returns.
        theme: the colours.
        contenders: all of the comparison, so that each has its colour in every figure.
        between: of `limits`.
    """
    means = frame.filter(pl.col("what") == "mean")
    places = {name: place for place, name in enumerate(means["contender"].to_list())}
    brackets = frame.filter(pl.col("what") == "bracket")
    lanes = in_lanes(
        (places[first], places[second], p)
        for first, second, p in brackets.select("contender", "other", "value").rows()
    )
    width = NUMBERS + LANE * (1 + max((lane for *_, lane in lanes), default=-1))
    with style.applied(theme):
        figure = style.plain_figure(style.WIDTH, 0.75 + PITCH * max(len(means), 2))
        figure.set_layout_engine("constrained", w_pad=0.02, wspace=0)
        axes, margin = figure.subplots(
            1, 2, sharey=True, width_ratios=[style.WIDTH - width - 0.9, width]
        )
        for row in means.rows(named=True):
            colour, _ = style.stroke(theme, contenders.index(row["contender"]))
            seeds = frame.filter(
                (pl.col("what") == "seed") & (pl.col("contender") == row["contender"])
            )
            _draw_row(
                axes, places[row["contender"]], row, seeds["value"].to_list(), colour, between
            )
        _finish(axes, list(places), between)
        _draw_margin(margin, means["value"].to_list(), lanes, theme, width)
        return figure


def in_lanes(brackets: Iterable[tuple[int, int, float]]) -> list[tuple[int, int, float, int]]:
    """Brackets with a lane each, so that neither they nor their p-values touch.

    Args:
        brackets: the two places and p, at most `MOST_BRACKETS`.

    Returns:
        Upper place, lower place, p and lane, from 0: the shorter a bracket, the closer to the rows.
    """
    taken: list[list[tuple[float, float]]] = [[] for _ in range(MOST_BRACKETS)]
    placed = []
    spans = [(min(a, b), max(a, b), p) for a, b, p in brackets]
    for top, bottom, p in sorted(spans, key=lambda span: (span[1] - span[0], span[0])):
        half = max(bottom - top, LETTERS) / 2 + 0.08
        middle = (top + bottom) / 2
        start, end = middle - half, middle + half
        free = (
            lane
            for lane, rooms in enumerate(taken)
            if all(end <= other_start or other_end <= start for other_start, other_end in rooms)
        )
        lane = next(free)
        taken[lane].append((start, end))
        placed.append((top, bottom, p, lane))
    return placed


def p_words(p: float) -> str:
    """A p-value as it is written: three decimals, no zero before the point."""
    if p > 0.9995:
        return "p = 1"
    return "p < .001" if p < 0.001 else f"p = {p:.3f}".replace("0.", ".", 1)


def _draw_row(
    axes: Axes,
    place: int,
    row: dict[str, float],
    seeds: Sequence[float],
    colour: str,
    between: tuple[float, float],
) -> None:
    """An interval that goes on beyond the axis ends in an arrow."""
    if row["low"] is not None:
        low, high = max(row["low"], 0), min(row["high"], 1)
        axes.plot([low, high], [place, place], color=colour, linewidth=2.2)
        for end, beyond, edge, arrow in (
            (low, low < between[0], between[0], "<"),
            (high, high > between[1], between[1], ">"),
        ):
            if beyond:
                axes.plot(edge, place, arrow, color=colour, markersize=6, clip_on=False)
            else:
                caps = [place - 0.13, place + 0.13]
                axes.plot([end, end], caps, color=colour, linewidth=1.6, clip_on=False)
    axes.plot(row["value"], place, "D", color=colour, markersize=8, clip_on=False)
    if len(seeds) > 1:
        axes.plot(
            seeds,
            [place + 0.3] * len(seeds),
            "o",
            markersize=4.5,
            markerfacecolor="none",
            markeredgecolor=colour,
            markeredgewidth=1.1,
            clip_on=False,
        )


def _finish(axes: Axes, names: Sequence[str], between: tuple[float, float]) -> None:
    axes.set_yticks(range(len(names)), [style.in_lines(name) for name in names])
    axes.set_ylim(max(len(names), 2) - 0.4, -0.6)
    axes.set_xlim(*between)
    axes.xaxis.set_major_formatter(style.PERCENT)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=4, steps=[1, 2, 5, 10]))
    start = f" (axis starts at {style.percent(between[0])})" if between[0] else ""
    axes.set_xlabel(f"test accuracy{start}")
    axes.grid(visible=False, axis="y")
    axes.spines["left"].set_visible(False)


def _draw_margin(
    axes: Axes,
    means: Sequence[float],
    lanes: Sequence[tuple[int, int, float, int]],
    theme: style.Theme,
    width: float,
) -> None:
    """Means in numbers, then brackets with their p; x is in inches."""
    axes.set_xlim(0, width)
    axes.axis("off")
    for place, mean in enumerate(means):
        axes.text(0.06, place, f"{100 * mean:.1f}", va="center", fontsize=10, color=theme.ink)
    for top, bottom, p, lane in lanes:
        x = NUMBERS + LANE * lane
        axes.plot(
            [x, x + 0.06, x + 0.06, x],
            [top + 0.1, top + 0.1, bottom - 0.1, bottom - 0.1],
            color=theme.muted,
            linewidth=1.1,
            solid_capstyle="butt",
        )
        axes.text(
            x + 0.1,
            (top + bottom) / 2,
            p_words(p),
            rotation=90,
            va="center",
            ha="left",
            fontsize=8.5,
            color=theme.ink,
        )
