"""How often each annotator is right: estimated from their labels alone, and in truth where it is known."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import polars as pl
from matplotlib.patches import Patch

from pipeline_lib.figures import style
from pipeline_lib.figures.bars import SHOWN, draw_shares

if TYPE_CHECKING:
    from collections.abc import Mapping

    from matplotlib.figure import Figure

SCHEMA = pl.Schema(
    {
        "annotator": pl.String,
        "votes": pl.Int64,
        "estimated_accuracy": pl.Float64,
        "accuracy": pl.Float64,
    }
)


def data(annotators: Mapping[str, Any]) -> pl.DataFrame:
    """The best and the worst annotators, the best first.

    Args:
        annotators: the entry `annotators` of data/split/summary.json.

    Returns:
        Columns annotator (string), votes (int64), estimated_accuracy, accuracy (shares; null where
        unknown).
    """
    found = [*annotators["best"], *annotators["worst"]]
    rows = [
        (one["name"], one["votes"], one["estimated_accuracy"], one["accuracy"]) for one in found
    ]
    frame = pl.DataFrame(rows, schema=SCHEMA, orient="row")
    return frame.sort("estimated_accuracy", descending=True, nulls_last=True, maintain_order=True)


def draw(frame: pl.DataFrame, theme: style.Theme) -> Figure:
    """One bar per annotator, a diamond for the truth; of many, the best half and the worst half."""
    if len(frame) > SHOWN:
        frame = pl.concat([frame.head(SHOWN // 2), frame.tail(SHOWN // 2)])
    names, estimated = frame["annotator"].to_list(), frame["estimated_accuracy"].to_list()
    with style.applied(theme):
        figure, axes = draw_shares(names, estimated, theme, "accuracy of the annotator")
        if frame["accuracy"].count():
            axes.plot(
                frame["accuracy"].to_list(),
                range(len(frame)),
                "D",
                color=theme.series[1],
                markeredgecolor=theme.surface,
                markersize=7,
                label="by the true labels",
            )
        bars = Patch(color=theme.series[0], label="estimated from agreement")
        estimates = [bars] if frame["estimated_accuracy"].count() else []
        figure.legend(
            handles=[*estimates, *axes.get_lines()], loc="outside upper left", ncols=2, fontsize=9
        )
        return figure
