"""Means of the training's scalars, kept on the device: reading one back would wait for the GPU."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from pipeline_lib.records import StepOutput

COUNT = "#count"  # no scalar of a method has this name


class Meter:
    """Sums since the last evaluation, and the first step whose loss was not finite."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.dtype = torch.float32 if device.type == "mps" else torch.float64  # MPS has no float64
        self.sums: dict[str, Tensor] = {}
        self.count = 0
        self.bad_step = torch.tensor(-1, device=device)

    def add(self, output: StepOutput, step: int) -> None:
        """Take in one step."""
        loss = output.loss.detach()
        for name, value in {"loss": loss, **output.scalars}.items():
            wide = value.to(self.device, self.dtype)
            self.sums[name] = self.sums[name] + wide if name in self.sums else wide
        self.count += 1
        broken = ~torch.isfinite(loss) & (self.bad_step < 0)
        self.bad_step = torch.where(broken, step, self.bad_step)

    def take(self) -> dict[str, float]:
        """Means since the last call, and start again."""
        means = {name: float(total) / self.count for name, total in self.sums.items()}
        self.sums, self.count = {}, 0
        return means

    def tensors(self) -> dict[str, Tensor]:
        """The sums, for the resume state."""
        return {**self.sums, COUNT: torch.tensor(self.count)}

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Undo `tensors`."""
        self.sums = {name: t.to(self.device) for name, t in tensors.items() if name != COUNT}
        self.count = int(tensors[COUNT])
