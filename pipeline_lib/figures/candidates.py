"""How many candidates the training images have."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import polars as pl
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from pipeline_lib.figures import style

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BARS = 24  # sizes up to which each has a bar of its own
TEXT_UP_TO = 12  # bars; more are too narrow for a number
LETTERS = 38  # that fit beneath the axis


class Bar(NamedTuple):
    """Images with `lower` to `upper` candidates, drawn at `place`."""

    place: int
    lower: int
    upper: int
    kind: str
    images: int


def data(labels: pl.DataFrame, num_classes: int) -> pl.DataFrame:
    """Count the images by the size of their candidate sets.

    Args:
        labels: a column `candidates` of lists, null for all classes; reports/labels.parquet.
        num_classes: K.

    Returns:
        Columns candidates (1 to K), kind (one, several, all), images (int64), share (of all
        images): K rows, or none without images.
    """
    sizes = labels["candidates"].list.len().fill_null(num_classes).cast(pl.Int64).to_numpy()
    images = np.bincount(sizes, minlength=num_classes + 1)[1 : num_classes + 1]
    size = pl.col("candidates")
    kind = pl.when(size == 1).then(pl.lit("one")).when(size == num_classes)
    frame = pl.DataFrame({"candidates": np.arange(1, num_classes + 1), "images": images}).select(
        size,
        kind.then(pl.lit("all")).otherwise(pl.lit("several")).alias("kind"),
        pl.col("images").cast(pl.Int64),
        (pl.col("images") / max(len(labels), 1)).round(6).alias("share"),
    )
    return frame if frame["images"].sum() else frame.clear()


def draw(frame: pl.DataFrame, theme: style.Theme) -> Figure:
    """A histogram; of many classes, the sizes between one and all in bins, with gaps where none are."""
    with style.applied(theme):
        figure, axes = style.new_figure()
        fill_axes(axes, frame, theme)
        figure.legend(
            handles=_legend(frame, theme),
            loc="outside upper left",
            ncols=3,
            handlelength=1,
            columnspacing=1.2,
            fontsize=9,
        )
        return figure


def fill_axes(axes: Axes, frame: pl.DataFrame, theme: style.Theme) -> None:
    """The histogram without its legend, inside `style.applied`."""
    bars = _bars(frame.select("candidates", "kind", "images").rows())
    _draw_bars(axes, bars, theme)
    _number_axis(axes, bars, theme)
    axes.set(ylabel="images", xlabel="candidates per image", ylim=(0, None))
    axes.yaxis.set_major_locator(MaxNLocator(integer=True, nbins=5, min_n_ticks=1))
    axes.yaxis.set_major_formatter("{x:,.0f}")
    axes.margins(x=0.02, y=0.1)
    axes.grid(visible=False, axis="x")


def _bars(rows: Sequence[tuple[int, str, int]]) -> list[Bar]:
    """One bar per size, or: one candidate, bins over the sizes that occur between, all candidates."""
    size = len(rows)
    if size <= BARS:
        return [Bar(lower, lower, lower, kind, images) for lower, kind, images in rows]
    bars = [Bar(0, 1, 1, "one", rows[0][2])]
    occur = [candidates for candidates, kind, images in rows if kind == "several" and images]
    if occur:
        low, high = occur[0], occur[-1]
        width = -(-(high - low + 1) // (BARS - 4))
        first = 1 if low == 2 else 2
        for number, lower in enumerate(range(low, high + 1, width)):
            upper = min(lower + width - 1, high)
            images = sum(row[2] for row in rows[lower - 1 : upper])
            bars.append(Bar(first + number, lower, upper, "several", images))
    last = bars[-1].place + (1 if bars[-1].upper == size - 1 else 2)
    return [*bars, Bar(last, size, size, "all", rows[-1][2])]


def _draw_bars(axes: Axes, bars: Sequence[Bar], theme: style.Theme) -> None:
    """In the colour of their kind, with their share above where there are few."""
    colours = dict(zip(style.KINDS, theme.kinds, strict=True))
    filled = [bar for bar in bars if bar.images]
    axes.bar(
        [bar.place for bar in filled],
        [bar.images for bar in filled],
        width=0.86,
        color=[colours[bar.kind] for bar in filled],
        edgecolor=theme.muted,
        linewidth=0.6,
    )
    axes.set_xlim(bars[0].place - 0.6, bars[-1].place + 0.6)
    total = sum(bar.images for bar in bars)
    for bar in filled if len(filled) <= TEXT_UP_TO else ():
        text = style.percent(bar.images / total)
        _note(axes, bar.place, bar.images, text, theme.ink)


def _legend(frame: pl.DataFrame, theme: style.Theme) -> list[Patch]:
    """The three kinds with their shares."""
    images = dict(frame.group_by("kind").agg(pl.col("images").sum()).rows())
    total = sum(images.values())
    patches = []
    for kind, colour in zip(style.KINDS, theme.kinds, strict=True):
        text = f"{kind} {style.percent(images.get(kind, 0) / total)}"
        patches.append(Patch(facecolor=colour, edgecolor=theme.muted, linewidth=0.6, label=text))
    return patches


def _number_axis(axes: Axes, bars: Sequence[Bar], theme: style.Theme) -> None:
    """Name as many bars as fit; three dots stand where sizes that no image has are left out."""
    first, *inner, last = bars
    letters = max(len(_range(bar)) + 1 for bar in bars)
    step = -(-len(bars) * letters // LETTERS)
    named = [first, *inner[step - 1 : len(inner) - step + 1 : step], last]
    axes.set_xticks([bar.place for bar in named], [_range(bar) for bar in named])
    for gap in set(range(first.place, last.place)) - {bar.place for bar in bars}:
        _note(axes, gap, 0, "\N{HORIZONTAL ELLIPSIS}", theme.muted)


def _note(axes: Axes, place: int, height: int, text: str, colour: str) -> None:
    """Two points above a bar."""
    where, offset = (place, height), (0, 2)
    axes.annotate(
        text, where, offset, textcoords="offset points", ha="center", color=colour, fontsize=8
    )


def _range(bar: Bar) -> str:
    return str(bar.lower) if bar.lower == bar.upper else f"{bar.lower}\N{EN DASH}{bar.upper}"
