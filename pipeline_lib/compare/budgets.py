"""What budgets are: how many labels, or how many candidates, in words and as numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import polars as pl

from pipeline_lib.compare.read import OTHER_LABELS

if TYPE_CHECKING:
    from collections.abc import Mapping


def titles(cells: pl.DataFrame) -> dict[str, str]:
    """Every budget in words that follow `with`; budgets that would be called the same keep their names.

    Args:
        cells: of `Results`.
    """
    words = {row["budget"]: _words(row) for row in _means(cells).rows(named=True)}
    said = list(words.values())
    return {
        budget: title if said.count(title) == 1 else f"budget {budget}"
        for budget, title in words.items()
    }


def labels(cells: pl.DataFrame) -> dict[str, float]:
    """The number of labeled training images of every budget without partial labels."""
    rows = _means(cells).filter(pl.col("partial") == 0)
    return dict(rows.select("budget", "labeled").rows())


def candidate_rates(cells: pl.DataFrame) -> dict[str, float]:
    """The rate at which a wrong class is a candidate, of every budget with partial labels where true classes are known."""
    rows = _means(cells).filter(pl.col("partial") > 0, pl.col("candidate_rate").is_not_null())
    return dict(rows.select("budget", "candidate_rate").rows())


def _means(cells: pl.DataFrame) -> pl.DataFrame:
    """Over seeds; without the upper bound, which has labels of its own unless it is alone."""
    others = cells.filter(pl.col("method") != OTHER_LABELS)
    counted = cells if others.is_empty() else others
    return counted.group_by("budget", maintain_order=True).agg(
        pl.col("labeled", "partial", "unlabeled").mean().round(1),
        pl.col("candidate_rate").mean().round(4),
    )


def _words(row: Mapping[str, Any]) -> str:
    labeled, partial = round(row["labeled"]), round(row["partial"])
    if not partial:
        return f"{labeled:,} label{'s' * (labeled != 1)}"
    if row["candidate_rate"] is None:  # no true class is known
        sets = f"{partial:,} candidate set{'s' * (partial != 1)}"
        return f"{labeled:,} label{'s' * (labeled != 1)} and {sets}" if labeled else sets
    rate = f"candidates at a rate of {row['candidate_rate']:.2g}"
    if row["unlabeled"]:
        return f"{labeled:,} labels and {rate}"
    return f"{rate} ({100 * labeled / (labeled + partial):.0f} % with one)" if labeled else rate
