"""Two methods compared over the same seeds, and the reasons for giving no p-value.

What is asked is whether a method would still be ahead when trained again. Only other trainings can
answer that; other test images cannot (Dietterich, Neural Computation 10, 1998; Dror et al., "The
hitchhiker's guide to testing statistical significance in NLP", ACL 2018; Bouthillier et al., MLSys
2021). Methods share the seed's split, labels and initial weights, so that differences within a seed
spread less than accuracies do: the tests are paired.

All trainings share the luck of the images that they are tested on, also where each seed draws its
test set anew: all draw from one pool. The t-test then speaks of these images only: for methods equal
on all images it rejects more often the more seeds there are. So the p-value that counts is the larger
one of the t-test's and of `crossed`, whose variance is that of other trainings and of other images
together; each alone errs in cases where the other does not. Corrected by Holm, one of a page's equal
pairs is called different on at most about 5 % of pages (tests/property/test_error_rates.py). A claim beyond the
pool needs several datasets (`pipeline_lib.ranking.ranks`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from scipy import stats

from pipeline_lib.statistics.intervals import (
    RESAMPLES,
    ROUNDING,
    image_bounds,
    per_unit,
    spread_is_zero,
    t_interval,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

ALPHA = 0.05
# Two differences leave one degree of freedom: the t-test would find only differences above 12.7
# times their standard error, and nothing shows whether they are anything like normal.
FEWEST_SEEDS = 3
# Up to here the signed-rank test goes through all 2^S signs; scipy draws the same line.
MOST_SIGNS = 13
LEAST_FREEDOM = 0.05  # of images, nearly all of which are of one group


@dataclass(frozen=True)
class Comparison:
    """First method minus second; None where the seeds do not allow the number."""

    seeds: int
    difference: float
    """Mean of the differences within seeds."""
    interval: tuple[float, float] | None
    """95 % t-interval of `difference`, over trainings."""
    crossed_interval: tuple[float, float] | None
    """95 % interval of `difference`, over trainings and images (see `crossed`)."""
    image_interval: tuple[float, float]
    """95 % bootstrap interval of `difference`, over test images (see `image_interval`)."""
    sd: float | None
    """Standard deviation of the differences within seeds; None for one seed."""
    effect_size: float | None
    """Cohen's d_z: the mean of the differences in units of their standard deviation."""
    p_t: float | None
    """Over trainings, on these images (see `paired_t`); None also where every seed gives the same difference."""
    p_crossed: float | None
    """Over trainings and images (see `crossed`)."""
    p_wilcoxon: float | None
    p_mcnemar: float | None
    """Of this one pair of trained models over test images: not of the methods."""
    p: float | None
    """The larger one of `p_t` and `p_crossed`: it counts. `p_crossed` where every seed gives the same difference."""
    p_holm: float | None
    """`p` adjusted for all comparisons of the family; filled in by `adjusted`."""
    refused: str | None
    """Why there is no `p`, and what would be needed."""

    @property
    def significant(self) -> bool:
        """The methods differ: neither other trainings nor other test images are likely to undo it."""
        return self.p_holm is not None and self.p_holm <= ALPHA


def refusal(difference_S: NDArray[np.float64]) -> str | None:
    """Why no p-value can be had from these differences, None if it can.

    One pair of trainings shows no spread at all, and two show it with one degree of freedom. A difference that is
    the same with every seed still varies over images, but for none, and for one method right and the other wrong
    on every image.
    """
    S = len(difference_S)
    if S < FEWEST_SEEDS:
        more = FEWEST_SEEDS - S
        return (
            f"{S} seed{'s' * (S > 1)}: a paired t-test needs at least {FEWEST_SEEDS}; "
            f"add {more} seed{'s' * (more > 1)} to compare.seeds"
        )
    if spread_is_zero([0, *difference_S]):
        return (
            f"identical accuracies with each of {S} seeds: no difference to test; "
            "a larger test set or more seeds in compare.seeds could show one"
        )
    if spread_is_zero(difference_S) and abs(difference_S[0]) == 1:
        return (
            f"one right and the other wrong on every image with each of {S} seeds: no spread to measure the difference "
            "against; a larger test set could show it"
        )
    return None


def paired_t(difference_S: NDArray[np.float64]) -> float | None:
    """Two-sided p-value of the paired t-test over trainings; None where `refusal` has a reason, or without spread.

    Where every seed gives the same difference the t statistic has no value: in the limit p is 0.
    Dror et al. 2018 recommend it where the differences are about normal, as differences of accuracies
    of large test sets are; small sets, with their few possible accuracies, make it reject less often.
    """
    if refusal(difference_S) is not None or spread_is_zero(difference_S):
        return None
    return float(stats.ttest_1samp(difference_S, 0).pvalue)


@dataclass(frozen=True)
class Crossed:
    """A mean difference, and how far other trainings and other test images together would move it."""

    mean: float
    standard_error: float
    """Above 0."""
    freedom: float
    """Degrees of freedom of Student's t."""

    @property
    def p(self) -> float:
        """Two-sided, for a true mean of 0."""
        return float(2 * stats.t.sf(abs(self.mean) / self.standard_error, self.freedom))

    @property
    def interval(self) -> tuple[float, float]:
        """95 % interval of the true mean: without 0 where `p` is below 5 %."""
        half = self.standard_error * stats.t.isf(ALPHA / 2, self.freedom)
        return float(self.mean - half), float(self.mean + half)


def crossed(
    first: Sequence[NDArray[np.bool_]],
    second: Sequence[NDArray[np.bool_]],
    units: Sequence[NDArray[np.int64]],
) -> Crossed | None:
    """The difference over other trainings and other test images at once.

    Answers are clustered by seed and by image, or by the group that this is drawn with: V = V_seeds + V_images - V_both,
    where V_both is that of a seed's answers to one image or group; never less than either of the first two, with
    Satterthwaite's degrees of freedom. Groups of unlike sizes count as fewer. Seeds count alike, whatever the sizes of their test sets. Where all seeds have one
    test set, V_both takes up to a part in S off V_images: with five seeds it rejects about 6 of 100 (simulated).
    Source: Cameron, Gelbach, Miller, Journal of Business & Economic Statistics 29, 2011.

    Args:
        first: correct_N of the first method, one array per seed.
        second: the same of the second method, on the same images.
        units: of these images, see `intervals.per_unit`.

    Returns:
        Mean and spread; None for fewer than two seeds, and where all answers differ alike.
    """
    seeds = len(first)
    if seeds < 2:
        return None
    differences = [a_N.astype(np.int64) - b_N for a_N, b_N in zip(first, second, strict=True)]
    totals_U, weights_U = per_unit(differences, units)
    mean = float(totals_U.sum() / weights_U.sum())
    images = _alike(units)
    spare = max(images - 1, LEAST_FREEDOM)
    by_seed = float(np.var([d_N.mean() for d_N in differences], ddof=1)) / seeds
    off_U = (totals_U - mean * weights_U) / weights_U.sum()
    by_image = float((off_U**2).sum()) * images / spare
    by_both = 0.0
    for d_N, units_N in zip(differences, units, strict=True):
        unit_N = np.unique(units_N, return_inverse=True)[1]
        off_U = np.bincount(unit_N, weights=d_N - mean) / (len(d_N) * seeds)
        by_both += float((off_U**2).sum())
    variance = max(by_seed + by_image - by_both, by_seed, by_image)
    if math.sqrt(variance) <= ROUNDING:
        return None
    freedom = variance**2 / (by_seed**2 / (seeds - 1) + by_image**2 / spare)
    return Crossed(mean, math.sqrt(variance), freedom)


def _alike(units: Sequence[NDArray[np.int64]]) -> float:
    """How many images, or groups of one size, would count for as much as these (Kish): of groups, a few large ones decide."""
    answers_U = np.unique(np.concatenate(units), return_counts=True)[1]
    seeds_U = np.unique(np.concatenate([np.unique(u_N) for u_N in units]), return_counts=True)[1]
    images_U = answers_U / seeds_U
    return float(images_U.sum() ** 2 / (images_U**2).sum())


def wilcoxon(difference_S: NDArray[np.float64]) -> float | None:
    """Two-sided p-value of the signed-rank test over trainings.

    It assumes symmetry instead of normal differences, at the price of seeds: all S differences with
    the same sign have probability 2 / 2^S, so that fewer than six can never fall below 5 %. Zeros
    are split between the signs (Demsar, Journal of Machine Learning Research 7, 2006, section 3.1.3).

    Returns:
        None where no outcome could be significant, or where `refusal` has a reason.
    """
    if 2 / 2 ** len(difference_S) >= ALPHA or refusal(difference_S) is not None:
        return None
    # Equal differences must tie, which a rounding error would prevent.
    rounded_S = np.round(difference_S, 9)
    if len(rounded_S) > MOST_SIGNS:
        return float(stats.wilcoxon(rounded_S, zero_method="zsplit").pvalue)
    # The same exact p-value as `stats.wilcoxon` finds, which takes seconds for a dozen seeds with ties.
    signed_ranks_S = np.sign(rounded_S) * stats.rankdata(np.abs(rounded_S))
    result = stats.permutation_test(
        (signed_ranks_S,),
        np.sum,
        permutation_type="samples",
        vectorized=True,
        n_resamples=np.inf,
    )
    return float(result.pvalue)


def mcnemar_exact(first_N: NDArray[np.bool_], second_N: NDArray[np.bool_]) -> float:
    """Two-sided exact p-value of McNemar's test on the images that only one model gets right.

    Dietterich 1998 recommends it when a method can be trained once only, and warns that it leaves out
    the spread of training: it speaks of these two models.
    Source: McNemar, Psychometrika 12, 1947.
    """
    first_only, second_only = int(np.sum(first_N & ~second_N)), int(np.sum(second_N & ~first_N))
    # Where they are equally good, each of these images is right for either with probability 1/2.
    either = first_only + second_only
    return float(stats.binomtest(first_only, either).pvalue) if either else 1.0


def image_interval(
    first: Sequence[NDArray[np.bool_]],
    second: Sequence[NDArray[np.bool_]],
    units: Sequence[NDArray[np.int64]],
    generator: np.random.Generator,
    *,
    resamples: int = RESAMPLES,
) -> tuple[float, float]:
    """95 % bootstrap interval of the mean difference of accuracies, over test images.

    The two answers to an image are drawn together, with those of all other seeds that were tested on it, and with those to
    other images of its group.
    Where no image tells the methods apart, no sample does, and Tango's score interval stands in (see
    `intervals.image_bounds`).

    Args:
        first: correct_N of the first method, one array per seed.
        second: the same of the second method, on the same images.
        units: of these images, see `intervals.per_unit`.
        generator: what draws.
        resamples: bootstrap samples.

    Returns:
        Lower and upper bound.

    Raises:
        ValueError: The two methods were tested on different images, or on none.
    """
    answers = list(zip(first, second, units, strict=True))
    if any(
        not len(a_N) == len(b_N) == len(units_N) or not len(a_N) for a_N, b_N, units_N in answers
    ):
        msg = "the methods need the same test images, at least one"
        raise ValueError(msg)
    differences = [a_N.astype(np.int64) - b_N.astype(np.int64) for a_N, b_N, _ in answers]
    totals_U, weights_U = per_unit(differences, units)
    return image_bounds(totals_U, weights_U, -1, generator, resamples, 1 - ALPHA)


def compare(
    first: Sequence[NDArray[np.bool_]],
    second: Sequence[NDArray[np.bool_]],
    units: Sequence[NDArray[np.int64]],
    generator: np.random.Generator,
) -> Comparison:
    """Compare two methods that were trained with the same seeds.

    The test is fixed by the number of seeds: none for one and two; from three on the larger p of the paired
    t-test's, which is 0 in the limit where every seed gives the same difference, and of `crossed`.
    Choosing by the p-values would find differences that are not there.

    Args:
        first: correct_N of the first method, one array per seed.
        second: the same of the second method, with the same seeds, on the same images.
        units: of these images, see `intervals.per_unit`.
        generator: what draws the bootstrap samples.

    Returns:
        The comparison, `p_holm` still open.

    Raises:
        ValueError: The seeds or images of the two methods do not pair up, or there are none.
    """
    S = len(first)
    if not S or len(second) != S:
        msg = "the methods need the same seeds, at least one"
        raise ValueError(msg)
    difference_S = np.array(
        [a_N.mean() - b_N.mean() for a_N, b_N in zip(first, second, strict=True)]
    )
    reason = refusal(difference_S)
    if S >= FEWEST_SEEDS and all(map(np.array_equal, first, second)):
        reason = (
            f"right on the very same images with each of {S} seeds: what sets the two apart changed nothing here, "
            "and more seeds or images are not likely to show a difference"
        )
    one_unit = len(np.unique(np.concatenate(units))) == 1
    if S >= FEWEST_SEEDS and one_unit:
        reason = (
            "all test images are of one group (split.group_by): nothing shows what others would change; "
            "test with more groups"
        )
    p_t = paired_t(difference_S)
    both = None if one_unit else crossed(first, second, units)
    p_crossed = None if both is None or reason is not None else both.p
    sd = None if S == 1 else float(difference_S.std(ddof=1))
    if S > 1 and spread_is_zero(difference_S):
        sd = 0.0
    mean = float(difference_S.mean())
    return Comparison(
        seeds=S,
        difference=mean,
        interval=t_interval(difference_S),
        crossed_interval=None if both is None else both.interval,
        image_interval=image_interval(first, second, units, generator),
        sd=sd,
        effect_size=mean / sd if sd else None,
        p_t=p_t,
        p_crossed=p_crossed,
        p_wilcoxon=wilcoxon(difference_S),
        p_mcnemar=mcnemar_exact(first[0], second[0]) if S == 1 else None,
        p=None if p_crossed is None else max(p_t or 0.0, p_crossed),
        p_holm=None,
        refused=reason,
    )


def holm(ps: Sequence[float | None]) -> list[float | None]:
    """Holm's adjusted p-values: the chance of one below alpha where nothing differs is at most alpha.

    Never larger than Bonferroni's, and as free of assumptions on how the tests depend on each other.
    Source: Holm, Scandinavian Journal of Statistics 6, 1979; Demsar 2006, section 3.2.2.

    Args:
        ps: the p-values of the family; None for a comparison without a test, which is not in it.

    Returns:
        The adjusted p-values in the same order, None where there was None.
    """
    tested = sorted((p, position) for position, p in enumerate(ps) if p is not None)
    adjusted_ps: list[float | None] = [None] * len(ps)
    largest = 0.0
    for step, (p, position) in enumerate(tested):
        # As many as are left at this step, and never below the step before.
        largest = max(largest, min(1.0, (len(tested) - step) * p))
        adjusted_ps[position] = largest
    return adjusted_ps


def adjusted(family: Sequence[Comparison]) -> list[Comparison]:
    """The comparisons of one family, all that are looked at together, with `p_holm` filled in.

    All with seeds enough for a test are in it: one that was refused all the same counts as p = 1, as whether it
    is refused depends on its answers.
    """
    ps = holm([1.0 if c.p is None and c.seeds >= FEWEST_SEEDS else c.p for c in family])
    return [replace(c, p_holm=None if c.p is None else p) for c, p in zip(family, ps, strict=True)]
