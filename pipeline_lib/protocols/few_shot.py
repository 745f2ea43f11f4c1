"""Few labels: some images of each class keep theirs, the others lose it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from pipeline_lib.errors import UserError, listed
from pipeline_lib.protocols.labels import Labels, Weakened, draws, singletons

if TYPE_CHECKING:
    from typing import Literal

    from numpy.typing import NDArray

    from pipeline_lib.params.sections import FewShot, Split


def weaken(labels: Labels, params: Split, seed: int, part: Literal["train", "val"]) -> Weakened:
    """Choose the labeled images of each class and the unlabeled ones; leave out the rest.

    More labels keep those that fewer labels had. Validation images are all unlabeled.

    Raises:
        UserError: The labels do not divide by the classes, or there are too few images.
    """
    everything_NK = np.ones((len(labels), labels.num_classes), bool)
    if part == "val":
        return Weakened(labels, everything_NK, np.full(len(labels), "unlabeled", object))
    options = params.few_shot
    number_N = draws(labels.id_N, 1, seed, "few_shot")[:, 0]
    labeled_N = _smallest_per_class(labels, number_N, _per_class(labels, options))
    unlabeled_N = _unlabeled(~labeled_N, number_N, options.unlabeled)
    name = "labeled_and_unlabeled" if options.labeled_in_unlabeled else "labeled"
    role_N = np.where(labeled_N, name, "unlabeled").astype(object)
    candidates_NK = np.where(labeled_N[:, None], singletons(labels), everything_NK)
    keep_N = labeled_N | unlabeled_N
    return Weakened(labels.where(keep_N), candidates_NK[keep_N], role_N[keep_N])


def _per_class(labels: Labels, options: FewShot) -> int:
    if options.labels_per_class is not None:
        count = options.labels_per_class
    else:
        total, classes = options.labels or 0, labels.num_classes
        count, rest = divmod(total, classes)
        if rest:
            valid = [str(number) for number in (count * classes, (count + 1) * classes) if number]
            msg = (
                f"split.few_shot.labels: {total} labels cannot be shared evenly by {classes} classes; "
                f"take {' or '.join(valid)}"
            )
            raise UserError(msg)
    have_K = np.bincount(labels.truth_N[labels.truth_N >= 0], minlength=labels.num_classes)
    short = [f"{labels.class_names[k]} has {have_K[k]}" for k in np.flatnonzero(have_K < count)]
    if short:
        msg = f"split.few_shot: {count} labeled images needed of each class, but {listed(short)}; take fewer"
        raise UserError(msg)
    return count


def _smallest_per_class(
    labels: Labels, number_N: NDArray[np.float64], count: int
) -> NDArray[np.bool_]:
    labeled_N = np.zeros(len(labels), bool)
    for k in range(labels.num_classes):
        of_class = np.flatnonzero(labels.truth_N == k)
        labeled_N[of_class[np.argsort(number_N[of_class], kind="stable")[:count]]] = True
    return labeled_N


def _unlabeled(
    others_N: NDArray[np.bool_], number_N: NDArray[np.float64], count: int | None
) -> NDArray[np.bool_]:
    """Choose `count` of the images that are not labeled."""
    others = np.flatnonzero(others_N)
    if count is None:
        return others_N
    if count > len(others):
        msg = f"split.few_shot.unlabeled: {count}, but only {len(others)} images are left; take fewer or null"
        raise UserError(msg)
    chosen_N = np.zeros_like(others_N)
    chosen_N[others[np.argsort(number_N[others], kind="stable")[:count]]] = True
    return chosen_N
