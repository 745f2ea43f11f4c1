"""Sharing out a number of images among classes, in whole numbers and to the exact sum."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from pipeline_lib.protocols.labels import UNKNOWN, draws
from pipeline_lib.rng import generator

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from pipeline_lib.protocols.labels import Labels


def strata(labels: Labels) -> NDArray[np.int16]:
    """Number the stratum of each image: its class, or K where that is unknown."""
    return np.where(labels.truth_N == UNKNOWN, np.int16(labels.num_classes), labels.truth_N)


def sizes(labels: Labels) -> NDArray[np.int64]:
    """Images in each stratum, (K + 1,)."""
    return np.bincount(strata(labels), minlength=labels.num_classes + 1)


def ranks(labels: Labels, seed: int, *purpose: str) -> NDArray[np.int32]:
    """Draw an order of the images within each stratum; who takes those below k takes k of them.

    Each image has a number of its own, so the order does not depend on which others there are.

    Returns:
        The place of each image, from 0, (N,).
    """
    order_N = np.lexsort((draws(labels, seed, *purpose), strata(labels)))
    rank_N = np.empty(len(labels), np.int32)
    ends_S = np.cumsum(sizes(labels))
    for start, end in zip([0, *ends_S[:-1]], ends_S, strict=True):
        rank_N[order_N[start:end]] = np.arange(end - start, dtype=np.int32)
    return rank_N


def turns(strata: int, seed: int, *purpose: str) -> NDArray[np.int64]:
    """Draw an order of the strata, for `allot` and `seats`: else the first names would always get more."""
    return generator(seed, *purpose, "strata").permutation(strata)


def allot(
    total: int,
    size_S: NDArray[np.int64],
    turn_S: NDArray[np.int64],
    *,
    least: NDArray[np.int64] | None = None,
    most: NDArray[np.int64] | None = None,
) -> NDArray[np.int64]:
    """Share out `total` in proportion to the sizes of the strata: largest remainders, exact sum.

    Args:
        total: how many to share out; less if `most` does not allow so many.
        size_S: size of each stratum.
        turn_S: the strata in the order in which those with the same claim are served.
        least: smallest share of each, 0 by default.
        most: largest share of each, its size by default.
    """
    least_S = np.zeros_like(size_S) if least is None else least
    most_S = size_S if most is None else most
    exact_S = total * size_S / max(int(size_S.sum()), 1)
    share_S: NDArray[np.int64] = np.clip(np.floor(exact_S).astype(np.int64), least_S, most_S)
    missing = min(total, int(most_S.sum())) - int(share_S.sum())
    while missing:
        step = 1 if missing > 0 else -1
        able_S = share_S < most_S if missing > 0 else share_S > least_S
        claim_S = np.where(able_S, step * (exact_S - share_S), -np.inf)
        share_S[turn_S[np.argmax(claim_S[turn_S])]] += step
        missing -= step
    return share_S


def seats(
    total: int, weight_K: NDArray[np.float64], turn_K: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Share out `total` in proportion to weights, one to each first, and the rest one by one.

    The next one goes where (share + 1/2) / weight is smallest (Webster; Sainte-Lague). Unlike with
    largest remainders, a larger total takes from nobody, so that more labels keep those that fewer had.

    Args:
        total: at least K.
        weight_K: positive.
        turn_K: the classes in the order in which those with the same claim are served.
    """
    # Surely not more than the result: a start that spares most of the rounds below.
    start = max(0.0, (total - 2 * len(weight_K)) / weight_K.sum())
    share_K: NDArray[np.int64] = np.maximum(1, np.floor(start * weight_K + 0.5)).astype(np.int64)
    for _ in range(total - int(share_K.sum())):
        claim_K = (share_K + 0.5) / weight_K
        share_K[turn_K[np.argmin(claim_K[turn_K])]] += 1
    return share_K


def rounded(number: float) -> int:
    """Round half up, as people do."""
    return math.floor(number + 0.5)
