"""What becomes of lists in CSV files, which are for people."""

from __future__ import annotations

import polars as pl

SEPARATOR = "|"  # as in the tables that data.table reads
MOST = 100  # classes that a cell names; some programs cut one at 32,767 letters


def joined(column: str) -> pl.Expr:
    """A list of classes as one cell: their names, or how many they are; null stays null."""
    count = pl.col(column).list.len()
    few = pl.when(count <= MOST).then(pl.col(column)).list.join(SEPARATOR)
    return (
        pl.when(count > MOST)
        .then(pl.concat_str(count.cast(pl.String), pl.lit(" classes")))
        .otherwise(few)
        .alias(column)
    )
