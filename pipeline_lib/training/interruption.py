"""SIGINT and SIGTERM to a training: the step under way is finished and the state saved before it ends."""

from __future__ import annotations

import contextlib
import signal
import threading
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType

SIGNALS = (
    signal.SIGINT,
    signal.SIGTERM,
)  # Ctrl-C; the end of DVC, a scheduler that takes the machine

ANOTHER = 1.0  # s


class Interruption:
    """Which signal to end has come, if one has, and when."""

    def __init__(self) -> None:
        self.by: signal.Signals | None = None
        self.at = 0.0


@contextlib.contextmanager
def noticed() -> Iterator[Interruption]:
    """Within, the first signal to end is only noted; another one, a second later, ends the process at once.

    Sooner it counts as the same one: when a process with threads dies, its children are told once per thread.
    """
    interruption = Interruption()

    def note(number: int, frame: FrameType | None) -> None:
        del frame
        if interruption.by is None:
            interruption.by, interruption.at = signal.Signals(number), time.monotonic()
        elif time.monotonic() - interruption.at > ANOTHER:
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)

    if threading.current_thread() is not threading.main_thread():  # others get no signals
        yield interruption
        return
    before = [signal.signal(each, note) for each in SIGNALS]
    try:
        yield interruption
    finally:
        for each, handler in zip(SIGNALS, before, strict=True):
            signal.signal(each, handler)
