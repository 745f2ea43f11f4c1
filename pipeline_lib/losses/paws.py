"""Equations of PAWS and of soft nearest neighbours (Assran et al., ICCV 2021), as of `losses.common`.

Shapes: B queries, S support samples, D width of the embeddings, K classes, V views. Embeddings come as
they are and are brought to unit length here, in float32, also under autocast.
"""

from __future__ import annotations

import contextlib
import math
from typing import TYPE_CHECKING

import torch
from torch.nn.functional import normalize, one_hot

from pipeline_lib.losses.common import sharpen, wide

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor

SMALLEST_TARGET = 1e-4  # official code: smaller targets count as 0


def similarities(query_BD: Tensor, support_SD: Tensor, temperature: float) -> Tensor:
    """Cosine of every query and support sample over the temperature (BS)."""
    with torch.autocast(query_BD.device.type, enabled=False):
        query_BD, support_SD = normalize(wide(query_BD)), normalize(wide(support_SD))
        return query_BD @ support_SD.T / temperature


def soft_neighbours(
    query_BD: Tensor, support_SD: Tensor, class_S: Tensor, num_classes: int, temperature: float
) -> Tensor:
    """Log-probabilities of soft nearest neighbours, `log(softmax_s(z . s / tau) Y_S)` (BK).

    Summed per class relative to its nearest sample, so that a far class does not underflow to log 0.

    Args:
        query_BD: embeddings to classify.
        support_SD: embeddings of labeled images, at least one of each class.
        class_S: their classes, int64.
        num_classes: K.
        temperature: tau.
    """
    log_share_BS = torch.log_softmax(similarities(query_BD, support_SD, temperature), dim=1)
    index_BS = class_S.expand_as(log_share_BS)
    lowest_BK = log_share_BS.new_full((len(query_BD), num_classes), -torch.inf)
    with _in_any_order():
        top_BK = lowest_BK.scatter_reduce(1, index_BS, log_share_BS.detach(), "amax")
    share_BS = (log_share_BS - top_BK.gather(1, index_BS)).exp()
    with torch.autocast(query_BD.device.type, enabled=False):
        sum_BK = share_BS @ one_hot(class_S, num_classes).to(share_BS.dtype)
    return top_BK + sum_BK.log()


@contextlib.contextmanager
def _in_any_order() -> Iterator[None]:
    """Allow what torch refuses on a GPU as nondeterministic: a largest value depends on no order."""
    mode = torch.get_deterministic_debug_mode()
    torch.set_deterministic_debug_mode("default")
    try:
        yield
    finally:
        torch.set_deterministic_debug_mode(mode)


def smooth(log_p_BK: Tensor, smoothing: float) -> Tensor:
    """What soft neighbours predict where the labels of the support are smoothed, from log p (BK).

    The prediction is linear in the labels: `log((1 - e) p + e / K)`.
    """
    if smoothing == 0:
        return log_p_BK
    floor_BK = torch.full_like(log_p_BK, math.log(smoothing / log_p_BK.shape[-1]))
    return torch.logaddexp(log_p_BK + math.log1p(-smoothing), floor_BK)


@torch.no_grad()
def view_targets(large_2BK: Tensor, sharpening: float, small_views: int) -> Tensor:
    """Target of each view: the other large view's sharpened prediction, or for a small view their mean.

    Args:
        large_2BK: log-probabilities of the two large views.
        sharpening: T, the exponent is 1/T.
        small_views: m.

    Returns:
        (2 + m, B, K), without gradient. Values below 1e-4 are 0, and so rows sum to 1 at most.
    """
    first_BK, second_BK = sharpen(large_2BK, sharpening)
    mean_BK = (first_BK + second_BK) / 2
    targets_VBK = torch.stack([second_BK, first_BK, *[mean_BK] * small_views])
    return targets_VBK.where(targets_VBK >= SMALLEST_TARGET, 0)


def view_assignment_loss(log_p_VBK: Tensor, targets_VBK: Tensor) -> Tensor:
    """Cross-entropy of all views with their targets, `1/(V B) sum_v sum_i H(target, p)` (scalar)."""
    return -(targets_VBK * log_p_VBK).sum(dim=-1).mean()


def mean_entropy(log_p_VBK: Tensor, sharpening: float) -> Tensor:
    """Entropy of the mean over all views of the sharpened predictions, which PAWS maximises (scalar)."""
    log_q_VBK = torch.log_softmax(wide(log_p_VBK) / sharpening, dim=-1)
    # From logarithms: where a class's mean underflows to 0, the slope of its entropy is infinite.
    log_mean_K = log_q_VBK.flatten(0, 1).logsumexp(dim=0) - math.log(log_q_VBK[..., 0].numel())
    return -(log_mean_K.exp() * log_mean_K).sum()


def suncet_loss(embedding_SD: Tensor, class_S: Tensor, temperature: float) -> Tensor:
    """SuNCEt: each sample classified by soft nearest neighbours among the others (scalar).

    `-mean_i log(sum_{j != i, same class} exp(z_i . z_j / tau) / sum_{j != i} exp(z_i . z_j / tau))`

    Args:
        embedding_SD: embeddings, at least two of each class.
        class_S: their classes, int64.
        temperature: tau.
    """
    similarity_SS = similarities(embedding_SD, embedding_SD, temperature)
    itself_SS = torch.eye(len(class_S), dtype=torch.bool, device=class_S.device)
    others_SS = similarity_SS.masked_fill(itself_SS, -torch.inf)
    same_SS = others_SS.masked_fill(class_S[:, None] != class_S, -torch.inf)
    return (others_SS.logsumexp(dim=1) - same_SS.logsumexp(dim=1)).mean()


def instance_discrimination_loss(first_BD: Tensor, second_BD: Tensor, temperature: float) -> Tensor:
    """How well one view tells which image of the batch the other shows, `-mean log softmax_i` (scalar)."""
    similarity_BB = similarities(first_BD, second_BD, temperature)
    return (similarity_BB.logsumexp(dim=1) - similarity_BB.diagonal()).mean()
