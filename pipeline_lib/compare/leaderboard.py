"""Who is best, as a table for a terminal: of a comparison, or of DVC's experiments."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rich.table import Table

from pipeline_lib.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    import polars as pl

OF_GROUPS = ("budget", "contender", "accuracy", "95 % interval", "sd", "seeds")
OF_EXPERIMENTS = ("experiment", "method", "dataset", "seed", "accuracy", "95 % interval")
Rows = list[tuple[str, ...]]
NONE = "-"


def of_groups(groups: pl.DataFrame, budget: str | None = None, method: str | None = None) -> Rows:
    """Head and rows: budget by budget, the best mean first.

    Args:
        groups: of `verdicts.groups`.
        budget: rows of this one only.
        method: rows whose contender holds this.

    Raises:
        UserError: No row is left.
    """
    budgets = groups["budget"].unique(maintain_order=True).to_list()
    rows = [
        (row["budget"], row["contender"], f"{row['mean']:.4f}", *_spread(row), str(row["seeds"]))
        for name in budgets
        if budget in {None, name}
        for row in groups.filter(groups["budget"] == name)
        .sort("mean", descending=True, maintain_order=True)
        .rows(named=True)
        if (method or "") in row["contender"]
    ]
    if not rows:
        contenders = groups["contender"].unique(maintain_order=True)
        msg = f"no such row; budgets: {', '.join(budgets)}; methods: {', '.join(contenders)}"
        raise UserError(msg)
    return [OF_GROUPS, *rows]


def _spread(row: Mapping[str, Any]) -> tuple[str, str]:
    interval = NONE if row["low"] is None else f"{row['low']:.4f} to {row['high']:.4f}"
    return interval, NONE if row["sd"] is None else f"{row['sd']:.4f}"


def of_experiments(experiments: Iterable[Mapping[str, Any]], method: str | None = None) -> Rows:
    """Head and rows of `dvc exp show`, the best first; runs without metrics are left out.

    Args:
        experiments: as `dvc.api.exp_show` gives them.
        method: rows of this one only.

    Raises:
        UserError: No row is left.
    """
    known = [
        row
        for row in experiments
        if isinstance(row.get("test.accuracy"), int | float) and method in {None, row.get("method")}
    ]
    if not known:
        msg = f"no experiment{f' of {method}' if method else ''} has metrics; `dvc exp show` lists all"
        raise UserError(msg)
    best_first = sorted(known, key=lambda row: -row["test.accuracy"])
    return [OF_EXPERIMENTS, *map(_experiment, best_first)]


def _experiment(row: Mapping[str, Any]) -> tuple[str, ...]:
    bounds = row.get("test.accuracy_ci95")
    interval = f"{bounds[0]:.4f} to {bounds[1]:.4f}" if isinstance(bounds, list) else NONE
    names = (row.get("Experiment") or row.get("rev"), row["method"], row.get("dataset", NONE))
    return (*map(str, names), str(row.get("seed", NONE)), f"{row['test.accuracy']:.4f}", interval)


def as_table(rows: Rows) -> Table:
    """For a terminal."""
    table = Table(*rows[0])
    for row in rows[1:]:
        table.add_row(*row)
    return table


def as_lines(rows: Rows) -> list[str]:
    """For a file or a pipe: tab-separated."""
    return ["\t".join(row) for row in rows]
