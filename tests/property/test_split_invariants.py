"""What holds of every split and every weakening, whatever the data, the seed and the parameters."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy.stats import binom

from pipeline_lib.protocols.split import Tables
from tests import label_tables
from tests.label_tables import classes, labels, mask

SEEDS = st.integers(0, 2**31)
RATES = st.floats(0, 0.8)
COUNTS = st.lists(st.integers(4, 40), min_size=3, max_size=6)


def run(
    table: pa.Table, seed: int, kind: str = "partial", limit: int | None = None, **changes
) -> Tables:
    names = [str(k) for k in range(len(set(table["label"].to_pylist())))]
    return label_tables.run(table, classes(names), kind, seed=seed, limit=limit, **changes)


def ids(table: pa.Table) -> set[int]:
    return set(table["id"].to_pylist())


@settings(max_examples=40)
@given(COUNTS, SEEDS, st.floats(0.05, 0.6), st.floats(0.05, 0.6))
def test_parts_are_disjoint_complete_exact_and_stratified(
    counts, seed, test_fraction, val_fraction
):
    table = labels(counts)
    total, truth = sum(counts), np.array(table["label"].to_pylist())
    result = run(table, seed, test_fraction=test_fraction, val_fraction=val_fraction)
    train, val, test = (ids(part) for part in (result.train, result.val, result.test))
    assert train | val | test == set(range(total))
    assert len(train) + len(val) + len(test) == total
    assert ids(result.oracle) == train | val
    expected = max(1, int(test_fraction * total + 0.5))
    assert len(test) == expected
    share = np.bincount(truth[sorted(test)], minlength=len(counts))
    room = int((np.array(counts) - share - 1).sum())  # every class keeps an image to train on
    assert len(val) == min(room, max(1, int(val_fraction * (total - expected) + 0.5)))
    # Largest remainders are off by one at most, unless a class must keep an image to train on.
    assert (
        np.abs(share - expected * np.array(counts) / total) < 1.0 + 1e-9
    ).all() or expected > total - 2 * len(counts)


@settings(max_examples=20)
@given(COUNTS, SEEDS, RATES, st.randoms())
def test_neither_the_order_of_rows_nor_the_rate_changes_the_parts(counts, seed, rate, shuffle):
    table = labels(counts)
    order = list(range(len(table)))
    shuffle.shuffle(order)
    first = run(table, seed, uniform_candidates={"rate": rate})
    shuffled = run(table.take(order), seed, uniform_candidates={"rate": rate})
    assert first.summary == shuffled.summary
    assert all(a.equals(b) for a, b in zip(first[:4], shuffled[:4], strict=True))
    other = run(table, seed, uniform_candidates={"rate": 0.1, "force_ambiguous": False})
    few = run(table, seed, "few_shot", few_shot={"labels": len(counts)})
    for changed in (other, few):
        assert all(ids(a) == ids(b) for a, b in zip(first[:3], changed[:3], strict=True))


@settings(max_examples=30)
@given(COUNTS, SEEDS, st.integers(6, 100))
def test_a_limited_training_set_is_exact_covers_classes_and_keeps_its_candidates(
    counts, seed, limit
):
    table = labels(counts)
    full, limited = run(table, seed), run(table, seed, limit=limit)
    assume(limit <= full.train.num_rows)
    assert limited.train.num_rows == limit
    assert limited.test.equals(full.test)
    assert ids(limited.val) <= ids(full.val)
    truth = dict(zip(range(len(table)), table["label"].to_pylist(), strict=True))
    assert {truth[i] for i in ids(limited.train)} == set(range(len(counts)))
    everything = {row["id"]: row for row in full.train.to_pylist()}
    assert all(everything[row["id"]] == row for row in limited.train.to_pylist())


@settings(max_examples=40)
@given(COUNTS, SEEDS, RATES, st.booleans())
def test_uniform_candidates_hold_the_truth(counts, seed, rate, force):
    table = labels(counts)
    options = {"rate": rate, "force_ambiguous": force}
    result = run(table, seed, uniform_candidates=options, labeled_in_unlabeled=False)
    truth = table["label"].to_pylist()
    for part in (result.train, result.val):
        for row in part.to_pylist():
            size = len(row["candidates"])
            assert truth[row["id"]] in row["candidates"]
            assert row["candidates"] == sorted(set(row["candidates"]))
            assert size > 1 or not force
            role = {1: "labeled", len(counts): "unlabeled"}.get(size, "partial")
            assert row["role"] == role
    assert sum(result.summary["noisy"].values()) == 0


@pytest.mark.parametrize("rate", [0.0, 0.1, 0.3, 0.7])
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_the_rate_of_each_wrong_class_is_within_binomial_bounds(rate: float, seed: int):
    classes, each = 10, 1000
    result = run(
        labels([each] * classes), seed, uniform_candidates={"rate": rate, "force_ambiguous": False}
    )
    truth = np.array(result.oracle["label"].to_pylist())[: result.train.num_rows]
    marks = mask(result.train, classes)
    wrong = truth[:, None] != np.arange(classes)
    # One test per pair of true and wrong class: 90 of them, so one in a million each.
    for true_class in range(classes):
        for wrong_class in set(range(classes)) - {true_class}:
            held, of = marks[truth == true_class, wrong_class].sum(), (truth == true_class).sum()
            assert binom.ppf(1e-6, of, rate) <= held <= binom.ppf(1 - 1e-6, of, rate)
    assert result.summary["empirical_rate"] == pytest.approx(marks[wrong].mean(), abs=1e-6)


def test_the_forced_wrong_class_is_uniform():
    classes = 5
    options = {"rate": 0.0, "force_ambiguous": True}
    result = run(labels([2000] * classes), 1, uniform_candidates=options)
    truth = np.array(result.oracle["label"].to_pylist())[: result.train.num_rows]
    step = (mask(result.train, classes) & (truth[:, None] != np.arange(classes))).argmax(
        axis=1
    ) - truth
    counts = np.bincount(step % classes, minlength=classes)
    assert counts[0] == 0
    assert (counts[1:] > binom.ppf(1e-6, len(truth), 1 / (classes - 1))).all()
    assert counts.sum() == len(truth)


@settings(max_examples=30)
@given(COUNTS, SEEDS, st.integers(1, 2), st.booleans())
def test_few_shot_is_exact_true_and_nested(counts, seed, each, inside):
    table = labels(counts)
    options = {"labels": None, "labels_per_class": each}
    result = run(table, seed, "few_shot", few_shot=options, labeled_in_unlabeled=inside)
    truth = table["label"].to_pylist()
    labeled = {row["id"] for row in result.train.to_pylist() if row["role"] != "unlabeled"}
    assert [sum(truth[i] == k for i in labeled) for k in range(len(counts))] == [each] * len(counts)
    for row in result.train.to_pylist():
        expected = [truth[row["id"]]] if row["id"] in labeled else list(range(len(counts)))
        assert row["candidates"] == expected
    fewer = run(table, seed, "few_shot", few_shot=options | {"labels_per_class": 1})
    assert {row["id"] for row in fewer.train.to_pylist() if row["role"] != "unlabeled"} <= labeled


def test_which_of_equal_classes_is_held_out_changes_with_the_seed() -> None:
    table = labels([2, 2, 2])
    truth = table["label"].to_pylist()
    tested, held = set(), set()
    for seed in range(20):
        result = run(table, seed, test_fraction=0.17, val_fraction=0.2)
        tested |= set(result.test["label"].to_pylist())
        held |= {truth[image] for image in result.val["id"].to_pylist()}
        assert (result.test.num_rows, result.val.num_rows) == (1, 1)
    assert tested == held == {0, 1, 2}
