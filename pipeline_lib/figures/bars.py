"""Bars of shares with a name each: what the figures of classes and of annotators have in common."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipeline_lib.figures import style

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SHOWN = 24  # bars; more do not fit on a phone


def draw_shares(
    names: Sequence[str], shares: Sequence[float | None], theme: style.Theme, what: str
) -> tuple[Figure, Axes]:
    """One bar per name from the top, its share in percent beside it; None is an empty bar."""
    places = range(len(names))
    lengths = [share or 0.0 for share in shares]
    pitch = min(max(3.6 / len(names), 0.26), 0.55)
    figure, axes = style.new_figure(height=0.8 + pitch * len(names))
    axes.barh(places, [1] * len(names), height=0.62, color=theme.rule, alpha=0.55)
    axes.barh(places, lengths, height=0.62, color=theme.series[0])
    axes.set_yticks(places, style.labels(names))
    for place, share in zip(places, shares, strict=True):
        text = "" if share is None else f"{100 * share:.1f}"
        axes.text(1.015, place, text, va="center", color=theme.ink, fontsize=9.5)
    axes.invert_yaxis()
    axes.grid(visible=False)
    axes.spines[:].set_visible(False)
    axes.set(xlim=(0, 1.09), xlabel=what)
    axes.set_xticks([0, 0.25, 0.5, 0.75, 1])
    axes.xaxis.set_major_formatter(style.PERCENT)
    return figure, axes
