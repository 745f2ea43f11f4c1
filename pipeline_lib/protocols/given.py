"""Labels as the data give them: candidates, annotators' labels, one label, or none."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from pipeline_lib.protocols.annotations import candidate_sets
from pipeline_lib.protocols.labels import Weakened, roles, with_labeled_ones

if TYPE_CHECKING:
    from pipeline_lib.protocols.labels import Labels, Part, Task, Votes


def weaken(labels: Labels, task: Task, part: Part) -> Weakened:
    """Take the candidates, else what `split.annotations` makes of the annotators' labels, else the label.

    Where the data say nothing, all classes are candidates.

    Raises:
        UserError: See `candidate_sets`.
    """
    candidates_NK = labels.candidates()
    silent_N = candidates_NK.sum(axis=1) == 0
    asked = labels.where(silent_N)
    votes = asked.votes()
    if len(votes):
        candidates_NK[silent_N] = candidate_sets(asked, votes, task, cast_votes)
    silent = np.flatnonzero(~candidates_NK.any(axis=1))
    label = labels.said.label_M[labels.row_N[silent]]
    candidates_NK[silent[label < 0]] = True
    candidates_NK[silent[label >= 0], label[label >= 0]] = True
    role_N = roles(candidates_NK)
    if part == "train":
        role_N = with_labeled_ones(role_N, task.params)
    return Weakened(labels, candidates_NK, role_N)


def cast_votes(labels: Labels, task: Task) -> Votes:
    """What the data's annotators said of these images."""
    del task
    return labels.votes()
