"""Whether two models see the same things in the same images."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from sklearn.metrics import cohen_kappa_score

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True)
class Agreement:
    """Shares of the test images."""

    same: float
    """Given the same class by both, right or wrong."""
    kappa: float | None
    """Cohen's kappa: 0 what chance would give, 1 always the same class; None if only one class is
    ever predicted."""
    both_wrong: float
    """Wrong by both, of whatever class."""


def agreement(
    first_N: NDArray[np.int64], second_N: NDArray[np.int64], truth_N: NDArray[np.int64]
) -> Agreement:
    """Agreement of two models' predictions on the same images.

    Source of kappa: Cohen, Educational and Psychological Measurement 20, 1960.

    Args:
        first_N: classes predicted by the first model.
        second_N: classes predicted by the second one.
        truth_N: true classes.

    Raises:
        ValueError: There are no images, or not as many of each.
    """
    if len(first_N) == 0 or not len(first_N) == len(second_N) == len(truth_N):
        msg = "agreement needs predictions of the same images, at least one"
        raise ValueError(msg)
    constant = len(np.union1d(first_N, second_N)) == 1
    return Agreement(
        same=float(np.mean(first_N == second_N)),
        kappa=None if constant else float(cohen_kappa_score(first_N, second_N)),
        both_wrong=float(np.mean((first_N != truth_N) & (second_N != truth_N))),
    )
