"""Who is best, as rows of text: of a comparison, or of DVC's experiments."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pipeline_lib.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    import polars as pl

OF_GROUPS = ("budget", "contender", "accuracy", "95 % interval", "sd", "seeds")
OF_EXPERIMENTS = ("experiment", "method", "dataset", "seed", "accuracy", "95 % interval")
Rows = list[tuple[str, ...]]
NONE = "-"
ACCURACY = "test.accuracy"
UNDONE = {
    "Failed",
    "Running",
    "Queued",
}  # DVC gives these the metrics of the commit that they began from


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
    """Interval, cut where accuracies end, and deviation."""
    low, high = row["low"], row["high"]
    interval = NONE if low is None else f"{max(low, 0):.4f} to {min(high, 1):.4f}"
    return interval, NONE if row["sd"] is None else f"{row['sd']:.4f}"


def of_experiments(experiments: Iterable[Mapping[str, Any]], method: str | None = None) -> Rows:
    """Head and rows of `dvc exp show`, the best first; runs without metrics are left out.

    Args:
        experiments: as `dvc.api.exp_show` gives them.
        method: rows whose method holds this.

    Raises:
        UserError: No row is left.
    """
    known = [
        row
        for row in experiments
        if isinstance(row.get(ACCURACY), int | float)
        and row.get("State") not in UNDONE
        and (method or "") in str(_of_run(row, "method"))
    ]
    if not known:
        msg = f"no experiment{f' of {method}' if method else ''} has metrics; `dvc exp show` lists all"
        raise UserError(msg)
    best_first = sorted(known, key=lambda row: -row[ACCURACY])
    return [OF_EXPERIMENTS, *map(_experiment, best_first)]


def _of_run(row: Mapping[str, Any], name: str) -> Any:  # noqa: ANN401 - text or a number
    """What metrics.json says; DVC puts the file before the name of what params.yaml holds too."""
    found = row.get(f"reports/metrics.json:{name}")
    return row.get(name) if found is None else found


def _experiment(row: Mapping[str, Any]) -> tuple[str, ...]:
    seed, accuracy = _of_run(row, "seed"), row[ACCURACY]
    low, high = row.get(f"{ACCURACY}_low"), row.get(f"{ACCURACY}_high")
    return (
        str(row.get("Experiment") or row.get("rev") or NONE),
        str(_of_run(row, "method") or NONE),
        str(_of_run(row, "dataset") or NONE),
        NONE if seed is None else f"{seed:.0f}",
        f"{accuracy:.4f}",
        f"{low:.4f} to {high:.4f}" if isinstance(low, float) and isinstance(high, float) else NONE,
    )
