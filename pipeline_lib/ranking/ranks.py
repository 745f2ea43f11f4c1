"""Several methods compared over several datasets, by ranks.

Accuracies of different datasets have no common unit and spread differently, ranks do not.
Source: Demsar, "Statistical comparisons of classifiers over multiple data sets", Journal of Machine
Learning Research 7, 2006.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy import stats

from pipeline_lib.statistics.paired import ALPHA

if TYPE_CHECKING:
    from numpy.typing import NDArray

FEWEST_METHODS = 3
RESAMPLES = 9999


@dataclass(frozen=True)
class Ranking:
    """Methods over datasets; None where there are too few of either."""

    datasets: int
    ranks: tuple[float, ...]
    """Average rank of each method, 1 the best."""
    statistic: float | None
    """Friedman's chi square, corrected for ties."""
    p: float | None
    critical_difference: float | None
    """Average ranks that differ by as much differ significantly (Nemenyi, 5 %)."""
    cliques: tuple[tuple[int, ...], ...]
    """Methods that do not differ, by index from the best to the worst: bars of the diagram."""
    refused: str | None
    """Why nothing was tested, and what would be needed."""

    @property
    def p_words(self) -> str:
        """Its p-value: of drawn permutations none can be smaller than one of their number."""
        floor = 1 / (RESAMPLES + 1)
        if self.p is not None and self.p <= floor:
            return f"p <= {floor:.4f} (permutations)"
        return f"p = {self.p:.4f}"


def average_ranks(scores_DM: NDArray[np.float64]) -> NDArray[np.float64]:
    """ranks_M, 1 for the highest score of a dataset; equal scores share the mean of their ranks."""
    ranks_DM = stats.rankdata(-scores_DM, axis=1)
    ranks_M: NDArray[np.float64] = ranks_DM.mean(axis=0)
    return ranks_M


def critical_difference(methods: int, datasets: int, alpha: float = ALPHA) -> float:
    """Nemenyi's critical difference of average ranks, q_alpha sqrt(k (k + 1) / (6 N)).

    q_alpha is the quantile of the studentized range, divided by sqrt(2). Source: Demsar 2006,
    section 3.2.2.
    """
    q = float(stats.studentized_range.ppf(1 - alpha, methods, np.inf)) / math.sqrt(2)
    return q * math.sqrt(methods * (methods + 1) / (6 * datasets))


def datasets_needed(methods: int) -> int:
    """Fewest datasets with which even always first and always last could differ.

    Average ranks differ by at most k - 1, and the critical difference must not be more.
    """
    return math.ceil((critical_difference(methods, 1) / (methods - 1)) ** 2)


def friedman_p(scores_DM: NDArray[np.float64], generator: np.random.Generator) -> float:
    """P-value of Friedman's statistic, by permuting the methods within each dataset.

    Exact for few datasets and methods, where its chi square and F approximations can reject too
    often, and drawn for more: `RESAMPLES` permutations.
    Source: Friedman, Journal of the American Statistical Association 32, 1937.
    """
    # Ties stay within their dataset, so that the squared rank sums order tables as chi square does.
    # Doubled ranks are whole numbers, which makes equal sums equal.
    doubled_DM = np.round(2 * stats.rankdata(scores_DM, axis=1))

    def statistic(*columns: NDArray[np.float64], axis: int) -> NDArray[np.float64]:
        squares: NDArray[np.float64] = np.sum([c.sum(axis=axis) ** 2 for c in columns], axis=0)
        return squares

    result = stats.permutation_test(
        tuple(doubled_DM.T),
        statistic,
        permutation_type="samples",
        vectorized=True,
        n_resamples=RESAMPLES,
        alternative="greater",
        rng=generator,
    )
    return float(result.pvalue)


def cliques(
    ranks_M: NDArray[np.float64], critical_difference: float
) -> tuple[tuple[int, ...], ...]:
    """Largest groups of methods whose average ranks all differ by less than the critical difference.

    Args:
        ranks_M: average ranks.
        critical_difference: from `critical_difference`.

    Returns:
        Groups of two or more indices, each from the best to the worst rank, none within another.
    """
    order = np.argsort(ranks_M, kind="stable")
    groups: list[tuple[int, ...]] = []
    reached = 0
    for start in range(len(order)):
        near = ranks_M[order] - ranks_M[order[start]] < critical_difference
        end = int(np.flatnonzero(near)[-1]) + 1
        # A group that ends where an earlier one did lies within it.
        if end > max(reached, start + 1):
            groups.append(tuple(int(m) for m in order[start:end]))
            reached = end
    return tuple(groups)


def rank(scores_DM: NDArray[np.float64], generator: np.random.Generator) -> Ranking:
    """Friedman's test, average ranks, and Nemenyi's groups.

    Where Friedman's test finds no difference at 5 %, no pair is looked at: all methods are one group.

    Args:
        scores_DM: a score per dataset and method, higher is better; means over seeds, as seeds of one
            dataset are no datasets of their own.
        generator: what draws permutations, where they are too many to go through.

    Returns:
        The ranking, refused for fewer than three methods and for too few datasets.

    Raises:
        ValueError: A score is missing, or all are.
    """
    if not scores_DM.size or not np.isfinite(scores_DM).all():
        msg = "every method needs a score on every dataset"
        raise ValueError(msg)
    D, M = scores_DM.shape
    reason = _refusal(methods=M, datasets=D)
    ranks_M = average_ranks(scores_DM)
    ranks = tuple(float(r) for r in ranks_M)
    if reason is not None:
        return Ranking(D, ranks, None, None, None, (), reason)
    if np.all(np.ptp(scores_DM, axis=1) == 0):
        same = "all methods have the same score on every dataset: no ranks to compare"
        return Ranking(D, ranks, None, None, None, (), same)
    p = friedman_p(scores_DM, generator)
    distance = critical_difference(M, D)
    everyone = (tuple(int(m) for m in np.argsort(ranks_M, kind="stable")),)
    return Ranking(
        datasets=D,
        ranks=ranks,
        statistic=float(stats.friedmanchisquare(*scores_DM.T).statistic),
        p=p,
        critical_difference=distance,
        cliques=cliques(ranks_M, distance) if p <= ALPHA else everyone,
        refused=None,
    )


def _refusal(*, methods: int, datasets: int) -> str | None:
    if methods < FEWEST_METHODS:
        return f"{methods} methods: Friedman's test needs at least {FEWEST_METHODS}; compare two over seeds"
    needed = datasets_needed(methods)
    if datasets < needed:
        return (
            f"{datasets} dataset{'s' * (datasets > 1)}: with {methods} methods no difference of ranks could "
            f"be significant; run at least {needed} datasets"
        )
    return None
