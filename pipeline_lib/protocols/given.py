"""Labels as the data give them: candidates, annotators' labels, one label, or none."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from pipeline_lib.protocols.annotations import candidate_sets
from pipeline_lib.protocols.labels import Weakened, roles

if TYPE_CHECKING:
    from pipeline_lib.protocols.labels import Labels, Part, Task, Votes


def weaken(labels: Labels, task: Task, part: Part) -> Weakened:
    """Take the candidates, else what `split.annotations` makes of the annotators' labels, else the label.

    Where the data say nothing, all classes are candidates.

    Raises:
        UserError: See `candidate_sets`.
    """
    del part
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
    return Weakened(labels, candidates_NK, roles(candidates_NK))


def cast_votes(labels: Labels, task: Task) -> Votes:
    """What the data's annotators said of these images."""
    del task
    return labels.votes()
