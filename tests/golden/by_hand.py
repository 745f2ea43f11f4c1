"""What golden tests share: a network that NumPy can follow, and gradients by differences."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

K, PIXELS = 4, 6
STEP = 1e-6  # of the differences


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
