"""Whole training steps against NumPy: which targets a step uses, what it writes, and its gradient."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from pipeline_lib.methods.cr_dpll import CrDpll
from pipeline_lib.methods.proden import Proden
from pipeline_lib.params import methods as params
from pipeline_lib.records import Clock
from tests.golden.by_hand import PIXELS, VISITS, K, LinearModel, World, run_step, slope, softmax


def cr_dpll_loss(weight_PK, x_VBP, y_BK, s_BK, lam):
    """L_sup on the weak view + lambda sum_k KL(S || p^k)."""
    p_VBK = np.array([softmax(x_BP @ weight_PK) for x_BP in x_VBP])
    supervised = -((1 - y_BK) * np.log(1.0000001 - p_VBK[0])).sum() / len(y_BK)
    log_s_BK = np.log(np.where(s_BK > 0, s_BK, 1))
    consistency = sum((s_BK * (log_s_BK - np.log(p_BK))).sum() / len(y_BK) for p_BK in p_VBK)
    return supervised + lam * consistency, p_VBK


def cr_dpll(world, model=None, **changes):
    chosen = {"lambda_max": 1.5, "ramp_epochs": 2, "ramp_start": "zero", "bn": "per_view"} | changes
    return CrDpll(params.CrDpll(**chosen), world.problem, model or LinearModel())


@pytest.mark.parametrize(
    ("ramp_start", "weights"), [("zero", [0, 0.75, 1.5, 1.5]), ("one_step", [0.75, 1.5, 1.5, 1.5])]
)
def test_a_step_uses_the_targets_of_the_last_visit_and_then_writes_new_ones(
    ramp_start, weights
) -> None:
    world = World(views=3)
    method = cr_dpll(world, ramp_start=ramp_start)
    s_NK = world.y_NK / world.y_NK.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(method.targets_NK, s_NK, rtol=1e-6)
    for step, rows in enumerate(VISITS):
        weight_PK = method.model.weight_PK.detach().numpy().copy()
        x_VBP, y_BK, s_BK = world.pixels(step), world.y_NK[rows], s_NK[rows].copy()
        loss, p_VBK = cr_dpll_loss(weight_PK, x_VBP, y_BK, s_BK, weights[step])

        output = run_step(method, world, step)

        assert float(output.loss.detach()) == pytest.approx(loss, rel=1e-5)
        np.testing.assert_allclose(
            method.model.weight_PK.grad,
            slope(
                lambda w, a=(x_VBP, y_BK, s_BK, weights[step]): cr_dpll_loss(w, *a)[0], weight_PK
            ),
            rtol=1e-4,
            atol=1e-3,
        )
        # the geometric mean of the three views over the candidates, for the visited images only
        mean_BK = y_BK * np.prod(p_VBK, axis=0) ** (1 / 3)
        s_NK[rows] = mean_BK / mean_BK.sum(axis=1, keepdims=True)
        np.testing.assert_allclose(method.targets_NK, s_NK, rtol=1e-5, atol=1e-7)
        with torch.no_grad():
            method.model.weight_PK -= 1e-6 * method.model.weight_PK.grad


def test_an_image_never_seen_keeps_its_uniform_targets_and_its_non_candidates_stay_at_zero() -> (
    None
):
    world = World(views=3)
    method = cr_dpll(world)
    for step in range(len(VISITS)):
        run_step(method, world, step)
    state_NK = method.label_state().numpy()
    np.testing.assert_allclose(state_NK[6], world.y_NK[6] / world.y_NK[6].sum())
    assert (state_NK[world.y_NK == 0] == 0).all()
    np.testing.assert_allclose(state_NK.sum(axis=1), 1, atol=1e-6)


def test_the_targets_travel_with_the_state_of_the_method() -> None:
    world = World(views=3)
    method = cr_dpll(world)
    run_step(method, world, 0)
    other = cr_dpll(world)
    other.load_state_dict(method.state_dict())
    assert torch.equal(other.label_state(), method.label_state())
    assert torch.equal(run_step(other, world, 1).loss, run_step(method, world, 1).loss)


@pytest.mark.parametrize(("epochs", "weights"), [(0, [1.5, 1.5]), (4, [0.0, 0.375])])
def test_the_ramp_counts_epochs_not_steps(epochs, weights) -> None:
    method = cr_dpll(World(views=3), ramp_epochs=epochs)
    reached = [method.params.lambda_max * method.risen(Clock(2 * epoch, 8, 2)) for epoch in (0, 1)]
    assert reached == pytest.approx(weights)
    world = World(views=3)
    method = cr_dpll(world, ramp_epochs=epochs)
    for step in range(4):
        output = run_step(method, world, step, steps_per_epoch=2)
        assert float(output.scalars["consistency_weight"]) == pytest.approx(weights[step // 2])


class NormModel(nn.Module):
    """One batch normalisation before the linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(PIXELS, affine=False)
        self.head = nn.Linear(PIXELS, K)
        nn.init.constant_(self.head.bias, 0)
        weight = np.random.default_rng(1).normal(size=(K, PIXELS))
        self.head.weight.data = torch.tensor(weight, dtype=torch.float32)

    def forward(self, images_BCHW):
        return self.head(self.norm(images_BCHW.flatten(1).float()))


@pytest.mark.parametrize("bn", ["per_view", "joint"])
def test_batch_statistics_are_those_of_each_view_or_of_all_three(bn) -> None:
    world = World(views=3)
    method = cr_dpll(world, NormModel(), bn=bn)
    run_step(method, world, 0)
    x_VBP = world.pixels(0)
    groups = x_VBP if bn == "per_view" else x_VBP.reshape(1, -1, PIXELS)
    normal = [(x - x.mean(axis=0)) / np.sqrt(x.var(axis=0) + 1e-5) for x in groups]
    weight_KP = method.model.head.weight.detach().numpy().astype(float)
    logits = np.concatenate(normal) @ weight_KP.T
    p_VBK = softmax(logits).reshape(3, 3, K)
    mean_BK = world.y_NK[VISITS[0]] * np.prod(p_VBK, axis=0) ** (1 / 3)
    expected = mean_BK / mean_BK.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(method.targets_NK[VISITS[0]], expected, rtol=1e-3, atol=1e-5)
    running_P = np.zeros(PIXELS)
    for group in groups:
        running_P = 0.9 * running_P + 0.1 * group.mean(axis=0)
    np.testing.assert_allclose(method.model.norm.running_mean, running_P, rtol=1e-4)


def test_a_proden_step_uses_the_old_weights_and_writes_the_posterior_of_its_view() -> None:
    world = World(views=1)
    method = Proden(params.Proden(view="weak"), world.problem, LinearModel())
    s_NK = world.y_NK / world.y_NK.sum(axis=1, keepdims=True)
    for step, rows in enumerate(VISITS):
        p_BK = softmax(world.pixels(step)[0] @ method.model.weight_PK.detach().numpy())
        loss = -(s_NK[rows] * np.log(p_BK)).sum(axis=1).mean()
        output = run_step(method, world, step)
        assert float(output.loss.detach()) == pytest.approx(loss, rel=1e-5)
        inside_BK = world.y_NK[rows] * p_BK
        s_NK[rows] = inside_BK / inside_BK.sum(axis=1, keepdims=True)
        np.testing.assert_allclose(method.label_state(), s_NK, rtol=1e-5, atol=1e-7)
        with torch.no_grad():
            method.model.weight_PK -= 1e-6 * method.model.weight_PK.grad
