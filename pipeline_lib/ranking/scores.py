"""Comparisons on several datasets put together: average ranks and a critical-difference diagram."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from pipeline_lib.artifacts import read_table
from pipeline_lib.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray


def scores(
    folders: Sequence[Path], budget: str | None
) -> tuple[list[str], list[str], NDArray[np.float64]]:
    """Mean accuracy over seeds by dataset and contender.

    Args:
        folders: each `reports/compare` of a comparison on one dataset.
        budget: which label budget; None where every comparison has one.

    Returns:
        Names of the D datasets and of the M contenders that all comparisons have, and their scores (D, M).

    Raises:
        UserError: A folder holds no comparison, or another budget; a dataset is there twice; no contender is
            common to all.
    """
    means = [_means(folder, budget) for folder in folders]
    datasets = [_dataset(folder) for folder in folders]
    twice = sorted({name for name in datasets if datasets.count(name) > 1})
    if twice:
        msg = f"{', '.join(twice)}: is there twice; seeds or budgets of one dataset are no datasets of their own"
        raise UserError(msg)
    common = [name for name in means[0] if all(name in other for other in means)]
    if not common:
        msg = f"no method is in all of {', '.join(map(str, folders))}"
        raise UserError(msg)
    return datasets, common, np.array([[of[name] for name in common] for of in means])


def _means(folder: Path, budget: str | None) -> dict[str, float]:
    groups = pl.DataFrame(pl.from_arrow(read_table(folder / "tables/groups.parquet")))
    budgets = groups["budget"].unique(maintain_order=True).to_list()
    if budget is None and len(budgets) > 1:
        msg = f"{folder}: has budgets {', '.join(budgets)}; choose one with --budget"
        raise UserError(msg)
    own = groups.filter(pl.col("budget") == (budget or budgets[0]))
    if own.is_empty():
        msg = f"{folder}: has no budget {budget}, but {', '.join(budgets)}"
        raise UserError(msg)
    return dict(own.select("contender", "mean").iter_rows())


def _dataset(folder: Path) -> str:
    cells = pl.DataFrame(pl.from_arrow(read_table(folder / "tables/cells.parquet")))
    return str(cells["dataset"][0])
