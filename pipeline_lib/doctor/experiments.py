"""Experiments of DVC that count as running and do not, and the folders that they left."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

from pipeline_lib.doctor.finding import Checked, Finding, counted
from pipeline_lib.doctor.processes import working_in

if TYPE_CHECKING:
    from collections.abc import Iterator

EXPERIMENTS = Path(".dvc/tmp/exps")
QUEUE = EXPERIMENTS / "celery"
WAITING = ("Queued", "Running")  # DVC keeps those that have ended in its list
FOLDERS = ("tmp*", "standalone/tmp*")  # of queued experiments, of `--temp`


def check(root: Path) -> Checked:
    """Find tasks of the queue that nobody works on, and folders of experiments that were killed."""
    tasks = _tasks(root)
    working = _workers(root)
    findings = [*_of_tasks(tasks, working), *_leaked(root)]
    left = sum(task["status"] in WAITING for task in tasks)
    summary = f"{counted(left, 'task')} in the queue, {counted(working, 'worker')}"
    return Checked(summary, tuple(findings))


def _tasks(root: Path) -> list[dict[str, Any]]:
    if not (root / QUEUE).is_dir():  # asking would make it
        return []
    from dvc.repo import Repo

    with Repo(str(root)) as repo:
        tasks: list[dict[str, Any]] = repo.experiments.celery_queue.status()
    return tasks


def _workers(root: Path) -> int:
    """How many workers of this queue there are; DVC names them by the folder."""
    digest = hashlib.sha256(str((root / QUEUE).resolve()).encode()).hexdigest()[:6]
    found = 0
    for process in psutil.process_iter(["cmdline"]):
        words = process.info["cmdline"] or []
        found += any(word.startswith(f"dvc-exp-{digest}-") for word in words)
    return found


def _of_tasks(tasks: list[dict[str, Any]], workers: int) -> Iterator[Finding]:
    for task in tasks:
        name = task["name"] or task["rev"][:7]
        where = f"experiment {name}"
        if task["status"] == "Running" and not workers:
            yield Finding(
                where,
                "counts as running, and no worker is alive",
                f"`dvc queue kill {name}`, queue it again, `dvc queue start`: it goes on where it was",
            )
        elif task["status"] == "Failed":
            todo = f"`dvc queue logs {name}` says why; `dvc queue remove --failed` forgets it"
            yield Finding(where, "failed", todo, problem=False)
        elif task["status"] == "Queued" and not workers:
            yield Finding(where, "waits for a worker", "`dvc queue start`", problem=False)


def _leaked(root: Path) -> Iterator[Finding]:
    # A worker makes the folder before it works in it: none may be alive at all.
    if working_in(root) or _workers(root):
        return
    for pattern in FOLDERS:
        for folder in sorted((root / EXPERIMENTS).glob(pattern)):

            def repair(folder: Path = folder) -> str:
                shutil.rmtree(folder)
                return f"removed {folder.relative_to(root)}"

            yield Finding(
                str(folder.relative_to(root)),
                "left by an experiment that was killed, or that could not start",
                "delete it; the state of a training is kept elsewhere",
                repair,
            )
