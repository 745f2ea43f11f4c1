"""MixMatch against NumPy: the equations of the paper, and whole training steps."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from pipeline_lib.augment.mixing import mix
from pipeline_lib.losses.semi import brier_loss, mean_log_prediction
from pipeline_lib.methods.mixmatch import MixMatch, partners
from pipeline_lib.params import methods as params
from pipeline_lib.records import Batch, Clock, Problem
from pipeline_lib.rng import StepRng, generator
from tests.golden.by_hand import PIXELS, K, LinearModel, slope, softmax

N, B, U = 10, 3, 6
SEED, STEP = 5, 2


class NormModel(nn.Module):
    """One batch normalisation, then the mean over pixels."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(PIXELS, momentum=1.0)
        self.head = nn.Linear(PIXELS, K)

    def forward(self, images_BCHW):
        return self.head(self.norm(images_BCHW.flatten(1).float()))


LABELED_BK = np.array([[1.0, 0, 0, 0], [0, 1, 1, 0], [1, 1, 1, 1]])  # the last one tells nothing
# Of the unlabeled batch; the first two are partially labeled, the second of them with one candidate.
CANDIDATES_UK = np.array([[0.0, 1, 1, 0], [0, 0, 1, 0]] + [[1.0, 1, 1, 1]] * (U - 2))


def make_method(model=None, **changes):
    chosen = {
        "unlabeled_ratio": 2,
        "guesses": 2,
        "temperature": 0.5,
        "alpha": 0.75,
        "mixup": "all",
        "lambda_u": 12.0,
        "ramp_steps": 4,
        "bn": "interleaved",
    }
    candidates_NK = torch.ones(N, K, dtype=torch.bool)
    candidates_NK[: B + U] = torch.tensor(np.concatenate([LABELED_BK, CANDIDATES_UK])).bool()
    roles = ("labeled", *("partial",) * 4) + ("unlabeled",) * (N - 5)
    problem = Problem(candidates_NK, roles, tuple("abcd"), B, torch.zeros(N, 1, 2, 3))
    return MixMatch(params.MixMatch(**(chosen | changes)), problem, model or LinearModel())


def make_batch(views=2):
    draw = np.random.default_rng(3)
    labeled, *unlabeled = (
        torch.tensor(draw.integers(0, 256, size=(size, 1, 2, 3), dtype=np.uint8))
        for size in (B, *[U] * views)
    )
    return Batch(
        {"labeled": torch.arange(B), "unlabeled": torch.arange(B, B + U)},
        {"labeled": (labeled,), "unlabeled": tuple(unlabeled)},
        {
            "labeled": torch.tensor(LABELED_BK).float(),
            "unlabeled": torch.tensor(CANDIDATES_UK).float(),
        },
    )


def flat(images):
    return images.numpy().reshape(len(images), -1).astype(float)


def run_step(method, batch, step=STEP):
    method.zero_grad()
    output = method.training_step(batch, method.draw(Clock(step, 10, 5), StepRng(SEED, step)))
    output.loss.backward()
    return output


def mixed_by_hand(method, batch, mixup):
    """Inputs and targets of algorithm 1, with the shares and partners that this seed draws."""
    weight_PK = method.model.weight_PK.detach().numpy()
    views = [flat(view) for view in batch.views["unlabeled"]]
    guess_UK = sum(softmax(view @ weight_PK) for view in views) / len(views)
    guess_UK = guess_UK * CANDIDATES_UK  # the sharpening makes the sum 1 again
    sharp_UK = guess_UK**2 / (guess_UK**2).sum(axis=1, keepdims=True)  # T = 0.5
    labels_BK = np.array([[1, 0, 0, 0], [0, 0.5, 0.5, 0], [0, 0, 0, 0]])
    x = np.concatenate([flat(batch.views["labeled"][0]), *views])
    p = np.concatenate([labels_BK, *[sharp_UK] * len(views)])
    share = generator(SEED, "mixup", STEP).beta(0.75, 0.75, len(x))[:, None]
    share = np.maximum(share, 1 - share)
    w = partners(mixup, B, len(x) - B, StepRng(SEED, STEP)("mixup partners")).numpy()
    return share * x + (1 - share) * x[w], share * p + (1 - share) * p[w], sharp_UK


def loss_by_hand(weight_PK, x, p, lambda_u):
    prediction = softmax(x @ weight_PK)
    supervised = -(p[:B] * np.log(prediction[:B])).sum(axis=1).mean()
    distance = ((p[B:] - prediction[B:]) ** 2).sum() / (K * len(x[B:]))
    return supervised + lambda_u * distance


@pytest.mark.parametrize("bn", ["interleaved", "joint"])
@pytest.mark.parametrize("mixup", ["all", "labeled", "unlabeled", "separate", "none"])
def test_a_step_is_algorithm_1_with_guesses_that_carry_no_gradient(mixup, bn) -> None:
    method, batch = make_method(mixup=mixup, bn=bn), make_batch()
    weight_PK = method.model.weight_PK.detach().numpy().copy()
    x, p, guesses_UK = mixed_by_hand(method, batch, mixup)
    lambda_u = 12 * STEP / 4

    output = run_step(method, batch)

    assert float(output.loss.detach()) == pytest.approx(
        loss_by_hand(weight_PK, x, p, lambda_u), rel=1e-5
    )
    expected = slope(lambda w: loss_by_hand(w, x, p, lambda_u), weight_PK)
    np.testing.assert_allclose(method.model.weight_PK.grad, expected, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(method.label_state()[B : B + U], guesses_UK, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(("step", "weight"), [(0, 0), (1, 3), (4, 12), (9, 12)])
def test_the_unlabeled_weight_ramps_in_steps_and_then_stays(step, weight) -> None:
    output = run_step(make_method(), make_batch(), step)
    parts = output.scalars
    assert float(parts["unlabeled_weight"]) == pytest.approx(weight)
    total = parts["supervised_loss"] + weight * parts["unlabeled_loss"]
    assert float(output.loss.detach()) == pytest.approx(float(total), rel=1e-6)


def test_the_first_interleaved_batch_alone_moves_the_running_statistics() -> None:
    method, batch = make_method(NormModel(), mixup="none"), make_batch()
    run_step(method, batch)
    # five groups of three: labeled 0 stays, 1 and 2 give way to the same places of groups 1 and 3
    views = [flat(view) for view in batch.views["unlabeled"]]
    groups = np.concatenate([flat(batch.views["labeled"][0]), *views]).reshape(5, 3, PIXELS)
    first = np.stack([groups[0, 0], groups[1, 1], groups[3, 2]])
    np.testing.assert_allclose(method.model.norm.running_mean, first.mean(axis=0), rtol=1e-5)


def test_every_interleaved_batch_is_normalised_by_itself_and_returns_in_order() -> None:
    method, batch = make_method(NormModel()), make_batch()
    images = torch.cat([*batch.views["labeled"], *batch.views["unlabeled"]]).float()
    logits_NK = method.logits(images, B).detach().numpy()
    groups = flat(images).reshape(5, 3, PIXELS)
    swapped = groups.copy()
    for group, place in ((1, 1), (3, 2)):
        swapped[[0, group], place] = swapped[[group, 0], place]
    mean, variance = swapped.mean(axis=1, keepdims=True), swapped.var(axis=1, keepdims=True)
    normal = (swapped - mean) / np.sqrt(variance + 1e-5)
    for group, place in ((1, 1), (3, 2)):
        normal[[0, group], place] = normal[[group, 0], place]
    head = method.model.head
    expected = normal.reshape(-1, PIXELS) @ head.weight.detach().numpy().T
    expected = expected + head.bias.detach().numpy()
    np.testing.assert_allclose(logits_NK, expected, rtol=1e-3, atol=1e-4)


def test_bfloat16_leaves_the_gradient_as_it_is_though_guesses_are_made_without() -> None:
    gradients = []
    for enabled in (False, True):
        torch.manual_seed(0)
        method = make_method(NormModel())
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            output = method.training_step(
                make_batch(), method.draw(Clock(STEP, 10, 5), StepRng(SEED, STEP))
            )
        output.loss.backward()
        gradients.append(method.model.head.weight.grad)
    torch.testing.assert_close(gradients[1], gradients[0], rtol=0.1, atol=0.02)


def test_equations_by_hand() -> None:
    draw = np.random.default_rng(1)
    z_VUK = draw.normal(size=(3, 5, K)) * 4
    p_VUK = np.array([softmax(z_UK) for z_UK in z_VUK])
    guess = mean_log_prediction([torch.tensor(z_UK) for z_UK in z_VUK])
    np.testing.assert_allclose(guess.exp(), p_VUK.mean(axis=0), rtol=1e-12)
    q_UK = softmax(draw.normal(size=(5, K)))
    distance = ((q_UK - p_VUK[0]) ** 2).sum(axis=1).mean() / K
    assert float(brier_loss(torch.tensor(z_VUK[0]), torch.tensor(q_UK))) == pytest.approx(distance)
    share = np.array([0.5, 0.6, 0.7, 0.9, 1.0])
    mixed = mix(torch.tensor(q_UK), torch.tensor(p_VUK[0]), torch.tensor(share))
    expected = share[:, None] * q_UK + (1 - share[:, None]) * p_VUK[0]
    np.testing.assert_allclose(mixed, expected, rtol=1e-12)
