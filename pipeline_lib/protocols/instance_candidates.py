"""Partial labels: a wrong class joins where a small model finds that the image could be of it."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from pipeline_lib.protocols import small_model
from pipeline_lib.protocols.labels import Weakened, blocks, require_truth, roles, singletons

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from pipeline_lib.protocols.labels import Labels, Part, Task
    from pipeline_lib.protocols.small_model import SmallModel


def weaken(labels: Labels, task: Task, part: Part) -> Weakened:
    """Let each wrong class j of an image join with a probability in proportion to g_j(x).

    g comes from a model that learned the true classes of the training images; xi_j = g_j / max_{k != y}
    g_k, scaled for each image so that the mean over its wrong classes is `rate` (Xu, Qiao, Geng, Zhang:
    Instance-Dependent Partial Label Learning, NeurIPS 2021). Scaled values above 1 are cut at 1, and
    here, unlike in the authors' code, the others make up for it, so that `rate` is the mean that comes out.

    Raises:
        UserError: The true label of an image is unknown.
    """
    del part
    require_truth(labels, "split.protocol instance_candidates")
    model = _learned(task)
    candidates_NK = singletons(labels)
    for at_B, guess_BK in small_model.probabilities(model, task.pixels, labels.id_N):
        chance_BK = scaled(guess_BK, labels.truth_N[at_B], task.params.instance_candidates.rate)
        for here, number_CK in blocks(labels.id_N[at_B], labels.num_classes, task.seed, "instance"):
            candidates_NK[at_B[here]] |= number_CK < chance_BK[here]
    return Weakened(labels, candidates_NK, roles(candidates_NK))


@lru_cache(maxsize=1)
def _learned(task: Task) -> SmallModel:
    """Learn once for the training and the validation images."""
    known = task.training
    require_truth(known, "split.protocol instance_candidates")
    return small_model.learn(task.pixels, known.id_N, known.truth_N, known.num_classes, task.seed)


def scaled(
    guess_BK: NDArray[np.float64], truth_B: NDArray[np.integer], rate: float
) -> NDArray[np.float64]:
    """Scale probabilities of wrong classes so that, cut at 1, their mean is `rate`; the true class gets 0.

    With the m largest cut, the factor is c = (rate (K - 1) - m) / (sum of the others); m is the smallest
    number for which no other exceeds 1.
    """
    wrong_BK = guess_BK.clip(1e-12)  # what the model rules out keeps a chance, however small
    np.put_along_axis(wrong_BK, truth_B[:, None].astype(np.int64), 0.0, axis=1)
    wrong_BK /= wrong_BK.max(axis=1, keepdims=True)
    falling_BJ = -np.sort(-wrong_BK, axis=1)[:, :-1]  # without the true class
    rest_BJ = falling_BJ[:, ::-1].cumsum(axis=1)[:, ::-1]
    wanted = rate * falling_BJ.shape[1]
    factor_BJ = (wanted - np.arange(falling_BJ.shape[1])) / rest_BJ
    fits_BJ = factor_BJ * falling_BJ <= 1
    fits_BJ[:, -1] = True
    factor_B = np.take_along_axis(factor_BJ, fits_BJ.argmax(axis=1)[:, None], axis=1)
    chance_BK: NDArray[np.float64] = np.minimum(factor_B * wrong_BK, 1.0)
    return chance_BK
