"""The metrics against scikit-learn and scipy, on random predictions of every shape."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest
from sklearn import metrics as sk

from pipeline_lib import metrics

few = settings(max_examples=40)


@st.composite
def predictions(draw):
    """Float32 probabilities of N images and K classes, and labels that may leave classes out."""
    images, classes = draw(st.integers(1, 40)), draw(st.integers(2, 12))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    logits_NK = rng.normal(size=(images, classes)) * draw(st.sampled_from([0.3, 3.0, 30.0]))
    e_NK = np.exp(logits_NK - logits_NK.max(axis=1, keepdims=True))
    p_NK = (e_NK / e_NK.sum(axis=1, keepdims=True)).astype(np.float32).astype(np.float64)
    shown = draw(st.integers(1, classes))
    return p_NK, rng.integers(shown, size=images)


@few
@given(case=predictions())
def test_accuracy_nll_and_brier_are_sklearns(case) -> None:
    p_NK, y_N = case
    every = np.arange(p_NK.shape[1])
    guess_N = p_NK.argmax(axis=1)
    assert metrics.accuracy(p_NK, y_N) == pytest.approx(sk.accuracy_score(y_N, guess_N))
    clipped = np.clip(p_NK, metrics.SMALLEST_PROBABILITY, 1)
    expected = -np.mean(np.log(clipped[np.arange(len(y_N)), y_N]))
    assert metrics.nll(p_NK, y_N) == pytest.approx(expected)
    if p_NK.min() > 1e-12:
        normal_NK = p_NK / p_NK.sum(axis=1, keepdims=True)
        assert metrics.nll(normal_NK, y_N) == pytest.approx(
            sk.log_loss(y_N, normal_NK, labels=every)
        )
    normal_NK = p_NK / p_NK.sum(axis=1, keepdims=True)
    assert metrics.brier(normal_NK, y_N) == pytest.approx(
        sk.brier_score_loss(y_N, normal_NK, labels=every, scale_by_half=False), abs=1e-12
    )


@few
@given(case=predictions())
def test_per_class_scores_are_sklearns_and_absent_classes_are_none(case) -> None:
    p_NK, y_N = case
    classes = np.arange(p_NK.shape[1])
    guess_N = p_NK.argmax(axis=1)
    confusion = metrics.confusion_matrix(p_NK, y_N)
    np.testing.assert_array_equal(confusion, sk.confusion_matrix(y_N, guess_N, labels=classes))
    scores = metrics.class_scores(confusion)
    precision, recall, f1, images = sk.precision_recall_fscore_support(
        y_N, guess_N, labels=classes, zero_division=0
    )
    for k, row in enumerate(scores):
        assert row.images == images[k]
        assert (row.recall is None) == (images[k] == 0)
        assert (row.precision is None) == (k not in guess_N)
        assert (row.f1 is None) == (k not in guess_N and k not in y_N)
        assert (row.recall or 0) == pytest.approx(recall[k])
        assert (row.precision or 0) == pytest.approx(precision[k])
        assert (row.f1 or 0) == pytest.approx(f1[k])
    present = sorted(set(y_N))
    assert metrics.balanced_accuracy(scores) == pytest.approx(
        sk.recall_score(y_N, guess_N, labels=present, average="macro", zero_division=0)
    )
    assert metrics.macro_f1(scores) == pytest.approx(sk.f1_score(y_N, guess_N, average="macro"))


@few
@given(case=predictions(), top=st.integers(1, 6))
def test_top_accuracy_is_sklearns(case, top) -> None:
    p_NK, y_N = case
    classes = p_NK.shape[1]
    assume(classes > 2)
    assume(top < classes)
    # without ties, which scikit-learn breaks the other way
    assume(all(len(set(row)) == classes for row in p_NK))
    expected = sk.top_k_accuracy_score(y_N, p_NK, k=top, labels=np.arange(classes))
    assert metrics.top_accuracy(p_NK, y_N, top) == pytest.approx(expected)


@few
@given(case=predictions())
def test_top_one_is_the_accuracy_even_with_ties(case) -> None:
    p_NK, y_N = case
    coarse_NK = np.round(p_NK, 1)
    assert metrics.top_accuracy(coarse_NK, y_N, 1) == metrics.accuracy(coarse_NK, y_N)
    assert metrics.top_accuracy(coarse_NK, y_N, p_NK.shape[1]) == 1


@few
@given(case=predictions(), bins=st.integers(2, 30))
def test_calibration_table_holds_every_image_once_and_gives_ece(case, bins) -> None:
    p_NK, y_N = case
    table = metrics.calibration_bins(p_NK, y_N, bins)
    assert [row.bin for row in table] == list(range(bins))
    assert sum(row.count for row in table) == len(y_N)
    expected = 0.0
    for row in table:
        confidence_N = p_NK.max(axis=1)
        inside_N = (confidence_N > row.lower) & (confidence_N <= row.upper)
        if row.bin == bins - 1:
            inside_N |= confidence_N > 1
        assert row.count == inside_N.sum()
        assert (row.accuracy is None) == (row.mean_confidence is None) == (row.count == 0)
        if row.count:
            right = (p_NK.argmax(axis=1) == y_N)[inside_N].mean()
            assert row.accuracy == pytest.approx(right)
            expected += inside_N.mean() * abs(right - confidence_N[inside_N].mean())
    assert metrics.expected_calibration_error(table) == pytest.approx(expected, abs=1e-12)


@few
@given(case=predictions())
def test_every_metric_is_finite_and_in_its_range(case) -> None:
    p_NK, y_N = case
    scores = metrics.class_scores(metrics.confusion_matrix(p_NK, y_N))
    ece = metrics.expected_calibration_error(metrics.calibration_bins(p_NK, y_N, 15))
    shares = [metrics.accuracy(p_NK, y_N), metrics.macro_f1(scores), ece]
    shares += [metrics.balanced_accuracy(scores), metrics.top_accuracy(p_NK, y_N)]
    assert all(0 <= share <= 1 + 1e-6 for share in shares)
    assert 0 <= metrics.nll(p_NK, y_N) < 87.4
    assert -1e-12 <= metrics.brier(p_NK, y_N) <= 2 + 1e-6
    json.dumps([vars(row) for row in scores], allow_nan=False)


@settings(max_examples=200)
@given(data=st.data(), trials=st.integers(1, 20_000))
def test_wilson_is_scipys(data, trials) -> None:
    successes = data.draw(st.integers(0, trials))
    expected = binomtest(successes, trials).proportion_ci(0.95, method="wilson")
    low, high = metrics.wilson_95(successes, trials)
    assert (low, high) == pytest.approx((expected.low, expected.high), abs=1e-12)
    assert 0 <= low <= successes / trials <= high <= 1
