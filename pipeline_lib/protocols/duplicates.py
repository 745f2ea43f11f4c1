"""Images with the same pixels: what stands in two of the parts is learned by heart, not by rule."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline_lib.errors import UserError
from pipeline_lib.params.sections import OWN_IMAGES
from pipeline_lib.protocols.labels import SPLITS, TEST, UNKNOWN, VAL

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from pipeline_lib.params.split import Split
    from pipeline_lib.protocols.labels import Labels
    from pipeline_lib.protocols.parts import Parts

SHOWN = 10
SHOWN_DIFFERING = 3
CORRECT = "correct them, then dvc repro --force download && dvc repro"


def resolve_rule(params: Split, dataset: str) -> str:
    """Say what `auto` means: nobody has looked through a user's own images yet."""
    if params.duplicates != "auto":
        return params.duplicates
    return "error" if dataset in OWN_IMAGES else "allow"


def first_copies(labels: Labels) -> NDArray[np.bool_]:
    """Mask one image of each group with the same pixels, and all that have no copy.

    The one that the data give for testing stays before one for validation, and that before the others;
    within these, one of which training may see anything before one of which it sees nothing, and of those one of
    known class; of equal ones the first. A test image without a label is no reason to drop another.
    """
    later_S = {TEST: 0, VAL: 1}
    place_N = np.array([later_S.get(split, 2) for split in range(-1, len(SPLITS))])
    place_N = place_N[labels.split_N.astype(np.int64) + 1]
    place_N[(labels.split_N == TEST) & (labels.truth_N == UNKNOWN)] = 3
    unknown_N, silent_N = labels.truth_N == UNKNOWN, ~_is_said(labels)
    order_N = np.lexsort((labels.id_N, unknown_N, silent_N, place_N, _group(labels)))
    starts_N = np.ones(len(labels), bool)
    starts_N[1:] = np.diff(_group(labels)[order_N]) != 0
    first_N = np.zeros(len(labels), bool)
    first_N[order_N[starts_N]] = True
    return first_N


def describe(labels: Labels, parts: Parts, rule: str) -> dict[str, Any]:
    """Count the groups of the data, and those that are in two parts (see `summary`).

    Args:
        labels: all images, before any was dropped.
        parts: what they were divided into.
        rule: the resolved one.

    Raises:
        UserError: There are such groups, and the rule is `error`.
    """
    group_N = _group(labels)
    copied_N = np.isin(group_N, group_N[labels.said.twin_M[labels.row_N] != UNKNOWN])
    differing = _differing(labels)
    across = {
        "train_val": _shared(parts.train, parts.val),
        "train_test": _shared(parts.train, parts.test),
        "val_test": _shared(parts.val, parts.test),
    }
    pairs = list(_pairs(parts, across))
    found = {name: len(groups) for name, groups in across.items()}
    if rule == "error" and pairs:
        shown = "; ".join(
            " = ".join(f"{source} ({part})" for source, part in pair) for pair in pairs
        )
        groups = np.unique(np.concatenate(list(across.values())))
        more = f" and {len(groups) - len(pairs)} more" if len(groups) > len(pairs) else ""
        many = "1 image is" if len(groups) == 1 else f"{len(groups)} images are"
        here = np.intersect1d(groups, differing)
        wrong = (
            f"labels differ in {len(here)} of these: {_opposed(labels, here)}; "
            if len(here)
            else ""
        )
        msg = (
            f"{many} in two parts, with the same pixels: {shown}{more}; {wrong}set split.duplicates: "
            f"drop to keep one of each, or allow"
        )
        raise UserError(msg)
    return {
        "rule": rule,
        "groups": len(np.unique(group_N[copied_N])),
        "images": int(copied_N.sum()),
        "differ": len(differing),
        "across": found,
        "first": pairs,
        "dropped": int((~first_copies(labels)).sum()) if rule == "drop" else 0,
    }


def warnings(labels: Labels, dataset: str) -> list[str]:
    """Say in a line which copies have different known labels, in whatever parts: nobody knows which is right.

    Args:
        labels: all images, before any was dropped: that a label is known decides which copy stays, not which
            label it is.
        dataset: its name; nobody is to correct a public one.
    """
    differing = _differing(labels)
    if dataset not in OWN_IMAGES or not len(differing):
        return []
    groups = f"{len(differing)} group{'s' * (len(differing) > 1)} of images with the same pixels"
    return [f"warning: labels differ in {groups}: {_opposed(labels, differing)}"]


def _differing(labels: Labels) -> NDArray[np.int64]:
    """Groups of copies whose known labels are not all the same."""
    known_N, group_N = labels.truth_N != UNKNOWN, _group(labels).astype(np.int64)
    said = np.unique(group_N[known_N] * labels.num_classes + labels.truth_N[known_N])
    groups, counts = np.unique(said // labels.num_classes, return_counts=True)
    return groups[counts > 1]


def _opposed(labels: Labels, groups: NDArray[np.int64]) -> str:
    """Name, of the first of these groups, two images with different labels, and say what to do."""
    named = []
    for group in groups[:SHOWN_DIFFERING]:
        of_group = labels.where((_group(labels) == group) & (labels.truth_N != UNKNOWN))
        other = int(np.argmax(of_group.truth_N != of_group.truth_N[0]))
        named.append(
            " = ".join(
                f"{of_group.said.source[int(of_group.row_N[i])].as_py()} "
                f"({labels.class_names[of_group.truth_N[i]]})"
                for i in (0, other)
            )
        )
    more = f" and {len(groups) - len(named)} more" if len(groups) > len(named) else ""
    return f"{'; '.join(named)}{more}; {CORRECT}"


def _group(labels: Labels) -> NDArray[np.int32]:
    """Id of the first image with the same pixels, its own where there is none before it."""
    twin_N = labels.said.twin_M[labels.row_N]
    return np.where(twin_N == UNKNOWN, labels.id_N, twin_N)


def _is_said(labels: Labels) -> NDArray[np.bool_]:
    """Mask the images of which training may see something: a label, candidates or annotations."""
    said_M = labels.said.label_M != UNKNOWN
    said_M[labels.said.candidate_row] = True
    said_M[labels.said.votes.image_V] = True
    said_N: NDArray[np.bool_] = said_M[labels.row_N]
    return said_N


def _shared(one: Labels, other: Labels) -> NDArray[np.int32]:
    """Groups that have images in both."""
    return np.intersect1d(_group(one), _group(other))


def _pairs(parts: Parts, across: dict[str, NDArray[np.int32]]) -> Iterator[list[list[str]]]:
    """Name the first image of each part for the first groups in two parts."""
    groups = np.unique(np.concatenate(list(across.values())))[:SHOWN]
    for group in groups:
        members = []
        for name in SPLITS:
            labels: Labels = getattr(parts, name)
            members += [[source, name] for source in labels.first(_group(labels) == group, 1)]
        yield members[:2]
