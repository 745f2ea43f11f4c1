"""How often two contenders give a test image the same class."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from pipeline_lib.compare.figures.heat import Heat, draw_heat
from pipeline_lib.figures import style

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.figure import Figure

LIGHTEST = 0.12  # the depth of the lowest share: a cell that can be seen


def data(agreements: pl.DataFrame, budget: str) -> pl.DataFrame:
    """The pairs of a budget.

    Args:
        agreements: budget, first, second, same and more.
        budget: its name.

    Returns:
        first, second, same, kappa, both_wrong.
    """
    return agreements.filter(pl.col("budget") == budget).drop("budget")


def draw(frame: pl.DataFrame, theme: style.Theme, *, contenders: Sequence[str]) -> Figure:
    """The lower triangle: every pair once."""
    same = {
        frozenset(pair): share for *pair, share in frame.select("first", "second", "same").rows()
    }
    rows, columns = contenders[1:], contenders[:-1]
    same_RC = np.array(
        [
            [
                same[frozenset((row, column))] if c <= r else np.nan
                for c, column in enumerate(columns)
            ]
            for r, row in enumerate(rows)
        ]
    )
    lowest = math.floor(10 * np.nanmin(same_RC)) / 10
    lowest = min(lowest, 0.9)
    depth_RC = LIGHTEST + (1 - LIGHTEST) * (same_RC - lowest) / (1 - lowest)
    texts = [
        ["" if np.isnan(share) else f"{100 * share:.0f}" for share in line] for line in same_RC
    ]
    names = [style.in_lines(row, 16) for row in rows]
    ends = (LIGHTEST, style.percent(lowest)), (1, style.percent(1))
    return draw_heat(Heat(depth_RC, texts, names, columns, ends), theme)
