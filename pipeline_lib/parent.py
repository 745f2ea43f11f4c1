"""A process that ends with the one that started it."""

from __future__ import annotations

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1


def end_with_parent() -> None:
    """Have SIGTERM sent to this process when the one that started it ends, however it does (Linux only)."""
    if sys.platform == "linux":
        parent = os.getppid()
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:  # it ended in between: nobody would tell
            signal.raise_signal(signal.SIGTERM)


def end_with_dvc() -> None:
    """The same, where DVC has started this process: what it no longer waits for is not to write outputs."""
    if "DVC_STAGE" in os.environ:
        end_with_parent()
