"""Lines over epochs: what the loss, accuracy and disambiguation figures have in common."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import polars as pl
from matplotlib.ticker import MaxNLocator

from pipeline_lib.figures import style

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

TWO_COLUMNS = 22  # letters up to which two columns of the legend fit beside each other
LETTER = 0.022  # of the width of the axes, the width of a letter of a phase's name
SCHEMA = pl.Schema({"epoch": pl.Int64, "series": pl.String, "value": pl.Float64})


def tidy(table: pl.DataFrame, names: Mapping[str, str]) -> pl.DataFrame:
    """One row per epoch and series, for the columns of `table` that `names` gives a name.

    Columns that are absent are skipped, and so is every value that is missing, NaN or infinite.

    Args:
        table: a column `epoch`, and columns of numbers, also as text.
        names: column -> name of its line, in the order of the legend.

    Returns:
        Columns epoch (int64), series (string), value (float64).
    """
    pieces = [
        table.select(
            pl.col("epoch").cast(pl.Float64, strict=False).cast(pl.Int64, strict=False),
            pl.lit(name).alias("series"),
            pl.col(column).cast(pl.Float64, strict=False).alias("value"),
        )
        for column, name in names.items()
        if column in table.columns and "epoch" in table.columns
    ]
    rows = pl.concat(pieces) if pieces else SCHEMA.to_frame()
    return rows.filter(pl.col("epoch").is_not_null() & pl.col("value").is_finite())


def with_phases(frame: pl.DataFrame, history: pl.DataFrame, names: Sequence[str]) -> pl.DataFrame:
    """Say in a column `phase` (string) which phase of training each row of `frame` belongs to.

    Args:
        frame: what `tidy` returns.
        history: reports/train/history.csv; its column `phase` counts them from 0, and is absent where
            there was but one.
        names: of the phases.
    """
    if "phase" not in history.columns:
        return frame
    number = pl.col("phase").cast(pl.Float64, strict=False).cast(pl.Int64, strict=False)
    known = history.select(
        pl.col("epoch").cast(pl.Float64, strict=False).cast(pl.Int64, strict=False),
        number.replace_strict(dict(enumerate(names)), default=None, return_dtype=pl.String),
    )
    return frame.join(known, on="epoch", how="left", maintain_order="left")


def switches(frame: pl.DataFrame) -> list[tuple[int, str]]:
    """After which epoch which phase begins, in order; of a frame `with_phases`, nothing of another."""
    if "phase" not in frame.columns:
        return []
    ends = (
        frame.drop_nulls("phase")
        .sort("epoch", maintain_order=True)
        .group_by("phase", maintain_order=True)
        .agg(pl.col("epoch").max())
        .rows()
    )
    return [(end, begins) for (_, end), (begins, _) in pairwise(ends)]


def draw_lines(
    frame: pl.DataFrame, theme: style.Theme, what: str, *, percent: bool = False
) -> Figure:
    """One line per series over the epochs; a series of one value is a dot.

    Where a phase of training begins, its name stands beside a dotted line.

    Args:
        frame: what `tidy` returns, perhaps `with_phases`.
        theme: the colours.
        what: says what is on the vertical axis.
        percent: values are shares, shown in percent.
    """
    with style.applied(theme):
        figure, axes = style.new_figure()
        for number, name in enumerate(frame["series"].unique(maintain_order=True).to_list()):
            line = frame.filter(pl.col("series") == name).sort("epoch")
            colour = theme.series[number % len(theme.series)]
            dash = style.DASHES[number % len(style.DASHES)]
            axes.plot(
                line["epoch"].to_numpy(),
                line["value"].to_numpy(),
                color=colour,
                linestyle=dash,
                marker="o" if len(line) < 3 else None,
                label=style.label(name, 40),
            )
        axes.set_xlabel("epoch")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=8, min_n_ticks=1))
        axes.grid(visible=False, axis="x")
        if percent:
            style.share_axis(axes)
        axes.set_ylabel(what)
        axes.margins(x=0.02)
        if frame["epoch"].n_unique() == 1:
            axes.set_xlim(frame["epoch"][0] - 0.6, frame["epoch"][0] + 0.6)
        _mark_switches(axes, frame, theme)
        longest = max(map(len, frame["series"].unique().to_list()))
        figure.legend(
            loc="outside upper left",
            ncols=2 if longest <= TWO_COLUMNS else 1,
            handlelength=2.6,
            fontsize=9.5,
        )
        return figure


def _mark_switches(axes: Axes, frame: pl.DataFrame, theme: style.Theme) -> None:
    """A dotted line where a phase begins, with its name above the axes, in rows that do not overlap."""
    begins = [(epoch, style.label(name)) for epoch, name in switches(frame)]
    left, right = axes.get_xlim()
    starts = [(epoch - left) / (right - left) for epoch, _ in begins]
    ends = [start + len(name) * LETTER for start, (_, name) in zip(starts, begins, strict=True)]
    # A name that would pass the right edge stands to the left of its line.
    turned = [end > 1 for end in ends]
    spans = [
        (start - (end - start), start) if turn else (start, end)
        for start, end, turn in zip(starts, ends, turned, strict=True)
    ]
    for (epoch, name), turn, row in zip(begins, turned, stacked(spans), strict=True):
        axes.axvline(epoch, color=theme.muted, linestyle=style.DASHES[2], linewidth=1.2)
        axes.annotate(
            name,
            (epoch, 1),
            (0, 2 + 11 * row),
            xycoords=axes.get_xaxis_transform(),
            textcoords="offset points",
            ha="right" if turn else "left",
            color=theme.muted,
            fontsize=8.5,
        )


def stacked(spans: Sequence[tuple[float, float]]) -> list[int]:
    """The lowest row for each of the spans, one after the other, in which it overlaps none before it."""
    rows: list[int] = []
    for number, (start, end) in enumerate(spans):
        before = zip(rows, spans[:number], strict=True)
        taken = {row for row, (first, last) in before if first < end and start < last}
        rows.append(next(row for row in range(number + 1) if row not in taken))
    return rows
