"""Reading labels.parquet."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline_lib.errors import UserError
from pipeline_lib.protocols.labels import SPLITS, UNKNOWN, Labels, Said, Votes

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

SLICE = 1 << 16  # rows


def from_table(table: pa.Table, class_names: Sequence[str], annotators: Sequence[str]) -> Labels:
    """Read labels.parquet, in any order of its rows.

    Args:
        table: labels.parquet.
        class_names: K names.
        annotators: their names.

    Raises:
        UserError: An image has an empty candidate set.
    """
    if (np.diff(table["id"].to_numpy()) <= 0).any():
        table = table.sort_by("id")
    label_N, true_N = (_integers(table[name], np.int16) for name in ("label", "true_label"))
    candidate_row, candidate_class = _pairs(table["candidates"])
    said = Said(
        source=table["source"],
        label_M=label_N,
        candidate_row=candidate_row,
        candidate_class=candidate_class,
        votes=_votes(table, len(class_names), annotators),
        twin_M=_integers(table["twin"], np.int32),
    )
    says_N, annotated_N = (_valid(table[name]) for name in ("candidates", "annotations"))
    labels = Labels(
        id_N=_integers(table["id"], np.int32),
        row_N=np.arange(len(table), dtype=np.int32),
        split_N=_integers(pc.index_in(table["split"], pa.array(SPLITS)), np.int8),
        truth_N=np.where(true_N == UNKNOWN, label_N, true_N),
        weak_N=says_N | annotated_N | (label_N != true_N) | (label_N == UNKNOWN),
        class_names=tuple(class_names),
        said=said,
    )
    _refuse_empty(labels, says_N)
    return labels


def _refuse_empty(labels: Labels, says_N: NDArray[np.bool_]) -> None:
    empty_N = says_N.copy()
    empty_N[labels.said.candidate_row] = False
    if empty_N.any():
        msg = (
            f"{empty_N.sum()} images have an empty candidate set ({labels.named(empty_N)}); "
            f"name all classes there if nothing is known"
        )
        raise UserError(msg)


def _integers(column: pa.ChunkedArray, dtype: type[np.integer]) -> NDArray[Any]:
    values: NDArray[Any] = pc.fill_null(column, UNKNOWN).to_numpy(zero_copy_only=False)
    return values.astype(dtype)


def _valid(column: pa.ChunkedArray) -> NDArray[np.bool_]:
    valid: NDArray[np.bool_] = column.is_valid().to_numpy()
    return valid


def _pairs(column: pa.ChunkedArray) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Turn lists into pairs of a row and a value, leaving out nulls."""
    lists = column.combine_chunks()
    row = _integers(pc.list_parent_indices(lists), np.int32)
    value = _integers(pc.list_flatten(lists), np.int32)
    return row[value != UNKNOWN], value[value != UNKNOWN]


def _votes(table: pa.Table, num_classes: int, annotators: Sequence[str]) -> Votes:
    """Read annotations, in an order that does not depend on the table's, none of them twice."""
    pieces = [
        _votes_of(table.slice(start, SLICE), start, num_classes, max(1, len(annotators)))
        for start in range(0, max(1, len(table)), SLICE)
    ]
    image_V, annotator_V, class_V = (np.concatenate(column) for column in zip(*pieces, strict=True))
    return Votes(image_V, annotator_V, class_V, annotators)


def _votes_of(
    rows: pa.Table, start: int, num_classes: int, people: int
) -> tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.int16]]:
    """Read some rows, the first of which is number `start`: rows, annotators and classes."""
    whose, said = (rows[name].combine_chunks() for name in ("annotators", "annotations"))
    row_V = pc.list_parent_indices(said).to_numpy().astype(np.int64)
    annotator_V, class_V = (
        _integers(pc.list_flatten(column), np.int64) for column in (whose, said)
    )
    number_V = (row_V * people + annotator_V) * num_classes + class_V
    pair_V, class_V = np.divmod(np.unique(number_V[class_V != UNKNOWN]), num_classes)
    row_V, annotator_V = np.divmod(pair_V, people)
    return (start + row_V).astype(np.int32), annotator_V.astype(np.int32), class_V.astype(np.int16)
