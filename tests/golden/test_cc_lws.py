"""CC and LWS against their formulas, in NumPy float64: losses, weights, and whole training steps."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from pipeline_lib.losses import partial
from pipeline_lib.methods.cc import Cc
from pipeline_lib.methods.lws import Lws
from pipeline_lib.params import methods as params
from pipeline_lib.records import Problem
from tests.golden.by_hand import VISITS, K, LinearModel, N, World, run_step, slope, softmax


def sigmoid(z):
    return 1 / (1 + np.exp(-z))


def golden_leveraged(z_BK, y_BK, w_BK, beta):
    """mean_i sum_{j in Y} w l(z) + beta sum_{j not in Y} w l(-z), with l(z) = 1 / (1 + e^z)."""
    total = 0.0
    for z_K, y_K, w_K in zip(z_BK, y_BK, w_BK, strict=True):
        for z, y, w in zip(z_K, y_K, w_K, strict=True):
            total += w * sigmoid(-z) if y else beta * w * sigmoid(z)
    return total / len(z_BK)


def normalised(values_BK, mask_BK):
    """The values under a mask, rows of sum 1; rows of 0 where the mask has none."""
    inside_BK = values_BK * mask_BK
    sum_B1 = inside_BK.sum(axis=1, keepdims=True)
    return np.divide(inside_BK, sum_B1, out=np.zeros_like(inside_BK), where=sum_B1 > 0)


def with_an_unlabeled_image() -> World:
    """Image 2, which three of the four batches hold, may be of any class."""
    world = World(views=1)
    world.y_NK[2] = 1
    candidates = torch.tensor(world.y_NK, dtype=torch.bool)
    roles = ("partial",) * N
    world.problem = Problem(candidates, roles, tuple("abcd"), 3, torch.zeros(N, 1, 4, 4))
    return world


@pytest.mark.parametrize("beta", [0.0, 1.0, 2.5])
def test_the_leveraged_loss_is_the_formula(beta) -> None:
    draw = np.random.default_rng(0)
    z_BK, y_BK = draw.normal(size=(6, K)) * 3, draw.random((6, K)) < 0.5
    y_BK[:, 0] = True
    w_BK = draw.random((6, K))
    inside, outside, z = (torch.tensor(a) for a in (w_BK * y_BK, w_BK * ~y_BK, z_BK))
    loss = partial.leveraged_loss(z, inside, outside, beta)
    np.testing.assert_allclose(loss, golden_leveraged(z_BK, y_BK, w_BK, beta), rtol=1e-12)


@pytest.mark.parametrize("beta", [0.5, 2.0])
def test_a_step_of_lws_uses_the_old_weights_and_writes_new_ones(beta) -> None:
    world = with_an_unlabeled_image()
    method = Lws(params.Lws(beta=beta, view="weak"), world.problem, LinearModel())
    y_NK = world.y_NK
    w_NK = normalised(np.ones((N, K)), y_NK) + normalised(np.ones((N, K)), 1 - y_NK)
    for step, rows in enumerate(VISITS):
        np.testing.assert_allclose(method.inside_NK + method.outside_NK, w_NK, rtol=1e-5)
        weight_PK = method.model.weight_PK.detach().numpy().copy()
        x_BP, old_BK = world.pixels(step)[0], w_NK[rows].copy()

        output = run_step(method, world, step)

        old_BK *= 1 - y_NK[rows].min(axis=1, keepdims=True)  # nothing known, nothing learned

        def loss(weight_PK, x_BP=x_BP, y_BK=y_NK[rows], w_BK=old_BK):
            return golden_leveraged(x_BP @ weight_PK, y_BK, w_BK, beta)

        assert float(output.loss.detach()) == pytest.approx(loss(weight_PK), rel=1e-5)
        gradient = method.model.weight_PK.grad
        np.testing.assert_allclose(gradient, slope(loss, weight_PK), rtol=1e-4, atol=1e-4)
        p_BK, y_BK = softmax(x_BP @ weight_PK), y_NK[rows]
        w_NK[rows] = normalised(p_BK, y_BK) + normalised(p_BK, 1 - y_BK)
        with torch.no_grad():
            method.model.weight_PK -= 1e-5 * gradient
    np.testing.assert_allclose(method.inside_NK + method.outside_NK, w_NK, rtol=1e-5)
    assert torch.equal(method.label_state(), method.inside_NK)
    assert (method.inside_NK.numpy()[y_NK == 0] == 0).all()
    assert (method.outside_NK.numpy()[y_NK == 1] == 0).all()


def test_a_step_of_cc_is_the_likelihood_of_the_candidate_sets() -> None:
    world = with_an_unlabeled_image()
    method = Cc(params.Cc(view="weak"), world.problem, LinearModel())
    for step, rows in enumerate(VISITS):
        weight_PK = method.model.weight_PK.detach().numpy().copy()
        pixels_BP = world.pixels(step)[0]

        def loss(weight_PK, x_BP=pixels_BP, y_BK=world.y_NK[rows]):
            return -np.log((y_BK * softmax(x_BP @ weight_PK)).sum(axis=1)).mean()

        output = run_step(method, world, step)
        assert float(output.loss.detach()) == pytest.approx(loss(weight_PK), rel=1e-5)
        gradient = method.model.weight_PK.grad
        np.testing.assert_allclose(gradient, slope(loss, weight_PK), rtol=1e-4, atol=1e-3)
    assert method.label_state() is None
