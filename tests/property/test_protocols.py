"""What holds of each label protocol, whatever the seed and its parameters."""

from __future__ import annotations

from typing import get_args

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom

from pipeline_lib.params.split import Split
from pipeline_lib.protocols.shares import seats, turns
from tests.label_tables import classes, labels, mask, replaced, run, truth_of

SEEDS = st.integers(0, 2**31)
COUNTS = st.lists(st.integers(6, 40), min_size=4, max_size=6)
NAMES = ["ant", "bee", "cat", "cow", "dog", "pig"]
GROUPS = {"insects": ["ant", "bee"], "pets": ["cat", "dog"], "farm": ["cow", "pig"]}
SIX = classes(NAMES, superclasses=GROUPS)
NO_DRAW = {
    "auto",
    "given",
    "instance_candidates",
}  # of the labels: nothing is drawn, or images are looked at
PROTOCOLS = sorted({*get_args(Split.model_fields["protocol"].annotation)} - NO_DRAW)
SETS = [name for name in PROTOCOLS if name not in {"few_shot", "mixed"}]


def about(counts: list[int]) -> dict:
    names = NAMES[: len(counts)]
    groups = {name: [c for c in of if c in names] for name, of in GROUPS.items()}
    return classes(names, superclasses={name: of for name, of in groups.items() if of})


def within(observed: int, number: int, rate: float) -> bool:
    """Whether a count is one that happens in all but two of a million draws."""
    return binom.ppf(1e-6, number, rate) <= observed <= binom.ppf(1 - 1e-6, number, rate)


@settings(max_examples=40)
@given(COUNTS, SEEDS, st.sampled_from(PROTOCOLS), st.randoms())
def test_sets_do_not_depend_on_the_order_of_rows(counts, seed, protocol, shuffle):
    table, order = labels(counts), list(range(sum(counts)))
    shuffle.shuffle(order)
    options = {
        "protocol": protocol,
        "seed": seed,
        "allow_noisy_candidates": True,
        "uniform_candidates": {"force_ambiguous": False},
        "few_shot": {"labels": len(counts)},
        "annotations": {"rule": "at_least"},
    }
    kind = "few_shot" if protocol == "few_shot" else "partial"
    first = run(table, about(counts), kind, **options)
    shuffled = run(table.take(order), about(counts), kind, **options)
    assert first.summary == shuffled.summary
    assert all(a.equals(b) for a, b in zip(first[:4], shuffled[:4], strict=True))


@settings(max_examples=30)
@given(COUNTS, SEEDS, st.sampled_from(SETS), st.sampled_from(["union", "at_least", "weighted"]))
def test_a_limited_training_set_keeps_its_candidates(counts, seed, protocol, rule):
    options = {
        "protocol": protocol,
        "seed": seed,
        "allow_noisy_candidates": True,
        "annotations": {"rule": rule},
    }
    full = run(labels(counts), about(counts), **options).train.to_pylist()
    limited = run(labels(counts), about(counts), limit=len(counts), **options).train.to_pylist()
    everything = {row["id"]: row for row in full}
    assert len(limited) == len(counts)
    assert all(everything[row["id"]] == row for row in limited)


@pytest.mark.parametrize("protocol", [*SETS, "mixed"])
def test_seeds_differ(protocol: str):
    one, other = (
        run(labels([50] * 6), SIX, seed=seed, protocol=protocol, allow_noisy_candidates=True)
        for seed in (1, 2)
    )
    assert one.summary["sha256"] != other.summary["sha256"]
    both = sorted(set(one.train["id"].to_pylist()) & set(other.train["id"].to_pylist()))
    rows = [{row["id"]: row for row in result.train.to_pylist()} for result in (one, other)]
    assert any(rows[0][i] != rows[1][i] for i in both)


class TestClassDependent:
    def result(self, each: int = 3000, **options):
        return run(labels([each] * 6), SIX, protocol="class_dependent", class_dependent=options)

    @pytest.mark.parametrize("rate", [0.0, 0.3, 1.0])
    def test_only_the_superclass_joins_and_at_the_rate(self, rate: float):
        result = self.result(similar="superclasses", rate=rate)
        truth, marks = truth_of(result), mask(result.train, 6)
        for k, name in enumerate(NAMES):
            (group,) = [of for of in GROUPS.values() if name in of]
            of_class = marks[truth == k]
            for j, other in enumerate(NAMES):
                held, number = of_class[:, j].sum(), len(of_class)
                assert within(held, number, 1.0 if j == k else rate * (other in group))

    def test_params_replace_the_datasets_superclasses(self):
        result = self.result(each=50, rate=1.0, superclasses={"a": NAMES[:5], "b": NAMES[5:]})
        sizes = mask(result.train, 6).sum(axis=1)
        assert (sizes == np.where(truth_of(result) == 5, 1, 5)).all()

    def test_the_matrix_is_met_class_by_class(self):
        chances = {"ant": {"bee": 0.2, "pig": 0.7}, "dog": {"cat": 1.0}}
        result = self.result(similar="matrix", matrix=chances)
        truth, marks = truth_of(result), mask(result.train, 6)
        for k, name in enumerate(NAMES):
            for j, other in enumerate(NAMES):
                chance = 1.0 if j == k else chances.get(name, {}).get(other, 0.0)
                assert within(marks[truth == k, j].sum(), (truth == k).sum(), chance)

    def test_forced_classes_are_in_proportion_where_there_can_be_any(self):
        chances = {"ant": {"bee": 0.01, "pig": 0.03}}
        result = self.result(similar="matrix", matrix=chances, force_ambiguous=True)
        truth, marks = truth_of(result), mask(result.train, 6)
        assert (marks[truth != 0].sum(axis=1) == 1).all()
        ants = marks[truth == 0]
        assert (ants.sum(axis=1) >= 2).all()
        # Two candidates: drawn with one of the chances, or forced where none was.
        two = ants[ants.sum(axis=1) == 2]
        bee, pig = (c * (1 - d) + 0.99 * 0.97 * c / 0.04 for c, d in ((0.01, 0.03), (0.03, 0.01)))
        assert within(two[:, 1].sum(), len(two), bee / (bee + pig))


class TestAnnotators:
    @pytest.mark.parametrize("accuracy", [0.0, 0.6, 1.0])
    def test_each_is_as_accurate_as_params_say(self, accuracy: float):
        result = run(
            labels([1500] * 6),
            SIX,
            protocol="annotators",
            allow_noisy_candidates=True,
            val_fraction=0.0,
            annotators={"count": 3, "accuracy": accuracy},
        )
        told = result.summary["annotators"]
        assert (told["count"], told["votes_per_image"]) == (3, {"3": result.train.num_rows})
        for person in told["best"]:
            right = round(person["accuracy"] * person["votes"])
            assert within(right, person["votes"], accuracy)

    def test_confusion_is_met_and_one_annotator_more_changes_no_other(self):
        confusion = {name: {name: 1.0} for name in NAMES} | {"cat": {"cat": 0.6, "dog": 0.4}}
        options = {"protocol": "annotators", "allow_noisy_candidates": True}
        alone = run(
            labels([1500] * 6), SIX, annotators={"count": 1, "confusion": confusion}, **options
        )
        truth, marks = truth_of(alone), mask(alone.train, 6)
        assert (marks.argmax(axis=1)[truth != 2] == truth[truth != 2]).all()
        assert within(marks[truth == 2, 4].sum(), (truth == 2).sum(), 0.4)
        assert (marks.sum(axis=1) == 1).all()
        two = run(
            labels([1500] * 6), SIX, annotators={"count": 2, "confusion": confusion}, **options
        )
        assert (mask(two.train, 6) >= marks).all()


class TestMixed:
    @settings(max_examples=60)
    @given(COUNTS, SEEDS, st.floats(0, 1), st.floats(0, 1))
    def test_shares_are_exact_stratified_and_true(self, counts, seed, one, two):
        labeled, partial = min(one, two), abs(one - two)
        options = {"labeled": labeled, "partial": min(partial, 1 - labeled), "rate": 0.4}
        # With nothing but unlabeled images there is nothing to learn.
        if labeled + partial < 0.2:
            options["labeled"] = 0.2
        result = run(
            labels(counts),
            about(counts),
            seed=seed,
            protocol="mixed",
            mixed=options,
            val_fraction=0.2,
            labeled_in_unlabeled=False,
        )
        number, truth = result.train.num_rows, truth_of(result)
        role = np.array(result.train["role"].to_pylist())
        marks = mask(result.train, len(counts))
        first = int(options["labeled"] * number + 0.5)
        both = int((options["labeled"] + options["partial"]) * number + 0.5)
        assert [(role == r).sum() for r in ("labeled", "partial", "unlabeled")] == [
            first,
            both - first,
            number - both,
        ]
        assert marks[np.arange(number), truth].all()
        assert (marks[role == "labeled"].sum(axis=1) == 1).all()
        assert marks[role == "unlabeled"].all()
        size = np.bincount(truth, minlength=len(counts))
        share = np.bincount(truth[role == "labeled"], minlength=len(counts))
        assert (np.abs(share - first * size / number) < 1 + 1e-9).all()

    def test_more_labels_keep_the_labels_and_the_rate_is_met(self):
        options = {"protocol": "mixed", "val_fraction": 0.0, "labeled_in_unlabeled": False}
        fewer = run(
            labels([500] * 6), SIX, mixed={"labeled": 0.1, "partial": 0.5, "rate": 0.2}, **options
        )
        more = run(
            labels([500] * 6), SIX, mixed={"labeled": 0.2, "partial": 0.4, "rate": 0.2}, **options
        )
        labeled = [
            {row["id"] for row in result.train.to_pylist() if row["role"] == "labeled"}
            for result in (fewer, more)
        ]
        assert labeled[0] < labeled[1]
        partial = mask(fewer.train, 6)[np.array(fewer.train["role"].to_pylist()) == "partial"]
        assert within(partial.sum() - len(partial), 5 * len(partial), 0.2)

    def test_images_of_unknown_class_are_unlabeled(self):
        known = labels([20] * 6)
        unknown = replaced(known.slice(0, 60), label=[None] * 60, true_label=[None] * 60)
        table = pa.concat_tables([known, unknown])
        table = replaced(table, id=range(len(table)))
        options = {"labeled": 0.2, "partial": 0.2}
        result = run(table, SIX, protocol="mixed", mixed=options)
        for row in result.train.to_pylist():
            assert row["id"] < 120 or row["role"] == "unlabeled"


class TestFewShot:
    @settings(max_examples=60)
    @given(
        COUNTS,
        SEEDS,
        st.sampled_from(["stratified", "long_tailed"]),
        st.integers(0, 20),
        st.integers(1, 9),
    )
    def test_totals_are_exact_and_more_labels_keep_those_of_fewer(
        self, counts, seed, balance, more, step
    ):
        def labeled(total: int) -> dict[int, int]:
            options = {"labels": total, "balance": balance, "imbalance": 3.0}
            result = run(
                labels([count + 20 for count in counts]),
                about(counts),
                "few_shot",
                seed=seed,
                few_shot=options,
            )
            rows = result.train.to_pylist()
            return {row["id"]: row["candidates"][0] for row in rows if row["role"] != "unlabeled"}

        total = len(counts) + more
        few, many = labeled(total), labeled(total + step)
        assert (len(few), len(many)) == (total, total + step)
        assert few.items() <= many.items()
        assert set(few.values()) == set(range(len(counts)))

    @pytest.mark.parametrize("labeled_too", [False, True])
    def test_unlabeled_images_are_drawn_evenly_from_what_is_left(self, labeled_too: bool):
        """Half of the images of three classes are labeled, and few of the fourth."""
        options = {"labels": 600, "unlabeled": 1000}
        counts = [3000, 400, 400, 400]
        result = run(
            labels(counts),
            about(counts),
            "few_shot",
            val_fraction=0.0,
            few_shot=options,
            labeled_in_unlabeled=labeled_too,
        )
        truth, role = truth_of(result), np.array(result.train["role"].to_pylist())
        drawn_K = np.bincount(truth[role == "unlabeled"], minlength=4)
        assert drawn_K.sum() == 1000
        for drawn, left in zip(drawn_K, [2250 - 150, 150, 150, 150], strict=True):
            assert within(drawn, 1000, left / 2550)

    def test_stratified_follows_the_classes(self):
        counts = [400, 200, 100, 50]
        options = {"labels": 60, "balance": "stratified"}
        result = run(labels(counts), about(counts), "few_shot", few_shot=options)
        assert result.summary["balance"]["labeled"] == [32, 16, 8, 4]

    @pytest.mark.parametrize(
        ("imbalance", "expected"), [(100.0, [100, 32, 10, 3, 1]), (1.0, [100] * 5)]
    )
    def test_the_long_tail_falls_geometrically(self, imbalance: float, expected: list[int]):
        options = {
            "labels": None,
            "labels_per_class": 100,
            "balance": "long_tailed",
            "imbalance": imbalance,
        }
        result = run(labels([200] * 5), about([0] * 5), "few_shot", few_shot=options)
        assert result.summary["balance"]["labeled"] == expected
        options |= {"labels": sum(expected), "labels_per_class": None}
        result = run(labels([200] * 5), about([0] * 5), "few_shot", few_shot=options)
        assert result.summary["balance"]["labeled"] == expected


def test_which_of_equal_classes_has_a_label_more_changes_with_the_seed() -> None:
    few_shot = {"labels": 4, "balance": "stratified"}
    mixed = {"labeled": 0.25, "partial": 0.0, "rate": 0.5}  # 4 of the 18 that train
    for protocol, options in (("few_shot", few_shot), ("mixed", mixed)):
        favoured = set()
        for seed in range(20):
            changes = {"protocol": protocol, protocol: options, "val_fraction": 0.0}
            result = run(labels([9, 9, 9]), about([0] * 3), "few_shot", seed=seed, **changes)
            counts = result.summary["balance"]["labeled"]
            favoured.add(tuple(counts))
            assert max(counts) - min(counts) == 1
        assert len(favoured) == 3


@settings(max_examples=200)
@given(st.lists(st.floats(0.001, 1000), min_size=2, max_size=12), st.integers(0, 300), SEEDS)
def test_seats_are_exact_nested_and_in_proportion(weights, more, seed):
    weight, turn = np.array(weights), turns(len(weights), seed)
    total = len(weight) + more
    share = seats(total, weight, turn)
    assert share.sum() == total
    assert share.min() >= 1
    assert (seats(total + 1, weight, turn) >= share).all()
    # Webster's rule, from its definition: no seat would be better given to another class.
    given = np.where(share > 1, (share - 0.5) / weight, -np.inf)
    assert given.max() <= ((share + 0.5) / weight).min() * (1 + 1e-12)
