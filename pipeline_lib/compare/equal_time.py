"""Contenders at the same time: what each had reached when the fastest was done."""

from __future__ import annotations

from typing import TYPE_CHECKING

import polars as pl

if TYPE_CHECKING:
    from pipeline_lib.compare.read import Results

SCHEMA = {
    "budget": pl.String,
    "contender": pl.String,
    "seconds": pl.Float64,
    "at_seconds": pl.Float64,
    "val_accuracy": pl.Float64,
    "sd": pl.Float64,
    "seeds": pl.Int64,
    "val_images": pl.Float64,
}


def at_equal_time(results: Results) -> pl.DataFrame:
    """Validation accuracy when the fastest contender of a budget has ended, mean over seeds.

    Each training is read at its last evaluation until then, and at its first if there is none. Its learning rate was set for a longer course, which
    favours the fastest; `compare.equal: seconds` trains every method for that time. Empty where times are unknown.

    Returns:
        budget, contender, seconds, at_seconds (of the evaluation that was read), val_accuracy, its sd over seeds
        (null for one), seeds, and val_images, the mean number of validation images.
    """
    timed = results.curves.drop_nulls(["seconds", "val_accuracy"])
    untimed = set(results.names.values()) - set(timed["contender"])
    if untimed or timed.is_empty():
        return pl.DataFrame(schema=SCHEMA)
    ends = timed.group_by("budget", "contender", "seed").agg(pl.col("seconds").max())
    common = ends.group_by("budget").agg(pl.col("seconds").min().alias("until"))
    # One that was still searching for its settings has done nothing but its first evaluation.
    first = pl.col("seconds").min().over("budget", "contender", "seed")
    in_time = (pl.col("seconds") <= pl.col("until") + 1e-9) | (pl.col("seconds") == first)
    reached = timed.join(common, on="budget").filter(in_time)
    last = reached.sort("seconds").group_by("budget", "contender", "seed", maintain_order=True)
    rows = (
        last.last()
        .join(results.cells.select("key", "val_images"), on="key")
        .group_by("budget", "contender")
        .agg(
            pl.col("until").first().alias("seconds"),
            pl.col("seconds").mean().round(6).alias("at_seconds"),
            pl.col("val_accuracy").mean().round(6),
            pl.col("val_accuracy").std().round(6).alias("sd"),
            pl.len().cast(pl.Int64).alias("seeds"),
            pl.col("val_images").cast(pl.Float64).mean(),
        )
    )
    order = [(b, c) for b in results.compare.budgets for c in results.names.values()]
    found = {(row["budget"], row["contender"]): row for row in rows.rows(named=True)}
    return pl.DataFrame([found[pair] for pair in order if pair in found], schema=SCHEMA)
