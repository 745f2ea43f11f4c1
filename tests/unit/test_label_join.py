"""Learned labels against the true ones: what counts, what does not, and what fits together."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pyarrow as pa
import pytest

from pipeline_lib.datasets.files.forms import Supervision
from pipeline_lib.datasets.files.layout import arrange
from pipeline_lib.datasets.files.supervision import read_supervision
from pipeline_lib.errors import UserError
from pipeline_lib.evaluation import labels, tables
from pipeline_lib.parquet import publish_table, read_table

CLASSES = ["cat", "dog", "eel"]


NO_GUESSES = {"coverage": None, "precision": None}


def write(folder, *, oracle=None, state_ids=(7, 3, 5, 9), history=None) -> None:
    """Four training images in the order 7, 3, 5, 9, two validation images."""
    train = {
        "id": pa.array([7, 3, 5, 9], pa.int32()),
        "candidates": pa.array([[0, 1], [1], [0, 1, 2], [1, 2]], pa.list_(pa.int16())),
        "role": ["partial"] * 4,
    }
    publish_table(folder / "split/train.parquet", pa.table(train))
    # in another order; nobody knows the class of image 9
    oracle = oracle or [(3, 1, "train"), (9, None, "train"), (2, 0, "val"), (5, 2, "train")]
    oracle = [*oracle, (7, 0, "train"), (1, 1, "val")]
    ids, true, parts = zip(*oracle, strict=True)
    columns = {"id": pa.array(ids, pa.int32()), "label": pa.array(true, pa.int16())}
    columns["source"] = [f"{number}.png" for number in ids]
    publish_table(folder / "split/oracle.parquet", pa.table({**columns, "part": parts}))
    p_NK = [[0.9, 0.1, 0], [0, 1, 0], [0.5, 0.25, 0.25], [0, 0.4, 0.6]]
    state = {
        "id": pa.array(state_ids, pa.int32()),
        "probabilities": pa.array(p_NK[: len(state_ids)], pa.list_(pa.float32())),
    }
    publish_table(folder / "label_state.parquet", pa.table(state))
    history = history or [(1, "train", [1, 1, 2, 1]), (2, "train", [0, 1, 2, 0])]
    history = [*history, (1, "val", [1, 1]), (2, "val", [0, 1])]
    epochs, parts, chosen = zip(*history, strict=True)
    columns = {"epoch": pa.array(epochs, pa.int32()), "part": parts}
    chosen = pa.array(chosen, pa.list_(pa.int16()))
    publish_table(folder / "label_history.parquet", pa.table({**columns, "labels": chosen}))


def test_images_are_joined_by_id_and_unknown_classes_do_not_count(tmp_path) -> None:
    write(tmp_path)
    known = labels.read_training_labels(tmp_path, 3)
    assert known.true_N.tolist() == [0, 1, 2, labels.UNKNOWN]
    assert labels.disambiguation(known) == {
        "disambiguation_accuracy": pytest.approx(2 / 3),  # 7 and 3 right, 5 wrong, 9 unknown
        "disambiguation_accuracy_ambiguous": pytest.approx(1 / 2),  # without image 3
        "images": 4,
        "images_ambiguous": 3,
        "images_of_known_class": 3,
        "images_ambiguous_of_known_class": 2,
    }


def test_the_curve_has_a_row_per_epoch(tmp_path) -> None:
    write(tmp_path)
    known = labels.read_training_labels(tmp_path, 3)
    assert labels.label_curve(tmp_path / "label_history.parquet", known) == [
        {"epoch": 1, "val_accuracy": 0.5, "disambiguation_accuracy": pytest.approx(2 / 3)}
        | NO_GUESSES,
        {"epoch": 2, "val_accuracy": 1.0, "disambiguation_accuracy": 1.0} | NO_GUESSES,
    ]


def test_the_curve_tells_how_good_the_guesses_of_unlabeled_images_are(tmp_path) -> None:
    """Image 5 is the only one with all classes for candidates; its true class is 2."""
    guesses = [(1, "unlabeled", [-1]), (2, "unlabeled", [2]), (3, "unlabeled", [0])]
    write(tmp_path, history=guesses)
    known = labels.read_training_labels(tmp_path, 3)
    curve = labels.label_curve(tmp_path / "label_history.parquet", known)
    assert [(row["coverage"], row["precision"]) for row in curve] == [(0, None), (1, 1), (1, 0)]
    assert [row["val_accuracy"] for row in curve] == [0.5, 1.0, None]
    assert {row["disambiguation_accuracy"] for row in curve} == {None}


@pytest.mark.parametrize(
    ("guesses", "true", "coverage", "precision"),
    [
        ([1, 2, -1, 0], [1, 1, 1, 0], 3 / 4, 2 / 3),
        ([1, 2, -1, 0], [1, -1, -1, -1], 3 / 4, 1.0),  # the class of three is unknown
        ([1, 2, -1, 0], [-1, -1, 1, -1], 3 / 4, None),
        ([-1, -1], [0, 1], 0.0, None),
        ([], [], None, None),
    ],
)
def test_coverage_is_of_all_images_and_precision_of_the_known_guesses(
    guesses, true, coverage, precision
) -> None:
    found = labels.guess_quality(np.array(guesses, np.int64), np.array(true, np.int64))
    assert found == {"coverage": coverage, "precision": pytest.approx(precision)}


def test_the_quality_of_guesses_is_what_counting_one_by_one_gives() -> None:
    draw = np.random.default_rng(4)
    guesses_U, true_U = draw.integers(-1, 6, 3000), draw.integers(-1, 6, 3000)
    guessed = right = known = 0
    for guess, true in zip(guesses_U.tolist(), true_U.tolist(), strict=True):
        if guess >= 0:
            guessed += 1
            if true >= 0:
                known += 1
                right += guess == true
    assert labels.guess_quality(guesses_U, true_U) == {
        "coverage": pytest.approx(guessed / 3000),
        "precision": pytest.approx(right / known),
    }


def test_the_curve_is_blank_where_a_method_keeps_no_table(tmp_path) -> None:
    write(tmp_path, history=[(3, "val", [0, 0])])
    known = labels.read_training_labels(tmp_path, 3)
    curve = labels.label_curve(tmp_path / "label_history.parquet", known)
    assert [row["disambiguation_accuracy"] for row in curve] == [None] * 3


def test_nothing_is_claimed_where_no_class_is_known(tmp_path) -> None:
    unknown = [(i, None, "train") for i in (3, 9, 5)] + [(2, None, "val")]
    write(tmp_path, oracle=unknown)
    known = labels.read_training_labels(tmp_path, 3)
    nobody_knows = labels.TrainingLabels(
        known.ids_N,
        known.sources,
        known.candidates,
        np.full(4, labels.UNKNOWN),
        known.probabilities_NK,
        np.full(2, labels.UNKNOWN),
    )
    assert labels.disambiguation(nobody_knows)["disambiguation_accuracy"] is None
    curve = labels.label_curve(tmp_path / "label_history.parquet", nobody_knows)
    assert {row["val_accuracy"] for row in curve} == {None}


def test_labels_that_were_given_are_not_called_recovered(tmp_path) -> None:
    """Of the images with several candidates nobody knows the class."""
    write(tmp_path, oracle=[(3, 1, "train"), (9, None, "train"), (2, 0, "val"), (5, None, "train")])
    known = labels.read_training_labels(tmp_path, 3)
    known.true_N[known.ids_N == 7] = labels.UNKNOWN
    found = labels.disambiguation(known)
    assert found["disambiguation_accuracy"] is found["disambiguation_accuracy_ambiguous"] is None
    assert (found["images_of_known_class"], found["images_ambiguous_of_known_class"]) == (1, 0)
    curve = labels.label_curve(tmp_path / "label_history.parquet", known)
    assert {row["disambiguation_accuracy"] for row in curve} == {None}
    assert [row["val_accuracy"] for row in curve] == [0.5, 1.0]


@pytest.mark.parametrize("block", [1, 3, 8192])
def test_cleaned_labels_name_classes_and_sources(tmp_path, monkeypatch, block) -> None:
    monkeypatch.setattr(labels, "BLOCK", block)
    write(tmp_path)
    known = labels.read_training_labels(tmp_path, 3)
    table = labels.cleaned_labels(known, CLASSES)
    assert table.column_names == ["id", "source", "candidates", "label", "confidence"]
    assert table["source"].to_pylist() == ["7.png", "3.png", "5.png", "9.png"]
    assert table["label"].to_pylist() == ["cat", "dog", "cat", "eel"]
    sets = [["cat", "dog"], ["dog"], None, ["dog", "eel"]]  # 5.png may be of any class
    assert table["candidates"].to_pylist() == sets
    assert table["confidence"].to_pylist() == pytest.approx([0.9, 1, 0.5, 0.6])
    assert table["id"].to_pylist() == [7, 3, 5, 9]


def test_candidates_of_any_class_are_blank_and_read_back_as_unlabeled(tmp_path) -> None:
    write(tmp_path)
    known = labels.read_training_labels(tmp_path, 3)
    tables.publish_cleaned_labels(tmp_path, labels.cleaned_labels(known, CLASSES))
    rows = (tmp_path / "labels.csv").read_text().splitlines()
    assert [row.split(",")[2] for row in rows[1:]] == ["cat|dog", "dog", "", "dog|eel"]
    written = read_table(tmp_path / "labels.parquet").select(["source", "candidates"])
    publish_table(tmp_path / "table", written.rename_columns(["file", "candidates"]))
    places = arrange(["3.png", "5.png", "7.png", "9.png"], "photos")
    said = read_supervision(tmp_path / "table", "labels.parquet", places)
    assert said["5.png"] == Supervision()
    assert said["7.png"] == Supervision(candidates=("cat", "dog"))


def test_images_of_any_class_take_no_room_for_every_class(tmp_path) -> None:
    """With the names of 1,000 classes each row would take 10 kB."""
    ids, classes = range(200), [f"n{k:08d}" for k in range(1000)]
    train = {"id": pa.array(ids, pa.int32()), "candidates": [list(range(1000))] * 200}
    oracle = {"id": train["id"], "source": [f"{i}.png" for i in ids], "label": [5] * 200}
    state = {"id": train["id"], "probabilities": [[1.0] + [0.0] * 999] * 200}
    publish_table(tmp_path / "split/train.parquet", pa.table(train))
    publish_table(tmp_path / "split/oracle.parquet", pa.table(oracle | {"part": ["train"] * 200}))
    publish_table(tmp_path / "label_state.parquet", pa.table(state))
    known = labels.read_training_labels(tmp_path, 1000)
    table = labels.cleaned_labels(known, classes)
    tables.publish_cleaned_labels(tmp_path, table)
    for size in (
        known.candidates.nbytes,
        table.nbytes,
        *((tmp_path / f"labels.{kind}").stat().st_size for kind in ("csv", "parquet")),
    ):
        assert size < 100 * 200
    assert labels.disambiguation(known)["images_ambiguous"] == 200


def test_rows_of_a_csv_are_not_gathered_before_they_are_written(tmp_path) -> None:
    tracemalloc.start()
    tables.publish_csv(tmp_path / "a.csv", ["name"], ({"name": "x" * 1000} for _ in range(4000)))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert (tmp_path / "a.csv").stat().st_size == 5 + 4000 * 1001
    assert peak < 1 << 20


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"oracle": [(2, 0, "val"), (9, 1, "train")]}, r"oracle.parquet: lacks .* 3, 5;"),
        ({"state_ids": (3, 7, 5, 9)}, r"label_state.parquet: not of the images"),
        ({"state_ids": (7, 3, 5)}, r"label_state.parquet: not of the images"),
    ],
)
def test_files_of_other_images_are_refused(tmp_path, changes, message) -> None:
    write(tmp_path, **changes)
    with pytest.raises(UserError, match=message):
        labels.read_training_labels(tmp_path, 3)


def test_a_history_of_other_images_is_refused(tmp_path) -> None:
    write(tmp_path, history=[(1, "train", [0, 1])])
    known = labels.read_training_labels(tmp_path, 3)
    with pytest.raises(UserError, match="epoch 1 has 2 train labels for 4 images"):
        labels.label_curve(tmp_path / "label_history.parquet", known)
    write(tmp_path, history=[(1, "unlabeled", [0, 1])])
    with pytest.raises(UserError, match="epoch 1 has 2 unlabeled labels for 1 images"):
        labels.label_curve(tmp_path / "label_history.parquet", known)
