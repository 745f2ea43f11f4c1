"""What is known of the labels of some images, as arrays, and what a protocol makes of it.

N images, K classes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline_lib.errors import UserError, listed
from pipeline_lib.rng import generator

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

UNKNOWN = -1
BLOCK = 8192


@dataclass(frozen=True)
class Labels:
    """The labels of N images.

    Attributes:
        id_N: int32, ascending.
        source_N: what the user calls the images.
        split_N: `train`, `val`, `test`, or None where the data do not say.
        truth_N: the true label, else the label that was given, else UNKNOWN.
        given_NK: bool, the candidate sets that the data give; all classes where they give nothing.
        weak_N: bool, whether more or less was given than the true label.
        class_names: K names.
    """

    id_N: NDArray[np.int32]
    source_N: NDArray[np.object_]
    split_N: NDArray[np.object_]
    truth_N: NDArray[np.int64]
    given_NK: NDArray[np.bool_]
    weak_N: NDArray[np.bool_]
    class_names: tuple[str, ...]

    @property
    def num_classes(self) -> int:
        """K."""
        return len(self.class_names)

    def __len__(self) -> int:
        return len(self.id_N)

    def where(self, keep: NDArray[np.bool_]) -> Labels:
        """Give the images that the mask keeps."""
        return Labels(
            self.id_N[keep],
            self.source_N[keep],
            self.split_N[keep],
            self.truth_N[keep],
            self.given_NK[keep],
            self.weak_N[keep],
            self.class_names,
        )


@dataclass(frozen=True)
class Weakened:
    """The labels that training may see.

    Attributes:
        labels: the N images that a protocol kept.
        candidates_NK: bool, their candidate sets.
        role_N: a `records.Role` each.
    """

    labels: Labels
    candidates_NK: NDArray[np.bool_]
    role_N: NDArray[np.object_]


def from_table(table: pa.Table, class_names: Sequence[str]) -> Labels:
    """Read labels.parquet, in any order of its rows.

    Raises:
        UserError: An image has an empty candidate set.
    """
    table = table.sort_by("id").combine_chunks()
    label_N, true_N = (_integers(table[name]) for name in ("label", "true_label"))
    source_N = np.array(table["source"].to_pylist(), object)
    chosen_NK, annotated_NK = (
        _marks(table[name], len(class_names)) for name in ("candidates", "annotations")
    )
    says_N = table["candidates"].is_valid().to_numpy(zero_copy_only=False)
    empty_N = says_N & ~chosen_NK.any(axis=1)
    if empty_N.any():
        msg = (
            f"{empty_N.sum()} images have an empty candidate set ({listed(source_N[empty_N])}); "
            f"name all classes there if nothing is known"
        )
        raise UserError(msg)
    labeled_NK = label_N[:, None] == np.arange(len(class_names))
    given_NK = chosen_NK
    for otherwise_NK in (annotated_NK, labeled_NK, np.ones_like(labeled_NK)):
        given_NK = np.where(given_NK.any(axis=1, keepdims=True), given_NK, otherwise_NK)
    annotated_N = table["annotations"].is_valid().to_numpy(zero_copy_only=False)
    return Labels(
        id_N=table["id"].to_numpy().astype(np.int32),
        source_N=source_N,
        split_N=np.array(table["split"].to_pylist(), object),
        truth_N=np.where(true_N == UNKNOWN, label_N, true_N),
        given_NK=given_NK,
        weak_N=says_N | annotated_N | (label_N != true_N) | (label_N == UNKNOWN),
        class_names=tuple(class_names),
    )


def _integers(column: pa.ChunkedArray) -> NDArray[np.int64]:
    values: NDArray[np.int64] = pc.fill_null(column, UNKNOWN).to_numpy().astype(np.int64)
    return values


def _marks(column: pa.ChunkedArray, num_classes: int) -> NDArray[np.bool_]:
    """Turn lists of classes into a mask, ignoring nulls."""
    marks_NK = np.zeros((len(column), num_classes), bool)
    rows = pc.list_parent_indices(column).to_numpy()
    values = _integers(pc.list_flatten(column))
    marks_NK[rows[values != UNKNOWN], values[values != UNKNOWN]] = True
    return marks_NK


def roles(candidates_NK: NDArray[np.bool_]) -> NDArray[np.object_]:
    """Name each image after its candidate set: one class, all classes, or something between."""
    size_N = candidates_NK.sum(axis=1)
    names = np.array(["partial", "labeled", "unlabeled"], object)
    picked: NDArray[np.object_] = names[(size_N == 1) + 2 * (size_N == candidates_NK.shape[1])]
    return picked


def singletons(labels: Labels) -> NDArray[np.bool_]:
    """Mask of the true label only, (N, K)."""
    mask_NK: NDArray[np.bool_] = labels.truth_N[:, None] == np.arange(labels.num_classes)
    return mask_NK


def require_truth(labels: Labels, who: str) -> None:
    """Refuse images whose true label is unknown.

    Raises:
        UserError: `who` needs it; the first images without.
    """
    without_N = labels.truth_N == UNKNOWN
    if without_N.any():
        sources = listed(labels.source_N[without_N], limit=3)
        msg = f"{who} needs the label of every image, {without_N.sum()} have none ({sources})"
        raise UserError(msg)


def draws(
    id_N: NDArray[np.int32], width: int, seed: int, purpose: str, *counters: str
) -> NDArray[np.float64]:
    """Draw `width` uniform numbers for each image, which depend on its id but not on the others.

    Returns:
        (N, width) in [0, 1).
    """
    numbers = np.empty((len(id_N), width))
    for block in np.unique(id_N // BLOCK):
        here_N = id_N // BLOCK == block
        of_block = generator(seed, purpose, *counters, int(block)).random((BLOCK, width))
        numbers[here_N] = of_block[id_N[here_N] % BLOCK]
    return numbers
