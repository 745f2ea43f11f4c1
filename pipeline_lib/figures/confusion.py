"""Which class the test images of each class are taken for."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import polars as pl
from matplotlib.colors import to_rgb

from pipeline_lib.figures import style

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

COUNTS_UP_TO = 16  # classes; more cells are too small for a number
LUMA = np.array([0.299, 0.587, 0.114])  # how bright red, green and blue look (ITU-R BT.601)
NAMES_UP_TO = 32  # classes; beyond, every so-many-th axis position is numbered


def data(predictions: pl.DataFrame, classes: Sequence[str]) -> pl.DataFrame:
    """Every cell of the matrix, row by row.

    Args:
        predictions: columns label and predicted, class numbers.
        classes: K names.

    Returns:
        Columns actual, predicted (names), images (int64), share (of the images of the actual class;
        null where it has none). K * K rows, or none without predictions.
    """
    size = len(classes)
    cells = predictions["label"].cast(pl.Int64) * size + predictions["predicted"].cast(pl.Int64)
    counts_KK = np.bincount(cells.to_numpy(), minlength=size**2).reshape(size, size)
    totals = np.repeat(counts_KK.sum(axis=1), size)
    frame = pl.DataFrame(
        {
            "actual": [name for name in classes for _ in classes],
            "predicted": list(classes) * size,
            "images": counts_KK.ravel(),
            "total": totals,
        }
    )
    share = pl.when(pl.col("total") > 0).then((pl.col("images") / pl.col("total")).round(6))
    frame = frame.select("actual", "predicted", "images", share.alias("share"))
    return frame.clear() if predictions.is_empty() else frame


def draw(frame: pl.DataFrame, theme: style.Theme) -> Figure:
    """A square of cells: hits on the diagonal in one hue, mistakes in another.

    Raises:
        ValueError: `frame` is empty.
    """
    style.require_rows(frame, "confusion")
    size = round(len(frame) ** 0.5)
    counts_KK = frame["images"].to_numpy().reshape(size, size)
    shares_KK = frame["share"].fill_null(0.0).to_numpy().reshape(size, size)
    with style.applied(theme):
        figure, axes = style.new_figure(height=style.WIDTH)
        axes.imshow(_colours(shares_KK, theme))
        axes.grid(visible=False)
        axes.set_xlabel("predicted class")
        axes.set_ylabel("true class")
        names = frame["predicted"].head(size).to_list()
        _name_ticks(axes, names)
        if size <= COUNTS_UP_TO:
            _write_counts(axes, counts_KK, _colours(shares_KK, theme))
        return figure


def _colours(shares_KK: NDArray[np.float64], theme: style.Theme) -> NDArray[np.float64]:
    """RGB per cell: from the surface to the hue, by the root of the share so that rare cells show."""
    hits, mistakes = (np.array(to_rgb(colour)) for colour in theme.series[:2])
    hue_KK3 = np.where(np.eye(len(shares_KK), dtype=bool)[..., None], hits, mistakes)
    strength_KK1 = np.sqrt(shares_KK)[..., None]
    colours_KK3: NDArray[np.float64] = (
        np.array(to_rgb(theme.surface)) * (1 - strength_KK1) + hue_KK3 * strength_KK1
    )
    return colours_KK3


def _name_ticks(axes: Axes, names: list[str]) -> None:
    if len(names) > NAMES_UP_TO:
        ticks = range(0, len(names), -(-len(names) // 10))
        axes.set_xticks(ticks)
        axes.set_yticks(ticks)
        axes.set_xlabel("predicted class (number)")
        axes.set_ylabel("true class (number)")
        return
    shown = [style.label(name, 14) for name in names]
    small = 10 if len(names) <= COUNTS_UP_TO else 7
    upright = max(map(len, shown)) <= 2
    axes.set_xticks(range(len(names)), shown, rotation=0 if upright else 90, fontsize=small)
    axes.set_yticks(range(len(names)), shown, fontsize=small)


def _write_counts(
    axes: Axes, counts_KK: NDArray[np.int64], colours_KK3: NDArray[np.float64]
) -> None:
    """The images of every cell that has any, dark on bright cells and bright on dark ones."""
    size = 10.5 if len(counts_KK) <= 10 else 8
    bright_KK = colours_KK3 @ LUMA > 0.5
    for row, column in np.argwhere(counts_KK):
        colour = style.LIGHT.ink if bright_KK[row, column] else style.LIGHT.surface
        text = str(counts_KK[row, column])
        axes.text(column, row, text, ha="center", va="center", color=colour, fontsize=size)
