"""How many seeds a difference needs, and which difference the seeds at hand can show.

A test that misses a difference has not shown that there is none; Bouthillier et al., MLSys 2021, plan
the number of trainings from the power of their test. Both numbers rest on the standard deviation
of the differences, which few seeds give only roughly (`sd_interval`): within a factor of 0.5 to 6 from
three seeds, 0.7 to 1.8 from ten. For a family of m comparisons, Holm's first step
tests at alpha / m: give that.
"""

from __future__ import annotations

import math
from bisect import bisect_left

from scipy import stats
from scipy.optimize import brentq

from pipeline_lib.statistics.paired import ALPHA, FEWEST_SEEDS

MOST_SEEDS = 10_000
POWER = 0.8


def sd_interval(sd: float, seeds: int) -> tuple[float, float]:
    """95 % interval, by chi square, of the true standard deviation of normal differences.

    Args:
        sd: of the differences within seeds.
        seeds: how many there are, at least 2.
    """
    freedom = seeds - 1
    low, high = (
        sd * math.sqrt(freedom / stats.chi2.ppf(quantile, freedom))
        for quantile in (1 - ALPHA / 2, ALPHA / 2)
    )
    return low, high


def power_of(effect_size: float, seeds: int, alpha: float = ALPHA) -> float:
    """Probability that a two-sided paired t-test finds a difference, in its right direction.

    Args:
        effect_size: true d_z, the difference in units of the standard deviation of differences.
        seeds: at least 2.
        alpha: two-sided level.
    """
    # One tail at half the level: the other one, a finding in the wrong direction, is not asked for.
    freedom = seeds - 1
    critical = stats.t.isf(alpha / 2, freedom)
    power = float(stats.nct.sf(critical, freedom, effect_size * math.sqrt(seeds)))
    # Above about 40 standard errors scipy's noncentral t can be nan; it is 1 there.
    return 1.0 if math.isnan(power) else power


def hidden_by_images(low: float, high: float, alpha: float = ALPHA) -> float:
    """Upper bound of the true difference that the test images alone hide too often, however many seeds there are.

    The interval is of so many trainings: with more of them the answers to an image are averaged, and it may shrink.

    Args:
        low: lower bound of the 95 % interval of the difference over test images.
        high: upper bound.
        alpha: two-sided level.
    """
    standard_error = (high - low) / 2 / stats.norm.isf(ALPHA / 2)
    return float(standard_error * (stats.norm.isf(alpha / 2) + stats.norm.ppf(POWER)))


def seeds_needed(
    sd_of_difference: float,
    difference: float = 0.01,
    power: float = POWER,
    alpha: float = ALPHA,
) -> int | None:
    """Fewest seeds with which the paired t-test finds a true difference often enough.

    Searched by halving, as the power grows with the seeds; solving for a real number fails where few
    suffice.

    Args:
        sd_of_difference: standard deviation of the differences within seeds.
        difference: true difference to find, in the same unit, above 0.
        power: probability of finding it.
        alpha: two-sided level.

    Returns:
        At least 3, as `compare` tests no fewer; None if `MOST_SEEDS` do not suffice, or if no spread
        was measured and nothing can be said.
    """
    if sd_of_difference <= 0:
        return None
    effect_size = difference / sd_of_difference
    tried = range(FEWEST_SEEDS, MOST_SEEDS + 1)
    at = bisect_left(tried, power, key=lambda seeds: power_of(effect_size, seeds, alpha))
    return tried[at] if at < len(tried) else None


def detectable(sd_of_difference: float, seeds: int, alpha: float = ALPHA) -> float | None:
    """Smallest true difference that the paired t-test finds often enough.

    Args:
        sd_of_difference: standard deviation of the differences within seeds.
        seeds: how many there are.
        alpha: two-sided level.

    Returns:
        The difference, in the unit of the standard deviation; None for fewer than 3 seeds, which are
        not tested, or if no spread was measured.
    """
    if seeds < FEWEST_SEEDS or sd_of_difference <= 0:
        return None
    high = 1.0
    while power_of(high, seeds, alpha) < POWER:
        high *= 2
    effect_size = brentq(lambda effect: power_of(effect, seeds, alpha) - POWER, 0, high)
    return float(effect_size) * sd_of_difference
