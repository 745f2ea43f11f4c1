"""Mixed labels: a share of the images keeps its label, a share gets candidates, the rest has neither."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from pipeline_lib.errors import UserError
from pipeline_lib.protocols.flips import flip
from pipeline_lib.protocols.labels import ROLES, Weakened, singletons
from pipeline_lib.protocols.shares import allot, ranks, rounded, sizes, strata, turns

if TYPE_CHECKING:
    from pipeline_lib.protocols.labels import Labels, Part, Task


def weaken(labels: Labels, task: Task, part: Part) -> Weakened:
    """Draw the shares, stratified by class and exact in number, and candidates at the given rate.

    The role of an image is that of its share, even where its drawn set happens to hold one class or all.
    An image whose label is unknown is unlabeled.

    Raises:
        UserError: More images are to keep something than have a label.
    """
    del part
    options = task.params.mixed
    labeled = rounded(options.labeled * len(labels))
    telling = rounded((options.labeled + options.partial) * len(labels))
    known_K = sizes(labels)[:-1]
    if telling > known_K.sum():
        msg = (
            f"split.mixed: labeled and partial make {telling} of {len(labels)} images, but only "
            f"{known_K.sum()} have a label; lower them"
        )
        raise UserError(msg)
    turn_K = turns(labels.num_classes, task.seed, "mixed")
    labeled_K = allot(labeled, known_K, turn_K)
    telling_K = allot(telling, known_K, turn_K, least=labeled_K)
    rank_N, stratum_N = ranks(labels, task.seed, "mixed"), strata(labels)
    labeled_N = rank_N < np.append(labeled_K, 0)[stratum_N]
    partial_N = (rank_N < np.append(telling_K, 0)[stratum_N]) & ~labeled_N
    candidates_NK = np.ones((len(labels), labels.num_classes), bool)
    candidates_NK[labeled_N] = singletons(labels.where(labeled_N))
    wrong_KK = 1.0 - np.eye(labels.num_classes)
    candidates_NK[partial_N] = flip(labels.where(partial_N), options.rate * wrong_KK, task.seed)
    role_N = np.full(len(labels), ROLES.index("unlabeled"), np.int8)
    role_N[labeled_N], role_N[partial_N] = ROLES.index("labeled"), ROLES.index("partial")
    return Weakened(labels, candidates_NK, role_N)
