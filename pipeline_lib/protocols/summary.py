"""What the split stage tells of its work, for people and for the report; training never reads it.

Beside counts, digests and parameters, data/split/summary.json holds

- `candidates`, for `train` and `val`: `sizes` (number of candidates -> images, as `{"1": 60, "3": 7}`),
  `mean` (null without images), and `holds_truth`, the share of the sets that hold the true label, of
  those whose image has a known one (null without any);
- `balance` of the training images, lists of K counts in the order of classes.json: `images` by true
  label (unknown ones are left out), `labeled` ones by their only candidate, and `candidates`, how many
  sets hold the class, without those that hold all;
- `duplicates`: `rule` (error | drop | allow), `groups` of images with the same pixels, `images` in
  them, `differ` (groups with different known labels), `across` (`train_val`, `train_test`, `val_test`:
  groups with images in both), `first` (ten of these: `[[source, part], [source, part]]`), `dropped`;
- `groups`, with `split.group_by`: how many groups are in `train`, `val` and `test`, a path without one counted as one, how many
  images are `left_out`, as others of their group are tested with, and how many of all images are `alone`, as it finds nothing in
  their paths (else null);
- `annotators`, where labels come from annotators (a table's, or simulated ones), over the training images
  before `data.limit`: `rule`, `at_least`, `mass`, `count`, `images` with votes, `votes`,
  `votes_per_image` (as `sizes`; no annotator counts twice for one class), `agreement` (share of the
  pairs of votes on an image that agree), `krippendorff_alpha`,
  `majority_wrong` (`expected`: share of wrong majority votes by Dawid and Skene's posterior; `actual`:
  against the known true labels, or null), and `best` and `worst` (at most 20 annotators each, none in
  both): `name`, `votes`, `estimated_accuracy`, `accuracy` (null where no true label is known).
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any, SupportsInt

import numpy as np

from pipeline_lib.protocols.labels import ROLES, UNKNOWN

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from pipeline_lib.params.split import Split
    from pipeline_lib.protocols.labels import Labels, Weakened
    from pipeline_lib.protocols.parts import Parts
    from pipeline_lib.records import Kind


def summarize(
    protocol: str, kind: Kind, params: Split, parts: Parts, train: Weakened, val: Weakened
) -> dict[str, Any]:
    """Put into numbers what the split stage did."""
    options = getattr(params, protocol, None)
    names = train.labels.class_names
    return {
        "protocol": protocol,
        "parameters": options.model_dump() if options is not None else {},
        "kind": kind,
        "val_labels": params.val_labels,
        "classes": len(names),
        "images": {"train": len(train.labels), "val": len(val.labels), "test": len(parts.test)},
        "left_out": {
            "train": len(parts.train) - len(train.labels),
            "val": len(parts.val) - len(val.labels),
            "test": parts.untestable,
        },
        "roles": {"train": _roles(train), "val": _roles(val)},
        "untold_classes": [names[k] for k in np.flatnonzero(~train.told())],
        "missing_classes": {"val": _missing(parts.val), "test": _missing(parts.test)},
        "mean_candidates": {"train": _mean_size(train), "val": _mean_size(val)},
        "empirical_rate": _empirical_rate(train, protocol),
        "candidates": {"train": _candidates(train), "val": _candidates(val)},
        "balance": _balance(train),
        "sha256": {"train": _digest(train), "val": _digest(val)},
    }


def histogram(values: NDArray[np.integer]) -> Mapping[str, int]:
    """Count equal numbers, as JSON can hold it."""
    numbers, counts = np.unique(values, return_counts=True)
    return dict(zip(map(str, numbers.tolist()), counts.tolist(), strict=True))


def share(part: SupportsInt, total: SupportsInt) -> float | None:
    """Round a ratio to the six decimals of summary.json; null where there is nothing."""
    return round(int(part) / int(total), 6) if int(total) else None


def _roles(part: Weakened) -> Mapping[str, int]:
    counts = np.bincount(part.role_N, minlength=len(ROLES)).tolist()
    return {name: count for name, count in sorted(zip(ROLES, counts, strict=True)) if count}


def _missing(labels: Labels) -> list[str]:
    """Name the classes that no image has, where that can be told."""
    if not len(labels) or (labels.truth_N == UNKNOWN).any():
        return []
    counts_K = np.bincount(labels.truth_N, minlength=labels.num_classes)
    return [labels.class_names[k] for k in np.flatnonzero(counts_K == 0)]


def _mean_size(part: Weakened) -> float | None:
    return share(part.candidates_NK.sum(), len(part.labels))


def _empirical_rate(part: Weakened, protocol: str) -> float | None:
    """Share of the wrong classes that are candidates, over the images whose true label is known.

    Where some images got candidate sets, and others their label or nothing, it is the rate of the sets.
    """
    known_N = part.labels.truth_N != UNKNOWN
    if protocol == "mixed":
        known_N &= part.role_N == ROLES.index("partial")
    elif protocol == "given":
        known_N &= part.labels.with_sets()
    size_N = part.candidates_NK.sum(axis=1)
    held = int(size_N[known_N].sum()) - int((known_N & ~misses(part)).sum())
    return share(held, int(known_N.sum()) * (part.labels.num_classes - 1))


def _candidates(part: Weakened) -> dict[str, Any]:
    known_N = part.labels.truth_N != UNKNOWN
    return {
        "sizes": histogram(part.candidates_NK.sum(axis=1)),
        "mean": _mean_size(part),
        "holds_truth": share((known_N & ~misses(part)).sum(), known_N.sum()),
    }


def _balance(part: Weakened) -> dict[str, list[int]]:
    truth_N, candidates_NK = part.labels.truth_N, part.candidates_NK
    classes = part.labels.num_classes
    size_N = candidates_NK.sum(axis=1)
    images_K = np.bincount(truth_N[truth_N != UNKNOWN], minlength=classes)
    labeled = [ROLES.index("labeled"), ROLES.index("labeled_and_unlabeled")]
    return {
        "images": images_K.tolist(),
        "labeled": candidates_NK[np.isin(part.role_N, labeled)].sum(axis=0).tolist(),
        "candidates": candidates_NK[size_N < classes].sum(axis=0).tolist(),
    }


def _digest(part: Weakened) -> str:
    """Hash ids and candidates, to tell whether two runs saw the same labels."""
    content = hashlib.sha256(part.labels.id_N.astype("<i4").tobytes())
    content.update(np.ascontiguousarray(part.candidates_NK).data)
    return content.hexdigest()


def misses(part: Weakened) -> NDArray[np.bool_]:
    """Mask the images whose true label is known and not among their candidates, (N,)."""
    truth_N = part.labels.truth_N
    holds_N = part.candidates_NK[np.arange(len(truth_N)), truth_N.clip(0)]
    missed_N: NDArray[np.bool_] = (truth_N != UNKNOWN) & ~holds_N
    return missed_N
