"""Few labels: some images of each class keep theirs, the others lose it."""

from __future__ import annotations

import bisect
from typing import TYPE_CHECKING

import numpy as np

from pipeline_lib.errors import UserError, listed
from pipeline_lib.protocols.labels import ROLES, Weakened, draws, singletons
from pipeline_lib.protocols.shares import ranks, rounded, seats, sizes, strata, turns

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from pipeline_lib.params.split import FewShot
    from pipeline_lib.protocols.labels import Labels, Part, Task

STRATIFIED = "set split.few_shot.balance: stratified"


def weaken(labels: Labels, task: Task, part: Part) -> Weakened:
    """Choose the labeled images of each class and the unlabeled ones; leave out the rest.

    More labels keep those that fewer labels had. Validation images are all unlabeled.

    Raises:
        UserError: The labels do not divide by the classes, or there are too few images.
    """
    everything_NK = np.ones((len(labels), labels.num_classes), bool)
    unlabeled = ROLES.index("unlabeled")
    if part == "val":
        return Weakened(labels, everything_NK, np.full(len(labels), unlabeled, np.int8))
    options = task.params.few_shot
    turn_K = turns(labels.num_classes, task.seed, "few_shot")
    quota_K = _quotas(options, sizes(labels)[:-1], labels.class_names, turn_K)
    labeled_N = ranks(labels, task.seed, "few_shot") < np.append(quota_K, 0)[strata(labels)]
    keep_N = labeled_N | _unlabeled(~labeled_N, labels, task.seed, options.unlabeled)
    role_N = np.where(labeled_N, ROLES.index("labeled"), unlabeled).astype(np.int8)
    candidates_NK = np.where(labeled_N[:, None], singletons(labels), everything_NK)
    return Weakened(labels.where(keep_N), candidates_NK[keep_N], role_N[keep_N])


def _quotas(
    options: FewShot,
    have_K: NDArray[np.int64],
    names: tuple[str, ...],
    turn_K: NDArray[np.int64],
) -> NDArray[np.int64]:
    """Count the labels of each class, and check that there are so many."""
    match options.balance:
        case "balanced":
            need_K = np.full(len(names), _each(options, len(names)))
            _refuse_short(
                need_K,
                have_K,
                names,
                f"{have_K.min()} or fewer of each, or {STRATIFIED}",
            )
        case "stratified":
            _refuse_short(np.ones_like(have_K), have_K, names, "")
            total = options.labels or len(names) * (options.labels_per_class or 0)
            _check_total(total, least=len(names), most=int(have_K.sum()))
            need_K = seats(total, have_K.astype(np.float64), turn_K)
        case "long_tailed":
            need_K = _long_tail(options, have_K, names)
    return need_K


def _each(options: FewShot, classes: int) -> int:
    if options.labels_per_class is not None:
        return options.labels_per_class
    total = options.labels or 0
    count, rest = divmod(total, classes)
    if rest:
        valid = [str(number) for number in (count * classes, (count + 1) * classes) if number]
        msg = (
            f"split.few_shot.labels: {total} labels cannot be shared evenly by {classes} classes; "
            f"take {' or '.join(valid)}{', or ' + STRATIFIED if count else ''}"
        )
        raise UserError(msg)
    return count


def _long_tail(
    options: FewShot, have_K: NDArray[np.int64], names: tuple[str, ...]
) -> NDArray[np.int64]:
    """Labels of class k in proportion to `imbalance ** (-k / (K - 1))`, in the order of the names.

    With `labels_per_class` that many of the first class, and what follows from it, at least 1; with
    `labels` exactly so many in total.
    """
    weight_K = options.imbalance ** (-np.arange(len(names)) / (len(names) - 1))

    def quota(count: int) -> NDArray[np.int64]:
        if options.labels_per_class is None:
            return seats(count, weight_K, np.arange(len(names)))
        return np.array([max(1, rounded(count * weight)) for weight in weight_K])

    least = 1 if options.labels_per_class is not None else len(names)
    count = options.labels_per_class or options.labels or 0
    _check_total(count, least=least)
    fitting = range(least, count + 1)
    most = least - 1 + bisect.bisect(fitting, 0, key=lambda n: int((quota(n) > have_K).any()))
    _refuse_short(quota(count), have_K, names, f"{most} or fewer")
    return quota(count)


def _check_total(total: int, least: int, most: int | None = None) -> None:
    if total < least:
        msg = f"split.few_shot.labels: {total} labels cannot cover {least} classes; take {least} or more"
        raise UserError(msg)
    if most is not None and total > most:
        msg = f"split.few_shot: {total} labeled images needed, {most} have a label; take {most} or fewer"
        raise UserError(msg)


def _refuse_short(
    need_K: NDArray[np.int64], have_K: NDArray[np.int64], names: tuple[str, ...], advice: str
) -> None:
    """Name the classes that have fewer images than are to be labeled."""
    short = np.flatnonzero(have_K < need_K)
    if len(short):
        lacking = listed(f"{names[k]} has {have_K[k]} of {need_K[k]}" for k in short)
        add = (have_K[short] == 0).any()
        todo = "add labeled images of them" if add else f"take {advice}"
        msg = f"split.few_shot: too few training images with a label: {lacking}; {todo}"
        raise UserError(msg)


def _unlabeled(
    others_N: NDArray[np.bool_], labels: Labels, seed: int, count: int | None
) -> NDArray[np.bool_]:
    """Choose `count` of the images that are not labeled."""
    others = np.flatnonzero(others_N)
    if count is None:
        return others_N
    if count > len(others):
        msg = f"split.few_shot.unlabeled: {count}, but only {len(others)} images are left; take fewer or null"
        raise UserError(msg)
    # Not the numbers that chose the labeled images: of a class with many of them, only large ones are left.
    number_N = draws(labels, seed, "few_shot", "unlabeled")
    chosen_N = np.zeros_like(others_N)
    chosen_N[others[np.argsort(number_N[others], kind="stable")[:count]]] = True
    return chosen_N
