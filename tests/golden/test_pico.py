"""PiCO against the paper's algorithm, in NumPy float64, image by image: a warm-up, then guided steps."""

from __future__ import annotations

from collections import deque

import numpy as np
import pytest
import torch
from torch import nn

from pipeline_lib.losses import partial
from pipeline_lib.methods.pico import Pico
from pipeline_lib.models.classifier import Classifier
from pipeline_lib.params import methods as params
from tests.golden.by_hand import PIXELS, VISITS, K, World, run_step, slope, softmax

FEATURES, WIDTH = 5, 3
SETTINGS = {
    "embedding": WIDTH,
    "queue": 5,
    "temperature": 0.3,
    "contrast_weight": 0.7,
    "key_decay": 0.6,
    "prototype_decay": 0.8,
    "phi_start": 0.9,
    "phi_end": 0.5,
    "prototypes_from": 2,
}


def unit(v):
    return v / max(np.linalg.norm(v), 1e-12)


class Paper:
    """The algorithm with its state: label distributions, prototypes, queue, and weights of the keys."""

    def __init__(self, y_NK, weights, settings) -> None:
        self.y_NK, self.o = y_NK, settings
        self.s_NK = y_NK / y_NK.sum(axis=1, keepdims=True)
        self.mu_KD = np.zeros((K, WIDTH))
        self.queue = deque(maxlen=settings["queue"])
        self.keys = {name: w.copy() for name, w in weights.items() if name != "head"}

    def prepare(self, weights, strong_BP) -> list:
        """Move the weights of the keys, and embed the strong views."""
        m = self.o["key_decay"]
        self.keys = {name: m * w + (1 - m) * weights[name] for name, w in self.keys.items()}
        return [embed(self.keys, x_P) for x_P in strong_BP]

    def classes(self, weights, weak_BP, rows) -> list[int]:
        """The likeliest candidate of each image."""
        p_BK = softmax(logits(weights, weak_BP))
        return [int(np.argmax(p_K * y_K)) for p_K, y_K in zip(p_BK, self.y_NK[rows], strict=True)]

    def disambiguate(self, weights, weak_BP, rows, share) -> None:
        phi = self.o["phi_start"] + share * (self.o["phi_end"] - self.o["phi_start"])
        for row, x_P in zip(rows, weak_BP, strict=True):
            score_K = self.mu_KD @ embed(weights, x_P)
            nearest = max(np.flatnonzero(self.y_NK[row]), key=lambda k, s=score_K: s[k])
            self.s_NK[row] *= phi
            self.s_NK[row, nearest] += 1 - phi

    def loss(self, weights, weak_BP, rows, keys, classes, *, guided) -> float:
        tau, total = self.o["temperature"], 0.0
        queries = [embed(weights, x_P) for x_P in weak_BP]
        log_p_BK = np.log(softmax(logits(weights, weak_BP)))
        for i, q in enumerate(queries):
            if guided:
                others = [
                    (v, c) for j, (v, c) in enumerate(zip(queries, classes, strict=True)) if j != i
                ]
                others += [*zip(keys, classes, strict=True), *self.queue]
                positives = [v for v, c in others if c == classes[i]]
            else:
                others, positives = [(keys[i], None), *self.queue], [keys[i]]
            below = sum(np.exp(q @ v / tau) for v, _ in others)
            contrast = -np.mean([np.log(np.exp(q @ v / tau) / below) for v in positives])
            known = not self.y_NK[rows[i]].all()
            total -= known * (self.s_NK[rows[i]] * log_p_BK[i]).sum()
            total += self.o["contrast_weight"] * contrast
        return total / len(rows)

    def remember(self, weights, weak_BP, keys, classes) -> None:
        gamma = self.o["prototype_decay"]
        for x_P, c in zip(weak_BP, classes, strict=True):
            self.mu_KD[c] = gamma * self.mu_KD[c] + (1 - gamma) * embed(weights, x_P)
        self.mu_KD = np.array([unit(mu) for mu in self.mu_KD])
        self.queue.extend(zip(keys, classes, strict=True))


def features(weights, x_P):
    return weights["encoder"] @ ((x_P / 255 - 0.5) / 0.25)


def logits(weights, x_BP):
    return np.array([weights["head"] @ features(weights, x_P) for x_P in x_BP])


def embed(weights, x_P):
    """Linear, ReLU, linear, unit length."""
    hidden = np.maximum(weights["hidden"] @ features(weights, x_P), 0)
    return unit(weights["out"] @ hidden)


def make_pico(world, **changes) -> Pico:
    torch.manual_seed(0)
    encoder = nn.Sequential(nn.Flatten(), nn.Linear(PIXELS, FEATURES, bias=False))
    encoder.width = FEATURES
    classifier = Classifier(encoder, K, [0.5], [0.25])
    method = Pico(params.Pico(**(SETTINGS | changes)), world.problem, classifier)
    for layer in (classifier.head, *method.projection[::2], *method.key_projection[::2]):
        nn.init.zeros_(layer.bias)
    return method


def trained(method) -> dict[str, nn.Parameter]:
    return {
        "encoder": method.model.encoder[1].weight,
        "head": method.model.head.weight,
        "hidden": method.projection[0].weight,
        "out": method.projection[2].weight,
    }


@pytest.mark.parametrize("queue", [2, 5, 50], ids=["below a batch", "wraps", "never full"])
def test_steps_are_those_of_the_paper(queue) -> None:
    world = World(views=2)
    method = make_pico(world, queue=queue)
    paper = Paper(world.y_NK, as_numpy(method), SETTINGS | {"queue": queue})
    for step, rows in enumerate(VISITS):
        weights, (weak_BP, strong_BP) = as_numpy(method), world.pixels(step)
        guided = step >= SETTINGS["prototypes_from"]
        keys = paper.prepare(weights, strong_BP)
        classes = paper.classes(weights, weak_BP, rows)
        if guided:
            paper.disambiguate(weights, weak_BP, rows, step / len(VISITS))

        output = run_step(method, world, step)

        expected = paper.loss(weights, weak_BP, rows, keys, classes, guided=guided)
        assert float(output.loss.detach()) == pytest.approx(expected, rel=1e-4)
        for name, parameter in trained(method).items():

            def loss(weight, name=name, w=weights, a=(weak_BP, rows, keys, classes), g=guided):
                return paper.loss(w | {name: weight}, *a, guided=g)

            gradient = slope(loss, weights[name])
            np.testing.assert_allclose(parameter.grad, gradient, rtol=1e-3, atol=1e-4)
        paper.remember(weights, weak_BP, keys, classes)
        assert_same_state(method, paper)
        with torch.no_grad():
            for parameter in trained(method).values():
                parameter -= 0.3 * parameter.grad


def as_numpy(method) -> dict:
    return {name: w.detach().numpy().astype(float) for name, w in trained(method).items()}


def assert_same_state(method, paper) -> None:
    np.testing.assert_allclose(method.label_state(), paper.s_NK, rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(method.prototypes_KD, paper.mu_KD, rtol=1e-4, atol=1e-5)
    taken_Q = (method.queue_class_Q >= 0).numpy()
    found = sorted(
        (*v.tolist(), int(c))
        for v, c in zip(method.queue_QD[taken_Q], method.queue_class_Q[taken_Q], strict=True)
    )
    wanted = sorted((*v.tolist(), c) for v, c in paper.queue)
    np.testing.assert_allclose(np.array(found), np.array(wanted), rtol=1e-4, atol=1e-5)
    key_encoder = method.key_model.encoder[1].weight
    np.testing.assert_allclose(key_encoder, paper.keys["encoder"], rtol=1e-5, atol=1e-6)
    key_out = method.key_projection[2].weight
    np.testing.assert_allclose(key_out, paper.keys["out"], rtol=1e-5, atol=1e-6)


def test_before_the_prototypes_guide_the_label_distributions_stay_uniform() -> None:
    world = World(views=2)
    method = make_pico(world)
    uniform_NK = method.label_state().clone()
    for step in range(2):
        run_step(method, world, step)
        assert torch.equal(method.label_state(), uniform_NK)
    run_step(method, world, 2)
    assert not torch.equal(method.label_state(), uniform_NK)


def test_the_keys_carry_no_gradient_and_are_not_trained() -> None:
    world = World(views=2)
    method = make_pico(world)
    run_step(method, world, 3)
    keys = [*method.key_model.parameters(), *method.key_projection.parameters()]
    assert keys
    assert not any(key.requires_grad or key.grad is not None for key in keys)


def test_prototypes_move_by_one_embedding_after_the_other() -> None:
    draw = np.random.default_rng(5)
    mu_KD = draw.normal(size=(K, WIDTH))
    q_BD, class_B = draw.normal(size=(9, WIDTH)), np.array([0, 2, 2, 0, 2, 1, 2, 2, 0])
    moved = partial.moved_prototypes(*(torch.tensor(a) for a in (mu_KD, q_BD, class_B)), 0.7)
    for q_D, c in zip(q_BD, class_B, strict=True):
        mu_KD[c] = 0.7 * mu_KD[c] + 0.3 * q_D
    np.testing.assert_allclose(moved, [unit(mu_D) for mu_D in mu_KD], rtol=1e-12)
