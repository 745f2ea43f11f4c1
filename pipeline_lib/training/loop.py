"""The one training loop."""

from __future__ import annotations

import contextlib
import dataclasses
import time
from typing import TYPE_CHECKING, Any

import torch

from pipeline_lib.errors import InterruptedRunError, in_one_line
from pipeline_lib.models.batch_norm import refresh_statistics
from pipeline_lib.records import Clock
from pipeline_lib.rng import seeded_layers
from pipeline_lib.training.alarms import stop_if_broken, stop_if_collapsed
from pipeline_lib.training.device import own_stream
from pipeline_lib.training.distributed import stop_if_apart
from pipeline_lib.training.ema import Ema
from pipeline_lib.training.interruption import Interruption
from pipeline_lib.training.meter import Meter
from pipeline_lib.training.optimizer import build_optimizer, set_learning_rate
from pipeline_lib.training.plateau import Plateau
from pipeline_lib.training.pool import Feed
from pipeline_lib.training.record import Kept, Record
from pipeline_lib.training.replay import Replayed, of_compiler
from pipeline_lib.training.saving import Saving
from pipeline_lib.training.schedule import learning_rate, warms_up
from pipeline_lib.training.selection import Rule, Validation, score, validate
from pipeline_lib.training.state import state
from pipeline_lib.training.steps import draw, take_step

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from torch import Tensor

    from pipeline_lib.methods.base import Method
    from pipeline_lib.models.ranks import Ranks
    from pipeline_lib.params.sections import Train
    from pipeline_lib.records import Batch, Drawn, StepOutput
    from pipeline_lib.training.pool import Pool
    from pipeline_lib.training.progress import TrainingProgress
    from pipeline_lib.training.resume import Slot

REFRESHING_BATCHES = 50  # over which batch statistics are measured anew


class Trainer:
    """A method in training: the loop, and all of its state.

    Args:
        method: on the device already.
        pool: its training images.
        validation: on the device.
        train: the section of params.yaml.
        rule: by which the kept epoch is chosen.
        steps_per_epoch: what an epoch is.
        slot: of the resume state.
        ranks: the processes that train together; None = this one alone.
        interruption: by signals; None = by none.
    """

    def __init__(
        self,
        method: Method,
        pool: Pool,
        validation: Validation,
        train: Train,
        rule: Rule,
        steps_per_epoch: int,
        slot: Slot,
        ranks: Ranks | None = None,
        interruption: Interruption | None = None,
    ) -> None:
        self.method, self.pool, self.validation, self.train = method, pool, validation, train
        self.ranks = ranks
        self.rule, self.steps_per_epoch, self.slot = rule, steps_per_epoch, slot
        phases = method.phases(train, steps_per_epoch)
        untrained = (dataclasses.replace(phases[0], steps=0),)
        self.phases = tuple(p for p in phases if p.steps and train.epochs) or untrained
        self.unlabeled_N = pool.candidates_NK.all(dim=1).nonzero().flatten()
        self.record = Record()
        self.extra_notes: dict[str, Any] = {}  # of the caller, for the resume state
        self.before = 0  # steps of the phases before this one
        self.resumed_at = 0  # steps that earlier processes took
        self.ms_per_step: dict[str, float] = {}  # of each phase, in this process
        self.saving = Saving(train, interruption or Interruption(), ranks)
        self.say: Callable[[str], None] = print
        self.method.enter(self.phases[0])
        on_gpu = pool.device.type == "cuda" and ranks is None  # a record of several is not tried
        self.replayed = on_gpu and train.gpu_steps != "plain"
        self.compiled = on_gpu and train.gpu_steps == "compiled"
        if self.compiled:
            method.model.encoder.compile(dynamic=False)
        self.equip(0)

    def equip(self, number: int) -> None:
        """What a phase starts with: batches, optimizer, averages, clock."""
        self.number, self.phase = number, self.phases[number]
        self.clock = Clock(0, self.phase.steps, self.steps_per_epoch)
        self.feed = Feed(self.pool, self.method.streams)
        self.optimizer = build_optimizer(self.phase.train, self.method.parameters())
        self.ema = Ema(self.method, self.train.ema_decay)
        self.plateau = Plateau()
        self.meter = Meter(self.pool.device, self.before)
        self.rate = self._rate_at(self.clock)
        self.advance: Callable[[Batch, Drawn], None] = self._advance
        if self.replayed:
            self.advance = Replayed(self._advance, lambda why: self.say(why))

    def _advance(self, batch: Batch, drawn: Drawn) -> None:
        """What a step changes, all of it in place."""
        try:
            output = self._taken(batch, drawn)
        except RuntimeError as error:
            if not self.compiled or not of_compiler(error):
                raise
            self.say(f"the network is not compiled: {in_one_line(error)}")
            self.compiled = False
            self.method.model.encoder._compiled_call_impl = None  # what `compile` has set
            output = self._taken(batch, drawn)
        self.ema.update()
        self.meter.add(output)

    def _taken(self, batch: Batch, drawn: Drawn) -> StepOutput:
        return take_step(self.method, batch, drawn, self.optimizer, self.train, self.ranks)

    @property
    def done(self) -> int:
        """Steps taken."""
        return self.before + self.clock.step

    @property
    def most_steps(self) -> int:
        """Steps of the whole training, if no phase ends early from here on."""
        return self.before + sum(phase.steps for phase in self.phases[self.number :])

    def run(self, progress: TrainingProgress) -> Record:
        """Train to the end, from wherever the state is.

        Raises:
            UserError: A number is not finite, or the predictions have collapsed; the last good resume state
                is kept.
        """
        self.say = progress.say
        with own_stream(self.pool.device):
            record = self._run(progress)
        self.advance = self._advance  # a recorded step keeps the memory that it works in
        return record

    def _run(self, progress: TrainingProgress) -> Record:
        self.method.train()
        since = time.monotonic()
        if not self.record.rows:
            first = self._evaluate(progress)
            if any(phase.stability for phase in self.phases) and "val_loss" not in first:
                progress.say(
                    "phases end when the training loss is stable: no validation image tells its class; "
                    "split.val_labels: clean gives them one label each"
                )
        while True:
            why = self._run_phase(progress)
            since = self._timed(since)
            self._close_phase(progress, why)
            if self.number + 1 == len(self.phases):
                return self.record
            self.ema.settle()
            self.before = self.done
            self.method.enter(self.phases[self.number + 1])
            self.equip(self.number + 1)
            self.record.begin_phase()

    def _run_phase(self, progress: TrainingProgress) -> str:
        """Take the steps of the current phase; says why it ended."""
        period = self.phase.evaluate_every or self.train.evaluate_every * self.steps_per_epoch
        while self.clock.step < self.phase.steps:
            self.step()
            progress.step(self.done)
            last = self.clock.step == self.phase.steps
            if last and self.phase.refresh_statistics:
                self._refresh_statistics()
            if last or self.clock.step % period == 0:
                why = self._judge(self._evaluate(progress), progress)
                if why:
                    return why
            if not last:
                self._do_what_is_due()
        return f"all of its {self.phase.steps} steps"

    def _do_what_is_due(self) -> None:
        """From time to time look for numbers that are not finite, and save the resume state; also before the end.

        Raises:
            UserError: See `_stop_if_broken`.
            InterruptedRunError: The process is to be ended.
        """
        due = self.saving.due(self.done)
        if due.look:
            self._stop_if_broken()
        if due.save and self.saving.ours:
            with self.saving.timed():
                self.save()
        if due.end:
            msg = (
                f"train: {due.end.name} after step {self.done} of {self.most_steps}; the state is saved in "
                f"{self.slot.folder}: run the same command again to go on"
            )
            raise InterruptedRunError(msg, due.end)

    def step(self) -> None:
        """Take the next step of the phase."""
        self.rate = self._rate_at(self.clock)
        set_learning_rate(self.optimizer, self.rate)
        batch = self.feed.batch(self.done)
        drawn = draw(self.method, self.clock, self.pool, self.done)
        with seeded_layers(self.pool.seed, "layers", self.done):
            self.advance(batch, drawn)
        self.clock = dataclasses.replace(self.clock, step=self.clock.step + 1)

    def _rate_at(self, clock: Clock) -> float:
        stability = self.phase.stability
        lowered = stability.factor**self.plateau.reductions if stability else 1.0
        return learning_rate(self.phase.train, clock) * lowered

    def _refresh_statistics(self) -> None:
        """Measure the batch statistics anew, on the first views of the first stream.

        With the averaged weights: it is those that are evaluated, and that the next phase begins with.
        """
        name, stream = next(iter(self.method.streams.items()))
        steps = range(self.done, self.done + REFRESHING_BATCHES)
        batches = (self.pool.batch({name: stream}, step).views[name][0] for step in steps)
        with self._averaged(), seeded_layers(self.pool.seed, "statistics", self.done):
            refresh_statistics(self.method.model, batches)

    @contextlib.contextmanager
    def _averaged(self) -> Iterator[None]:
        """The averaged weights, in a network as it was written: it is compiled for training only."""
        plain = (
            torch.compiler.set_stance("force_eager") if self.compiled else contextlib.nullcontext()
        )
        with self.ema.applied(), plain:
            yield

    def _evaluate(self, progress: TrainingProgress) -> dict[str, float]:
        """Measure on the validation images, add a row to the history, keep the weights if better."""
        self._stop_if_broken()
        if self.ranks:
            stop_if_apart(self.method.state_dict(), self.ranks)
        record = self.record
        earlier = int(record.rows[-1]["epoch"]) if record.rows else -1
        epoch = max(-(-self.done // self.steps_per_epoch), earlier + 1)
        with self._averaged():
            predictor = self.method.predictor()
            verdict = validate(predictor, self.validation)
            measures = verdict.measures if verdict else {}
            self._stop_if_broken(measures.values())
            kept = Kept.of(epoch, predictor)
        self.method.train()
        table_NK = self.method.label_state()
        record.keep(kept, score(self.rule, verdict, epoch), table_NK)
        record.ends[self.phase.name] = kept
        if self.done and self.train.keep_last:
            record.last = [*record.last, kept][-self.train.keep_last :]
        row = {"epoch": epoch, "step": self.done, "learning_rate": self.rate}
        if len(self.phases) > 1:
            row["phase"] = self.number
        row |= self.meter.take() | measures
        record.rows.append(row)
        record.note_labels(epoch, verdict, table_NK, self._guesses())
        progress.evaluated(row, self.done)
        stop_if_collapsed(record, row, self.train.collapse, self.method.classes_at_once)
        return row

    def _guesses(self) -> Tensor | None:
        """Of the images without a candidate set, the classes that the method is sure of."""
        guesses_N = self.method.confident_guesses() if len(self.unlabeled_N) else None
        return None if guesses_N is None else guesses_N[self.unlabeled_N]

    def _judge(self, row: Mapping[str, float], progress: TrainingProgress) -> str | None:
        """Why the phase is over before its last step, if it is."""
        patience, stability = self.train.patience, self.phase.stability
        if patience is not None and self.record.without_better >= patience:
            return f"no better evaluation for {patience}"
        if stability is None or self.clock.step == self.phase.steps:
            return None
        if warms_up(self.phase.train, self.clock):
            return None  # a loss at rates below the one that was found says nothing of that one
        name = "val_loss" if "val_loss" in row else "loss"
        verdict = self.plateau.see(row[name], stability)
        waited = f"no lower for {stability.patience} evaluations"
        if verdict == "reduce":
            rate = self._rate_at(self.clock)
            progress.say(f"{self.phase.name}: {name} {waited}: learning rate {rate:.3g}")
        return (
            f"{name} stable at {self.plateau.best:.4f}, {waited}" if verdict == "stable" else None
        )

    def _timed(self, since: float) -> float:
        """Note what a step of the phase has taken since then, evaluations included; gives the time."""
        now = time.monotonic()
        if steps := self.done - max(self.before, self.resumed_at):
            self.ms_per_step[self.phase.name] = 1000 * (now - since) / steps
        return now

    def _close_phase(self, progress: TrainingProgress, why: str) -> None:
        self.record.phases.append(
            {
                "phase": self.phase.name,
                "first_step": self.before,
                "end": self.done,
                "views_per_step": self.method.views_per_step,
                "ended": why,
            }
        )
        if len(self.phases) > 1 or self.clock.step < self.phase.steps:
            progress.say(f"{self.phase.name}: ended after step {self.done}: {why}")
        progress.shorten(self.most_steps - self.phase.steps + self.clock.step)

    def _stop_if_broken(self, measures: Iterable[float] = ()) -> None:
        """Look for a number that is not finite: in the losses so far, the weights, or `measures`.

        Raises:
            UserError: There is one. Nothing is saved then, so that the resume state stays at numbers that are
                finite.
        """

        def rate_at(step: int) -> float:
            return self._rate_at(dataclasses.replace(self.clock, step=max(step - self.before, 0)))

        bad_step = int(self.meter.bad_step)
        stop_if_broken(bad_step, self.done, self.method.parameters(), measures, rate_at)

    def save(self) -> None:
        """Write the resume state; `_stop_if_broken` has seen that it is worth it."""
        self.slot.save(self.done, *state(self))
