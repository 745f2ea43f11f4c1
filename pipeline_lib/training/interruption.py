"""SIGINT and SIGTERM to a training: the step under way is finished and the state saved before it ends."""

from __future__ import annotations

import contextlib
import ctypes
import signal
import sys
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType

SIGNALS = (
    signal.SIGINT,
    signal.SIGTERM,
)  # Ctrl-C; the end of DVC, a scheduler that takes the machine


PR_SET_PDEATHSIG = 1


def signal_when_parent_ends(number: int) -> None:
    """Let the kernel send us `number` when the process that started us has ended; 0: nothing (Linux)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, number)


class Interruption:
    """Which signal to end has come, if one has."""

    def __init__(self) -> None:
        self.by: signal.Signals | None = None


@contextlib.contextmanager
def noticed() -> Iterator[Interruption]:
    """Within, the first signal to end is only noted; the second ends the process at once."""
    interruption = Interruption()

    def note(number: int, frame: FrameType | None) -> None:
        del frame
        interruption.by = signal.Signals(number)
        # The kernel sends it once per thread that was our parent, and DVC has several.
        signal_when_parent_ends(0)
        for each in SIGNALS:
            signal.signal(each, signal.SIG_DFL)

    if threading.current_thread() is not threading.main_thread():  # others get no signals
        yield interruption
        return
    before = [signal.signal(each, note) for each in SIGNALS]
    try:
        yield interruption
    finally:
        for each, handler in zip(SIGNALS, before, strict=True):
            signal.signal(each, handler)
