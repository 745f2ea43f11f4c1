"""Which images train, which validate, which test: exact counts, stratified, and fixed by the seed.

Every image has one random number per purpose, and each class gives those with the smallest ones. So
the choice does not depend on the order of rows, nor on how labels are weakened; a limited training
set is part of the full one.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from pipeline_lib.errors import UserError
from pipeline_lib.protocols.labels import UNKNOWN, Labels, draws

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True)
class Parts:
    """Labels of the three parts; `untestable` images of the data's test split have no label."""

    train: Labels
    val: Labels
    test: Labels
    untestable: int


def divide(
    labels: Labels, test_fraction: float, val_fraction: float, limit: int | None, seed: int
) -> Parts:
    """Divide the images into parts.

    The data's own test and validation splits are used where there are any. A limit shrinks a drawn
    validation set in proportion, so that it keeps its share.

    Args:
        labels: all images.
        test_fraction: share for testing, of the images with a known label.
        val_fraction: share for validation, of what is not for testing.
        limit: largest number of training images.
        seed: of the draw.

    Raises:
        UserError: No image can be tested, or the limit cannot cover the classes.
    """
    own_test_N: NDArray[np.bool_] = labels.split_N == "test"
    test_N = _own_or_drawn_test(labels, own_test_N, test_fraction, seed)
    own_val_N: NDArray[np.bool_] = labels.split_N == "val"
    pool = labels.where(~(test_N | own_test_N | own_val_N))
    size = 0 if own_val_N.any() or not val_fraction else max(1, rounded(val_fraction * len(pool)))
    strata_N = _strata(pool)
    room_S = np.append(_counts(strata_N, pool)[:-1] - 1, _counts(strata_N, pool)[-1]).clip(0)
    val_N = _pick(pool, strata_N, allot(size, _counts(strata_N, pool), most=room_S), seed, "val")
    train, val = pool.where(~val_N), pool.where(val_N)
    if limit is not None and limit < len(train):
        share = min(len(val), max(1, rounded(len(val) * limit / len(train))))
        val = _limited(val, share, seed, cover=False)
        train = _limited(train, limit, seed, cover=True)
    if own_val_N.any():
        val = labels.where(own_val_N)
    return Parts(train, val, labels.where(test_N), int((own_test_N & ~test_N).sum()))


def _own_or_drawn_test(
    labels: Labels, own_test_N: NDArray[np.bool_], fraction: float, seed: int
) -> NDArray[np.bool_]:
    known_N = labels.truth_N != UNKNOWN
    test_N: NDArray[np.bool_] = own_test_N & known_N
    if not own_test_N.any():
        able_N = known_N & (labels.split_N != "val")
        able = labels.where(able_N)
        size_S = _counts(_strata(able), able)
        quota_S = allot(max(1, rounded(fraction * len(able))), size_S, most=(size_S - 1).clip(0))
        test_N[able_N] = _pick(able, _strata(able), quota_S, seed, "test")
    if not test_N.any():
        msg = "no image has a known label to test with; add files as test/<class>/<file>"
        raise UserError(msg)
    return test_N


def _limited(labels: Labels, count: int, seed: int, *, cover: bool) -> Labels:
    """Draw `count` images, with `cover` at least one of each class."""
    strata_N = _strata(labels)
    size_S = _counts(strata_N, labels)
    least_S = np.minimum(size_S, 1) * cover
    least_S[-1] = 0
    if least_S.sum() > count:
        msg = f"data.limit: {count} training images cannot cover {least_S.sum()} classes; raise it"
        raise UserError(msg)
    return labels.where(_pick(labels, strata_N, allot(count, size_S, least=least_S), seed, "limit"))


def _strata(labels: Labels) -> NDArray[np.int64]:
    """Number the stratum of each image: its class, or K where that is unknown."""
    return np.where(labels.truth_N == UNKNOWN, labels.num_classes, labels.truth_N)


def _counts(strata_N: NDArray[np.int64], labels: Labels) -> NDArray[np.int64]:
    return np.bincount(strata_N, minlength=labels.num_classes + 1)


def _pick(
    labels: Labels, strata_N: NDArray[np.int64], quota_S: NDArray[np.int64], seed: int, part: str
) -> NDArray[np.bool_]:
    """Mask the `quota_S[s]` images with the smallest numbers in each stratum s."""
    number_N = draws(labels.id_N, 1, seed, "split", part)[:, 0]
    order_N = np.lexsort((labels.id_N, number_N, strata_N))
    starts_S = np.cumsum(_counts(strata_N, labels)) - _counts(strata_N, labels)
    rank_N = np.empty(len(labels), np.int64)
    rank_N[order_N] = np.arange(len(labels)) - starts_S[strata_N[order_N]]
    picked_N: NDArray[np.bool_] = rank_N < quota_S[strata_N]
    return picked_N


def allot(
    total: int,
    size_S: NDArray[np.int64],
    *,
    least: NDArray[np.int64] | None = None,
    most: NDArray[np.int64] | None = None,
) -> NDArray[np.int64]:
    """Share out `total` in proportion to the sizes of the strata: largest remainders, exact sum.

    Args:
        total: how many to share out; less if `most` does not allow so many.
        size_S: size of each stratum.
        least: smallest share of each, 0 by default.
        most: largest share of each, its size by default.
    """
    least_S = np.zeros_like(size_S) if least is None else least
    most_S = size_S if most is None else most
    exact_S = total * size_S / max(size_S.sum(), 1)
    share_S: NDArray[np.int64] = np.clip(np.floor(exact_S).astype(np.int64), least_S, most_S)
    missing = min(total, int(most_S.sum())) - int(share_S.sum())
    while missing:
        step = 1 if missing > 0 else -1
        able_S = share_S < most_S if missing > 0 else share_S > least_S
        share_S[np.argmax(np.where(able_S, step * (exact_S - share_S), -np.inf))] += step
        missing -= step
    return share_S


def rounded(number: float) -> int:
    """Round half up, as people do."""
    return math.floor(number + 0.5)
