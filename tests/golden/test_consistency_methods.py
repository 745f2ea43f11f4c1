"""FixMatch, FreeMatch and SoftMatch against NumPy: whole training steps, one after the other."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from pipeline_lib.losses.semi import fairness_loss
from pipeline_lib.methods.fixmatch import FixMatch
from pipeline_lib.methods.freematch import FreeMatch
from pipeline_lib.methods.softmatch import SoftMatch
from pipeline_lib.params import methods as params
from pipeline_lib.records import Batch, Clock, Problem
from pipeline_lib.rng import StepRng
from tests.golden.by_hand import K, LinearModel, slope, softmax

N, B, U = 12, 3, 9
DECAY, LAMBDA_U = 0.6, 1.7


LABELED_BK = np.array([[1.0, 0, 0, 0], [0, 1, 1, 0], [1, 1, 1, 1]])  # the last one tells nothing
# Of the unlabeled batch: two candidates, a label that is not looked at here, and a partial image with one candidate.
UNLABELED_UK = np.ones((U, K))
UNLABELED_UK[:3] = [[0, 1, 1, 0], [1, 0, 0, 0], [0, 0, 1, 0]]
ROLES = (
    *("labeled", "partial", "partial", "partial", "labeled_and_unlabeled", "partial"),
    *("unlabeled",) * (U - 3),
)


def make_problem():
    candidates_NK = torch.tensor(np.concatenate([LABELED_BK, UNLABELED_UK])).bool()
    return Problem(candidates_NK, ROLES, tuple("abcd"), B, torch.zeros(N, 1, 2, 3))


def make_batch(step):
    draw = np.random.default_rng(100 + step)
    labeled, weak, strong = (
        torch.tensor(draw.integers(0, 256, size=(size, 1, 2, 3), dtype=np.uint8))
        for size in (B, U, U)
    )
    return Batch(
        {"labeled": torch.arange(B), "unlabeled": torch.arange(B, B + U)},
        {"labeled": (labeled,), "unlabeled": (weak, strong)},
        {
            "labeled": torch.tensor(LABELED_BK).float(),
            "unlabeled": torch.tensor(UNLABELED_UK).float(),
        },
    )


def possible(p_UK):
    """The classes of the two partial images are among their candidates."""
    p_UK = p_UK.copy()
    p_UK[[0, 2]] *= UNLABELED_UK[[0, 2]]
    return p_UK / p_UK.sum(axis=1, keepdims=True)


def views(batch):
    images = (*batch.views["labeled"], *batch.views["unlabeled"])
    return [image.numpy().reshape(len(image), -1).astype(float) for image in images]


def loss_by_hand(weight_PK, batch, weights_U, label_U, extra=lambda strong_UK: 0.0):
    labeled, _, strong = views(batch)
    supervised = -np.log((LABELED_BK * softmax(labeled @ weight_PK)).sum(axis=1)).mean()
    strong_UK = softmax(strong @ weight_PK)
    unlabeled = (
        sum(-w * np.log(p_K[k]) for w, p_K, k in zip(weights_U, strong_UK, label_U, strict=True))
        / U
    )
    return supervised + LAMBDA_U * unlabeled + extra(strong_UK)


def check_steps(method, weigh, extra=lambda strong_UK, weights_U: 0.0):
    """Three steps of `method`; `weigh` maps the weak predictions to the weights, with a memory."""
    for step in range(3):
        batch = make_batch(step)
        weight_PK = method.model.weight_PK.detach().numpy().copy()
        p_UK = possible(softmax(views(batch)[1] @ weight_PK))
        weights_U = weigh(p_UK)

        def loss(w, batch=batch, weights_U=weights_U, p_UK=p_UK):
            return loss_by_hand(
                w, batch, weights_U, p_UK.argmax(axis=1), lambda s_UK: extra(s_UK, weights_U)
            )

        method.zero_grad()
        output = method.training_step(batch, method.draw(Clock(step, 3, 3), StepRng(0, step)))
        output.loss.backward()

        assert float(output.loss.detach()) == pytest.approx(loss(weight_PK), rel=1e-5)
        np.testing.assert_allclose(
            method.model.weight_PK.grad, slope(loss, weight_PK), rtol=1e-3, atol=1e-3
        )
        remembered_UK = p_UK * UNLABELED_UK
        remembered_UK /= remembered_UK.sum(axis=1, keepdims=True)
        np.testing.assert_allclose(method.label_state()[B:], remembered_UK, rtol=1e-4, atol=1e-6)
        assert float(output.scalars["pseudo_label_rate"]) == pytest.approx(weights_U.mean())
        mean_K = p_UK.mean(axis=0)
        entropy = -(mean_K * np.log(mean_K)).sum()
        assert float(output.scalars["prediction_entropy"]) == pytest.approx(entropy, rel=1e-5)
        with torch.no_grad():
            method.model.weight_PK -= 1e-6 * method.model.weight_PK.grad


def test_fixmatch_counts_the_pseudo_labels_that_reach_the_threshold() -> None:
    section = params.FixMatch(unlabeled_ratio=3, threshold=0.7, lambda_u=LAMBDA_U)
    counted = []

    def weigh(p_UK):
        counted.append((p_UK.max(axis=1) >= 0.7).astype(float))
        return counted[-1]

    check_steps(FixMatch(section, make_problem(), LinearModel()), weigh)
    assert 0 < np.mean(counted) < 1


def test_freematch_follows_equations_5_to_12() -> None:
    weight = 0.3
    section = params.FreeMatch(
        unlabeled_ratio=3, decay=DECAY, lambda_u=LAMBDA_U, lambda_fairness=weight
    )
    memory = {"tau": 1 / K, "p": np.full(K, 1 / K), "h": np.full(K, 1 / K)}
    counted = []

    def weigh(p_UK):
        top_U, label_U = p_UK.max(axis=1), p_UK.argmax(axis=1)
        histogram_K = np.bincount(label_U, minlength=K) / U
        memory["tau"] = DECAY * memory["tau"] + (1 - DECAY) * top_U.mean()
        memory["p"] = DECAY * memory["p"] + (1 - DECAY) * p_UK.mean(axis=0)
        memory["h"] = DECAY * memory["h"] + (1 - DECAY) * histogram_K
        tau_K = memory["p"] / memory["p"].max() * memory["tau"]
        counted.append((top_U >= tau_K[label_U]).astype(float))
        return counted[-1]

    def fairness(strong_UK, mask_U):
        mean_K = (mask_U[:, None] * strong_UK).sum(axis=0) / U
        histogram_K = np.bincount(strong_UK.argmax(axis=1), weights=mask_U, minlength=K) / U
        a_K = memory["p"] / memory["h"]
        b_K = np.where(histogram_K > 0, mean_K / np.where(histogram_K > 0, histogram_K, 1), 0)
        a_K, b_K = a_K / a_K.sum(), b_K / b_K.sum()
        return weight * (a_K * np.log(b_K + 1e-12)).sum()

    method = FreeMatch(section, make_problem(), LinearModel())
    check_steps(method, weigh, fairness)
    assert 0 < np.mean(counted) < 1
    assert float(method.confidence) == pytest.approx(memory["tau"], rel=1e-5)
    np.testing.assert_allclose(method.average_K, memory["p"], rtol=1e-5)
    np.testing.assert_allclose(method.histogram_K, memory["h"], rtol=1e-5)


@pytest.mark.parametrize("alignment", [True, False])
@pytest.mark.parametrize("sigmas", [1.0, 2.0])
def test_softmatch_follows_equations_5_to_9(alignment, sigmas) -> None:
    section = params.SoftMatch(
        unlabeled_ratio=3,
        decay=DECAY,
        sigmas=sigmas,
        uniform_alignment=alignment,
        lambda_u=LAMBDA_U,
    )
    memory = {"p": np.full(K, 1 / K), "mu": 1 / K, "var": 1.0}
    weights = []

    def weigh(p_UK):
        memory["p"] = DECAY * memory["p"] + (1 - DECAY) * p_UK.mean(axis=0)
        if alignment:
            p_UK = p_UK * (1 / K) / memory["p"]
            p_UK = p_UK / p_UK.sum(axis=1, keepdims=True)
        top_U = p_UK.max(axis=1)
        variance = ((top_U - top_U.mean()) ** 2).sum() / (U - 1)
        memory["mu"] = DECAY * memory["mu"] + (1 - DECAY) * top_U.mean()
        memory["var"] = DECAY * memory["var"] + (1 - DECAY) * variance
        sigma2 = memory["var"] / sigmas**2
        gaussian_U = np.exp(-((top_U - memory["mu"]) ** 2) / (2 * sigma2))
        weights.append(np.where(top_U < memory["mu"], gaussian_U, 1.0))
        return weights[-1]

    method = SoftMatch(section, make_problem(), LinearModel())
    check_steps(method, weigh)
    assert 0 < np.min(weights) < np.max(weights) == 1
    assert float(method.variance) == pytest.approx(memory["var"], rel=1e-5)


def test_the_fairness_term_has_the_sign_of_the_paper() -> None:
    even_K = torch.full((3,), 1 / 3)
    skewed_UK = torch.tensor([[4.0, 0, 0], [0, 0.1, 0], [0, 0, 0.1]])
    even, skewed = (
        float(fairness_loss(even_K, even_K, logits_UK, torch.ones(3)))
        for logits_UK in (torch.eye(3), skewed_UK)
    )
    assert even == pytest.approx(-np.log(3), rel=1e-5)  # a = b = 1/3: minus the entropy
    assert skewed < even
