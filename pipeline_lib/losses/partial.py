"""Equations of the partial-label methods, as of `losses.common`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from pipeline_lib.losses.common import soft_cross_entropy, wide

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

# CR-DPLL's official code adds it inside the logarithm of its complementary term.
COMPLEMENTARY_EPSILON = 1e-7


def candidate_nll(logits_BK: Tensor, candidates_BK: Tensor) -> Tensor:
    """Negative log-probability of the candidate set, `-mean_i log sum_{j in Y_i} p_ij` (scalar).

    Cross-entropy where there is one candidate, 0 where every class is one.
    """
    logits_BK = wide(logits_BK)
    inside_BK = logits_BK.masked_fill(candidates_BK == 0, -torch.inf)
    return (torch.logsumexp(logits_BK, dim=1) - torch.logsumexp(inside_BK, dim=1)).mean()


def complementary_loss(logits_BK: Tensor, candidates_BK: Tensor) -> Tensor:
    """Push probability off the non-candidates (CR-DPLL, supervised term; scalar).

    `-mean_i sum_j (1 - Y_ij) log(1 + 1e-7 - p_ij)`. `1 - p` is taken from `log p` by expm1, which
    keeps its digits where p is near 0; the epsilon bounds the loss where p is 1.
    """
    log_p_BK = torch.log_softmax(wide(logits_BK), dim=1)
    log_rest_BK = torch.log(COMPLEMENTARY_EPSILON - torch.expm1(log_p_BK))
    return -((1 - candidates_BK) * log_rest_BK).sum(dim=1).mean()


def consistency_loss(targets_BK: Tensor, views_logits: Sequence[Tensor]) -> Tensor:
    """Agreement of every view with the stored label distribution (CR-DPLL; scalar).

    `sum_k mean_i KL(S_i || p_i^(k))`: the sum over the views, not their mean. The targets carry no
    gradient; where a target is 0 its term is 0.
    """
    targets_BK = targets_BK.detach()
    entropy: Tensor = torch.special.entr(targets_BK).sum(dim=1).mean()
    cross_V = torch.stack([soft_cross_entropy(logits_BK, targets_BK) for logits_BK in views_logits])
    return (cross_V - entropy).sum()


def conformal_targets(views_logits: Sequence[Tensor], candidates_BK: Tensor) -> Tensor:
    """Label distribution that conforms to the candidates (CR-DPLL, closed form; float32 BK).

    `S_ij = Y_ij prod_k (p_ij^(k))^(1/V)`, normalised over the candidates: the geometric mean over the V
    views. Taken as the softmax of the mean log-probability, it cannot underflow to 0/0.
    """
    with torch.no_grad():
        log_p = [torch.log_softmax(wide(logits_BK), dim=1) for logits_BK in views_logits]
        mean_BK = torch.stack(log_p).mean(dim=0)
        return torch.softmax(mean_BK.masked_fill(candidates_BK == 0, -torch.inf), dim=1)


def candidate_posterior(logits_BK: Tensor, candidates_BK: Tensor) -> Tensor:
    """Prediction restricted to the candidates, `Y_ij p_ij / sum_l Y_il p_il` (PRODEN; no gradient)."""
    return conformal_targets([logits_BK], candidates_BK)


def leveraged_loss(logits_BK: Tensor, inside_BK: Tensor, outside_BK: Tensor, beta: float) -> Tensor:
    """Leveraged weighted loss with the sigmoid loss `l(z) = 1 / (1 + e^z)` (LWS; scalar).

    `mean_i sum_{j in Y_i} w_ij l(z_ij) + beta sum_{j not in Y_i} w_ij l(-z_ij)`

    Args:
        logits_BK: z.
        inside_BK: w of the candidates, 0 elsewhere; rows sum to 1, or to 0 to leave an image out.
        outside_BK: w of the other classes, likewise.
        beta: the leverage.
    """
    logits_BK = wide(logits_BK)
    low_BK = inside_BK * torch.sigmoid(-logits_BK)
    high_BK = outside_BK * torch.sigmoid(logits_BK)
    return (low_BK + beta * high_BK).sum(dim=1).mean()


def contrastive_loss(
    anchor_BD: Tensor,
    others_MD: Tensor,
    positive_BM: Tensor,
    compared_BM: Tensor,
    temperature: float,
) -> Tensor:
    """Anchors near their positives among all that they are compared with (PiCO; scalar).

    `-mean_i mean_{m in P_i} log( exp(q_i.k_m / tau) / sum_{m' in A_i} exp(q_i.k_m' / tau) )`

    Args:
        anchor_BD: q, unit vectors.
        others_MD: k, unit vectors.
        positive_BM: P, bool: at least one for each anchor, and all of them in A.
        compared_BM: A, bool.
        temperature: tau.
    """
    similarity_BM = _products(anchor_BD, others_MD) / temperature
    among_BM = similarity_BM.masked_fill(~compared_BM, -torch.inf)
    mean_B = (similarity_BM * positive_BM).sum(dim=1) / positive_BM.sum(dim=1)
    return (torch.logsumexp(among_BM, dim=1) - mean_B).mean()


@torch.no_grad()
def moved_prototypes(
    prototypes_KD: Tensor, embedding_BD: Tensor, class_B: Tensor, decay: float
) -> Tensor:
    """Class prototypes after the embeddings of a batch, one after the other (PiCO; KD).

    `mu_c <- gamma mu_c + (1 - gamma) q_i` for i = 1, ..., B with c the class of i, then unit length. The b-th of
    the n embeddings of a class ends up with the weight `(1 - gamma) gamma^(n - b)`, so one product does it.
    """
    member_BK = torch.nn.functional.one_hot(class_B, len(prototypes_KD))
    later_BK = (member_BK.sum(dim=0) - member_BK.cumsum(dim=0)).to(prototypes_KD.dtype)
    weight_BK = member_BK * ((1 - decay) * decay**later_BK)
    count_K = member_BK.sum(dim=0).to(prototypes_KD.dtype)
    sum_KD = _products(weight_BK.T, embedding_BD.T)
    return torch.nn.functional.normalize(decay ** count_K[:, None] * prototypes_KD + sum_KD, dim=1)


@torch.no_grad()
def disambiguated(
    targets_BK: Tensor,
    embedding_BD: Tensor,
    prototypes_KD: Tensor,
    candidates_BK: Tensor,
    phi: float | Tensor,
) -> Tensor:
    """Label distributions moved towards the candidate of the nearest prototype (PiCO; BK).

    `s <- phi s + (1 - phi) onehot(argmax_{j in Y} q.mu_j)`
    """
    score_BK = _products(embedding_BD, prototypes_KD)
    nearest_B = score_BK.masked_fill(candidates_BK == 0, -torch.inf).argmax(dim=1)
    nearest_BK = torch.nn.functional.one_hot(nearest_B, len(prototypes_KD))
    return phi * targets_BK + (1 - phi) * nearest_BK


def _products(left_BD: Tensor, right_MD: Tensor) -> Tensor:
    """Scalar product of every row with every row (BM), in float32 also under autocast."""
    with torch.autocast(left_BD.device.type, enabled=False):
        return wide(left_BD) @ wide(right_MD).T
