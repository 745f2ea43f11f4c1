"""The course of one training: what it measured at each evaluation, and what it had cost by then."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import polars as pl

from pipeline_lib.artifacts import verify

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
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
    reports: Path, named: Mapping[str, Any], phases: Mapping[str, Any], ms_per_step: float | None
) -> pl.DataFrame:
    """The history of a cell: one row per evaluation.

    Args:
        reports: of the cell.
        named: the columns that say which cell it is.
        phases: of phases.json.
        ms_per_step: of its contender; None: not known.
    """
    history = read_csv(reports / "train/history.csv")
    curve = read_csv(reports / "evaluate/label_curve.csv")
    # Both may have a validation accuracy: that of the curve is against true labels, as on the report's page.
    told = history.drop(set(curve.columns) - {"epoch"}, strict=False)
    joined = told.join(curve, on="epoch", how="left", maintain_order="left")
    known = {name: joined[name] for name in CURVES if name in joined.columns}
    table = pl.DataFrame(known).cast(dict.fromkeys(known, pl.Float64), strict=False)
    views = _views_after(phases["phases"])
    steps = table["step"].cast(pl.Int64).to_list()
    table = table.with_columns(
        pl.Series("views", [views(step) for step in steps], pl.Int64),
        pl.lit(None if ms_per_step is None else ms_per_step / 1000, pl.Float64)
        .mul(pl.col("step"))
        .alias("seconds"),
    )
    absent = [pl.lit(None, pl.Float64).alias(name) for name in CURVES if name not in table.columns]
    own = [pl.lit(value).alias(name) for name, value in named.items()]
    return table.with_columns(*absent, *own).select(*named, *CURVES).cast(pl.Schema(CURVES))


def _views_after(phases: Iterable[Mapping[str, Any]]) -> Callable[[int], int]:
    """How many views the network has looked at after so many steps."""
    known = list(phases)

    def views(step: int) -> int:
        spans = (
            (max(min(step, phase["end"]) - phase["first_step"], 0), phase["views_per_step"])
            for phase in known
        )
        return sum(steps * per_step for steps, per_step in spans)

    return views


def read_csv(path: Path) -> pl.DataFrame:
    """A CSV file of a cell, every column as text but an epoch: a class may be called `1`."""
    verify(path)
    table = pl.read_csv(path, infer_schema=False, raise_if_empty=False)
    return table.with_columns(pl.col("^epoch$").cast(pl.Int64))
