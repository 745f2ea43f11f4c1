"""Intervals: over trainings with other seeds, and over other test images.

The two answer different questions. Bouthillier et al., "Accounting for variance in machine learning
benchmarks", MLSys 2021, measure both as large sources of variance; neither stands for the other.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from scipy import stats

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

# Accuracies that differ by one image differ by more, and rounding errors by less.
ROUNDING = 1e-9
RESAMPLES = 2000


def spread_is_zero(values_S: Sequence[float] | NDArray[np.float64]) -> bool:
    """Whether all values are the same but for rounding errors."""
    return float(np.ptp(values_S)) <= ROUNDING


def t_interval(
    values_S: Sequence[float] | NDArray[np.float64], confidence: float = 0.95
) -> tuple[float, float] | None:
    """Student's interval of the mean over trainings.

    It holds where the values are about normal, as accuracies of large test sets are. It takes the
    test images as given when all trainings were tested on the same ones.
    Source: Student, Biometrika 6, 1908.

    Args:
        values_S: one value per seed.
        confidence: share of such intervals that hold the true mean.

    Returns:
        Lower and upper bound, not cut to [0, 1]; None for fewer than two values, and for values
        without any spread, where an interval of no width would claim certainty.
    """
    S = len(values_S)
    if S < 2 or spread_is_zero(values_S):
        return None
    standard_error = np.std(values_S, ddof=1) / math.sqrt(S)
    low, high = stats.t.interval(confidence, df=S - 1, loc=np.mean(values_S), scale=standard_error)
    return float(low), float(high)


def per_unit(
    values: Sequence[NDArray[np.int64]], units: Sequence[NDArray[np.int64]]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """What the answers of several trainings to one and the same image come to, or to a group of images that belong together.

    Seeds count alike, as in a mean over seeds: an answer weighs 1 in the largest test set, and more in a smaller one.

    Args:
        values: a whole number per answer: values_N, one array per seed.
        units: of each answer, the number of its image, or of the group that this is drawn with (`split.group_by`): units_N,
            likewise. Test sets of seeds may be the same, or overlap in part.

    Returns:
        totals_U and weights_U: for each unit the weighted sum of its values, and of its answers; whole numbers where
        all test sets are of one size. The mean over seeds is the sum of the first over that of the second.

    Raises:
        ValueError: A seed has no answer.
    """
    largest = max((len(v_N) for v_N in values), default=0)
    if not all(len(v_N) for v_N in values) or not largest:
        msg = "no test images"
        raise ValueError(msg)
    weights = np.concatenate([np.full(len(v_N), largest / len(v_N)) for v_N in values])
    _, place = np.unique(np.concatenate(units), return_inverse=True)
    totals_U = np.bincount(place, weights=weights * np.concatenate(values))
    weights_U = np.bincount(place, weights=weights)
    return totals_U.astype(np.float64), weights_U.astype(np.float64)


def resampled_means(
    totals_U: NDArray[np.float64],
    weights_U: NDArray[np.float64],
    generator: np.random.Generator,
    resamples: int,
) -> NDArray[np.float64]:
    """Mean values of an answer in bootstrap samples of the images, or of the groups that they are drawn in.

    Such a unit is drawn with all its answers: those to one image go together, and drawing them apart would make
    intervals too narrow, the more so the more seeds there are. Units of equal total and weight are
    interchangeable, so that drawing how often each *kind* comes up is the same as drawing units with
    replacement, at the cost of a few kinds instead of all of them.

    Args:
        totals_U: of the U units, see `per_unit`.
        weights_U: likewise.
        generator: what draws.
        resamples: R, how many samples to draw, each of U units.

    Returns:
        means_R.
    """
    kinds_V2, often_V = np.unique(
        np.stack([totals_U, weights_U], axis=1), axis=0, return_counts=True
    )
    drawn_RV = generator.multinomial(len(totals_U), often_V / len(totals_U), size=resamples)
    sums_R2 = drawn_RV @ kinds_V2
    means_R: NDArray[np.float64] = sums_R2[:, 0] / sums_R2[:, 1]
    return means_R


def image_bounds(
    totals_U: NDArray[np.float64],
    weights_U: NDArray[np.float64],
    least: int,
    generator: np.random.Generator,
    resamples: int,
    confidence: float,
) -> tuple[float, float]:
    """Percentile bootstrap interval (Efron, Annals of Statistics 7, 1979) of the mean, no narrower than rare images allow.

    No sample holds an image of a value that none of the N images has, and few samples many of a value that one of them
    has: where all are alike, an interval of no width would claim certainty. But images of other values may be as
    frequent as Wilson's upper bound for none among N, p = z^2 / (N + z^2), and the interval reaches at least as far as
    they would move the mean. For an accuracy of 0 or 1 that is Wilson's interval (1927), for differences of 0, 1
    or -1 Tango's score interval for paired proportions (Statistics in Medicine 17, 1998): at 0, [-p, p]. Of images in
    groups, N is the number of groups; one alone tells nothing: from `least` to 1.

    Args:
        totals_U: of the U units, see `per_unit`.
        weights_U: likewise.
        least: smallest value that an image can have: 0 of an accuracy, -1 of a difference. The largest is 1.
        generator: what draws.
        resamples: bootstrap samples.
        confidence: share of such intervals that hold the true value, about.

    Returns:
        Lower and upper bound.
    """
    if len(totals_U) == 1:  # which shows nothing of others
        return least, 1.0
    tail = (1 - confidence) / 2
    means_R = resampled_means(totals_U, weights_U, generator, resamples)
    low, high = (float(bound) for bound in np.quantile(means_R, [tail, 1 - tail]))
    mean, z2 = float(totals_U.sum() / weights_U.sum()), float(stats.norm.ppf(tail) ** 2)
    p = z2 / (len(totals_U) + z2)
    return min(low, mean - p * (mean - least)), max(high, mean + p * (1 - mean))


def bootstrap_interval(
    correct: Sequence[NDArray[np.bool_]],
    units: Sequence[NDArray[np.int64]],
    generator: np.random.Generator,
    resamples: int = RESAMPLES,
    confidence: float = 0.95,
) -> tuple[float, float]:
    """Percentile bootstrap interval of an accuracy over test images, for the trainings as they are.

    Args:
        correct: correct_N of each training.
        units: of its test images, see `per_unit`.
        generator: what draws; the same state gives the same interval.
        resamples: bootstrap samples.
        confidence: share of such intervals that hold the true accuracy, about.

    Returns:
        Lower and upper bound, in [0, 1]; Wilson's where all answers are right, or all wrong, as no sample
        of right answers holds a wrong one.

    Raises:
        ValueError: There are no images.
    """
    totals_U, weights_U = per_unit([c_N.astype(np.int64) for c_N in correct], units)
    return image_bounds(totals_U, weights_U, 0, generator, resamples, confidence)
