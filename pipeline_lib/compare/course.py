"""The course of one training: what it measured at each evaluation, and what it had cost by then."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import polars as pl

from pipeline_lib.methods.phases import SEARCH
from pipeline_lib.report.inputs import read_csv

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

CURVES: dict[str, pl.DataType | type[pl.DataType]] = {
    "epoch": pl.Int64,
    "step": pl.Int64,
    "views": pl.Int64,
    "seconds": pl.Float64,
    "loss": pl.Float64,
    "val_accuracy": pl.Float64,
    "disambiguation_accuracy": pl.Float64,
    "coverage": pl.Float64,
    "precision": pl.Float64,
}


def course(
    reports: Path,
    named: Mapping[str, Any],
    phases: Mapping[str, Any],
    ms_per_step: Mapping[str, float],
) -> pl.DataFrame:
    """The history of a cell: one row per evaluation.

    Args:
        reports: of the cell.
        named: the columns that say which cell it is.
        phases: of phases.json.
        ms_per_step: of its contender, by phase; without one of its phases, times are not known.
    """
    history = read_csv(reports / "train/history.csv")
    curve = read_csv(reports / "evaluate/label_curve.csv")
    # Both may have a validation accuracy: that of the curve is against true labels, as on the report's page.
    told = history.drop(set(curve.columns) - {"epoch"}, strict=False)
    joined = told.join(curve, on="epoch", how="left", maintain_order="left")
    known = {name: joined[name] for name in CURVES if name in joined.columns}
    table = pl.DataFrame(known).cast(dict.fromkeys(known, pl.Float64), strict=False)
    ran = phases["phases"]
    views = _after([phase["views_per_step"] for phase in ran], ran)
    steps = table["step"].cast(pl.Int64).to_list()
    seconds: list[float] | None = None
    if all(phase["phase"] in ms_per_step for phase in ran):
        ms = _after([ms_per_step[phase["phase"]] for phase in ran], ran)
        seconds = [(ms_per_step.get(SEARCH, 0) + ms(step)) / 1000 for step in steps]
    table = table.with_columns(
        pl.Series("views", [views(step) for step in steps], pl.Int64),
        pl.Series("seconds", seconds or [None] * len(steps), pl.Float64),
    )
    absent = [pl.lit(None, pl.Float64).alias(name) for name in CURVES if name not in table.columns]
    return (
        table.with_columns(*absent, *naming(named)).select(*named, *CURVES).cast(pl.Schema(CURVES))
    )


def naming(named: Mapping[str, Any]) -> list[pl.Expr]:
    """The columns that say which cell it is; of themselves, numbers would be as wide as each of them needs."""
    return [
        pl.lit(value, pl.Int64 if isinstance(value, int) else None).alias(name)
        for name, value in named.items()
    ]


def _after(per_step: Sequence[Any], phases: Sequence[Mapping[str, Any]]) -> Callable[[int], Any]:
    """What so many steps take, of which each takes what one of its phase does."""

    def taken(step: int) -> Any:  # noqa: ANN401 - of the type of what it sums up
        return sum(
            max(min(step, phase["end"]) - phase["first_step"], 0) * each
            for phase, each in zip(phases, per_step, strict=True)
        )

    return taken
