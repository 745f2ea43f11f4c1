"""Which processes work in this checkout."""

from __future__ import annotations

import itertools
import os
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

from pipeline_lib.doctor.finding import Checked, Finding, counted

if TYPE_CHECKING:
    from collections.abc import Iterator


def working_in(folder: Path) -> list[psutil.Process]:
    """Processes of DVC and of the stages whose working directory is `folder` or within it, but us."""
    folder = folder.resolve()
    return [
        process
        for process in _others()
        if _within(process, folder) and (runs_dvc(process) or _stage(process))
    ]


def runs_dvc(process: psutil.Process) -> bool:
    """Whether its command is `dvc`, as a program or as a module."""
    words = _command(process)[:3]
    return any(Path(word).name == "dvc" for word in words)


def alive(pid: int) -> bool:
    """Whether there is such a process; a zombie is none."""
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.Error:
        return False


def check(root: Path) -> Checked:
    """Find trainings that go on though the DVC that started them is gone."""
    found = working_in(root)
    orphans = [p for p in found if _stage(p) and _started_by_dvc(p) and not _has_dvc_above(p)]
    return Checked(
        f"{counted(len(found), 'process', 'processes')} of DVC and the stages at work here",
        tuple(
            Finding(
                f"process {process.pid}",
                f"runs {_stage(process)}, and the DVC that started it is gone: what it writes is not recorded",
                f"end it with `kill {process.pid}` and run the same again",
            )
            for process in orphans
        ),
    )


def _others() -> Iterator[psutil.Process]:
    for process in psutil.process_iter():
        if process.pid != os.getpid():
            yield process


def _within(process: psutil.Process, folder: Path) -> bool:
    try:
        return Path(process.cwd()).is_relative_to(folder)
    except (psutil.Error, OSError):
        return False


def _command(process: psutil.Process) -> list[str]:
    try:
        command: list[str] = process.cmdline()
    except psutil.Error:
        return []
    return command


def _stage(process: psutil.Process) -> str | None:
    """As `stages.train`, if that is what it runs."""
    words = _command(process)
    modules = [word for flag, word in itertools.pairwise(words) if flag == "-m"]
    return next((m for m in modules if m.startswith("stages.") and m != "stages.app"), None)


def _started_by_dvc(process: psutil.Process) -> bool:
    try:
        return "DVC_STAGE" in process.environ()
    except psutil.Error:
        return False


def _has_dvc_above(process: psutil.Process) -> bool:
    try:
        return any(runs_dvc(parent) for parent in process.parents())
    except psutil.Error:
        return False
