"""Which images train, which validate, which test: exact counts, stratified, and fixed by the seed.

Every image has one random number per purpose, and each class gives those with the smallest ones. So
the choice does not depend on the order of rows, nor on how a protocol weakens labels; a limited training
set is part of the full one. Which of several equal classes gives one image more is drawn as well: by
their names, the same ones would be tested with every seed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from pipeline_lib.errors import LabelsError, UserError
from pipeline_lib.protocols import groups
from pipeline_lib.protocols.labels import TEST, UNKNOWN, VAL, Labels
from pipeline_lib.protocols.shares import allot, ranks, rounded, sizes, strata, turns

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True)
class Parts:
    """Labels of the three parts.

    Attributes:
        train, val, test: the parts.
        unlimited: the training images without `data.limit`.
        untestable: how many images of the data's test split have no label.
        tied: how many others are left out as they are of a group that is tested with.
    """

    train: Labels
    val: Labels
    test: Labels
    unlimited: Labels
    untestable: int
    tied: int


def divide(
    labels: Labels,
    test_fraction: float,
    val_fraction: float,
    limit: int | None,
    seed: int,
    given: bool,
    dataset: str,
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
        given: whether labels are as the data give them. True ones beside them are hidden from all that training
            sees, and so from the draws of validation and of the limit too.
        dataset: `data.name`, which decides how a user adds labels.

    Raises:
        LabelsError: No image can be tested.
        UserError: The limit cannot cover the classes.
    """
    own_test_N: NDArray[np.bool_] = labels.split_N == TEST
    test_N = _own_or_drawn_test(labels, own_test_N, test_fraction, seed)
    if not test_N.any():
        raise _untestable(labels, dataset)
    own_val_N: NDArray[np.bool_] = labels.split_N == VAL
    taken_N = test_N | own_test_N | own_val_N
    tied_N = groups.tied(labels, test_N) & ~taken_N
    pool = labels.where(~(taken_N | tied_N))
    told = pool.as_told() if given else pool
    size = 0 if own_val_N.any() or not val_fraction else max(1, rounded(val_fraction * len(pool)))
    room_S = np.append(sizes(told)[:-1] - 1, sizes(told)[-1]).clip(0)
    val_N = _pick(told, size, seed, "val", most=room_S)
    train, val = pool.where(~val_N), pool.where(val_N)
    unlimited = train
    if limit is not None and limit < len(train):
        share = min(len(val), max(1, rounded(len(val) * limit / len(train))))
        val = val.where(_limited(told.where(val_N), share, seed, cover=False))
        train = train.where(_limited(told.where(~val_N), limit, seed, cover=True))
    if own_val_N.any():
        val = labels.where(own_val_N)
    untestable = int((own_test_N & ~test_N).sum())
    return Parts(train, val, labels.where(test_N), unlimited, untestable, int(tied_N.sum()))


def _own_or_drawn_test(
    labels: Labels, own_test_N: NDArray[np.bool_], fraction: float, seed: int
) -> NDArray[np.bool_]:
    known_N = labels.truth_N != UNKNOWN
    test_N: NDArray[np.bool_] = own_test_N & known_N
    able_N = known_N & (labels.split_N != VAL)
    if not own_test_N.any():
        able = labels.where(able_N)
        room_S = (sizes(able) - 1).clip(0)
        count = max(1, rounded(fraction * len(able)))
        test_N[able_N] = _pick(able, count, seed, "test", most=room_S)
    return test_N


def _untestable(labels: Labels, dataset: str) -> LabelsError:
    """Say how there come to be test images of known class."""
    units = "images" if labels.said.group_M is None else "groups (split.group_by; is it right?)"
    has_own = (labels.split_N == TEST).any()
    if not has_own and ((labels.truth_N != UNKNOWN) & (labels.split_N != VAL)).any():
        return LabelsError(
            f"no class has two {units} of known label, one to train and one to test with; add images"
        )
    advice = "add files as test/<class>/<file>, or a column `true_label` to data.table, filled for some of the images"
    if dataset == "image_parquet":
        advice = (
            "label some test rows, or leave the test file out" if has_own else "label some rows"
        )
    return LabelsError(f"no image has a known label to test with; {advice}")


def _limited(labels: Labels, count: int, seed: int, *, cover: bool) -> NDArray[np.bool_]:
    """Mask `count` images, with `cover` at least one of each class."""
    least_S = np.minimum(sizes(labels), 1) * cover
    least_S[-1] = 0
    if least_S.sum() > count:
        msg = f"data.limit: {count} training images cannot cover {least_S.sum()} classes; raise it"
        raise UserError(msg)
    return _pick(labels, count, seed, "limit", least=least_S)


def _pick(
    labels: Labels, count: int, seed: int, part: str, **bounds: NDArray[np.int64]
) -> NDArray[np.bool_]:
    """Mask `count` images: of each stratum, its share of them (see `allot`), those with the smallest numbers.

    In whole groups where there are such, and then about so many.
    """
    if labels.said.group_M is not None and part in {"test", "val"}:
        return groups.pick(labels, count, seed, part)
    turn_S = turns(labels.num_classes + 1, seed, "split", part)
    quota_S = allot(count, sizes(labels), turn_S, **bounds)
    picked_N: NDArray[np.bool_] = ranks(labels, seed, "split", part) < quota_S[strata(labels)]
    return picked_N
