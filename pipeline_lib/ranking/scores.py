"""Comparisons on several datasets put together: average ranks and a critical-difference diagram."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from pipeline_lib.cells.tables import table_of
from pipeline_lib.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray


def scores(
    folders: Sequence[str], budget: str | None
) -> tuple[list[str], list[str], NDArray[np.float64]]:
    """Mean accuracy over seeds by dataset and contender.

    Args:
        folders: each `reports/compare` of a comparison on one dataset, perhaps after the dataset's name and `=`.
        budget: which label budget; None where every comparison has one.

    Returns:
        Names of the D datasets and of the M contenders that all comparisons have, and their scores (D, M).

    Raises:
        UserError: A folder holds no comparison, or another budget; a dataset is there twice; no contender is
            common to all.
    """
    named = [_named(folder) for folder in folders]
    means = [_means(folder, budget) for _, folder in named]
    datasets = [name or _dataset(folder) for name, folder in named]
    twice = sorted({name for name in datasets if datasets.count(name) > 1})
    if twice:
        msg = (
            f"{', '.join(twice)}: is there twice; seeds or budgets of one dataset are no datasets of their own. "
            f"Two datasets that are called the same get names by NAME=FOLDER"
        )
        raise UserError(msg)
    common = [contender for contender in means[0] if all(contender in other for other in means)]
    if not common:
        has = (
            f"{folder} has {', '.join(map('-'.join, of))}"
            for (_, folder), of in zip(named, means, strict=True)
        )
        msg = f"no method with a variant of the same name is in all comparisons: {'; '.join(has)}"
        raise UserError(msg)
    return datasets, _called(common), np.array([[of[one] for one in common] for of in means])


def _named(folder: str) -> tuple[str | None, Path]:
    """The name that a dataset is given, and the folder of the comparison on it."""
    name, equals, path = folder.partition("=")
    return (name, Path(path)) if equals and not Path(folder).exists() else (None, Path(folder))


def _called(contenders: Sequence[tuple[str, str]]) -> list[str]:
    """Methods and variants by what sets them apart."""
    methods = {method for method, _ in contenders}
    if len(methods) == len(contenders):
        return [method for method, _ in contenders]
    if len(methods) == 1:
        return [variant for _, variant in contenders]
    return [f"{method} {variant}" for method, variant in contenders]


def _means(folder: Path, budget: str | None) -> dict[tuple[str, str], float]:
    """By method and variant, in the order of the comparison."""
    groups, cells = (_table(folder, name) for name in ("groups", "cells"))
    budgets = groups["budget"].unique(maintain_order=True).to_list()
    if budget is None and len(budgets) > 1:
        msg = f"{folder}: has budgets {', '.join(budgets)}; choose one with --budget"
        raise UserError(msg)
    own = groups.filter(pl.col("budget") == (budget or budgets[0]))
    if own.is_empty():
        msg = f"{folder}: has no budget {budget}, but {', '.join(budgets)}"
        raise UserError(msg)
    who = {row["contender"]: (row["method"], row["variant"]) for row in cells.rows(named=True)}
    return {who[contender]: mean for contender, mean in own.select("contender", "mean").iter_rows()}


def _dataset(folder: Path) -> str:
    return str(_table(folder, "cells")["dataset"][0])


def _table(folder: Path, name: str) -> pl.DataFrame:
    return pl.DataFrame(pl.from_arrow(table_of(folder, name)))
