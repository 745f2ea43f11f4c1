"""The learning rate as a function of where training is."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pipeline_lib.params.sections import Train
    from pipeline_lib.records import Clock

# one_cycle (Smith, Topin 2018), with the constants that torch's scheduler has by default.
ONE_CYCLE_RISE = 0.3
ONE_CYCLE_START = 1 / 25
ONE_CYCLE_END = 1e-4 / 25


def learning_rate(train: Train, clock: Clock) -> float:
    """Learning rate of the step that `clock` shows."""
    warmup_steps = train.warmup_epochs * clock.steps_per_epoch
    if warms_up(train, clock):
        share = min((clock.step + 1) / warmup_steps, 1.0)
        return train.learning_rate * (train.warmup_start + (1 - train.warmup_start) * share)
    match train.schedule:
        case "constant":
            factor = 1.0
        case "one_cycle":
            factor = _one_cycle(clock.step, clock.total_steps)
        case "cosine":
            length = max(clock.total_steps - warmup_steps, 1)
            progress = (clock.step - warmup_steps) / length
            factor = _cosine(progress, train.cosine_cycles, train.cosine_end)
        case "multi_step":
            factor = train.gamma ** sum(clock.epoch >= epoch for epoch in train.milestones)
    return train.learning_rate * factor


def warms_up(train: Train, clock: Clock) -> bool:
    """Whether the step that `clock` shows is one of the warm-up; `one_cycle` has a start of its own."""
    return (
        train.schedule != "one_cycle" and clock.step < train.warmup_epochs * clock.steps_per_epoch
    )


def _cosine(progress: float, cycles: float, end: float) -> float:
    """Half a cosine wave for 0.5 cycles; `cos(7 pi / 16 progress)` of FixMatch for 7/32.

    From 1 at the start; 0.5 cycles end at `end`, and fewer cycles use the first quarter of the wave.
    """
    if cycles == 0.5:
        return end + (1 - end) * 0.5 * (1 + math.cos(math.pi * progress))
    return max(math.cos(2 * math.pi * cycles * progress), 0.0)


def _one_cycle(step: int, total_steps: int) -> float:
    """Cosine up to the peak over 30 % of the steps, cosine down to almost nothing over the rest."""
    rise = ONE_CYCLE_RISE * total_steps - 1
    if rise > 0 and step <= rise:
        return _between(ONE_CYCLE_START, 1.0, step / rise)
    return _between(1.0, ONE_CYCLE_END, (step - rise) / max(total_steps - 1 - rise, 1))


def _between(start: float, end: float, share: float) -> float:
    return end + (start - end) * 0.5 * (1 + math.cos(math.pi * share))
