"""The search for a learning rate: the loss while the rate rises from step to step."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import polars as pl
from matplotlib.ticker import LogLocator

from pipeline_lib.figures import style

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

STEP, SMOOTHED, CHOSEN = "loss of the step", "smoothed", "rate that was chosen"
COLUMNS = {"loss": STEP, "smoothed_loss": SMOOTHED}
SCHEMA = pl.Schema({"learning_rate": pl.Float64, "series": pl.String, "value": pl.Float64})
HIGHEST = 1.5  # times the first smoothed loss: beyond, the loss is lost and would flatten the rest


def data(range_test: pl.DataFrame, rate: float) -> pl.DataFrame:
    """The losses by learning rate, and the point of the smoothed curve at the rate that was chosen.

    Args:
        range_test: reports/train/range_test.csv, without columns where no rate was sought.
        rate: that training went on with; beyond the ends of the curve it has the loss there.

    Returns:
        Columns learning_rate, series, value (a loss); empty where no rate was sought.
    """
    if not {"learning_rate", *COLUMNS} <= set(range_test.columns) or range_test.is_empty():
        return SCHEMA.to_frame()
    curve = range_test.select(pl.col("learning_rate", *COLUMNS).cast(pl.Float64))
    rates, smoothed = curve["learning_rate"].to_numpy(), curve["smoothed_loss"].to_numpy()
    there = float(np.interp(np.log(rate), np.log(rates), smoothed))
    lines = [
        curve.select("learning_rate", pl.lit(name).alias("series"), pl.col(column).alias("value"))
        for column, name in COLUMNS.items()
    ]
    return pl.concat([*lines, pl.DataFrame([(rate, CHOSEN, there)], schema=SCHEMA, orient="row")])


def draw(frame: pl.DataFrame, theme: style.Theme) -> Figure:
    """The losses over a logarithmic axis of rates; the chosen one is a dot on a dotted line."""
    with style.applied(theme):
        figure, axes = style.new_figure()
        axes.set_xscale("log")
        axes.plot(*_points(frame, STEP), color=theme.muted, linewidth=0.9, alpha=0.7, label=STEP)
        axes.plot(*_points(frame, SMOOTHED), color=theme.series[0], label=SMOOTHED)
        rate, there = _points(frame, CHOSEN)
        axes.axvline(rate[0], color=theme.series[1], linestyle=style.DASHES[2], linewidth=1.4)
        axes.plot(rate, there, "o", color=theme.series[1], markersize=7, label=CHOSEN)
        highest = HIGHEST * _points(frame, SMOOTHED)[1][0]
        axes.set_ylim(0, highest if highest > 0 else 1)
        axes.set(xlabel="learning rate", ylabel="training loss")
        axes.grid(visible=False, axis="x")
        axes.xaxis.set_major_locator(LogLocator(numticks=6))
        axes.xaxis.set_major_formatter(lambda rate, _: f"{rate:g}".replace("e-0", "e-"))
        axes.minorticks_off()
        figure.legend(loc="outside upper left", ncols=2, handlelength=2.2, fontsize=9.5)
        return figure


def _points(frame: pl.DataFrame, series: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Rates and losses of a series."""
    points = frame.filter(pl.col("series") == series)
    return points["learning_rate"].to_numpy(), points["value"].to_numpy()
