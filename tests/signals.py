"""Signals as a terminal gives them: a run in the background may have been started with some of them ignored."""

from __future__ import annotations

import signal


def as_at_a_terminal() -> None:
    """For `preexec_fn` of a process that a test sends signals to."""
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)
