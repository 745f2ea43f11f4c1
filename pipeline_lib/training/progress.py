"""What a person sees while it trains: a bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Self

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from pipeline_lib.progress import Log

if TYPE_CHECKING:
    from collections.abc import Mapping

SECONDS_BETWEEN_LINES = 2.0


class TrainingProgress:
    """Progress over the steps of a training, with the last evaluation beside it."""

    def __init__(
        self, total_steps: int, done: int, steps_per_epoch: int, quiet: bool = False
    ) -> None:
        self.console = Log(quiet=quiet)
        self.steps_per_epoch = steps_per_epoch
        self.total_steps = total_steps
        self.started_at, self.started_step = time.monotonic(), done
        self.last_line = -SECONDS_BETWEEN_LINES
        columns = (
            TextColumn("training"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[state]}"),
        )
        shown = self.console.is_terminal and not self.console.is_dumb_terminal
        self.bar = Progress(*columns, console=self.console, disable=not shown)
        self.task = self.bar.add_task("training", total=total_steps, completed=done, state="")

    def __enter__(self) -> Self:
        self.bar.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.bar.stop()

    def say(self, line: str) -> None:
        """Print a line above the bar."""
        self.console.tell(line)

    def step(self, step: int) -> None:
        """`step` steps are done."""
        self.bar.update(self.task, completed=step)

    def shorten(self, total_steps: int) -> None:
        """A phase may have ended early: the training now has `total_steps` at most."""
        self.total_steps = total_steps
        self.bar.update(self.task, total=total_steps)

    def evaluated(self, row: Mapping[str, float], step: int) -> None:
        """Show a row of the history."""
        shown = " ".join(
            f"{name} {row[name]:.4f}"
            for name in ("loss", "val_loss", "val_accuracy", "val_covering_rate")
            if name in row
        )
        # Phases that end within an epoch make one more evaluation than there are epochs.
        epochs = max(-(-self.total_steps // self.steps_per_epoch), int(row["epoch"]))
        state = f"epoch {int(row['epoch'])}/{epochs} {shown or 'no labels to validate with'}"
        self.bar.update(self.task, state=state)
        now = time.monotonic()
        last = step >= self.total_steps
        if self.bar.disable and (last or now - self.last_line >= SECONDS_BETWEEN_LINES):
            self.last_line = now
            self.say(f"{state}{self._left(now, step)}")

    def _left(self, now: float, step: int) -> str:
        """Time left, once a step has shown how long one takes."""
        done = step - self.started_step
        seconds = (now - self.started_at) / max(done, 1) * (self.total_steps - step)
        return f", {seconds:.0f} s left" if done and step < self.total_steps else ""
