"""A process of a training by two of them: compares every step with one that a process takes alone.

Run as torchrun would; writes the largest differences of every method, by what they are in.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from pipeline_lib.models.classifier import Classifier
from pipeline_lib.models.ranks import Ranks
from pipeline_lib.params.methods import KINDS
from pipeline_lib.training.distributed import met
from pipeline_lib.training.loop import Trainer
from pipeline_lib.training.state import restore
from tests.toy_methods import Quiet, make_trainer

DROPOUT = 0.2

State = tuple[dict[str, Tensor], dict[str, Any]]


class Memory:
    """A slot that keeps the last state."""

    def __init__(self) -> None:
        self.state: State | None = None

    def save(self, step: int, tensors: dict[str, Tensor], notes: dict[str, Any]) -> None:
        copies = {name: values.detach().clone() for name, values in tensors.items()}
        self.state = copies, json.loads(json.dumps({"step": step, **notes}))


class Precise(Classifier):
    """Embeds in double precision: sums of rows then hardly depend on who adds them up."""

    def _embed(self, images_BCHW: Tensor) -> Tensor:
        return super()._embed(images_BCHW.double()).float()


def networks(method: nn.Module) -> list[Classifier]:
    found = [part for part in method.modules() if isinstance(part, Classifier)]
    for network in found:
        network.__class__ = Precise
    return found


def trainer(name: str, ranks: Ranks | None) -> Trainer:
    made = make_trainer(name, Path("unused"))
    for network in networks(made.method):
        network.encoder.double()
    made.equip(0)
    made.ranks, made.slot = ranks, Memory()  # type: ignore[assignment]
    for layer in made.method.modules():
        if isinstance(layer, nn.Dropout):
            layer.p = DROPOUT
    return made


def state(trainer: Trainer) -> State:
    trainer.save()
    kept: State = trainer.slot.state  # type: ignore[attr-defined]
    return kept


class Compared:
    """Every step of `alone`, and the same one, from the same state, by all ranks."""

    def __init__(self, alone: Trainer, shared: Trainer) -> None:
        self.alone, self.shared = alone, shared
        self.differences: dict[str, float] = {}
        self.steps = 0
        self.take = alone.step
        alone.step = self.both  # type: ignore[method-assign]

    def both(self) -> None:
        before = state(self.alone)
        self.take()
        restore(self.shared, *before)
        self.shared.method.train()
        self.shared.step()
        self.steps += 1
        self.compare()

    def compare(self) -> None:
        pairs = zip(self.alone.method.parameters(), self.shared.method.parameters(), strict=True)
        for one, other in pairs:
            assert (one.grad is None) == (other.grad is None)
            if one.grad is not None and other.grad is not None:
                self.note("gradient", one.grad, other.grad)
        ours, theirs = state(self.alone)[0], state(self.shared)[0]
        assert ours.keys() == theirs.keys()
        for name, values in ours.items():
            if name.startswith(("method.", "meter.")):
                self.note(name.split(".")[0], values, theirs[name])

    def note(self, what: str, one: Tensor, other: Tensor) -> None:
        one, other = one.double(), other.double()
        most = float(((one - other).abs() / one.abs().clamp_min(1)).max()) if one.numel() else 0.0
        self.differences[what] = max(self.differences.get(what, 0.0), most)


def main(output: Path) -> None:
    torch.set_num_threads(1)
    found = {}
    with met(torch.device("cpu")) as ranks:
        assert ranks is not None
        for name in KINDS:
            alone, shared = trainer(name, None), trainer(name, ranks)
            compared = Compared(alone, shared)
            alone.run(Quiet())
            found[name] = {**compared.differences, "steps": compared.steps}
    output.write_text(json.dumps(found))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
