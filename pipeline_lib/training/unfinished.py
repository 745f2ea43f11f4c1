"""What a training is too short for: ramps, schedules and averages that do not come to their end."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch.nn.modules.batchnorm import _BatchNorm

from pipeline_lib.errors import listed
from pipeline_lib.records import Clock

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pipeline_lib.methods.phases import Phase
    from pipeline_lib.params.load import Params
    from pipeline_lib.training.loop import Trainer

START = 0.05  # share of an average that may be left of what it started with
RISEN = 0.9  # of its height, that the weight of a loss is to reach


def unfinished(params: Params, trainer: Trainer, phases: Sequence[Phase]) -> list[str]:
    """Say of which settings a training of this length sees the beginning only: a sentence each.

    Args:
        params: all of them.
        trainer: of it.
        phases: those to come, or those that were, which may have ended early.
    """
    steps_per_epoch = trainer.steps_per_epoch
    told = [
        f"{sentence}{f' (phase {phase.name})' if len(phases) > 1 else ''}"
        for phase in phases
        if phase.steps
        for sentence in _of_phase(phase, steps_per_epoch)
    ]
    *_, last = phases
    risen = trainer.method.risen(Clock(last.steps - 1, last.steps, steps_per_epoch))
    if last.steps and risen < RISEN:
        told.append(
            f"methods.{params.method}: a ramp ends at {100 * risen:.0f} % of its height; shorten it, or train longer"
        )
    momentum = params.model.bn_momentum
    steps = sum(phase.steps for phase in phases)
    left = (1 - momentum) ** (steps * trainer.method.recordings_per_step)
    measured = any(phase.refresh_statistics for phase in phases)
    normalises = any(isinstance(module, _BatchNorm) for module in trainer.method.modules())
    if normalises and not measured and START < left < 1:
        told.append(
            f"model.bn_momentum {momentum:g}: after {steps:,} steps, {100 * left:.0f} % of the batch statistics that "
            f"predictions are made with are still those from before training; raise it, or train longer"
        )
    return told


def _of_phase(phase: Phase, steps_per_epoch: int) -> Iterator[str]:
    train, epochs = phase.train, phase.steps / steps_per_epoch
    last = Clock(phase.steps - 1, phase.steps, steps_per_epoch)
    late = [epoch for epoch in train.milestones if epoch > last.epoch]
    if train.schedule == "multi_step" and late:
        yield f"train.milestones {listed(late)}: training has {epochs:g} epochs, and the learning rate is not lowered there"
    # Half a step: the product is of a quotient, and may be a little more than the steps it came from.
    lacking = train.warmup_epochs * steps_per_epoch - phase.steps
    if train.schedule != "one_cycle" and train.warmup_start < 1 and lacking > 0.5:
        yield f"train.warmup_epochs {train.warmup_epochs:g}: training has {epochs:g} epochs, and the learning rate does not reach its peak"
    left = train.ema_decay**phase.steps
    if START < left < 1:
        yield (
            f"train.ema_decay {train.ema_decay:g}: after {phase.steps:,} steps, {100 * left:.0f} % of the averaged weights are "
            f"still those of the start; lower it, or train longer"
        )
