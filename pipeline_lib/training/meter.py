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
    """Sums since the last evaluation, and the first step whose loss was not finite.

    Everything is changed in place, so that a step's share in it can be recorded.

    Args:
        device: of training.
        step: number of the first step that is added.
    """

    def __init__(self, device: torch.device, step: int) -> None:
        # MPS has no float64.
        self.dtype = torch.float32 if device.type == "mps" else torch.float64
        self.names: tuple[str, ...] = ()
        self.sum_V = torch.zeros(0, dtype=self.dtype, device=device)
        self.count = torch.tensor(0, device=device)
        self.step = torch.tensor(step, device=device)
        self.bad_step = torch.tensor(-1, device=device)

    def add(self, output: StepOutput) -> None:
        """Take in one step; all steps have the same scalars."""
        loss = output.loss.detach()
        values = dict(sorted({"loss": loss, **output.scalars}.items()))  # as a restored state is
        if not self.names:
            self.names = tuple(values)
            self.sum_V = self.sum_V.new_zeros(len(values))
        self.sum_V += torch.stack([value.to(self.dtype) for value in values.values()])
        self.count += 1
        broken = ~torch.isfinite(loss) & (self.bad_step < 0)
        self.bad_step.copy_(torch.where(broken, self.step, self.bad_step))
        self.step += 1

    def take(self) -> dict[str, float]:
        """Means since the last call, and start again; nothing where there was no step."""
        count, sums = int(self.count), self.sum_V.tolist()
        self.sum_V.zero_()
        self.count.zero_()
        return {name: total / count for name, total in zip(self.names, sums, strict=True) if count}

    def tensors(self) -> dict[str, Tensor]:
        """The sums, for the resume state."""
        return {**dict(zip(self.names, self.sum_V.clone(), strict=True)), COUNT: self.count.clone()}

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Undo `tensors`."""
        sums = {name: total for name, total in tensors.items() if name != COUNT}
        self.names = tuple(sums)
        self.sum_V = torch.stack(list(sums.values())).to(self.sum_V) if sums else self.sum_V
        self.count.copy_(tensors[COUNT])
