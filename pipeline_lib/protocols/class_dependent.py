"""Partial labels: a wrong class joins with a probability that depends on the true one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from pipeline_lib.errors import UserError, listed
from pipeline_lib.protocols.flips import flip
from pipeline_lib.protocols.labels import Weakened, require_truth, roles

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from numpy.typing import NDArray

    from pipeline_lib.protocols.labels import Labels, Part, Task

KEY = "split.class_dependent"


def weaken(labels: Labels, task: Task, part: Part) -> Weakened:
    """Draw candidate sets with the probabilities of a matrix, or within superclasses.

    `superclasses`: every other class of the true class's superclass joins with probability `rate`, the
    rest never does; CIFAR-100-H of PiCO (Wang et al., ICLR 2022). `force_ambiguous`: a set that holds
    the true class alone gets one class more, in proportion to the probabilities (equally likely within
    a superclass), unless its class can have no other.

    Raises:
        UserError: The true label of an image is unknown, or params name other classes than the data.
    """
    del part
    require_truth(labels, "split.protocol class_dependent")
    options, names = task.params.class_dependent, labels.class_names
    if options.similar == "matrix":
        weight_KK = matrix(f"{KEY}.matrix", options.matrix or {}, names)
        chance_KK = weight_KK
    else:
        weight_KK = within(_groups(options.superclasses, task.superclasses), names)
        chance_KK = options.rate * weight_KK
    forced_KK = weight_KK if options.force_ambiguous else None
    candidates_NK = flip(labels, chance_KK, task.seed, forced_KK)
    return Weakened(labels, candidates_NK, roles(candidates_NK))


def matrix(
    key: str,
    rows: Mapping[str, Mapping[str, float]],
    names: Sequence[str],
    *,
    every: bool = False,
) -> NDArray[np.float64]:
    """Write probabilities by name as a matrix, (K, K); what is not named is 0.

    Raises:
        UserError: A name is not one of the classes, or with `every` one of them has no row.
    """
    number = {name: k for k, name in enumerate(names)}
    chance_KK = np.zeros((len(names), len(names)))
    missing = [name for name in names if every and name not in rows]
    if missing:
        msg = f"{key}: every class needs a row; missing: {listed(missing)}"
        raise UserError(msg)
    for true, row in rows.items():
        _refuse_unknown(key, [true], number)
        _refuse_unknown(f"{key}.{true}", row, number)
        for other, chance in row.items():
            chance_KK[number[true], number[other]] = chance
    return chance_KK


def within(groups: Mapping[str, Sequence[str]], names: Sequence[str]) -> NDArray[np.float64]:
    """Mark the other classes of each class's superclass with 1, (K, K).

    Raises:
        UserError: Not every class is in exactly one superclass.
    """
    number = {name: k for k, name in enumerate(names)}
    members = [name for group in groups.values() for name in group]
    for group, classes in groups.items():
        _refuse_unknown(f"{KEY}.superclasses.{group}", classes, number)
    twice = sorted({name for name in members if members.count(name) > 1})
    left_out = [name for name in names if name not in members]
    for what, wrong in (("in two places", twice), ("in none", left_out)):
        if wrong:
            msg = (
                f"{KEY}.superclasses: each class belongs to one superclass; {what}: {listed(wrong)}"
            )
            raise UserError(msg)
    group_K = np.empty(len(names), np.int64)
    for g, classes in enumerate(groups.values()):
        group_K[[number[name] for name in classes]] = g
    same_KK = group_K[:, None] == group_K
    return np.where(np.eye(len(names), dtype=bool), 0.0, same_KK)


def _groups(
    own: Mapping[str, Sequence[str]] | None, of_the_data: Mapping[str, Sequence[str]] | None
) -> Mapping[str, Sequence[str]]:
    groups = own if own is not None else of_the_data
    if groups is None:
        msg = f"{KEY}.superclasses: these data have none of their own; name them, or take similar: matrix"
        raise UserError(msg)
    return groups


def _refuse_unknown(key: str, given: Iterable[str], known: Mapping[str, int]) -> None:
    for name in given:
        if name not in known:
            msg = f"{key}: {name!r} is not a class of the data; they are {listed(known)}"
            raise UserError(msg)
