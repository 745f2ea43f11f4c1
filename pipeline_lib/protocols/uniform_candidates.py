"""Partial labels: every wrong class joins the candidate set with the same probability q."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from pipeline_lib.errors import UserError
from pipeline_lib.protocols.flips import flip
from pipeline_lib.protocols.labels import Weakened, require_truth, roles

if TYPE_CHECKING:
    from pipeline_lib.protocols.labels import Labels, Part, Task


def weaken(labels: Labels, task: Task, part: Part) -> Weakened:
    """Draw the candidate set of each image; it depends on the seed and the image's id only.

    `force_ambiguous`: a set that holds the true class alone gets one wrong class more, all of them
    being equally likely. This is what the loop `while sum == 1` of CR-DPLL's official code does (Wu,
    Wang, Zhang; ICML 2022): it marks random classes until one of them is wrong.

    Raises:
        UserError: The true label of an image is unknown, or two classes are forced to be ambiguous.
    """
    del part
    require_truth(labels, "split.protocol uniform_candidates")
    options = task.params.uniform_candidates
    if options.force_ambiguous and labels.num_classes <= 2:
        msg = (
            "split.uniform_candidates.force_ambiguous: of two classes both would always be candidates, "
            "which says nothing; set it to false, or learn from the labels themselves: method: oracle"
        )
        raise UserError(msg)
    wrong_KK = 1.0 - np.eye(labels.num_classes)
    forced_KK = wrong_KK if options.force_ambiguous else None
    candidates_NK = flip(labels, options.rate * wrong_KK, task.seed, forced_KK)
    return Weakened(labels, candidates_NK, roles(candidates_NK))
