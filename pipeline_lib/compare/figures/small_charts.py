"""Many small charts on one figure: one per contender, with one line per seed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from matplotlib.ticker import MaxNLocator

from pipeline_lib.figures import style

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

COLUMNS = 2  # more are too narrow for a phone
HEIGHT = 1.25  # inches of a chart
TITLE_LINE = 0.15  # inches


def small_charts(
    titles: Sequence[str], theme: style.Theme, *, x: str, y: str, share_y: bool
) -> tuple[Figure, list[Axes]]:
    """A figure and axes for each of `titles`, inside `style.applied`.

    Args:
        titles: of one or more lines.
        theme: the colours.
        x: what the horizontal axes say, once for all.
        y: what the vertical ones say.
        share_y: all have the same y.
    """
    rows = -(-len(titles) // COLUMNS)
    lines = max(title.count("\n") for title in titles)
    figure = style.plain_figure(style.WIDTH, 0.55 + (HEIGHT + TITLE_LINE * lines) * rows)
    figure.set_layout_engine("constrained", h_pad=0.06)
    grid = figure.subplots(rows, COLUMNS, sharex=True, sharey=share_y, squeeze=False)
    places: list[Axes] = list(grid.flat)
    for axes, title in zip(places, titles, strict=False):
        axes.set_title(title, loc="left", fontsize=9.5, color=theme.ink, pad=3)
        axes.tick_params(labelsize=8.5)
        axes.yaxis.set_major_locator(MaxNLocator(nbins=3))
        axes.grid(visible=False, axis="x")
    for axes in places[len(titles) :]:
        axes.set_visible(False)
    figure.supxlabel(x, fontsize=9.5, color=theme.muted)
    figure.supylabel(y, fontsize=9.5, color=theme.muted)
    return figure, places[: len(titles)]


def draw_seeds(axes: Axes, lines: Iterable[tuple[NDArray[Any], NDArray[Any]]], colour: str) -> None:
    """One line per seed, told apart by their dashes; a line of one or two points has dots.

    Args:
        axes: where to.
        lines: x and y of each seed.
        colour: of all.
    """
    for number, (x, y) in enumerate(lines):
        axes.plot(
            x,
            y,
            color=colour,
            linestyle=style.DASHES[number % len(style.DASHES)],
            linewidth=1.3,
            marker="o" if len(x) < 3 else None,
        )
