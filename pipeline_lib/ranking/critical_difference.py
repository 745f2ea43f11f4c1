"""Average ranks over datasets, and which of them differ: the critical-difference diagram.

Source: Demsar, "Statistical comparisons of classifiers over multiple data sets", JMLR 7, 2006, figure 1.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import polars as pl

from pipeline_lib.figures import style

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from pipeline_lib.ranking.ranks import Ranking

ROW = 0.3  # inches per line of names
BAR = 0.16  # inches per clique
WORDS = 0.45  # inches for what the axis and the bars are
SCHEMA: dict[str, pl.DataType | type[pl.DataType]] = {
    "method": pl.String,
    "rank": pl.Float64,
    "cliques": pl.List(pl.Int64),
    "critical_difference": pl.Float64,
}


def data(ranking: Ranking, names: Sequence[str]) -> pl.DataFrame:
    """The methods from the best rank to the worst.

    Args:
        ranking: of `names`, in their order.
        names: of the methods.

    Returns:
        method, rank, cliques (the numbers of those that it is in, from 0) and the critical difference of all
        (null where nothing was tested).
    """
    order = sorted(range(len(names)), key=lambda m: (ranking.ranks[m], m))
    rows = [
        (
            names[m],
            ranking.ranks[m],
            [number for number, clique in enumerate(ranking.cliques) if m in clique],
            ranking.critical_difference,
        )
        for m in order
    ]
    return pl.DataFrame(rows, schema=SCHEMA, orient="row")


def draw(frame: pl.DataFrame, theme: style.Theme) -> Figure:
    """Ranks on an axis with the best on the left; a bar joins methods that were not told apart."""
    methods = len(frame)
    cliques = sorted({number for numbers in frame["cliques"] for number in numbers})
    left = -(-methods // 2)
    distance = frame["critical_difference"][0]
    with style.applied(theme):
        figure, axes = style.new_figure(height=0.9 + BAR * len(cliques) + ROW * left + WORDS)
        axes.axis("off")
        bars = 0.2 + BAR * len(cliques)  # y is in inches below the axis
        axes.set_ylim(bars + ROW * left + WORDS, -0.8 if distance else -0.4)
        axes.set_xlim(1 - 0.02 * methods, methods + 0.02 * methods)
        _draw_axis(axes, methods, theme)
        for place, (name, rank, *_) in enumerate(frame.rows()):
            row = place if place < left else methods - 1 - place
            depth = bars + ROW * (row + 0.5)
            _draw_method(axes, (name, rank), depth, theme, methods, on_left=place < left)
        for number in cliques:
            ranks = frame.filter(pl.col("cliques").list.contains(number))["rank"]
            ends = [float(ranks[0]), float(ranks[-1])]
            depth = 0.16 + BAR * cliques.index(number)
            axes.plot(ends, [depth] * 2, color=theme.ink, linewidth=4.5, solid_capstyle="round")
        said = "average rank, 1 is the best"
        joined = "\nbars join methods that were not told apart" if cliques else ""
        axes.text(
            (1 + methods) / 2,
            bars + ROW * left + 0.1,
            said + joined,
            ha="center",
            va="top",
            color=theme.muted,
            fontsize=9.5,
        )
        if distance:
            _draw_distance(axes, min(distance, methods - 1), distance, theme)
        return figure


def _draw_axis(axes: Axes, methods: int, theme: style.Theme) -> None:
    axes.plot([1, methods], [0, 0], color=theme.muted, linewidth=1.2)
    for rank in range(1, methods + 1):
        axes.plot([rank, rank], [-0.06, 0], color=theme.muted, linewidth=1.2)
        axes.text(rank, -0.1, str(rank), ha="center", va="bottom", color=theme.muted, fontsize=9.5)


def _draw_method(
    axes: Axes,
    method: tuple[str, float],
    depth: float,
    theme: style.Theme,
    methods: int,
    *,
    on_left: bool,
) -> None:
    """A line from the rank down, and to the side where the name is."""
    name, rank = method
    side = 1 if on_left else methods
    axes.plot([rank, rank, side], [0, depth, depth], color=theme.rule, linewidth=1.2)
    axes.plot(rank, 0, "o", color=theme.series[0], markersize=5)
    text = f"{style.label(name)}  {rank:.2f}" if on_left else f"{rank:.2f}  {style.label(name)}"
    axes.text(
        side,
        depth - 0.02,
        text,
        ha="left" if on_left else "right",
        va="bottom",
        color=theme.ink,
        fontsize=9.5,
    )


def _draw_distance(axes: Axes, length: float, distance: float, theme: style.Theme) -> None:
    """The critical difference as a length, above the axis."""
    axes.plot([1, 1 + length], [-0.48, -0.48], color=theme.ink, linewidth=1.2)
    for end in (1, 1 + length):
        axes.plot([end, end], [-0.53, -0.43], color=theme.ink, linewidth=1.2)
    axes.text(
        1,
        -0.56,
        f"critical difference {distance:.2f}",
        ha="left",
        va="bottom",
        color=theme.ink,
        fontsize=9.5,
    )
