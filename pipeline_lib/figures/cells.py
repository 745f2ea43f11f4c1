"""A square of cells, one row and one column per class: confusions, and classes that go together."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.colors import to_rgb

from pipeline_lib.figures import style

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

TEXT_UP_TO = 16  # classes; more cells are too small for a number
NAMES_UP_TO = 32  # classes; beyond, every so-many-th is named
TICKS = 10  # then
UPRIGHT = 330  # names * letters * points that fit beside each other


@dataclass(frozen=True)
class Cells:
    """What is drawn: K * K cells.

    Attributes:
        shares_KK: how deep the colour of a cell is, in [0, 1]; NaN is the surface.
        texts: what is written into it, row by row.
        names: K names, of the rows and of the columns.
        rows, columns: what they are.
        title: above the square, or nothing.
    """

    shares_KK: NDArray[np.float64]
    texts: Sequence[str]
    names: Sequence[str]
    rows: str
    columns: str
    title: str = ""


def draw_cells(cells: Cells, theme: style.Theme) -> Figure:
    """The diagonal in one hue, the other cells in another; names and texts where there is room."""
    with style.applied(theme):
        figure, axes = style.new_figure(height=style.WIDTH)
        fill_axes(axes, cells, theme)
        if cells.title:
            figure.suptitle(cells.title, x=0.01, ha="left", fontsize=9.5, color=theme.ink)
        return figure


def fill_axes(axes: Axes, cells: Cells, theme: style.Theme) -> None:
    """The square, inside `style.applied`."""
    colours_KK3 = _colours(cells.shares_KK, theme)
    axes.imshow(colours_KK3)
    axes.grid(visible=False)
    some = "" if len(cells.names) <= NAMES_UP_TO else " (some are named)"
    axes.set(xlabel=cells.columns + some, ylabel=cells.rows + some)
    _name_ticks(axes, cells)
    if len(cells.names) <= TEXT_UP_TO:
        _write_texts(axes, cells.texts, colours_KK3)


def _colours(shares_KK: NDArray[np.float64], theme: style.Theme) -> NDArray[np.float64]:
    """RGB per cell: from the surface to the hue, by the root of the share so that rare cells show."""
    diagonal, others = (np.array(to_rgb(colour)) for colour in theme.series[:2])
    hue_KK3 = np.where(np.eye(len(shares_KK), dtype=bool)[..., None], diagonal, others)
    strength_KK1 = np.sqrt(np.nan_to_num(shares_KK))[..., None]
    colours_KK3: NDArray[np.float64] = (
        np.array(to_rgb(theme.surface)) * (1 - strength_KK1) + hue_KK3 * strength_KK1
    )
    return colours_KK3


def _name_ticks(axes: Axes, cells: Cells) -> None:
    size = len(cells.names)
    step = 1 if size <= NAMES_UP_TO else -(-size // TICKS)
    ticks = range(0, size, step)
    shown = style.labels([cells.names[k] for k in ticks], 14)
    small = 10 if len(shown) <= TEXT_UP_TO else 7
    upright = len(shown) * max(map(style.width, shown)) * small <= UPRIGHT
    axes.set_xticks(ticks, shown, rotation=0 if upright else 90, fontsize=small)
    axes.set_yticks(ticks, shown, fontsize=small)


def _write_texts(axes: Axes, texts: Sequence[str], colours_KK3: NDArray[np.float64]) -> None:
    size = len(colours_KK3)
    points = 8 if size > 10 else 9 if max(map(len, texts)) > 2 else 10.5
    for cell, text in enumerate(texts):
        row, column = divmod(cell, size)
        if text:
            colour = style.ink_on(colours_KK3[row, column])
            axes.text(column, row, text, ha="center", va="center", color=colour, fontsize=points)
