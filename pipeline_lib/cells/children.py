"""Commands that end with the one that started them, and are given the time to save their state."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import threading
import time
from typing import TYPE_CHECKING, Any

import psutil

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from types import FrameType

# Ctrl-C; a scheduler that takes the machine; a terminal that closes.
ENDS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
LOOK_SECONDS = 0.2


@contextlib.contextmanager
def ended_by_signals() -> Iterator[list[int]]:
    """Within, signals to end raise KeyboardInterrupt; one that is ignored, as under nohup, stays so.

    Yields:
        the numbers of those that came: of the exception, which Ray replaces by one of its own, they cannot be told.
    """
    came: list[int] = []

    def end(number: int, frame: FrameType | None) -> None:
        del frame
        came.append(number)
        raise KeyboardInterrupt

    if threading.current_thread() is not threading.main_thread():  # others get no signals
        yield came
        return
    kept = [each for each in ENDS if signal.getsignal(each) is not signal.SIG_IGN]
    before = [signal.signal(each, end) for each in kept]
    try:
        yield came
    finally:
        for each, handler in zip(kept, before, strict=True):
            signal.signal(each, handler)


class Children:
    """Running commands, each in a session of its own: a Ctrl-C reaches them through `end` alone."""

    def __init__(self) -> None:
        self._running: list[subprocess.Popen[bytes]] = []
        self._lock = threading.Lock()
        self._ending = False

    def run(self, command: Sequence[str], **options: Any) -> int:  # noqa: ANN401 - of Popen
        """Run a command to its end and give its exit code; after `end` none is started.

        Args:
            command: and its arguments.
            options: of subprocess.Popen.
        """
        with self._lock:
            if self._ending:
                return -signal.SIGTERM
            process = subprocess.Popen(command, start_new_session=True, **options)  # noqa: S603 - our own commands
            self._running.append(process)
        code = process.wait()
        with self._lock:
            self._running.remove(process)
        return code

    def end(self) -> None:
        """Tell all to end, and wait: a training finishes its step and saves its state first.

        A second Ctrl-C, or signal, meanwhile kills them.
        """
        with self._lock:
            self._ending = True
            groups = [process.pid for process in self._running]
        try:
            self._tell(groups, signal.SIGTERM)
            while any(map(_alive, groups)):
                time.sleep(LOOK_SECONDS)
        except KeyboardInterrupt:
            self._tell(groups, signal.SIGKILL)
            raise

    @staticmethod
    def _tell(groups: Sequence[int], number: signal.Signals) -> None:
        for group in groups:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(group, number)


def _alive(group: int) -> bool:
    """Whether a process of the group runs; its leader may have ended before those it started."""
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, ProcessLookupError, PermissionError):
            if os.getpgid(process.pid) == group and process.status() != psutil.STATUS_ZOMBIE:
                return True
    return False
