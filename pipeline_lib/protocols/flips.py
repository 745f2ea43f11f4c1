"""Drawing candidate sets: wrong classes join the true one, each with a probability of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from pipeline_lib.protocols.labels import blocks, singletons

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from pipeline_lib.protocols.labels import Labels


def flip(
    labels: Labels,
    chance_KK: NDArray[np.float64],
    seed: int,
    forced_KK: NDArray[np.float64] | None = None,
) -> NDArray[np.bool_]:
    """Draw the candidate set of each image; it depends on the seed, the image's id and its class only.

    Args:
        labels: N images of known class.
        chance_KK: by true class, the probability of each other class.
        seed: of the draws.
        forced_KK: where a set holds the true class alone, one wrong class more joins, chosen with
            these weights by true class; a class whose weights are all 0 is left alone.

    Returns:
        (N, K), the true class among them.
    """
    candidates_NK = singletons(labels)
    # The last number chooses the forced class, so that forcing changes no other draw.
    for here, number_BJ in blocks(labels.id_N, labels.num_classes + 1, seed, "candidates"):
        truth_B = labels.truth_N[here]
        candidates_NK[here] |= number_BJ[:, :-1] < chance_KK[truth_B]
        if forced_KK is not None:
            alone_B = candidates_NK[here].sum(axis=1) == 1
            alone_B &= forced_KK.sum(axis=1)[truth_B] > 0
            wrong_B = _one_wrong(truth_B[alone_B], number_BJ[alone_B, -1], forced_KK)
            candidates_NK[here.start + np.flatnonzero(alone_B), wrong_B] = True
    return candidates_NK


def _one_wrong(
    truth_B: NDArray[np.int16], number_B: NDArray[np.float64], weight_KK: NDArray[np.float64]
) -> NDArray[np.int64]:
    """Choose a wrong class with these weights, counting from the class after the true one."""
    classes = len(weight_KK)
    after_KJ = (np.arange(classes)[:, None] + np.arange(1, classes)) % classes
    total_KJ = np.take_along_axis(weight_KK, after_KJ, axis=1).cumsum(axis=1)
    passed_BJ = total_KJ[truth_B] > (number_B * total_KJ[truth_B, -1])[:, None]
    chosen_B: NDArray[np.int64] = after_KJ[truth_B, passed_BJ.argmax(axis=1)]
    return chosen_B
