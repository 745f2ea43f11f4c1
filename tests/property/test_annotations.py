"""From annotators' labels to candidates: what holds of every rule, whatever was said by whom."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline_lib.errors import UserError
from pipeline_lib.protocols.annotations import fewest
from tests.label_tables import classes, mask, replaced, run, voted

K, PEOPLE = 4, 5
RULES = ["union", "at_least", "weighted"]
SAID = st.lists(
    st.lists(
        st.tuples(st.integers(0, PEOPLE - 1), st.integers(0, K - 1)), max_size=PEOPLE, unique=True
    ),
    min_size=8,
    max_size=30,
)


def candidates(
    votes: list, rule: str, names: str = "abcd", people: str = "uvwxy", **options
) -> np.ndarray:
    """Candidate sets of the images, without a validation part; their number stays on record."""
    tested = [[(0, k)] for k in range(K)]
    table = voted([*votes, *tested], [None] * len(votes) + list(range(K)))
    table = replaced(table, split=[None] * len(votes) + ["test"] * K)
    # One more of each class, labeled, so that none is without training images.
    table = pa.concat_tables([table, replaced(voted([[]] * K, [None] * K), label=range(K))])
    table = replaced(table, id=range(len(table)))
    about = classes(list(names), annotators=list(people))
    result = run(
        table,
        about,
        protocol="given",
        val_fraction=0.0,
        allow_noisy_candidates=True,
        annotations={"rule": rule} | options,
    )
    assert result.train["id"].to_pylist()[: len(votes)] == list(range(len(votes)))
    return mask(result.train, K)[: len(votes)]


@settings(max_examples=40)
@given(SAID, st.integers(1, 4))
def test_union_and_at_least_are_what_they_say(votes, number):
    union, agreed = candidates(votes, "union"), candidates(votes, "at_least", at_least=number)
    for said, every, some in zip(votes, union, agreed, strict=True):
        count = np.zeros(K, int)
        for _, k in said:
            count[k] += 1
        expected = count > 0 if said else np.ones(K, bool)
        assert (every == expected).all()
        if said:
            assert (some == (count >= min(number, count.max()))).all()
        else:
            assert some.all()


@settings(max_examples=40)
@given(SAID, st.sampled_from(RULES), st.permutations(range(K)), st.permutations(range(PEOPLE)))
def test_neither_names_of_classes_nor_of_annotators_matter(votes, rule, classes_K, people_A):
    plain = candidates(votes, rule)
    renamed = candidates([[(a, classes_K[k]) for a, k in said] for said in votes], rule)
    assert (plain == renamed[:, classes_K]).all()
    others = candidates([[(people_A[a], k) for a, k in reversed(said)] for said in votes], rule)
    assert (plain == others).all()


@settings(max_examples=20)
@given(st.lists(st.integers(0, K - 1), min_size=20, max_size=40), st.sampled_from(RULES))
def test_what_all_agree_on_is_the_only_candidate(truth, rule):
    marks = candidates([[(a, k) for a in range(PEOPLE)] for k in truth], rule)
    assert (marks == (np.array(truth)[:, None] == np.arange(K))).all()


@settings(max_examples=200)
@given(
    st.lists(st.lists(st.integers(0, 100), min_size=3, max_size=3), min_size=1, max_size=5),
    st.floats(0.01, 1.0),
)
def test_the_fewest_classes_that_hold_the_mass(weights, mass):
    posterior = np.array(weights, float) + 1e-9
    posterior = (posterior / posterior.sum(axis=1, keepdims=True)).round(6)
    for row, taken in zip(posterior, fewest(posterior, mass), strict=True):
        need = min(round(mass, 6), row.sum()) - 1e-9
        assert row[taken].sum() >= need
        assert row[taken].min() > 0
        # No class is to spare but those that tie with the last.
        assert row[taken & (row > row[taken].min())].sum() < need
        assert not (row[~taken] >= row[taken].min()).any()


def test_the_weighted_rule_trusts_the_reliable():
    rng = np.random.default_rng(0)
    truth = rng.integers(K, size=200)
    said = [
        [(0, k), (1, k), *[(a, int(rng.integers(K))) for a in (2, 3, 4)]] for k in truth.tolist()
    ]
    marks = candidates(said, "weighted", mass=0.95)
    assert (marks.argmax(axis=1) == truth).mean() > 0.97
    assert marks.sum(axis=1).mean() < candidates(said, "union").sum(axis=1).mean() - 1


@pytest.mark.parametrize("rule", RULES)
def test_images_that_nobody_looked_at_change_nothing(rule):
    rng = np.random.default_rng(3)
    truth = rng.integers(K, size=60)
    said = [
        [(a, int(k if rng.random() < 0.6 else rng.integers(K))) for a in range(3)] for k in truth
    ]
    alone, among = candidates(said, rule), candidates([*said, *[[]] * 2000], rule)
    assert (among[:60] == alone).all()
    assert among[60:].all()


def test_too_many_annotators_for_tables_of_errors_are_refused():
    people, names = [f"p{i}" for i in range(50_000)], [str(k) for k in range(50)]
    said = [[(0, k % 50), (1, k % 50)] for k in range(200)]
    table = voted(said, [k % 50 for k in range(200)])
    with pytest.raises(UserError, match="would need 50000 tables of 50x50, one per"):
        run(table, classes(names, annotators=people), annotations={"rule": "weighted"})
    told = run(table, classes(names, annotators=people)).summary["annotators"]
    assert told["majority_wrong"] == {"expected": None, "actual": 0.0}
    assert told["best"][0]["estimated_accuracy"] is None


@pytest.mark.parametrize("again", [None, 0, 1])
def test_nothing_is_estimated_where_no_image_has_two_votes(again):
    """Half of them are wrong, which one vote an image cannot show, nor one person's votes for two classes."""
    said = [[(k % 3, (k + k % 2) % K)] for k in range(90)]
    said[0] += [] if again is None else [(again, 1)]
    table, names = voted(said, [k % K for k in range(90)]), [str(k) for k in range(K)]
    about = classes(names, annotators=["a", "b", "c"])
    told = run(table, about, allow_noisy_candidates=True).summary["annotators"]
    assert told["majority_wrong"]["actual"] == pytest.approx(0.5, abs=0.05)
    for estimate in (told["majority_wrong"]["expected"], told["best"][0]["estimated_accuracy"]):
        assert (estimate is not None) == (again == 1)


def test_where_nothing_is_estimated_those_who_are_known_to_be_right_are_the_best(monkeypatch):
    """A description alone is not worth minutes, which `weighted` may take."""
    monkeypatch.setattr("pipeline_lib.protocols.dawid_skene.QUICK", 1)
    said = [[(0, (k + 1) % K), (1, k % K), (2, (k + k % 2) % K)] for k in range(10 * K)]
    about = classes([str(k) for k in range(K)], annotators=["bad", "good", "mixed"])
    table = voted(said, [k % K for k in range(10 * K)])
    for rule, names in (("union", ["good", "mixed", "bad"]), ("weighted", None)):
        told = run(table, about, annotations={"rule": rule}, allow_noisy_candidates=True).summary[
            "annotators"
        ]
        assert (told["best"][0]["estimated_accuracy"] is None) == (rule == "union")
        if names:
            assert [one["name"] for one in told["best"]] == names


def test_too_many_images_for_posteriors_are_refused(monkeypatch):
    monkeypatch.setattr("pipeline_lib.protocols.dawid_skene.LARGEST", 4 * K**2)
    said = [[(0, k % K), (1, k % K)] for k in range(5 * K)]
    with pytest.raises(UserError, match=rf"and one of \d+x{K}, which is too much"):
        candidates(said, "weighted", people="uv")
