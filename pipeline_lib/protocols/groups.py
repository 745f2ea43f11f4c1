"""Images that show one individual, patient, place or burst are in one part: else the test is of what was learned by heart."""

from __future__ import annotations

import re
from functools import partial
from typing import TYPE_CHECKING, Any
from unicodedata import normalize

import numpy as np

from pipeline_lib.errors import LabelsError, UserError, listed
from pipeline_lib.protocols.labels import SPLITS, draws
from pipeline_lib.protocols.shares import allot, strata, turns

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from pipeline_lib.protocols.labels import Labels
    from pipeline_lib.protocols.parts import Parts

SHOWN = 3


def grouped(labels: Labels, pattern: str | None) -> Labels:
    """Number the groups of images for which the pattern finds the same in their paths.

    Others are groups of their own, numbered below zero. Accents are parts of their letters, in paths and pattern: a Mac
    writes them apart, and they look the same.

    Args:
        labels: all images.
        pattern: `split.group_by`; None groups nothing.

    Raises:
        UserError: It finds nothing in any path.
    """
    if pattern is None:
        return labels
    composed = partial(normalize, "NFC")
    find, known = re.compile(composed(pattern)).search, dict[object, int]()
    group_M = -1 - np.arange(len(labels.said.source), dtype=np.int32)
    for row, source in enumerate(labels.said.source):
        if found := find(composed(source.as_py())):
            group_M[row] = known.setdefault(found.groups() or found[0], len(known))
    if not known:
        msg = f"split.group_by: {pattern} finds nothing in the paths of images, as {labels.first(labels.id_N >= 0, 1)[0]}"
        raise UserError(msg)
    return labels.with_groups(group_M)


def pick(labels: Labels, count: int, seed: int, part: str) -> NDArray[np.bool_]:
    """Mask about `count` images in whole groups.

    A group counts for the class of most of its images, of those whose class is known; where that is none, for the unknown.
    Each of these strata gets its share of the images (see `allot`), by groups in the order of one random number each, a
    group wherever it brings the number nearer to that, but its smallest one at least; and keeps one group at least. The test
    leaves it two if it has three: one to validate with, whether or not validation is drawn, so that the test does not
    depend on that.

    Args:
        labels: with groups.
        count: about how many.
        seed: of the draw.
        part: what they are drawn for.
    """
    unit_N = np.unique(labels.groups(), return_inverse=True)[1]
    first_U = np.unique(unit_N, return_index=True)[1]
    size_U = np.bincount(unit_N)
    images_US = np.zeros((len(size_U), labels.num_classes + 1), np.int64)
    np.add.at(images_US, (unit_N, strata(labels)), 1)
    known_US = images_US[:, :-1]
    stratum_U = np.where(known_US.any(axis=1), known_US.argmax(axis=1), labels.num_classes)
    draw_U = draws(labels, seed, "split", part)[first_U]
    size_S = np.bincount(stratum_U, weights=size_U, minlength=labels.num_classes + 1).astype(int)
    turn_S = turns(labels.num_classes + 1, seed, "split", part)
    quota_S = allot(count, size_S, turn_S)
    chosen: list[int] = []
    for stratum, quota in enumerate(quota_S.tolist()):
        units = np.flatnonzero(stratum_U == stratum)
        if quota and len(units) > 1:
            units = units[np.argsort(draw_U[units], kind="stable")]
            keep = 2 if part == "test" and len(units) > 2 else 1
            chosen += _nearest(units, size_U, quota, keep) or [int(units[np.argmin(size_U[units])])]
    return np.isin(unit_N, chosen)


def _nearest(units: NDArray[np.intp], size_U: NDArray[np.intp], quota: int, keep: int) -> list[int]:
    """Take groups, all but `keep` at most, in their order, each if it brings the number of images nearer to the quota."""
    taken: list[int] = []
    for unit in units.tolist():
        if len(taken) + keep < len(units) and abs(quota - size_U[unit]) < abs(quota):
            taken.append(unit)
            quota -= int(size_U[unit])
    return taken


def tied(labels: Labels, chosen_N: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Mask the images of the groups that the chosen ones are of; where nothing is grouped, none."""
    if labels.said.group_M is None:
        return np.zeros(len(labels), bool)
    return np.isin(labels.groups(), labels.groups()[chosen_N])


def warnings(labels: Labels) -> list[str]:
    """Say in a line of how many images the pattern has found nothing in the paths, and name the first."""
    if labels.said.group_M is None or not (alone_N := labels.groups() < 0).any():
        return []
    return [
        f"warning: split.group_by finds nothing in the paths of {alone_N.sum()} of {len(labels)} images, as "
        f"{labels.first(alone_N, 1)[0]}: each is a group of its own"
    ]


def describe(parts: Parts) -> dict[str, Any] | None:
    """How many groups there are in each part, and images left out or alone; None where nothing is grouped.

    Raises:
        LabelsError: A group is in two of them: the data's own validation set has cut it.
    """
    if (group_M := parts.train.said.group_M) is None:
        return None
    of_part = {name: np.unique(getattr(parts, name).groups()) for name in SPLITS}
    for one, other in (("train", "val"), ("train", "test"), ("val", "test")):
        if len(both := np.intersect1d(of_part[one], of_part[other])):
            named = [
                f"{getattr(parts, one).first(getattr(parts, one).groups() == group, 1)[0]} ({one}) = "
                f"{getattr(parts, other).first(getattr(parts, other).groups() == group, 1)[0]} ({other})"
                for group in both[:SHOWN]
            ]
            msg = (
                f"split.group_by: {len(both)} groups are in two parts, as the data's own validation set cuts them: {listed(named)}; "
                f"move the images of each into one folder"
            )
            raise LabelsError(msg)
    counts = {name: len(groups) for name, groups in of_part.items()}
    return counts | {"left_out": parts.tied, "alone": int((group_M < 0).sum())}
