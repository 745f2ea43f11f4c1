"""Dawid and Skene's equations (1979), written out in plain loops, and agreement against published numbers."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from pipeline_lib import progress
from pipeline_lib.protocols import agreement, dawid_skene
from pipeline_lib.protocols.annotations import tally
from pipeline_lib.protocols.labels import Votes


def some_votes(images: int, people: int, classes: int, seed: int, share: float = 0.6) -> Votes:
    """Annotators of different reliability; not everybody sees every image, but somebody does."""
    rng = np.random.default_rng(seed)
    truth = rng.integers(classes, size=images)
    skill = rng.uniform(0.4, 0.95, size=people)
    rows = [
        (i, a, truth[i] if rng.random() < skill[a] else rng.integers(classes))
        for i in range(images)
        for a in range(people)
        if rng.random() < share or a == i % people
    ]
    image, annotator, named = np.array(rows).T
    return Votes(image, annotator, named, [f"person {a}" for a in range(people)])


def first_posterior(votes: Votes, images: int, classes: int) -> np.ndarray:
    posterior = np.zeros((images, classes))
    for i, _, c in triples(votes):
        posterior[i, c] += 1
    for i in range(images):
        posterior[i] /= posterior[i].sum()
    return posterior


def triples(votes: Votes) -> list[tuple[int, int, int]]:
    return list(zip(votes.image_V, votes.annotator_V, votes.class_V, strict=True))


def m_step(votes: Votes, posterior: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    classes = posterior.shape[1]
    people = len(votes.annotators)
    together = np.full((classes, classes), 1 / classes)
    error = np.zeros((people, classes, classes))
    for i, a, c in triples(votes):
        for k in range(classes):
            error[a, k, c] += posterior[i, k]
            together[k, c] += posterior[i, k]
    for k in range(classes):
        together[k] /= together[k].sum()
    for a in range(people):
        for k in range(classes):
            error[a, k] += together[k]
            error[a, k] /= error[a, k].sum()
    return np.array([posterior[:, k].mean() for k in range(classes)]), error


def e_step(votes: Votes, images: int, prior: np.ndarray, error: np.ndarray) -> np.ndarray:
    posterior = np.tile(prior, (images, 1))
    for i, a, c in triples(votes):
        for k in range(len(prior)):
            posterior[i, k] *= error[a, k, c]
    return posterior / posterior.sum(axis=1, keepdims=True)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_one_round_is_the_papers(seed: int):
    images, people, classes = 40, 5, 4
    votes = some_votes(images, people, classes, seed)
    start = dawid_skene.vote_shares(votes, images, classes)
    expected_start = first_posterior(votes, images, classes)
    np.testing.assert_allclose(start, expected_start, rtol=1e-14)
    reliability = dawid_skene.maximise(votes, start)
    prior, error = m_step(votes, expected_start)
    np.testing.assert_allclose(reliability.prior_K, prior, rtol=1e-12)
    np.testing.assert_allclose(reliability.confusion_AKK, error, rtol=1e-12)
    np.testing.assert_allclose(
        dawid_skene.expect(votes, images, reliability),
        e_step(votes, images, prior, error),
        rtol=1e-10,
        atol=1e-14,
    )


def test_it_converges_to_where_plain_loops_do_and_improves_on_the_majority():
    images, people, classes = 150, 6, 3
    votes = some_votes(images, people, classes, seed=7)
    found = dawid_skene.posterior(votes, images, dawid_skene.estimate(votes, images, classes))
    posterior = first_posterior(votes, images, classes)
    for _ in range(400):
        posterior = e_step(votes, images, *m_step(votes, posterior))
    np.testing.assert_allclose(found, posterior, atol=3e-5)


def test_a_class_that_nobody_named_explains_nothing():
    """Where annotators disagree it would do as well as any other, and better than what they named."""
    named = some_votes(100, 3, 4, seed=5, share=1.0)
    found = dawid_skene.posterior(named, 100, dawid_skene.estimate(named, 100, 6))
    assert (found[:, 4:] == 0).all()
    np.testing.assert_allclose(found.sum(axis=1), 1, atol=4e-6)


def test_a_liar_is_found_out(capsys, monkeypatch):
    """Two annotators who are right outvote, by reliability, three who always name the next class."""
    rng = np.random.default_rng(0)
    truth = rng.integers(3, size=300)
    rows = []
    for i, k in enumerate(truth):
        right = [(i, a, k if rng.random() < 0.9 else rng.integers(3)) for a in range(4)]
        rows += [*right, *[(i, a, (k + 1) % 3) for a in (4, 5)]]
    votes = Votes(*np.array(rows).T, [str(a) for a in range(6)])
    monkeypatch.setattr(progress, "SECONDS_BETWEEN_LINES", 0.0)
    reliability = dawid_skene.estimate(votes, 300, 3)
    assert ": 2 of 100 rounds at most, 0 s" in capsys.readouterr().out
    assert (reliability.confusion_AKK[:4].argmax(axis=2) == [0, 1, 2]).all()
    assert (reliability.confusion_AKK[4:].argmax(axis=2) == [1, 2, 0]).all()
    assert (dawid_skene.posterior(votes, 300, reliability).argmax(axis=1) == truth).mean() > 0.98


def test_krippendorffs_own_example():
    """Four observers, twelve units, missing values: alpha 0.743 (Krippendorff 2011, part C)."""
    observers = [
        "1 2 3 3 2 1 4 1 2 . . .",
        "1 2 3 3 2 2 4 1 2 5 . 3",
        ". 3 3 3 2 3 4 2 2 5 1 .",
        "1 2 3 3 2 4 4 1 2 5 1 .",
    ]
    rows = [
        (unit, observer, int(value) - 1)
        for observer, line in enumerate(observers)
        for unit, value in enumerate(line.split())
        if value != "."
    ]
    votes = Votes(*np.array(rows).T, list("ABCD"))
    votes_N = np.bincount(votes.image_V, minlength=12)
    alpha = agreement.krippendorff_alpha(*tally(votes, 5), votes_N, 5)
    assert alpha == pytest.approx(0.743, abs=5e-4)
    units = [[c for i, _, c in rows if i == unit] for unit in range(12)]
    pairs = [a == b for values in units for a, b in itertools.permutations(values, 2)]
    agreed = agreement.agreement(votes_N, tally(votes, 5)[2])
    assert agreed == pytest.approx(np.mean(pairs), abs=1e-6)


def test_no_alpha_where_everybody_says_the_same():
    votes = Votes(
        np.array([0, 0, 1, 1]), np.array([0, 1, 0, 1]), np.array([2, 2, 2, 2]), ["a", "b"]
    )
    assert agreement.krippendorff_alpha(*tally(votes, 3), np.array([2, 2]), 3) is None
