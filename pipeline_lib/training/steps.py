"""One step of training."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from pipeline_lib.rng import StepRng, seeded_layers

if TYPE_CHECKING:
    from pipeline_lib.methods.base import Method
    from pipeline_lib.params.sections import Train
    from pipeline_lib.records import Batch, Clock, StepOutput


def take_step(
    method: Method,
    batch: Batch,
    optimizer: torch.optim.Optimizer,
    train: Train,
    clock: Clock,
    seed: int,
    number: int,
) -> StepOutput:
    """Move the weights by the gradient of one batch.

    Args:
        method: in training mode.
        batch: of its streams.
        optimizer: its learning rate is set.
        train: precision, and the largest gradient.
        clock: of the phase.
        seed: of the layers and of the method's own draws.
        number: of the step, over all phases.
    """
    half = train.precision == "bf16"
    device = next(iter(batch.index.values())).device
    with (
        seeded_layers(seed, "layers", number),
        torch.autocast(device.type, torch.bfloat16, enabled=half),
    ):
        output = method.training_step(batch, clock, StepRng(seed, number))
    optimizer.zero_grad(set_to_none=True)
    output.loss.backward()
    if train.clip_gradient is not None:
        torch.nn.utils.clip_grad_norm_(method.parameters(), train.clip_gradient)
    optimizer.step()
    return output
