"""Partial labels: several people label every image, each with errors of their own, simulated."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from pipeline_lib.protocols.annotations import candidate_sets
from pipeline_lib.protocols.class_dependent import matrix
from pipeline_lib.protocols.labels import Votes, Weakened, blocks, require_truth, roles

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from pipeline_lib.params.split import Annotators
    from pipeline_lib.protocols.labels import Labels, Part, Task


def weaken(labels: Labels, task: Task, part: Part) -> Weakened:
    """Draw what each annotator says, and make candidates of it as of real annotations.

    Raises:
        UserError: The true label of an image is unknown, or params name other classes than the data.
    """
    del part
    votes = cast_votes(labels, task)
    candidates_NK = candidate_sets(labels, votes, task, cast_votes)
    return Weakened(labels, candidates_NK, roles(candidates_NK))


def cast_votes(labels: Labels, task: Task) -> Votes:
    """One vote of each annotator on each image, drawn by its id: other annotators change none of it.

    Raises:
        UserError: See `weaken`.
    """
    require_truth(labels, "split.protocol annotators")
    options = task.params.annotators
    upto_KK = confusion(options, labels.class_names).cumsum(axis=1)
    named_NA = np.empty((len(labels), options.count), np.int16)
    for annotator in range(options.count):
        for here, number_B1 in blocks(labels.id_N, 1, task.seed, "annotators", annotator):
            # The last class takes what rounding may leave of the sum.
            passed_BK = number_B1 >= upto_KK[labels.truth_N[here], :-1]
            named_NA[here, annotator] = passed_BK.sum(axis=1)
    image_V = np.repeat(np.arange(len(labels), dtype=np.int32), options.count)
    annotator_V = np.tile(np.arange(options.count, dtype=np.int32), len(labels))
    names = [f"simulated {number}" for number in range(1, options.count + 1)]
    return Votes(image_V, annotator_V, named_NA.ravel(), names)


def confusion(options: Annotators, names: Sequence[str]) -> NDArray[np.float64]:
    """Probability of what is named, by true class, (K, K).

    Raises:
        UserError: A class is missing, or is not one of the data.
    """
    if options.confusion is None:
        other = (1 - options.accuracy) / (len(names) - 1)
        return np.where(np.eye(len(names), dtype=bool), options.accuracy, other)
    return matrix("split.annotators.confusion", options.confusion, names, every=True)
