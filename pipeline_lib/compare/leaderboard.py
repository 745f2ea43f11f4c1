"""The table of a comparison for a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rich.table import Table

if TYPE_CHECKING:
    from collections.abc import Mapping

    import polars as pl

COLUMNS = ("budget", "contender", "accuracy", "95 % interval", "sd", "seeds")


def ranked(groups: pl.DataFrame) -> list[tuple[str, ...]]:
    """Rows of `COLUMNS` as text: budget by budget, the best first.

    Args:
        groups: of `verdicts.groups`.
    """
    budgets = groups["budget"].unique(maintain_order=True).to_list()
    rows = []
    for budget in budgets:
        own = groups.filter(groups["budget"] == budget)
        best_first = own.sort("mean", descending=True, maintain_order=True)
        rows += [_row(row) for row in best_first.rows(named=True)]
    return rows


def _row(row: Mapping[str, Any]) -> tuple[str, ...]:
    interval = "-" if row["low"] is None else f"{row['low']:.4f} to {row['high']:.4f}"
    spread = "-" if row["sd"] is None else f"{row['sd']:.4f}"
    return (
        row["budget"],
        row["contender"],
        f"{row['mean']:.4f}",
        interval,
        spread,
        str(row["seeds"]),
    )


def as_table(groups: pl.DataFrame) -> Table:
    """For a terminal."""
    table = Table(*COLUMNS)
    for row in ranked(groups):
        table.add_row(*row)
    return table


def as_lines(groups: pl.DataFrame) -> list[str]:
    """For a file or a pipe: tab-separated."""
    return ["\t".join(row) for row in (COLUMNS, *ranked(groups))]
