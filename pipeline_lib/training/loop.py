"""The one training loop."""

from __future__ import annotations

import dataclasses
import math
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch

from pipeline_lib.errors import UserError
from pipeline_lib.records import Clock
from pipeline_lib.rng import StepRng, seeded_layers
from pipeline_lib.training.ema import Ema
from pipeline_lib.training.meter import Meter
from pipeline_lib.training.optimizer import (
    build_optimizer,
    optimizer_tensors,
    restore_optimizer,
    set_learning_rate,
)
from pipeline_lib.training.schedule import learning_rate
from pipeline_lib.training.selection import Rule, Validation, score, validate

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from torch import Tensor

    from pipeline_lib.methods.base import Method
    from pipeline_lib.params.sections import Train
    from pipeline_lib.training.pool import Pool
    from pipeline_lib.training.progress import TrainingProgress
    from pipeline_lib.training.resume import Slot

CHECK_EVERY = 50  # steps between looks for a loss that is not finite
PARTS = ("train", "val")


@dataclass
class Record:
    """What a training has to show: its history, and the weights of the epoch that is kept."""

    rows: list[dict[str, float]] = field(default_factory=list)
    # Predicted class of every image at each evaluation, by part; no "train" without a label table.
    labels: dict[str, list[Tensor]] = field(default_factory=lambda: {part: [] for part in PARTS})
    best: dict[str, Tensor] = field(default_factory=dict)
    best_labels_NK: Tensor | None = None  # the method's label table at that time, if it keeps one
    best_epoch: int = 0
    best_score: float = -float("inf")
    without_better: int = 0


class Trainer:
    """A method in training: the loop, and all of its state.

    Args:
        method: on the device already.
        pool: its training images.
        validation: on the device.
        train: the section of params.yaml.
        rule: by which the kept epoch is chosen.
        clock: at step 0, with the totals.
        slot: of the resume state.
        seed: of the layers and of the method's own draws.
    """

    def __init__(
        self,
        method: Method,
        pool: Pool,
        validation: Validation,
        train: Train,
        rule: Rule,
        clock: Clock,
        slot: Slot,
        seed: int,
    ) -> None:
        self.method, self.pool, self.validation, self.train = method, pool, validation, train
        self.rule, self.clock, self.slot, self.seed = rule, clock, slot, seed
        self.optimizer = build_optimizer(train, method.parameters())
        self.ema = Ema(method, train.ema_decay)
        self.meter = Meter(pool.device)
        self.record = Record()
        self.rate = learning_rate(train, clock)

    def run(self, progress: TrainingProgress) -> Record:
        """Train to the end, from wherever the state is.

        Raises:
            UserError: The loss is not finite; the last good resume state is kept.
        """
        self.method.train()
        if not self.record.rows:
            self._evaluate(progress, epoch=0)
        period = self.train.evaluate_every * self.clock.steps_per_epoch
        saved_at = time.monotonic()
        for step in range(self.clock.step, self.clock.total_steps):
            self._step(Clock(step, self.clock.total_steps, self.clock.steps_per_epoch))
            done = step + 1
            progress.step(done)
            last = done == self.clock.total_steps
            if done % period == 0 or last:
                self._evaluate(progress, epoch=-(-done // self.clock.steps_per_epoch))
                if self._is_stale():
                    progress.say(f"no better evaluation for {self.train.patience}: stopped")
                    break
            elif done % CHECK_EVERY == 0:
                self._stop_if_broken()
            if time.monotonic() - saved_at >= self.train.checkpoint_seconds and not last:
                self.save()
                saved_at = time.monotonic()
        return self.record

    def _step(self, clock: Clock) -> None:
        self.clock = clock
        self.rate = learning_rate(self.train, clock)
        set_learning_rate(self.optimizer, self.rate)
        batch = self.pool.batch(self.method.streams, clock.step)
        half = self.train.precision == "bf16"
        with (
            seeded_layers(self.seed, "layers", clock.step),
            torch.autocast(self.pool.device.type, torch.bfloat16, enabled=half),
        ):
            output = self.method.training_step(batch, clock, StepRng(self.seed, clock.step))
        self.optimizer.zero_grad(set_to_none=True)
        output.loss.backward()
        if self.train.clip_gradient is not None:
            torch.nn.utils.clip_grad_norm_(self.method.parameters(), self.train.clip_gradient)
        self.optimizer.step()
        self.ema.update()
        self.meter.add(output, clock.step)
        self.clock = Clock(clock.step + 1, clock.total_steps, clock.steps_per_epoch)

    def _evaluate(self, progress: TrainingProgress, epoch: int) -> None:
        """Measure on the validation images, add a row to the history, keep the weights if better."""
        self._stop_if_broken()
        record = self.record
        table_NK = self.method.label_state()
        with self.ema.applied():
            verdict = validate(self.method.predictor(), self.validation)
            self._stop_if_broken(verdict.measures.values() if verdict else ())
            current = score(self.rule, verdict, epoch)
            # A tie goes to the later epoch: its learning rate is lower.
            if current >= record.best_score:
                record.best = {
                    name: tensor.detach().clone()
                    for name, tensor in self.method.predictor().state_dict().items()
                }
                record.best_epoch = epoch
                record.best_labels_NK = None if table_NK is None else table_NK.clone()
            record.without_better = 0 if current > record.best_score else record.without_better + 1
            record.best_score = max(record.best_score, current)
        self.method.train()
        row = {"epoch": epoch, "step": self.clock.step, "learning_rate": self.rate}
        row |= self.meter.take() | (verdict.measures if verdict else {})
        record.rows.append(row)
        if verdict:
            record.labels["val"].append(verdict.labels_M)
        if table_NK is not None:
            record.labels["train"].append(table_NK.argmax(dim=1).to(torch.int16).cpu())
        progress.evaluated(row, self.clock.step)

    def _stop_if_broken(self, measures: Iterable[float] = ()) -> None:
        """Look for a number that is not finite: in the losses so far, the weights, or `measures`.

        Raises:
            UserError: There is one; the message says when, and what to change. Nothing is saved then, so
                that the resume state stays at numbers that are finite.
        """
        weights = torch._foreach_norm([p.detach() for p in self.method.parameters()])
        step = int(self.meter.bad_step)
        if step >= 0:
            what = f"the loss of step {step}"
        elif not bool(torch.stack(weights).isfinite().all()):
            step, what = self.clock.step - 1, f"a weight after step {self.clock.step - 1}"
        elif not all(map(math.isfinite, measures)):
            step, what = self.clock.step - 1, f"a prediction after step {self.clock.step - 1}"
        else:
            return
        rate = learning_rate(self.train, dataclasses.replace(self.clock, step=step))
        msg = (
            f"train: {what} is not finite (learning rate {rate:.3g}); lower train.learning_rate or set "
            f"train.clip_gradient"
        )
        raise UserError(msg)

    def _is_stale(self) -> bool:
        patience = self.train.patience
        return patience is not None and self.record.without_better >= patience

    def save(self) -> None:
        """Write the resume state."""
        self._stop_if_broken()
        record = self.record
        tensors = _prefixed("method", self.method.state_dict())
        tensors |= _prefixed("optimizer", optimizer_tensors(self.optimizer))
        tensors |= _prefixed("ema", self.ema.tensors())
        tensors |= _prefixed("meter", self.meter.tensors())
        tensors |= _prefixed("best", record.best)
        if record.best_labels_NK is not None:
            tensors["best_labels"] = record.best_labels_NK
        tensors |= {f"labels.{p}": torch.stack(v) for p, v in record.labels.items() if v}
        notes = {
            name: getattr(record, name)
            for name in ("rows", "best_epoch", "best_score", "without_better")
        }
        self.slot.save(self.clock.step, tensors, {"rate": self.rate, **notes})

    def restore(self, tensors: Mapping[str, Tensor], notes: Mapping[str, Any]) -> None:
        """Undo `save`."""
        self.method.load_state_dict(_below("method", tensors))
        restore_optimizer(self.optimizer, _below("optimizer", tensors))
        self.ema.restore(_below("ema", tensors))
        self.meter.restore(_below("meter", tensors))
        self.clock = Clock(notes["step"], self.clock.total_steps, self.clock.steps_per_epoch)
        self.rate = notes["rate"]
        self.record = Record(
            rows=notes["rows"],
            labels={p: list(tensors.get(f"labels.{p}", torch.empty(0))) for p in PARTS},
            best={k: t.to(self.pool.device) for k, t in _below("best", tensors).items()},
            best_labels_NK=tensors.get("best_labels"),
            best_epoch=notes["best_epoch"],
            best_score=notes["best_score"],
            without_better=notes["without_better"],
        )


def _prefixed(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {f"{prefix}.{name}": tensor for name, tensor in tensors.items()}


def _below(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    start = f"{prefix}."
    return {n.removeprefix(start): t for n, t in tensors.items() if n.startswith(start)}
