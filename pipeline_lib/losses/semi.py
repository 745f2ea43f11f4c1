"""Equations of the semi-supervised methods, as of `losses.common`.

Shapes: B labeled images, U unlabeled ones, N of any kind, V views, K classes.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch

from pipeline_lib.losses.common import wide

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

SMALLEST = 1e-12  # keeps logarithms and divisions finite (FreeMatch's official code has the same)


def mean_log_prediction(views_logits: Sequence[Tensor]) -> Tensor:
    """Logarithm of the mean prediction over V views, `log (1/V) sum_v p_v` (MixMatch eq. 6; UK)."""
    log_p_VUK = torch.stack([torch.log_softmax(wide(z_UK), dim=1) for z_UK in views_logits])
    return torch.logsumexp(log_p_VUK, dim=0) - math.log(len(views_logits))


def brier_loss(logits_NK: Tensor, targets_NK: Tensor) -> Tensor:
    """Squared distance of prediction and target, `mean_i (1/K) sum_k (q_ik - p_ik)^2` (MixMatch eq. 4)."""
    return (torch.softmax(wide(logits_NK), dim=1) - targets_NK).square().mean()


def pseudo_label_loss(logits_UK: Tensor, p_UK: Tensor, weights_U: Tensor) -> Tensor:
    """Weighted cross-entropy against the likeliest class, `mean_i w_i H(argmax p_i, softmax z_i)`.

    The mean is over all images, also those of weight 0 (FixMatch eq. 4, FreeMatch eq. 8, SoftMatch eq. 2).

    Args:
        logits_UK: z, of the strong views.
        p_UK: predictions on the weak views.
        weights_U: w.
    """
    log_p_UK = torch.log_softmax(wide(logits_UK), dim=1)
    log_p_U = log_p_UK.gather(1, p_UK.argmax(dim=1, keepdim=True))[:, 0]
    return -(weights_U * log_p_U).mean()


def class_thresholds(confidence: Tensor, average_K: Tensor) -> Tensor:
    """`tau p_k / max_j p_j`: lower where a class is predicted less (FreeMatch eq. 7; K)."""
    return confidence * average_K / average_K.max()


def fairness_loss(
    average_K: Tensor, histogram_K: Tensor, logits_UK: Tensor, mask_U: Tensor
) -> Tensor:
    """Minus the cross-entropy of two modulated class distributions (FreeMatch eqs. 9 and 11; scalar).

    `sum_k a_k log b_k` with `a = SumNorm(average / histogram)` over the past and `b` likewise over the strong
    views that the mask lets through; 0 where it lets none through. The sign is that of the paper and of the
    official code: the term is negative, and least where b is unlike a.

    Args:
        average_K: moving average of the predictions.
        histogram_K: moving average of how often a class is the likeliest.
        logits_UK: of the strong views.
        mask_U: 1 for a pseudo-label that counts, else 0.
    """
    p_UK = torch.softmax(wide(logits_UK), dim=1)
    top_UK = torch.nn.functional.one_hot(p_UK.argmax(dim=1), p_UK.shape[1])
    mask_U1 = mask_U[:, None]
    a_K = _modulated(average_K, histogram_K)
    b_K = _modulated((mask_U1 * p_UK).mean(dim=0), (mask_U1 * top_UK).mean(dim=0))
    return mask_U.amax() * (a_K * torch.log(b_K + SMALLEST)).sum()


def _modulated(p_K: Tensor, histogram_K: Tensor) -> Tensor:
    """`SumNorm(p / h)`, with 0 for a class that never occurred."""
    occurs_K = histogram_K > 0
    ratio_K = torch.where(occurs_K, p_K / torch.where(occurs_K, histogram_K, 1), 0)
    return ratio_K / ratio_K.sum().clamp_min(SMALLEST)


def aligned(p_UK: Tensor, average_K: Tensor) -> Tensor:
    """Predictions as if all classes were equally frequent, `Normalize(p / average)` (SoftMatch eq. 8)."""
    ratio_UK = p_UK / average_K.clamp_min(SMALLEST)
    return ratio_UK / ratio_UK.sum(dim=1, keepdim=True)


def gaussian_weights(confidence_U: Tensor, mean: Tensor, variance: Tensor, sigmas: float) -> Tensor:
    """Truncated Gaussian, `exp(-min(c - mu, 0)^2 / (2 (sigma / sigmas)^2))` (SoftMatch eqs. 5 and 9; U).

    Args:
        confidence_U: c, the largest probability of each prediction.
        mean: mu, its average.
        variance: sigma^2, likewise.
        sigmas: 1 is the formula; the paper's experiments divide the variance by 4, which is 2.
    """
    below_U = (confidence_U - mean).clamp_max(0)
    return torch.exp(-0.5 * sigmas**2 * below_U.square() / variance.clamp_min(SMALLEST))
