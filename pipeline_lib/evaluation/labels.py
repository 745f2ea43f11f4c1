"""What became of the training labels: how often a method's label is the true one, and the label itself.

The only place where labels learned in training meet the true ones. Shape suffixes: N training images,
V validation images, K classes. A true label that nobody knows is `UNKNOWN`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline_lib.errors import UserError, listed
from pipeline_lib.parquet import read_row_groups, read_table
from pipeline_lib.records import NO_GUESS

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    Integers: TypeAlias = NDArray[np.int64]

UNKNOWN = -1
BLOCK = 8192
MEASURED = ("val_accuracy", "disambiguation_accuracy", "coverage", "precision")


@dataclass(frozen=True)
class TrainingLabels:
    """The training images' candidates, their true labels, and what the method made of them.

    Attributes:
        ids_N: in the order of data/split/train.parquet.
        sources: what the user calls the images.
        candidates: one list of class numbers per image, in Arrow; null where it may be of any class.
        true_N: true class, or UNKNOWN.
        probabilities_NK: the method's soft labels, or its predictor's within the candidates.
        val_true_V: true class of the validation images, or UNKNOWN.
    """

    ids_N: Integers
    sources: Sequence[str]
    candidates: pa.ChunkedArray
    true_N: Integers
    probabilities_NK: NDArray[np.float32]
    val_true_V: Integers


def read_training_labels(data: Path, num_classes: int) -> TrainingLabels:
    """Join split/train.parquet, split/oracle.parquet and label_state.parquet by id.

    Raises:
        UserError: A file is missing or damaged, or they are not of the same images.
    """
    train = _read_train(data / "split/train.parquet", num_classes)
    oracle = read_table(data / "split/oracle.parquet")
    ids_N = train["id"].to_numpy()
    hidden = oracle.filter(pc.equal(oracle["part"], "train"))
    position_N = pc.index_in(train["id"], value_set=hidden["id"].combine_chunks())
    if position_N.null_count:
        missing = ids_N[position_N.is_null().to_numpy()]
        msg = f"{data}/split/oracle.parquet: lacks the training images {listed(missing)}; run `dvc repro`"
        raise UserError(msg)
    return TrainingLabels(
        ids_N=ids_N,
        sources=hidden["source"].take(position_N).to_pylist(),
        candidates=train["candidates"],
        true_N=_labels(hidden["label"])[position_N.to_numpy()],
        probabilities_NK=_read_state(data / "label_state.parquet", ids_N, num_classes),
        val_true_V=_labels(oracle.filter(pc.equal(oracle["part"], "val"))["label"]),
    )


def _read_train(path: Path, num_classes: int) -> pa.Table:
    """Columns id and candidates; sets of all classes become null: listed, they would outgrow all else."""
    pieces = []
    for piece in read_row_groups(path):
        few = pc.less(pc.list_value_length(piece["candidates"]), num_classes)
        lists = pc.if_else(few, piece["candidates"], None)
        pieces.append(pa.table({"id": piece["id"], "candidates": lists}))
    return pa.concat_tables(pieces)


def _labels(column: pa.ChunkedArray) -> Integers:
    known: Integers = pc.fill_null(column.cast(pa.int64()), UNKNOWN).to_numpy()
    return known


def _read_state(path: Path, ids_N: Integers, num_classes: int) -> NDArray[np.float32]:
    others = f"{path}: not of the images in data/split/train.parquet; run `dvc repro train`"
    probabilities_NK, start = np.empty((len(ids_N), num_classes), np.float32), 0
    for piece in read_row_groups(path):
        stop = start + piece.num_rows
        if not np.array_equal(piece["id"].to_numpy(), ids_N[start:stop]):
            raise UserError(others)
        flat = pc.list_flatten(piece["probabilities"]).to_numpy()
        probabilities_NK[start:stop] = flat.reshape(piece.num_rows, num_classes)
        start = stop
    if start < len(ids_N):
        raise UserError(others)
    return probabilities_NK


def agreement(labels_N: Integers, true_N: Integers) -> float | None:
    """Share of the images of known class whose label is the true one; None if no class is known."""
    known_N = true_N != UNKNOWN
    return float((labels_N == true_N)[known_N].mean()) if known_N.any() else None


def disambiguation(labels: TrainingLabels) -> dict[str, Any]:
    """How often the most probable class of a training image is its true one, for metrics.json.

    Over all training images, and over the ambiguous ones: those with more than one candidate. Images
    of unknown class do not count; None where no ambiguous image is left.
    """
    ambiguous_N = _ambiguous(labels)
    known_N = labels.true_N != UNKNOWN
    chosen_N = labels.probabilities_NK.argmax(axis=1)
    ambiguous = agreement(chosen_N[ambiguous_N], labels.true_N[ambiguous_N])
    return {
        # else it would be about labels that were given
        "disambiguation_accuracy": None
        if ambiguous is None
        else agreement(chosen_N, labels.true_N),
        "disambiguation_accuracy_ambiguous": ambiguous,
        "images": len(labels.ids_N),
        "images_ambiguous": int(ambiguous_N.sum()),
        "images_of_known_class": int(known_N.sum()),
        "images_ambiguous_of_known_class": int((ambiguous_N & known_N).sum()),
    }


def _ambiguous(labels: TrainingLabels) -> NDArray[np.bool_]:
    """Whether an image has more than one candidate."""
    several = pc.greater(pc.list_value_length(labels.candidates), 1)
    ambiguous_N: NDArray[np.bool_] = pc.fill_null(several, True).to_numpy()
    return ambiguous_N


def label_curve(path: Path, labels: TrainingLabels) -> list[dict[str, Any]]:
    """Accuracy of the labels after each evaluated epoch: one row per epoch of label_history.parquet.

    Args:
        path: label_history.parquet: the labels of the training images (where the method keeps
            any), of the validation images, and the confident guesses of the unlabeled images, in the order
            of their split files.
        labels: what they are compared with.

    Returns:
        Rows of epoch, val_accuracy, disambiguation_accuracy, coverage and precision (see `guess_quality`);
        None where there is nothing to say.

    Raises:
        UserError: An epoch has another number of labels than the split has images.
    """
    history = read_table(path)
    recovers = bool((_ambiguous(labels) & (labels.true_N != UNKNOWN)).any())
    truth = {
        "train": labels.true_N if recovers else np.full_like(labels.true_N, UNKNOWN),
        "val": labels.val_true_V,
        "unlabeled": labels.true_N[labels.candidates.is_null().to_numpy()],
    }
    rows: dict[int, dict[str, Any]] = {}
    for epoch, part, chosen in zip(*(history[name] for name in history.column_names), strict=True):
        chosen_N, true_N = chosen.values.to_numpy(), truth[part.as_py()]
        if len(chosen_N) != len(true_N):
            msg = (
                f"{path}: epoch {epoch} has {len(chosen_N)} {part} labels for {len(true_N)} images; "
                f"run `dvc repro`"
            )
            raise UserError(msg)
        nothing = {"epoch": epoch.as_py(), **dict.fromkeys(MEASURED)}
        rows.setdefault(epoch.as_py(), nothing).update(_measured(part.as_py(), chosen_N, true_N))
    return [rows[epoch] for epoch in sorted(rows)]


def _measured(part: str, chosen_N: Integers, true_N: Integers) -> dict[str, float | None]:
    if part == "unlabeled":
        return guess_quality(chosen_N, true_N)
    name = {"train": "disambiguation_accuracy", "val": "val_accuracy"}[part]
    return {name: agreement(chosen_N, true_N)}


def guess_quality(guesses_U: Integers, true_U: Integers) -> dict[str, float | None]:
    """How many labels a method guesses with confidence, and how many of those are right.

    Args:
        guesses_U: class of each unlabeled image that the method is `records.CONFIDENT` of, else NO_GUESS.
        true_U: their true classes, or UNKNOWN.

    Returns:
        `coverage`, the share of the images with a confident guess, and `precision`, the share of these
        guesses that are the true class: of the images of known class, None if there is none.
    """
    sure_U = guesses_U != NO_GUESS
    return {
        "coverage": float(sure_U.mean()) if len(guesses_U) else None,
        "precision": agreement(guesses_U[sure_U], true_U[sure_U]),
    }


def _named(candidates: pa.ChunkedArray, classes: Sequence[str]) -> pa.ChunkedArray:
    """The same lists, or null, with the names of the classes, piece by piece: one holds 2 GiB of text at most."""
    names, pieces = pa.array(classes, pa.string()), []
    for start in range(0, len(candidates), BLOCK):
        lists = candidates.slice(start, BLOCK).combine_chunks()
        ends = pc.fill_null(pc.list_value_length(lists), 0).to_numpy().cumsum()
        offsets, named = pa.array([0, *ends], pa.int32()), names.take(pc.list_flatten(lists))
        pieces.append(pa.ListArray.from_arrays(offsets, named, mask=lists.is_null()))
    return pa.chunked_array(pieces, pa.list_(pa.string()))


CLEANED_SCHEMA = pa.schema(
    {
        "id": pa.int32(),
        "source": pa.string(),
        "candidates": pa.list_(pa.string()),
        "label": pa.string(),
        "confidence": pa.float32(),
    }
)


def cleaned_labels(labels: TrainingLabels, classes: Sequence[str]) -> pa.Table:
    """The most probable class of every training image, for the user; `confidence` is its weight.

    Returns:
        As CLEANED_SCHEMA: `candidates` are null of an image that may be of any class, as they are in a `data.table`
        in Parquet; of many such images the names of all classes would be most of what a run writes.
    """
    chosen_N = labels.probabilities_NK.argmax(axis=1)
    return pa.table(
        {
            "id": labels.ids_N,
            "source": labels.sources,
            "candidates": _named(labels.candidates, classes),
            "label": [classes[k] for k in chosen_N],
            "confidence": labels.probabilities_NK.max(axis=1),
        },
        schema=CLEANED_SCHEMA,
    )
