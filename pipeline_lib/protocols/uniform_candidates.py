"""Partial labels: every wrong class joins the candidate set with the same probability q."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from pipeline_lib.errors import UserError
from pipeline_lib.protocols.labels import Labels, Weakened, draws, require_truth, roles, singletons

if TYPE_CHECKING:
    from typing import Literal

    from pipeline_lib.params.sections import Split


def weaken(labels: Labels, params: Split, seed: int, part: Literal["train", "val"]) -> Weakened:
    """Draw the candidate set of each image; it depends on the seed and the image's id only.

    `force_ambiguous`: a set that holds the true class alone gets one wrong class more, all of them
    being equally likely. This is what the loop `while sum == 1` of CR-DPLL's official code does (Wu,
    Wang, Zhang; ICML 2022): it marks random classes until one of them is wrong.

    Raises:
        UserError: The true label of an image is unknown, or two classes are forced to be ambiguous.
    """
    del part
    require_truth(labels, "split.protocol uniform_candidates")
    options = params.uniform_candidates
    if options.force_ambiguous and labels.num_classes <= 2:
        msg = (
            "split.uniform_candidates.force_ambiguous: of two classes both would always be candidates, "
            "which says nothing; set it to false"
        )
        raise UserError(msg)
    truth_NK = singletons(labels)
    # The last column chooses the forced class, so that forcing changes no other draw.
    draw_NJ = draws(labels.id_N, labels.num_classes + 1, seed, "candidates")
    candidates_NK = truth_NK | (draw_NJ[:, :-1] < options.rate)
    if options.force_ambiguous:
        step_N = 1 + np.floor(draw_NJ[:, -1] * (labels.num_classes - 1)).astype(np.int64)
        alone_N = candidates_NK.sum(axis=1) == 1
        wrong_N = (labels.truth_N + step_N) % labels.num_classes
        candidates_NK[alone_N, wrong_N[alone_N]] = True
    return Weakened(labels, candidates_NK, roles(candidates_NK))
