"""Which class the test images of each class are taken for."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from pipeline_lib.figures.cells import Cells, draw_cells

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.figure import Figure

    from pipeline_lib.figures.style import Theme


CLASSES = 100  # of more, those with the most mistakes


def data(predictions: pl.DataFrame, classes: Sequence[str]) -> pl.DataFrame:
    """The cells of the matrix that hold an image, row by row: of many classes hardly any does.

    Args:
        predictions: columns label and predicted, class numbers.
        classes: K names.

    Returns:
        Columns actual, predicted (names), images (int64), share (of the images of the actual class).
    """
    names = dict(enumerate(classes))
    cells = predictions.group_by("label", "predicted").agg(pl.len().cast(pl.Int64).alias("images"))
    total = pl.col("images").sum().over("label")
    return cells.sort("label", "predicted").select(
        pl.col("label").replace_strict(names, return_dtype=pl.String).alias("actual"),
        pl.col("predicted").replace_strict(names, return_dtype=pl.String),
        "images",
        (pl.col("images") / total).round(6).alias("share"),
    )


def draw(frame: pl.DataFrame, theme: Theme, *, classes: Sequence[str]) -> Figure:
    """A square of cells: hits on the diagonal in one hue, mistakes in another."""
    names = _shown(frame, classes)
    size, number = len(names), {name: k for k, name in enumerate(names)}
    shares_KK, texts = np.zeros((size, size)), [""] * size**2
    for actual, predicted, images, share in frame.rows():
        if actual in number and predicted in number:
            row, column = number[actual], number[predicted]
            shares_KK[row, column], texts[row * size + column] = share, str(images)
    some = f"{size} of {len(classes):,} classes: those with the most mistakes"
    title = "" if size == len(classes) else some
    cells = Cells(shares_KK, texts, names, "true class", "predicted class", title)
    return draw_cells(cells, theme)


def _shown(frame: pl.DataFrame, classes: Sequence[str]) -> list[str]:
    """The classes that are drawn, in their order: of many, those with the most mistakes as true class or as prediction."""
    if len(classes) <= CLASSES:
        return list(classes)
    mistakes: Counter[str] = Counter()
    for actual, predicted, images, _ in frame.rows():
        if actual != predicted:
            mistakes[actual] += images
            mistakes[predicted] += images
    most = set(sorted(classes, key=lambda name: -mistakes[name])[:CLASSES])
    return [name for name in classes if name in most]
