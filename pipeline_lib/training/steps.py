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
    output = forward(method, batch, train, clock, seed, number)
    backward(output, optimizer)
    move(method, optimizer, train)
    return output


def forward(
    method: Method, batch: Batch, train: Train, clock: Clock, seed: int, number: int
) -> StepOutput:
    """The loss of a batch; arguments as of `take_step`."""
    half = train.precision == "bf16"
    device = next(iter(batch.index.values())).device
    with (
        seeded_layers(seed, "layers", number),
        torch.autocast(device.type, torch.bfloat16, enabled=half),
    ):
        return method.training_step(batch, clock, StepRng(seed, number))


def backward(output: StepOutput, optimizer: torch.optim.Optimizer) -> None:
    """Its gradient, in place of the last one."""
    optimizer.zero_grad(set_to_none=True)
    output.loss.backward()


def move(method: Method, optimizer: torch.optim.Optimizer, train: Train) -> None:
    """Follow the gradient, cut to the length that `train` allows."""
    if train.clip_gradient is not None:
        torch.nn.utils.clip_grad_norm_(method.parameters(), train.clip_gradient)
    optimizer.step()
