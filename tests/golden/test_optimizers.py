"""SGD, Adam and AdamW against their formulas in NumPy float64, with gradients, decay and rates that are not 0."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from pipeline_lib.params.load import load
from pipeline_lib.params.sections import Train
from pipeline_lib.training.optimizer import build_optimizer, set_learning_rate

TRAIN = load(Path(__file__).parents[2] / "params.yaml").train
BETA, BETA2, DECAY, TINY = 0.9, 0.999, 0.04, 1e-8
RATES = (0.1, 0.3, 0.02)


def sgd(weight, gradients, *, nesterov: bool):
    """Sutskever et al. 2013 as torch has it: m <- beta m + g, w <- w - lr m, or lr (g + beta m)."""
    momentum = 0.0
    for rate, gradient in zip(RATES, gradients, strict=True):
        whole = gradient + DECAY * weight
        momentum = BETA * momentum + whole
        weight = weight - rate * (whole + BETA * momentum if nesterov else momentum)
    return weight


def adam(weight, gradients, *, decoupled: bool):
    """Kingma and Ba 2015; decoupled, the decay shrinks the weight itself (Loshchilov and Hutter 2019)."""
    first, second = 0.0, 0.0
    for step, (rate, gradient) in enumerate(zip(RATES, gradients, strict=True), 1):
        whole = gradient if decoupled else gradient + DECAY * weight
        first = BETA * first + (1 - BETA) * whole
        second = BETA2 * second + (1 - BETA2) * whole**2
        if decoupled:
            weight = weight * (1 - rate * DECAY)
        scale = np.sqrt(second / (1 - BETA2**step)) + TINY
        weight = weight - rate * first / (1 - BETA**step) / scale
    return weight


@pytest.mark.parametrize(
    ("optimizer", "nesterov", "formula"),
    [
        ("sgd", False, lambda w, g: sgd(w, g, nesterov=False)),
        ("sgd", True, lambda w, g: sgd(w, g, nesterov=True)),
        ("adam", False, lambda w, g: adam(w, g, decoupled=False)),
        ("adamw", False, lambda w, g: adam(w, g, decoupled=True)),
    ],
    ids=["sgd", "nesterov", "adam", "adamw"],
)
def test_three_steps_are_those_of_the_formula(optimizer: str, nesterov: bool, formula) -> None:
    changes = {"optimizer": optimizer, "nesterov": nesterov, "momentum": BETA, "decay": "all"}
    train = Train.model_validate(TRAIN.model_dump() | changes | {"weight_decay": DECAY})
    rng = np.random.default_rng(1)
    start, gradients = rng.normal(size=(3, 2)), rng.normal(size=(3, 3, 2))
    weight = torch.nn.Parameter(torch.tensor(start))
    built = build_optimizer(train, [weight])
    for rate, gradient in zip(RATES, gradients, strict=True):
        set_learning_rate(built, rate)
        weight.grad = torch.tensor(gradient)
        built.step()
    np.testing.assert_allclose(weight.detach().numpy(), formula(start, gradients), rtol=1e-12)
