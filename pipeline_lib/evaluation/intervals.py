"""Confidence intervals, in closed form: importing scipy would take longer than the evaluation."""

from __future__ import annotations

import math

# 97.5 % quantile of the standard normal distribution, for two-sided 95 % intervals.
Z_95 = 1.959963984540054


def wilson_95(successes: int, trials: int) -> tuple[float, float]:
    """Wilson's score interval for a share: where the true accuracy lies, with 95 % confidence.

    It covers the spread of drawing other test images, not that of training with another seed.
    Source: Wilson, Journal of the American Statistical Association 22, 1927.

    Args:
        successes: images classified correctly.
        trials: images, at least 1.

    Returns:
        Lower and upper bound, in [0, 1].
    """
    if not 0 <= successes <= trials or trials < 1:
        msg = f"no such share: {successes} of {trials}"
        raise ValueError(msg)
    share, spread = successes / trials, Z_95**2 / trials
    centre = (share + spread / 2) / (1 + spread)
    half = Z_95 / (1 + spread) * math.sqrt((share * (1 - share) + spread / 4) / trials)
    # At 0 and at `trials` the bounds are exactly 0 and 1; the formula misses them by a rounding error.
    lower = 0.0 if successes == 0 else centre - half
    upper = 1.0 if successes == trials else centre + half
    return lower, upper
