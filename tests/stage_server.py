"""Runs stages in children that share one import of torch, and lets them be killed at chosen moments.

Started as a process of its own: it reads one JSON object per line and answers with one. With --here it runs the
stages itself, and kills none.

    {"stage": "train", "folder": "...", "kill": null | {"event": n} | {"half": n} | {"seconds": s},
     "environment": {"NAME": "value"}}

`event`: SIGKILL before the n-th operation that changes a folder (opening to write, renaming, removing...), or the
signal that a `signal` beside it tells; `half`: when half of the n-th whole file is written; `seconds`: so long after
the start. The answer has the exit code (negative: the signal), the numbers of events and files, the seconds, and
what was printed.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import json
import os
import pathlib
import signal
import sys
import tempfile
import time
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

CHANGES = {"os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.chmod", "shutil.rmtree"}
ARGUMENTS = sys.argv[1:]
WRITING = os.O_WRONLY | os.O_RDWR


class Counted:
    """Counts the moments of a child, and kills it at one of them."""

    def __init__(self, kill: dict[str, float] | None) -> None:
        self.kill = kill or {}
        self.signal = int(self.kill.get("signal", signal.SIGKILL))
        self.counts = {"event": 0, "half": 0}

    def reached(self, kind: str) -> bool:
        self.counts[kind] += 1
        return self.counts[kind] == self.kill.get(kind)

    def hook(self, event: str, arguments: tuple[Any, ...]) -> None:
        opened = event == "open" and isinstance(arguments[2], int) and arguments[2] & WRITING
        if (opened or event in CHANGES) and self.reached("event"):
            os.kill(os.getpid(), self.signal)

    def halving(self, write: Callable[[Path, bytes], int]) -> Callable[[Path, bytes], int]:
        def half_written(path: Path, content: bytes) -> int:
            if self.reached("half"):
                write(path, content[: len(content) // 2])
                os.kill(os.getpid(), signal.SIGKILL)
            return write(path, content)

        return half_written


def child(order: dict[str, Any], counted: Counted, said: int, counts: int) -> None:
    """Run the stage as `python -m stages.X` does, and end."""
    os.setsid()
    os.dup2(said, 1)
    os.dup2(said, 2)
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    os.chdir(order["folder"])
    os.environ.update(order["environment"])
    pathlib.Path.write_bytes = counted.halving(pathlib.Path.write_bytes)  # type: ignore[assignment]
    sys.addaudithook(counted.hook)
    code = 1
    try:
        code = performed(order["stage"])
    finally:
        with contextlib.suppress(Exception):
            sys.stdout.flush()
        os.write(counts, json.dumps(counted.counts).encode())
        os._exit(code)


def performed(stage: str) -> int:
    """Exit code of the stage, run in this process."""
    sys.argv = [stage]
    try:
        importlib.import_module("stages.cli").run(importlib.import_module(f"stages.{stage}").main)
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else 0
    except BaseException:  # noqa: BLE001 - as the interpreter does at the end of a program
        traceback.print_exc()
        return 1
    return 0


def served_here(order: dict[str, Any]) -> dict[str, Any]:
    """Do what a line asks for without a child: the emulator has no threads in children."""
    started = time.monotonic()
    said = io.StringIO()
    with (
        contextlib.redirect_stdout(said),
        contextlib.redirect_stderr(said),
        contextlib.chdir(order["folder"]),
    ):
        code = performed(order["stage"])
    return {"code": code, "seconds": time.monotonic() - started, "said": said.getvalue()}


def served(order: dict[str, Any]) -> dict[str, Any]:
    """Do what a line asks for."""
    if "--here" in ARGUMENTS:
        return served_here(order)
    counted = Counted(order["kill"])
    started = time.monotonic()
    with tempfile.TemporaryFile() as said, tempfile.TemporaryFile() as counts:
        pid = os.fork()
        if pid == 0:
            child(order, counted, said.fileno(), counts.fileno())
        status = waited(pid, counted.kill.get("seconds"))
        said.seek(0)
        counts.seek(0)
        return {
            "code": os.waitstatus_to_exitcode(status),
            "seconds": time.monotonic() - started,
            "said": said.read().decode(errors="replace"),
            **json.loads(counts.read() or b"{}"),
        }


def waited(pid: int, seconds: float | None) -> int:
    """Exit status of the child, killed after so many seconds."""
    end = time.monotonic() + (seconds or 3600)
    while True:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return status
        if time.monotonic() >= end:
            os.kill(pid, signal.SIGKILL)
            return os.waitpid(pid, 0)[1]
        time.sleep(0.002)


def orders() -> Iterator[dict[str, Any]]:
    for line in sys.stdin:
        yield json.loads(line)


def main() -> None:
    from pipeline_lib.params.methods import KINDS
    from pipeline_lib.training.determinism import pin_processor

    pin_processor("any_cpu", 1)
    # What a training would load by itself comes before the first fork; torch's optimizers load the last.
    modules = ("pipeline_lib.training.train", "stages.train", "torch._dynamo")
    methods = (f"pipeline_lib.methods.{method}" for method in KINDS)
    for name in (*methods, *modules):
        importlib.import_module(name)
    for order in orders():
        print(json.dumps(served(order)), flush=True)


if __name__ == "__main__":
    main()
