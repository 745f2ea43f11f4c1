"""A table of coloured cells with a number each: more in one hue, less in another, nothing for zero."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.cm import ScalarMappable
from matplotlib.colors import ListedColormap, Normalize, to_rgb

from pipeline_lib.figures import style

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

TEXT_UP_TO = 8  # columns; narrower cells have no room for a number
PITCH = 0.27  # inches per row
COLUMNS = 72 * 3.0  # points that all columns have beside the names of rows
TWO_LINES = 20  # points of a column in which two lines fit upright
SCALE = 0.45  # inches below the rows
SHADES = 21  # of the scale
LETTERS = 40  # of the names of all columns that fit beside each other


@dataclass(frozen=True)
class Heat:
    """What is drawn.

    Attributes:
        depth_RC: how deep the colour of a cell is, in [-1, 1]; NaN is no cell.
        texts: what is written into the cells, row by row.
        rows: what stands on their left.
        columns: contenders.
        ends: of the scale: a depth and what it stands for, the lower one first.
    """

    depth_RC: NDArray[np.float64]
    texts: Sequence[Sequence[str]]
    rows: Sequence[str]
    columns: Sequence[str]
    ends: tuple[tuple[float, str], tuple[float, str]]


def draw_heat(heat: Heat, theme: style.Theme) -> Figure:
    """Rows on the left, names of columns on top."""
    room = COLUMNS / len(heat.columns)
    # Many names are upright in one line each, the smaller the more.
    names = [
        style.in_lines(name, 16) if room > TWO_LINES else style.label(name, 30)
        for name in heat.columns
    ]
    letters = max(style.width(line) for name in names for line in name.split("\n"))
    upright = len(names) * letters <= LETTERS
    head = 0.45 if upright else 0.12 + 0.095 * letters
    points = 8.5 if any("\n" in name for name in (*names, *heat.rows)) else 9.5
    small = min(points, 0.9 * room)
    with style.applied(theme):
        numbered = len(heat.columns) <= TEXT_UP_TO
        foot = 0.0 if numbered else SCALE
        figure, axes = style.new_figure(height=0.15 + head + PITCH * len(heat.rows) + foot)
        colours_RC3 = _colours(heat.depth_RC, theme)
        axes.imshow(colours_RC3, aspect="auto")
        axes.grid(visible=False)
        axes.spines[:].set_visible(False)
        axes.xaxis.tick_top()
        axes.set_xticks(range(len(names)), names, rotation=0 if upright else 90, fontsize=small)
        axes.set_yticks(range(len(heat.rows)), heat.rows, fontsize=points)
        _separate(axes, heat.depth_RC.shape, theme)
        if numbered:
            _write(axes, heat.texts, colours_RC3)
        else:
            _scale(figure, axes, heat, theme)
        return figure


def _colours(depth_RC: NDArray[np.float64], theme: style.Theme) -> NDArray[np.float64]:
    more, less = (np.array(to_rgb(colour)) for colour in theme.series[:2])
    depth_RC1 = np.nan_to_num(depth_RC).clip(-1, 1)[..., None]
    hue_RC3 = np.where(depth_RC1 >= 0, more, less)
    strength_RC1 = np.abs(depth_RC1)
    colours_RC3: NDArray[np.float64] = (
        np.array(to_rgb(theme.surface)) * (1 - strength_RC1) + hue_RC3 * strength_RC1
    )
    return colours_RC3


def _separate(axes: Axes, shape: tuple[int, ...], theme: style.Theme) -> None:
    """Lines of the surface between cells."""
    axes.set_xticks(np.arange(shape[1] + 1) - 0.5, minor=True)
    axes.set_yticks(np.arange(shape[0] + 1) - 0.5, minor=True)
    axes.tick_params(which="minor", length=0)
    axes.grid(visible=True, which="minor", color=theme.surface, linewidth=1.5)


def _scale(figure: Figure, axes: Axes, heat: Heat, theme: style.Theme) -> None:
    """What the colours stand for, below: cells without a number do not say it."""
    (low, least), (high, most) = heat.ends
    hues_S3 = _colours(np.linspace(low, high, SHADES)[None], theme)[0]
    colours = ScalarMappable(Normalize(low, high), ListedColormap(hues_S3.tolist()))
    bar = figure.colorbar(colours, ax=axes, location="bottom", shrink=0.5, aspect=20, pad=0.03)
    bar.set_ticks([low, high], labels=[least, most], fontsize=9)
    bar.ax.spines[:].set_visible(False)


def _write(axes: Axes, texts: Sequence[Sequence[str]], colours_RC3: NDArray[np.float64]) -> None:
    for row, line in enumerate(texts):
        for column, text in enumerate(line):
            colour = style.ink_on(colours_RC3[row, column])
            axes.text(column, row, text, ha="center", va="center", color=colour, fontsize=9)
