"""Where contenders differ: the recall of every class, less the mean of all contenders."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from pipeline_lib.compare.figures.heat import Heat, draw_heat
from pipeline_lib.figures import style

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.figure import Figure

SHOWN = 24  # classes; more do not fit on a phone
LEAST_SCALE = 0.05  # a difference of as much, or the largest one, has the deepest colour


def data(per_class: pl.DataFrame, budget: str) -> pl.DataFrame:
    """Recall by class and contender, mean over seeds, and its difference from the mean of contenders.

    Args:
        per_class: contender, budget, seed, class, recall (null for a class without test images).
        budget: its name.

    Returns:
        class, contender, recall, difference: in the order of `per_class`; none where there is but one contender.
    """
    own = per_class.filter(pl.col("budget") == budget).drop_nulls("recall")
    means = own.group_by("class", "contender", maintain_order=True).agg(pl.col("recall").mean())
    if means["contender"].n_unique() < 2:
        return means.with_columns(difference=pl.lit(0.0)).clear()
    overall = pl.col("recall").mean().over("class")
    return means.with_columns(difference=(pl.col("recall") - overall).round(6))


def draw(frame: pl.DataFrame, theme: style.Theme, *, contenders: Sequence[str]) -> Figure:
    """A row per class, a column per contender; of many classes those where contenders differ most."""
    classes = shown_classes(frame)
    found = {(c, name): value for c, name, _, value in frame.rows()}
    difference_RC = np.array(
        [[found.get((c, name), np.nan) for name in contenders] for c in classes]
    )
    scale = max(float(np.nanmax(np.abs(difference_RC))), LEAST_SCALE)
    texts = [[_points(value) for value in row] for row in difference_RC]
    points = f"{100 * scale:.0f}"
    ends = (-1, f"\N{MINUS SIGN}{points}"), (1, f"+{points} points")
    heat = Heat(difference_RC / scale, texts, style.labels(classes), contenders, ends)
    return draw_heat(heat, theme)


def shown_classes(frame: pl.DataFrame) -> list[str]:
    """Those that are drawn, in their order."""
    spread = frame.group_by("class", maintain_order=True).agg(
        (pl.col("recall").max() - pl.col("recall").min()).alias("spread")
    )
    most = spread.sort("spread", descending=True, maintain_order=True).head(SHOWN)
    wanted = set(most["class"])
    return [name for name in spread["class"] if name in wanted]


def _points(difference: float) -> str:
    if np.isnan(difference):
        return ""
    text = f"{100 * difference:+.0f}"
    return "0" if text in {"+0", "-0"} else text.replace("-", "\N{MINUS SIGN}")
