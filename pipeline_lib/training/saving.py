"""When the resume state of a training is saved."""

from __future__ import annotations

import contextlib
import signal
import time
from typing import TYPE_CHECKING

from pipeline_lib.training.distributed import largest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pipeline_lib.models.ranks import Ranks
    from pipeline_lib.params.sections import Train
    from pipeline_lib.training.interruption import Interruption

SHARE = 0.01  # of the time, at most, unless params ask for saves by steps


class Saving:
    """Keeps the time between saves.

    Args:
        train: how often; the section of params.yaml.
        interruption: by signals to this process.
        ranks: the processes that train together, the first of which saves; None = this one alone.
    """

    def __init__(self, train: Train, interruption: Interruption, ranks: Ranks | None) -> None:
        self.train, self.interruption, self.ranks = train, interruption, ranks
        self.last, self.took = time.monotonic(), 0.0

    def due(self, step: int) -> bool:
        """Whether it is time, after `step` steps."""
        seconds = max(self.train.checkpoint_seconds, self.took / SHARE)
        period = self.train.checkpoint_steps
        return time.monotonic() - self.last >= seconds or bool(period and step % period == 0)

    def to_be_ended(self) -> signal.Signals | None:
        """The signal that has come; all ranks hear of it after the same step."""
        if self.ranks is None:
            return self.interruption.by
        number = largest(int(self.interruption.by or 0))
        return signal.Signals(number) if number else None

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
