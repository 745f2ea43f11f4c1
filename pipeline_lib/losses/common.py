"""What the equations of several methods are made of.

Shapes: B images, K classes; candidates are floats, 0 or 1. Everything is computed in float32 or wider, whatever the inputs: in
bfloat16 `1 - p` has three digits left.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from pipeline_lib.records import CONFIDENT, NO_GUESS

if TYPE_CHECKING:
    from torch import Tensor


def wide(values: Tensor) -> Tensor:
    """At least float32."""
    return values if values.dtype == torch.float64 else values.float()


def soft_cross_entropy(logits_BK: Tensor, targets_BK: Tensor) -> Tensor:
    """Cross-entropy against soft labels, `-mean_i sum_j t_ij log p_ij` (scalar)."""
    log_p_BK = torch.log_softmax(wide(logits_BK), dim=1)
    return -(targets_BK * log_p_BK).sum(dim=1).mean()


def entropy(p_BK: Tensor) -> Tensor:
    """Entropy in nats of each distribution in the last dimension."""
    nats: Tensor = torch.special.entr(wide(p_BK)).sum(dim=-1)
    return nats


def sharpen(log_p_BK: Tensor, temperature: float) -> Tensor:
    """`p_k^(1/T) / sum_j p_j^(1/T)`, from log-probabilities, so that nothing underflows to 0/0 (BK)."""
    return torch.softmax(wide(log_p_BK) / temperature, dim=-1)


def restrict(p_BK: Tensor, candidates_BK: Tensor) -> Tensor:
    """Prediction restricted to the candidates, `Y_ij p_ij / sum_l Y_il p_il`; uniform where all are 0."""
    inside_BK = wide(p_BK).clamp_min(torch.finfo(torch.float32).tiny) * candidates_BK
    return inside_BK / inside_BK.sum(dim=1, keepdim=True)


def uniform_targets(candidates_BK: Tensor) -> Tensor:
    """Equal weight on every candidate (float32 BK, rows sum to 1)."""
    weights_BK = candidates_BK.float()
    return weights_BK / weights_BK.sum(dim=1, keepdim=True)


def telling(candidates_BK: Tensor) -> Tensor:
    """1 where a candidate set says anything, 0 where all classes are in it (B1).

    A target that stays uniform would teach of such an image that nothing can be known.
    """
    return 1 - candidates_BK.amin(dim=1, keepdim=True)


def confident_classes(p_BK: Tensor) -> Tensor:
    """Most probable class of each image where its probability is `CONFIDENT` or more, else NO_GUESS (int16 B)."""
    top_B, class_B = p_BK.max(dim=1)
    return torch.where(top_B >= CONFIDENT, class_B, NO_GUESS).to(torch.int16)


def linear_ramp(position: float, length: float) -> float:
    """Weight that grows linearly from 0 at position 0 to 1 at `length`; 1 throughout if that is 0."""
    return 1.0 if length <= 0 else min(max(position / length, 0.0), 1.0)
