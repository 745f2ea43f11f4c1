"""The test images that the model is most sure about and wrong."""

from __future__ import annotations

from typing import TYPE_CHECKING

import polars as pl

from pipeline_lib.figures import style, tiles

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.figure import Figure

    from pipeline_lib.figures.style import Theme


def choose(predictions: pl.DataFrame, classes: Sequence[str], count: int) -> pl.DataFrame:
    """The most confident wrong predictions, the most confident first.

    Args:
        predictions: id, label, predicted, probabilities; reports/evaluate/predictions.parquet.
        classes: K names.
        count: images to show, or fewer where there are fewer.

    Returns:
        Columns id, true_label, predicted (names), confidence, true_probability.
    """
    wrong = predictions.filter(pl.col("label") != pl.col("predicted"))
    ranked = wrong.with_columns(
        pl.col("probabilities").list.get(pl.col("predicted")).alias("confidence"),
        pl.col("probabilities").list.get(pl.col("label")).alias("true_probability"),
    ).sort("confidence", "id", descending=[True, False])
    names = dict(enumerate(classes))
    return ranked.head(count).select(
        "id",
        pl.col("label").replace_strict(names, return_dtype=pl.String).alias("true_label"),
        pl.col("predicted").replace_strict(names, return_dtype=pl.String),
        "confidence",
        "true_probability",
    )


def draw(frame: pl.DataFrame, theme: Theme) -> Figure:
    """A grid: beneath each image what it was taken for, how surely, and what it is."""
    return tiles.draw_tiles([_tile(row) for row in frame.iter_rows(named=True)], theme)


def _tile(row: dict[str, object]) -> tiles.Tile:
    confidence = style.percent(float(str(row["confidence"])), 0)
    names = [str(row["predicted"]), str(row["true_label"])]
    predicted, true_label = style.labels(names, 12)[0], style.labels(names, 14)[1]
    lines = [f"{predicted} {confidence}", f"is {true_label}"]
    return tiles.Tile(tiles.image_of(row), lines, right=False)
