"""What is measured on the test images, and how sure it is. docs/explanation/metrics.md says why.

NumPy in float64 and closed forms.
Shape suffixes: N images, K classes, M calibration bins. In every function `probabilities_NK` holds one
distribution over the classes per image, and `labels_N` its true class, an integer in [0, K).
The predicted class is the most probable one, the lowest-numbered of equally probable ones.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats: TypeAlias = NDArray[np.float64]
    Integers: TypeAlias = NDArray[np.int64]

TOP = 5
# What float32 shows as zero counts as its smallest normal number: nll stays finite, at most 87.4.
SMALLEST_PROBABILITY = float(np.finfo(np.float32).tiny)
# 97.5 % quantile of the standard normal distribution, for two-sided 95 % intervals.
Z_95 = 1.959963984540054
TOLD = 1e-6  # images, fewer of which tell nothing


def predicted_classes(probabilities_NK: Floats) -> Integers:
    """The most probable class of each image, N."""
    predicted_N: Integers = np.argmax(probabilities_NK, axis=1).astype(np.int64)
    return predicted_N


def accuracy(probabilities_NK: Floats, labels_N: Integers) -> float:
    """Share of the images whose most probable class is the true one."""
    return float(np.mean(predicted_classes(probabilities_NK) == labels_N))


def wilson_95(successes: float, trials: float, of: int = 1) -> tuple[float, float]:
    """Wilson's score interval for a share: where the true accuracy lies, with 95 % confidence.

    It covers the spread of drawing other test images, not that of training with another seed.
    Source: Wilson, Journal of the American Statistical Association 22, 1927.

    Args:
        successes: images classified correctly.
        trials: images, above 0; a fraction where they stand for others.
        of: how many such intervals are to hold together with 95 % confidence (Bonferroni): those of all
            classes, where the lowest of them are picked out.

    Returns:
        Lower and upper bound, in [0, 1].
    """
    if not 0 <= successes <= trials or trials <= 0:
        msg = f"no such share: {successes} of {trials}"
        raise ValueError(msg)
    z = Z_95 if of == 1 else NormalDist().inv_cdf(1 - 0.025 / of)
    share, spread = successes / trials, z**2 / trials
    centre = (share + spread / 2) / (1 + spread)
    half = z / (1 + spread) * math.sqrt((share * (1 - share) + spread / 4) / trials)
    # At 0 and at `trials` the bounds are exactly 0 and 1; the formula misses them by a rounding error.
    lower = 0.0 if successes == 0 else centre - half
    upper = 1.0 if successes == trials else centre + half
    return lower, upper


def accuracy_95(right_N: NDArray[np.bool_], group_N: Integers, of: int = 1) -> tuple[float, float]:
    """Where the true accuracy lies, with 95 % confidence, by images that were drawn in groups; else see `wilson_95`.

    Images of one patient, animal or burst tend to be right or wrong together, and tell less than as many others. Wilson's
    interval is that of so many images, drawn one by one, as have the variance that groups show (Kish, Survey Sampling, 1965;
    Franco et al., Journal of Survey Statistics and Methodology 7, 2019). Few groups show it badly: fewer images still, by
    the quantiles of Student's t (Korn, Graubard, Survey Methodology 24, 1998). Where all images are right, or all wrong,
    groups show none, and count as alike within.

    Args:
        right_N: which images are classified correctly, at least one.
        group_N: the group of each image.
        of: how many such intervals are to hold together, see `wilson_95`.

    Returns:
        Lower and upper bound, in [0, 1]; both of these for images of a single group, which shows nothing of others.
    """
    images, share = len(right_N), float(right_N.mean())
    _, unit_N, size_G = np.unique(group_N, return_inverse=True, return_counts=True)
    groups = len(size_G)
    if groups == images:
        return wilson_95(int(right_N.sum()), images, of)
    if groups == 1:
        return 0.0, 1.0
    # With groups only, and of scipy no more than this: all of it takes longer to import than the evaluation.
    from scipy.special import stdtrit

    # Of unlike sizes, as many groups as would count for as much if they were alike (Kish): a few large ones decide.
    alike = images**2 / float((size_G**2).sum())
    off_G = np.bincount(unit_N, weights=right_N - share)
    one_by_one = share * (1 - share) / (images - 1)
    in_groups = alike / (alike - 1) * float((off_G**2).sum()) / images**2
    effective = alike if one_by_one == 0 else images / max(1.0, in_groups / one_by_one)
    end = 1 - 0.025 / of
    effective *= float(stdtrit(images - 1, end) / stdtrit(alike - 1, end)) ** 2
    # About one group with next to nothing beside it tells no more than one.
    return wilson_95(share * effective, effective, of) if effective > TOLD else (0.0, 1.0)


def top_accuracy(probabilities_NK: Floats, labels_N: Integers, top: int = TOP) -> float:
    """Share of the images whose true class is among the `top` most probable ones.

    Ties go to the lower-numbered class, so that `top=1` is `accuracy`.
    """
    true_N1 = np.take_along_axis(probabilities_NK, labels_N[:, None], axis=1)
    lower_NK = np.arange(probabilities_NK.shape[1]) < labels_N[:, None]
    ahead_NK = (probabilities_NK > true_N1) | ((probabilities_NK == true_N1) & lower_NK)
    return float(np.mean(ahead_NK.sum(axis=1) < top))


def nll(probabilities_NK: Floats, labels_N: Integers) -> float:
    """Negative log-likelihood of the true class in nats, mean over the images.

    Probabilities are clipped from below at `SMALLEST_PROBABILITY`, so that it is finite.
    """
    true_N = probabilities_NK[np.arange(len(labels_N)), labels_N]
    return float(-np.log(np.clip(true_N, SMALLEST_PROBABILITY, 1)).mean())


def brier(probabilities_NK: Floats, labels_N: Integers) -> float:
    """Squared distance to the one-hot label, summed over the classes, mean over the images; in [0, 2].

    Source: Brier, Monthly Weather Review 78, 1950. Half of it is the usual binary score for K = 2.
    """
    true_N = probabilities_NK[np.arange(len(labels_N)), labels_N]
    # (1 - p)^2 for the true class and p^2 for the others, without a table of one-hot labels
    return float(((probabilities_NK**2).sum(axis=1) - 2 * true_N + 1).mean())


def confusion_matrix(probabilities_NK: Floats, labels_N: Integers) -> Integers:
    """Images per true class (row) and predicted class (column), K x K."""
    classes = probabilities_NK.shape[1]
    cells_N = labels_N.astype(np.int64) * classes + predicted_classes(probabilities_NK)
    return np.bincount(cells_N, minlength=classes**2).reshape(classes, classes).astype(np.int64)


@dataclass(frozen=True)
class ClassScores:
    """One row of the per-class table. None where a share has nothing to be a share of."""

    images: int
    recall: float | None
    precision: float | None
    f1: float | None


def class_scores(confusion_KK: Integers) -> list[ClassScores]:
    """Images, recall (accuracy within the class), precision and F1 of every class."""
    hits_K = np.diagonal(confusion_KK).tolist()
    actual_K, predicted_K = confusion_KK.sum(axis=1).tolist(), confusion_KK.sum(axis=0).tolist()
    return [
        ClassScores(
            images=actual,
            recall=hits / actual if actual else None,
            precision=hits / predicted if predicted else None,
            f1=2 * hits / (actual + predicted) if actual + predicted else None,
        )
        for hits, actual, predicted in zip(hits_K, actual_K, predicted_K, strict=True)
    ]


def balanced_accuracy(scores: list[ClassScores]) -> float:
    """Mean recall over the classes that the test images show."""
    return float(np.mean([row.recall for row in scores if row.recall is not None]))


def macro_f1(scores: list[ClassScores]) -> float:
    """Mean F1 over the classes that the test images show or the model predicts."""
    return float(np.mean([row.f1 for row in scores if row.f1 is not None]))


@dataclass(frozen=True)
class CalibrationBin:
    """One row of the calibration table: the images with lower < confidence <= upper."""

    bin: int
    lower: float
    upper: float
    count: int
    mean_confidence: float | None
    accuracy: float | None


def calibration_bins(
    probabilities_NK: Floats, labels_N: Integers, bins: int
) -> list[CalibrationBin]:
    """Sort the images into equal-width bins of confidence, the probability of the predicted class.

    Source: Guo et al., On Calibration of Modern Neural Networks, ICML 2017, section 2.
    """
    edges = np.linspace(0, 1, bins + 1)
    confidence_N = probabilities_NK.max(axis=1)
    correct_N = predicted_classes(probabilities_NK) == labels_N
    bin_N = np.digitize(confidence_N, edges[1:-1], right=True)
    rows = []
    for number in range(bins):
        inside_N = bin_N == number
        count = int(inside_N.sum())
        confidence = float(confidence_N[inside_N].mean()) if count else None
        right = float(correct_N[inside_N].mean()) if count else None
        lower, upper = float(edges[number]), float(edges[number + 1])
        rows.append(CalibrationBin(number, lower, upper, count, confidence, right))
    return rows


def expected_calibration_error(table: list[CalibrationBin]) -> float:
    """Mean over the images of |accuracy - mean confidence| of the bin that they are in; in [0, 1].

    Source: Guo et al., ICML 2017, equation 3.
    """
    images = sum(row.count for row in table)
    gaps = (
        row.count * abs(row.accuracy - row.mean_confidence)
        for row in table
        if row.accuracy is not None and row.mean_confidence is not None
    )
    return sum(gaps) / images


def calibration_error_by_chance(table: list[CalibrationBin]) -> float:
    """What `expected_calibration_error` of a perfectly calibrated classifier would be, about, by chance alone.

    Were the confidence c of a bin of n images true, about a normal number of standard deviation sqrt(c (1 - c) / n) would lie
    between it and the accuracy; the mean of its absolute value is sqrt(2 / pi) times that.
    """
    images = sum(row.count for row in table)
    gaps = (
        # a confidence may be above 1 by a rounding error
        math.sqrt(2 / math.pi * row.count * row.mean_confidence * max(1 - row.mean_confidence, 0))
        for row in table
        if row.mean_confidence is not None
    )
    return sum(gaps) / images
