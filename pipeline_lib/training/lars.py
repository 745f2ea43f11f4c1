"""LARS: SGD whose steps are scaled per layer (You, Gitman, Ginsburg 2017).

As the official code of PAWS has it: the learning rate is inside the momentum, and vectors (biases, scale and
shift of normalisations) are neither scaled nor decayed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

TRUST = 1e-3
EPSILON = 1e-8


class Lars(torch.optim.Optimizer):
    """Layer-wise adaptive rate scaling.

    `g' = r (g + d w)` with `r = 1e-3 |w| / (|g| + d |w| + 1e-8)`; `g' = g` where `|w|` or `|g|` is 0 and in
    groups that say `adapt: False`. Then `v = m v + lr g'`, `w = w - v`.

    Args:
        params: groups of parameters, each with `weight_decay` d.
        lr: learning rate.
        momentum: m.
    """

    def __init__(self, params: list[dict[str, Any]], lr: float, momentum: float) -> None:
        super().__init__(
            params, {"lr": lr, "momentum": momentum, "weight_decay": 0.0, "adapt": True}
        )

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """Change every parameter by its gradient."""
        del closure
        for group in self.param_groups:
            weights = [w for w in group["params"] if w.grad is not None]
            if weights:
                self._move(weights, group)

    def _move(self, weights: list[Tensor], group: dict[str, Any]) -> None:
        directions = [w.grad for w in weights if w.grad is not None]
        if group["adapt"]:
            directions = _scaled(weights, directions, group["weight_decay"])
        velocities = [self._velocity(w) for w in weights]
        torch._foreach_mul_(velocities, group["momentum"])
        torch._foreach_add_(velocities, list(torch._foreach_mul(directions, group["lr"])))
        torch._foreach_sub_(weights, velocities)

    def _velocity(self, w: Tensor) -> Tensor:
        state = self.state[w]
        if "momentum_buffer" not in state:
            state["momentum_buffer"] = torch.zeros_like(w)
        velocity: Tensor = state["momentum_buffer"]
        return velocity


def _scaled(weights: list[Tensor], gradients: list[Tensor], decay: float) -> list[Tensor]:
    """Each layer's decayed gradient by its rate; no rate and no decay where a norm is 0."""
    w_norm_L, g_norm_L = (torch.stack(torch._foreach_norm(of)) for of in (weights, gradients))
    ratio_L = TRUST * w_norm_L / (g_norm_L + decay * w_norm_L + EPSILON)
    ratio_L = torch.where(w_norm_L == 0, 1, ratio_L).where(g_norm_L != 0, 0)
    decayed = torch._foreach_add(gradients, weights, alpha=decay)
    return [layer * ratio for layer, ratio in zip(decayed, ratio_L.unbind(), strict=True)]
