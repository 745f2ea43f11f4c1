"""What the resume state of a training holds: all that the loop changes."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from pipeline_lib.models.weights import load_weights
from pipeline_lib.training.meter import Meter
from pipeline_lib.training.optimizer import optimizer_tensors, restore_optimizer
from pipeline_lib.training.plateau import Plateau
from pipeline_lib.training.record import Record, below, prefixed

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from pipeline_lib.training.loop import Trainer


def state(trainer: Trainer) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The tensors of the state, and everything else in a form for JSON."""
    tensors = prefixed("method", trainer.method.state_dict())
    tensors |= prefixed("optimizer", optimizer_tensors(trainer.optimizer))
    tensors |= prefixed("ema", trainer.ema.tensors())
    tensors |= prefixed("meter", trainer.meter.tensors())
    tensors |= prefixed("record", trainer.record.tensors())
    notes = {
        **trainer.extra_notes,
        "phase": trainer.number,
        "before": trainer.before,
        "clock": trainer.clock.step,
        "rate": trainer.rate,
        "plateau": trainer.plateau.notes(),
        "record": trainer.record.notes(),
    }
    return tensors, notes


def restore(trainer: Trainer, tensors: Mapping[str, Tensor], notes: Mapping[str, Any]) -> None:
    """Undo `state`."""
    trainer.method.phase = trainer.phases[notes["phase"]].name
    trainer.before = notes["before"]
    trainer.equip(notes["phase"])
    trainer.meter = Meter(trainer.pool.device, trainer.before + notes["clock"])
    load_weights(trainer.method, below("method", tensors))
    restore_optimizer(trainer.optimizer, below("optimizer", tensors))
    trainer.ema.restore(below("ema", tensors))
    trainer.meter.restore(below("meter", tensors))
    trainer.clock = dataclasses.replace(trainer.clock, step=notes["clock"])
    trainer.resumed_at = trainer.done
    trainer.rate = notes["rate"]
    trainer.plateau = Plateau(**notes["plateau"])
    trainer.record = Record.restored(below("record", tensors), notes["record"])
