"""What golden tests share: a network that NumPy can follow, candidate sets to train it on, and gradients by differences."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from pipeline_lib.records import Batch, Clock, Problem
from pipeline_lib.rng import StepRng

K, PIXELS = 4, 6
STEP = 1e-6  # of the differences
N = 7
# Overlapping batches: image 2 is in all of them, image 6 in none.
VISITS = ([0, 1, 2], [2, 3, 4], [5, 2, 0], [1, 2, 4])
UNKNOWN = 4  # of this one every class is a candidate


class LinearModel(nn.Module):
    """Logits are linear in the pixels, so that NumPy can follow; float32, as every network's."""

    def __init__(self) -> None:
        super().__init__()
        draw = np.random.default_rng(7)
        self.weight_PK = nn.Parameter(torch.tensor(draw.normal(size=(PIXELS, K)) / 300))

    def forward(self, images_BCHW):
        return (images_BCHW.flatten(1).double() @ self.weight_PK).float()


def softmax(z_BK):
    e_BK = np.exp(z_BK - z_BK.max(axis=1, keepdims=True))
    return e_BK / e_BK.sum(axis=1, keepdims=True)


def slope(function, weight_PK):
    """The gradient of `function` at `weight_PK`, by central differences."""
    gradient_PK = np.zeros_like(weight_PK)
    for place in np.ndindex(weight_PK.shape):
        up, down = weight_PK.copy(), weight_PK.copy()
        up[place] += STEP
        down[place] -= STEP
        gradient_PK[place] = (function(up) - function(down)) / (2 * STEP)
    return gradient_PK


class World:
    """Candidate sets, and the same random views for torch and NumPy."""

    def __init__(self, views: int) -> None:
        draw = np.random.default_rng(3)
        self.y_NK = np.zeros((N, K))
        self.y_NK[np.arange(N), draw.integers(K, size=N)] = 1
        self.y_NK[np.arange(N - 1), draw.integers(K, size=N - 1)] = 1
        self.y_NK[UNKNOWN] = 1
        self.images = [
            draw.integers(0, 256, size=(views, len(rows), 1, 2, 3), dtype=np.uint8)
            for rows in VISITS
        ]
        candidates = torch.tensor(self.y_NK, dtype=torch.bool)
        self.problem = Problem(
            candidates, ("partial",) * N, tuple("abcd"), 3, torch.zeros(N, 1, 4, 4)
        )

    def batch(self, step: int) -> Batch:
        rows = VISITS[step]
        return Batch(
            {"train": torch.tensor(rows)},
            {"train": tuple(torch.tensor(view) for view in self.images[step])},
            {"train": torch.tensor(self.y_NK[rows], dtype=torch.float32)},
        )

    def pixels(self, step: int):
        views, images = self.images[step].shape[:2]
        return self.images[step].reshape(views, images, PIXELS).astype(float)


def run_step(method, world, step, steps_per_epoch=1):
    method.zero_grad()
    clock = Clock(step, len(VISITS), steps_per_epoch)
    output = method.training_step(world.batch(step), method.draw(clock, StepRng(0, step)))
    output.loss.backward()
    return output
