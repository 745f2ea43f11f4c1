"""One step of training."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from pipeline_lib.rng import StepRng
from pipeline_lib.training.device import sent
from pipeline_lib.training.distributed import over, reduce_gradients

if TYPE_CHECKING:
    from pipeline_lib.methods.base import Method
    from pipeline_lib.models.ranks import Ranks
    from pipeline_lib.params.sections import Train
    from pipeline_lib.records import Batch, Clock, Drawn, StepOutput
    from pipeline_lib.training.pool import Pool


def draw(method: Method, clock: Clock, pool: Pool, number: int) -> Drawn:
    """What the method needs in a step besides the batch, on the device.

    Args:
        method: in a phase.
        clock: of the phase.
        pool: of the images, with the seed and the device of training.
        number: of the step, over all phases.
    """
    drawn = method.draw(clock, StepRng(pool.seed, number))
    return {name: sent(values, pool.device) for name, values in drawn.items()}


def take_step(
    method: Method,
    batch: Batch,
    drawn: Drawn,
    optimizer: torch.optim.Optimizer,
    train: Train,
    ranks: Ranks | None = None,
) -> StepOutput:
    """Move the weights by the gradient of one batch; layers draw from torch's global generators.

    Args:
        method: in training mode.
        batch: of its streams.
        drawn: what it needs besides.
        optimizer: its learning rate is set.
        train: precision, and the largest gradient.
        ranks: the processes that take the step together; None = this one alone.
    """
    with over(method, ranks):
        output = forward(method, batch, drawn, train)
        backward(output, optimizer)
    if ranks:
        reduce_gradients(method, ranks)
    move(method, optimizer, train)
    return output


def forward(method: Method, batch: Batch, drawn: Drawn, train: Train) -> StepOutput:
    """The loss of a batch; arguments as of `take_step`."""
    device = next(iter(batch.index.values())).device
    with torch.autocast(device.type, torch.bfloat16, enabled=train.precision == "bf16"):
        return method.training_step(batch, drawn)


def backward(output: StepOutput, optimizer: torch.optim.Optimizer) -> None:
    """Its gradient, in place of the last one."""
    optimizer.zero_grad(set_to_none=True)
    output.loss.backward()


def move(method: Method, optimizer: torch.optim.Optimizer, train: Train) -> None:
    """Follow the gradient, cut to the length that `train` allows."""
    if train.clip_gradient is not None:
        torch.nn.utils.clip_grad_norm_(method.parameters(), train.clip_gradient)
    optimizer.step()
