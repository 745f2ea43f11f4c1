"""Is a prediction that claims 80 % right 80 % of the time? (Guo et al., ICML 2017)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import polars as pl
from matplotlib.ticker import MaxNLocator

from pipeline_lib.figures import style
from pipeline_lib.metrics import CalibrationBin, expected_calibration_error

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLUMNS = {
    "lower": pl.Float64,
    "upper": pl.Float64,
    "count": pl.Int64,
    "mean_confidence": pl.Float64,
    "accuracy": pl.Float64,
}


def data(calibration: pl.DataFrame) -> pl.DataFrame:
    """The bins of confidence.

    Args:
        calibration: reports/evaluate/calibration.csv, one row per bin.

    Returns:
        Columns lower, upper, count, mean_confidence, accuracy (both null in an empty bin); no rows
        where no bin holds an image.
    """
    bins = calibration.select(
        pl.col(name).cast(pl.Float64, strict=False).cast(kind, strict=False)
        for name, kind in COLUMNS.items()
    )
    return bins if bins["count"].sum() else bins.clear()


def calibration_error(frame: pl.DataFrame) -> float:
    """Expected calibration error of the bins, in [0, 1]."""
    rows = frame.iter_rows(named=True)
    bins = [CalibrationBin(number, **row) for number, row in enumerate(rows)]
    return expected_calibration_error(bins)


def draw(frame: pl.DataFrame, theme: style.Theme) -> Figure:
    """Accuracy per bin against the diagonal, over the number of images in each bin."""
    with style.applied(theme):
        figure, axes = style.new_figure(height=style.WIDTH)
        axes.remove()
        upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(3.2, 1))
        _draw_bins(upper, frame.filter(pl.col("count") > 0), theme)
        _draw_counts(lower, frame, theme)
        return figure


def _draw_bins(axes: Axes, bins: pl.DataFrame, theme: style.Theme) -> None:
    left, width = bins["lower"].to_numpy(), (bins["upper"] - bins["lower"]).to_numpy()
    accuracy, confidence = bins["accuracy"].to_numpy(), bins["mean_confidence"].to_numpy()
    axes.bar(
        left,
        accuracy,
        width=width,
        align="edge",
        color=theme.series[0],
        alpha=0.35,
        edgecolor=theme.surface,
    )
    axes.plot([0, 1], [0, 1], color=theme.muted, linestyle=style.DASHES[2], linewidth=1.4)
    # where the accuracy of 95 of 100 such bins would lie, were the confidence true
    variance = confidence * np.maximum(1 - confidence, 0) / bins["count"].to_numpy()
    reach = 1.96 * np.sqrt(variance)
    axes.vlines(
        confidence,
        np.clip(confidence - reach, 0, 1),
        np.clip(confidence + reach, 0, 1),
        color=theme.muted,
        alpha=0.35,
        linewidth=4,
    )
    axes.vlines(confidence, accuracy, confidence, color=theme.series[1], linewidth=2.2)
    axes.plot(confidence, accuracy, "o", color=theme.series[0], markersize=5)
    axes.set_title(f"ECE {style.percent(calibration_error(bins), 1)}", loc="left", fontsize=11)
    axes.set(xlim=(0, 1), ylim=(0, 1.02), ylabel="accuracy")
    axes.yaxis.set_major_formatter(style.PERCENT)


def _draw_counts(axes: Axes, bins: pl.DataFrame, theme: style.Theme) -> None:
    left, width = bins["lower"].to_numpy(), (bins["upper"] - bins["lower"]).to_numpy()
    counts = bins["count"].to_numpy()
    axes.bar(left, counts, width=width, align="edge", color=theme.muted, edgecolor=theme.surface)
    axes.yaxis.set_major_locator(MaxNLocator(integer=True, nbins=3))
    axes.xaxis.set_major_formatter(style.PERCENT)
    axes.tick_params(axis="x", pad=7)
    axes.set(ylabel="images", xlabel="confidence")
