"""Which classes stand in the candidate sets of which: what cannot be told apart from the labels."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from pipeline_lib.figures.cells import NAMES_UP_TO, Cells, draw_cells

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.figure import Figure
    from numpy.typing import NDArray

    from pipeline_lib.figures.style import Theme

CLASSES = 100  # of more, those that share most sets with another
CHUNK = 8192  # images; sums of so many ones are exact in float32
KNOWN, UNKNOWN = "true_class", "class"  # what the rows are: the first column's name


def data(labels: pl.DataFrame, truth: pl.DataFrame, classes: Sequence[str]) -> pl.DataFrame:
    """Count, for every class, in how many of its candidate sets each class is.

    The sets of a class are those of its images, where the true label is known for at least half of the
    sets of several classes; else those that hold it. Sets of all classes say nothing and are left out.

    Args:
        labels: id, candidates (names, null for all of them); reports/labels.parquet.
        truth: id, true_label (name or null).
        classes: K names.

    Returns:
        Columns true_class (or class), candidate (names), sets (int64), share (of the sets of the
        class; null where it has none): a square of cells row by row, of at most 100 classes. More
        than 32 are ordered so that those that go together are neighbours. No rows where every set
        holds one class or all.
    """
    sets = labels.select("id", "candidates").filter(
        pl.col("candidates").list.len().is_between(1, len(classes) - 1)
    )
    sets = sets.join(truth, on="id", how="left", maintain_order="left")
    several = sets.filter(pl.col("candidates").list.len() > 1)
    known = 2 * several["true_label"].count() >= len(several)
    rows = KNOWN if known else UNKNOWN
    counts_KK, of_K = _counts(sets, classes, known=known)
    chosen = _chosen(counts_KK, of_K)
    names = [classes[k] for k in chosen]
    cells = pl.DataFrame(
        {
            rows: [name for name in names for _ in names],
            "candidate": names * len(names),
            "sets": counts_KK[np.ix_(chosen, chosen)].ravel(),
            "of": of_K[chosen].repeat(len(names)),
        },
        schema_overrides={rows: pl.String, "candidate": pl.String},
    )
    share = pl.when(pl.col("of") > 0).then((pl.col("sets") / pl.col("of")).round(6))
    frame = cells.select(rows, "candidate", "sets", share.alias("share"))
    together = counts_KK.sum() > counts_KK.trace()
    return frame if together else frame.clear()


def draw(frame: pl.DataFrame, theme: Theme) -> Figure:
    """A square of cells: the class itself in one hue, the others in another; percent where they fit."""
    return draw_cells(as_cells(frame), theme)


def as_cells(frame: pl.DataFrame) -> Cells:
    """The frame as what is drawn."""
    size = round(len(frame) ** 0.5)
    return Cells(
        shares_KK=frame["share"].fill_null(0.0).to_numpy().reshape(size, size),
        texts=[_percent(share) for share in frame["share"]],
        names=frame["candidate"].head(size).to_list(),
        rows="true class" if frame.columns[0] == KNOWN else "class in the set",
        columns="candidate",
    )


def strongest(frame: pl.DataFrame, count: int) -> list[tuple[str, str, int, float]]:
    """The pairs of different classes that are in most sets: class, candidate, sets, share.

    Not those with the largest share: all of one set would come before most of a hundred.
    """
    rows = frame.columns[0]
    pairs = frame.filter((pl.col(rows) != pl.col("candidate")) & (pl.col("sets") > 0))
    ranked = pairs.sort("sets", "share", descending=True, maintain_order=True)
    if rows == UNKNOWN:  # both directions are of the same sets
        ranked = ranked.filter(pl.concat_list(rows, "candidate").list.sort().is_first_distinct())
    return ranked.head(count).rows()


def _percent(share: float | None) -> str:
    if not share:
        return ""
    return f"{100 * share:.0f}" if share >= 0.005 else "<1"


def _counts(
    sets: pl.DataFrame, classes: Sequence[str], *, known: bool
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Sets of the row's class that hold the column's (K, K), and sets of each class (K,)."""
    size, kind = len(classes), pl.Enum(classes)
    counts_KK, of_K = np.zeros((size, size), np.int64), np.zeros(size, np.int64)
    for chunk in sets.iter_slices(CHUNK):
        held_C = _numbers(chunk["candidates"].explode(empty_as_null=False), kind)
        image_C = np.arange(len(chunk)).repeat(chunk["candidates"].list.len().to_numpy())
        if known:
            true_N = _numbers(chunk["true_label"], kind)
            true_C = true_N[image_C]
            cells = (true_C * size + held_C)[true_C >= 0]
            counts_KK += np.bincount(cells, minlength=size**2).reshape(size, size)
            of_K += np.bincount(true_N[true_N >= 0], minlength=size)
        else:
            held_NK = np.zeros((len(chunk), size), np.float32)
            held_NK[image_C, held_C] = 1
            counts_KK += (held_NK.T @ held_NK).astype(np.int64)
            of_K += np.bincount(held_C, minlength=size)
    return counts_KK, of_K


def _numbers(names: pl.Series, kind: pl.Enum) -> NDArray[np.int64]:
    """Class numbers, -1 for null."""
    numbers = names.cast(kind).to_physical().cast(pl.Int64).fill_null(-1)
    return numbers.to_numpy()


def _chosen(counts_KK: NDArray[np.int64], of_K: NDArray[np.int64]) -> list[int]:
    """The classes to show: all in order, or those that go together most, each beside its nearest."""
    size = len(of_K)
    if size <= NAMES_UP_TO:
        return list(range(size))
    others_KK = counts_KK * ~np.eye(size, dtype=bool)
    best_K = np.maximum(others_KK.max(axis=0), others_KK.max(axis=1))
    most_C = np.sort(np.argsort(-best_K, kind="stable")[:CLASSES])
    share_CC = (others_KK[np.ix_(most_C, most_C)] / np.maximum(of_K[most_C], 1)[:, None]).round(6)
    nearness_CC = share_CC + share_CC.T
    left = list(range(len(most_C)))
    order = [left.pop(0)]
    while left:
        nearest = int(nearness_CC[order[-1], left].argmax())
        order.append(left.pop(nearest))
    chosen: list[int] = most_C[order].tolist()
    return chosen
