"""Images that tell most together: those a model is unsure of, and unlike one another.

Ash, Zhang, Krishnamurthy, Langford, Agarwal: Deep Batch Active Learning by Diverse, Uncertain Gradient Lower
Bounds (BADGE), ICLR 2020.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


def badge(
    p_NK: NDArray[np.floating],
    embedding_ND: NDArray[np.floating],
    count: int,
    generator: np.random.Generator,
) -> NDArray[np.int64]:
    """Choose by k-means++ among the gradients that the images would have if the model were right about them.

    The gradient of the last layer is `(p - e_argmax) h^T`, K x D: large where the model is unsure, and alike for
    images that look and are taken alike. Its distances need no such matrix:
    `|g - g'|^2 = |a|^2 |h|^2 + |a'|^2 |h'|^2 - 2 (a . a') (h . h')`. The first image is the one of the largest
    gradient, as in the authors' code.

    Args:
        p_NK: probabilities.
        embedding_ND: what the last layer sees.
        count: of images to choose; all where there are fewer.
        generator: of the draws.

    Returns:
        Their positions, in the order in which they were chosen.
    """
    a_NK, h_ND = p_NK.astype(np.float64), embedding_ND.astype(np.float64)
    a_NK[np.arange(len(a_NK)), a_NK.argmax(axis=1)] -= 1
    size_N = (a_NK**2).sum(axis=1) * (h_ND**2).sum(axis=1)
    chosen: list[int] = []
    nearest_N = size_N.copy()
    open_N = np.ones(len(a_NK), bool)
    while len(chosen) < min(count, len(a_NK)):
        position = int(size_N.argmax()) if not chosen else _drawn(nearest_N, open_N, generator)
        chosen.append(position)
        open_N[position] = False
        alike_N = (a_NK @ a_NK[position]) * (h_ND @ h_ND[position])
        away_N = np.maximum(size_N + size_N[position] - 2 * alike_N, 0.0)
        nearest_N = np.minimum(nearest_N, away_N) if len(chosen) > 1 else away_N
    return np.array(chosen, np.int64)


def _drawn(
    nearest_N: NDArray[np.float64], open_N: NDArray[np.bool_], generator: np.random.Generator
) -> int:
    """One that is not chosen yet, by the squared distance to the nearest that is; any where all are 0."""
    weight_N = np.where(open_N, nearest_N, 0.0)
    if weight_N.sum() <= 0:
        weight_N = open_N.astype(np.float64)
    place = generator.random() * weight_N.sum()
    # The last of those with a weight, should rounding lead past the end.
    return int(
        min(np.searchsorted(weight_N.cumsum(), place, side="right"), weight_N.nonzero()[0][-1])
    )
