"""What a program takes: time, processor time and memory, those of its children with it."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SECONDS_BETWEEN_LOOKS = 0.02


def run_python(*arguments: object, cwd: Path = ROOT) -> dict[str, float]:
    """Run Python with these arguments, its output not shown.

    Returns:
        Its seconds, those of the processors, the number of its processes, and the peak of memory: of all of
        them, and of the first alone.
    """
    started, before = time.monotonic(), os.times()
    process = subprocess.Popen(
        [sys.executable, *map(str, arguments)],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.DEVNULL,
        start_new_session=True,
    )
    peaks: dict[int, int] = {}
    while process.poll() is None:
        _look(process.pid, peaks)
        time.sleep(SECONDS_BETWEEN_LOOKS)
    after = os.times()
    if process.returncode:
        sys.exit(f"{' '.join(map(str, arguments))} failed")
    worked = after.children_user + after.children_system
    return {
        "seconds": round(time.monotonic() - started, 2),
        "processor_seconds": round(worked - before.children_user - before.children_system, 2),
        "processes": len(peaks),
        "peak_mib": sum(peaks.values()) >> 10,
        "peak_mib_main": peaks.get(process.pid, 0) >> 10,
    }


def _look(session: int, peaks: dict[int, int]) -> None:
    """Note the peak of each process of a session so far, in KiB."""
    for place in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if int((place / "stat").read_text().rpartition(")")[2].split()[3]) == session:
                peak = re.search(r"VmHWM:\s+(\d+)", (place / "status").read_text())
                if peak:
                    peaks[int(place.name)] = int(peak[1])
