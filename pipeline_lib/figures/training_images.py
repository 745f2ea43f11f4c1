"""Training images with their candidate labels and the label that the method chose among them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import polars as pl

from pipeline_lib.figures import style, tiles
from pipeline_lib.rng import generator

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.figure import Figure

    from pipeline_lib.figures.style import Theme

MARKS = {True: "\N{CHECK MARK}", False: "\N{BALLOT X}", None: "?"}


def choose(
    labels: pl.DataFrame, truth: pl.DataFrame, classes: Sequence[str], count: int, seed: int
) -> pl.DataFrame:
    """Draw the training images to show: ambiguous ones, and at least a quarter of them wrong ones, where there are as many.

    Images with one candidate are drawn only where there are no others. Wrong ones come first; within
    both groups the order is that of the ids.

    Args:
        labels: id, source, candidates (names, null for all of them), label (name), confidence;
            reports/labels.parquet.
        truth: id, true_label (name or null).
        classes: K names.
        count: images to draw, or fewer where there are fewer.
        seed: of the run.

    Returns:
        Columns id, source, candidates, label, confidence, true_label, right (null where the true
        label is unknown).
    """
    rows = labels.join(truth, on="id", how="left", maintain_order="left")
    rows = rows.with_columns((pl.col("label") == pl.col("true_label")).alias("right"))
    ambiguous = rows.filter((pl.col("candidates").list.len() > 1).fill_null(value=True))
    rows = rows if ambiguous.is_empty() else ambiguous
    order = generator(seed, "report_images").permutation(len(rows))
    rows = rows[order]
    wrong = rows.filter(pl.col("right").eq(other=False).fill_null(value=False))
    others = rows.filter(pl.col("right").fill_null(value=True))
    fair = round(count * len(wrong) / max(len(rows), 1))
    first = min(len(wrong), max(fair, count // 4))
    first = max(first, min(count, len(rows)) - len(others))
    chosen = pl.concat([wrong.head(first).sort("id"), others.head(count - first).sort("id")])
    return chosen.with_columns(pl.col("candidates").fill_null(pl.lit(list(classes))))


def draw(frame: pl.DataFrame, theme: Theme) -> Figure:
    """A grid: beneath each image the chosen label with its mark, then the candidates."""
    return tiles.draw_tiles([_tile(row) for row in frame.iter_rows(named=True)], theme)


def _tile(row: dict[str, object]) -> tiles.Tile:
    right = row["right"]
    verdict = right if isinstance(right, bool) else None
    candidates = row["candidates"]
    names = [str(name) for name in candidates] if isinstance(candidates, list) else []
    given = len(names) == 1 and verdict is not False  # nothing was chosen
    verdict = None if given else verdict
    label, true_label = style.labels([str(row["label"]), str(row["true_label"])], 14)
    chosen = f"{'' if given else MARKS[verdict]} {label}".strip()
    truth = f"is {true_label}" if verdict is False else ""
    return tiles.Tile(tiles.image_of(row), [chosen, _joined(names), truth], verdict)


def _joined(names: Sequence[str], limit: int = 20) -> str:
    """As many candidates as fit, and how many more there are."""
    shown: list[str] = []
    for text in style.labels(names[: limit // 2], 10):  # more never fit
        if shown and len(" ".join([*shown, text])) > limit - 4:
            break
        shown.append(text)
    more = len(names) - len(shown)
    return " ".join(shown) + (f" +{more}" if more else "")
