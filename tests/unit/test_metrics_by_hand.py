"""The metrics on cases small enough to compute by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from pipeline_lib import metrics

# Three images, three classes: right and sure, wrong and sure, right and unsure.
P = np.array([[0.8, 0.1, 0.1], [0.7, 0.2, 0.1], [0.3, 0.4, 0.3]])
Y = np.array([0, 1, 1])


def test_accuracy_nll_and_brier() -> None:
    assert metrics.accuracy(P, Y) == pytest.approx(2 / 3)
    assert metrics.nll(P, Y) == pytest.approx(-(math.log(0.8) + math.log(0.2) + math.log(0.4)) / 3)
    by_hand = (0.04 + 0.01 + 0.01) + (0.49 + 0.64 + 0.01) + (0.09 + 0.36 + 0.09)
    assert metrics.brier(P, Y) == pytest.approx(by_hand / 3)


def test_certain_and_wrong_is_the_worst_there_is_and_still_finite() -> None:
    p_NK, y_N = np.array([[1.0, 0.0]]), np.array([1])
    assert metrics.nll(p_NK, y_N) == pytest.approx(87.3365, abs=1e-4)
    assert metrics.brier(p_NK, y_N) == 2
    assert metrics.expected_calibration_error(metrics.calibration_bins(p_NK, y_N, 15)) == 1


def test_confusion_counts_true_classes_in_rows() -> None:
    assert metrics.confusion_matrix(P, Y).tolist() == [[1, 0, 0], [1, 1, 0], [0, 0, 0]]


def test_a_class_missing_from_the_test_images_counts_for_nothing() -> None:
    first, second, third = metrics.class_scores(metrics.confusion_matrix(P, Y))
    assert (first.images, first.recall, first.precision) == (1, 1, 0.5)
    assert first.f1 == pytest.approx(2 / 3)
    assert (second.images, second.recall, second.precision) == (2, 0.5, 1)
    assert vars(third) == {"images": 0, "recall": None, "precision": None, "f1": None}
    assert metrics.balanced_accuracy([first, second, third]) == pytest.approx(0.75)
    assert metrics.macro_f1([first, second, third]) == pytest.approx(2 / 3)


def test_a_class_predicted_but_absent_lowers_macro_f1_only() -> None:
    p_NK = np.array([[0.9, 0.1], [0.2, 0.8]])
    scores = metrics.class_scores(metrics.confusion_matrix(p_NK, np.array([0, 0])))
    assert metrics.balanced_accuracy(scores) == 0.5
    assert metrics.macro_f1(scores) == pytest.approx((2 / 3 + 0) / 2)


def test_ece_of_two_bins() -> None:
    table = metrics.calibration_bins(P, Y, 2)
    assert [(row.lower, row.upper, row.count) for row in table] == [(0, 0.5, 1), (0.5, 1, 2)]
    assert [row.accuracy for row in table] == [1, 0.5]
    assert [row.mean_confidence for row in table] == pytest.approx([0.4, 0.75])
    assert metrics.expected_calibration_error(table) == pytest.approx(1 / 3 * 0.6 + 2 / 3 * 0.25)


@pytest.mark.parametrize(("images", "classes"), [(200, 4), (2000, 10)])
def test_a_calibrated_classifier_has_about_the_ece_that_chance_gives(images, classes) -> None:
    """Labels are drawn by the probabilities themselves."""
    draw = np.random.default_rng(0)
    found, told = [], []
    for _ in range(60):
        p_NK = draw.dirichlet(np.full(classes, 0.5), images)
        y_N = np.array([draw.choice(classes, p=p_K) for p_K in p_NK])
        table = metrics.calibration_bins(p_NK, y_N, 15)
        found.append(metrics.expected_calibration_error(table))
        told.append(metrics.calibration_error_by_chance(table))
    assert np.mean(told) == pytest.approx(np.mean(found), rel=0.1)


def test_a_certain_classifier_leaves_nothing_to_chance() -> None:
    table = metrics.calibration_bins(np.array([[1.0000001, 0.0]]), np.array([0]), 4)
    assert metrics.calibration_error_by_chance(table) == 0


def test_a_confidence_on_an_edge_belongs_to_the_bin_below() -> None:
    table = metrics.calibration_bins(np.array([[0.5, 0.5], [1.0, 0.0]]), np.array([0, 0]), 2)
    assert [row.count for row in table] == [1, 1]


def test_a_confidence_above_one_by_a_rounding_error_is_in_the_last_bin() -> None:
    table = metrics.calibration_bins(np.array([[1.0000001, 0.0]]), np.array([0]), 4)
    assert [row.count for row in table] == [0, 0, 0, 1]


def test_equal_probabilities_go_to_the_lower_class() -> None:
    p_NK = np.full((6, 6), 1 / 6)
    assert metrics.predicted_classes(p_NK).tolist() == [0] * 6
    assert metrics.top_accuracy(p_NK, np.arange(6)) == pytest.approx(5 / 6)


@pytest.mark.parametrize(
    ("right", "images", "low", "high"),
    [(0, 10, 0, 0.2775), (10, 10, 0.7225, 1), (5, 10, 0.2366, 0.7634), (900, 1000, 0.8798, 0.9171)],
)
def test_wilson_interval(right, images, low, high) -> None:
    assert metrics.wilson_95(right, images) == pytest.approx((low, high), abs=1e-4)


@pytest.mark.parametrize(("right", "images"), [(0, 0), (-1, 3), (4, 3)])
def test_no_interval_without_images(right, images) -> None:
    with pytest.raises(ValueError, match="no such share"):
        metrics.wilson_95(right, images)


def test_labels_may_be_as_small_as_in_the_tables() -> None:
    p_NK = np.eye(400)
    confusion_KK = metrics.confusion_matrix(p_NK, np.arange(400, dtype=np.int16))
    assert (confusion_KK == np.eye(400)).all()


def test_the_interval_of_images_in_groups_is_that_of_fewer_images() -> None:
    pairs_N = np.repeat(np.arange(4), 2)
    few = (2.364624 / 3.182446) ** 2  # quantiles of Student's t for 7 and 3 degrees of freedom
    # of four pairs one is wrong: residuals sum to 0.5 three times and to -1.5, and 7 / 3 is the design effect
    n = 8 / (7 / 3) * few
    found = metrics.accuracy_95(np.repeat([True, True, True, False], 2), pairs_N)
    assert found == pytest.approx(metrics.wilson_95(0.75 * n, n), abs=1e-6)
    # all right: as four images
    n = 4 * few
    found = metrics.accuracy_95(np.ones(8, bool), pairs_N)
    assert found == pytest.approx((n / (n + metrics.Z_95**2), 1), abs=1e-6)
    # each pair half right: groups that differ less than single images would gain nothing
    n = 8 * few
    found = metrics.accuracy_95(np.tile([True, False], 4), pairs_N)
    assert found == pytest.approx(metrics.wilson_95(0.5 * n, n), abs=1e-6)


def test_the_interval_of_images_of_their_own_is_wilsons_and_one_group_shows_nothing() -> None:
    right_N = np.arange(9) > 2
    assert metrics.accuracy_95(right_N, np.arange(9)[::-1]) == metrics.wilson_95(6, 9)
    assert metrics.accuracy_95(right_N, np.zeros(9, int)) == (0, 1)
    assert metrics.accuracy_95(right_N[:1], np.array([5])) == metrics.wilson_95(0, 1)
    nearly_one_N = np.append(np.zeros(2000, int), 1)
    assert metrics.accuracy_95(np.arange(2001) % 2 > 0, nearly_one_N) == (0, 1)
