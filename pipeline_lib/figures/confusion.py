"""Which class the test images of each class are taken for."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from pipeline_lib.figures.cells import Cells, draw_cells

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.figure import Figure

    from pipeline_lib.figures.style import Theme


def data(predictions: pl.DataFrame, classes: Sequence[str]) -> pl.DataFrame:
    """Every cell of the matrix, row by row.

    Args:
        predictions: columns label and predicted, class numbers.
        classes: K names.

    Returns:
        Columns actual, predicted (names), images (int64), share (of the images of the actual class;
        null where it has none). K * K rows, or none without predictions.
    """
    size = len(classes)
    cells = predictions["label"].cast(pl.Int64) * size + predictions["predicted"].cast(pl.Int64)
    counts_KK = np.bincount(cells.to_numpy(), minlength=size**2).reshape(size, size)
    totals = np.repeat(counts_KK.sum(axis=1), size)
    frame = pl.DataFrame(
        {
            "actual": [name for name in classes for _ in classes],
            "predicted": list(classes) * size,
            "images": counts_KK.ravel(),
            "total": totals,
        }
    )
    share = pl.when(pl.col("total") > 0).then((pl.col("images") / pl.col("total")).round(6))
    frame = frame.select("actual", "predicted", "images", share.alias("share"))
    return frame.clear() if predictions.is_empty() else frame


def draw(frame: pl.DataFrame, theme: Theme) -> Figure:
    """A square of cells: hits on the diagonal in one hue, mistakes in another."""
    size = round(len(frame) ** 0.5)
    cells = Cells(
        shares_KK=frame["share"].fill_null(0.0).to_numpy().reshape(size, size),
        texts=[str(images) if images else "" for images in frame["images"]],
        names=frame["predicted"].head(size).to_list(),
        rows="true class",
        columns="predicted class",
    )
    return draw_cells(cells, theme)
