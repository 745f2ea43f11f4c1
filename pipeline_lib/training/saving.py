"""When the resume state of a training is saved."""

from __future__ import annotations

import contextlib
import signal
import time
from typing import TYPE_CHECKING, NamedTuple

from pipeline_lib.training.distributed import largest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pipeline_lib.models.ranks import Ranks
    from pipeline_lib.params.sections import Train
    from pipeline_lib.training.interruption import Interruption

SHARE = 0.01  # of the time, at most, unless params ask for saves by steps
LOOK_SECONDS = 5.0  # between looks for a number that is not finite: each waits for the device


class Due(NamedTuple):
    """What is to be done after a step, before the next one."""

    look: bool
    """For a number that is not finite."""
    save: bool
    end: signal.Signals | None
    """By which signal."""


class Saving:
    """Keeps the time between saves, and between looks at what would be saved.

    Args:
        train: how often; the section of params.yaml.
        interruption: by signals to this process.
        ranks: the processes that train together, the first of which saves; None = this one alone.
    """

    def __init__(self, train: Train, interruption: Interruption, ranks: Ranks | None) -> None:
        self.train, self.interruption, self.ranks = train, interruption, ranks
        self.last, self.took = time.monotonic(), 0.0
        self.looked = self.last

    def due(self, step: int) -> Due:
        """What it is time for, after `step` steps: the same on all ranks, whose clocks differ.

        One that looked alone, and found something, would leave the others waiting for it.
        """
        now = time.monotonic()
        wanted = [
            now - self.looked >= LOOK_SECONDS,
            self.ours and self._to_save(step, now),
            int(self.interruption.by or 0),
        ]
        look, save, end = largest(wanted) if self.ranks else wanted
        due = Due(
            bool(look or save or end),  # nothing broken is saved
            bool(save or end),
            signal.Signals(end) if end else None,
        )
        if due.look:
            self.looked = now
        return due

    def _to_save(self, step: int, now: float) -> bool:
        seconds = max(self.train.checkpoint_seconds, self.took / SHARE)
        period = self.train.checkpoint_steps
        return now - self.last >= seconds or bool(period and step % period == 0)

    @property
    def ours(self) -> bool:
        """Whether it is this process that saves."""
        return self.ranks is None or self.ranks.rank == 0

    @contextlib.contextmanager
    def timed(self) -> Iterator[None]:
        """Within, the state is saved."""
        started = time.monotonic()
        yield
        self.last = time.monotonic()
        self.took = self.last - started
