"""A small project to sweep, and what its sweeps leave."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from tests.pipeline.conftest import SMALL, Project, copy_project


def small_project(folder: Path) -> Project:
    """Committed, with one epoch per training, and a comparison of two cells."""
    project = copy_project(folder)
    project.environment["TMPDIR"] = str(folder.parent / "scratch")
    project.environment["OMP_NUM_THREADS"] = "1"
    Path(project.environment["TMPDIR"]).mkdir()
    project.set(compare=SMALL, train={"epochs": 1})
    project.run("git", "commit", "-qam", "short")
    return project


def app(project: Project, *arguments: str) -> subprocess.CompletedProcess[str]:
    return project.run(sys.executable, "-m", "stages.app", *arguments)


def logs(project: Project) -> str:
    return "".join(p.read_text() for p in sorted((project.root / ".dvc/tmp/sweep").glob("*.log")))


def clones_left(project: Project) -> list[Path]:
    return list(Path(project.environment["TMPDIR"]).glob("*/*/clone"))


STATES = ".dvc/tmp/resume/*/step-*.safetensors"
LONG = ("-S", "train.epochs=80", "-S", "train.checkpoint_steps=5", "-S", "method=supervised")


@contextlib.contextmanager
def under_way(project: Project, *more: str, jobs: int = 1) -> Iterator[subprocess.Popen[str]]:
    """A sweep of long trainings, so many of which have saved a state; it does not outlive a test that fails."""
    sweep = subprocess.Popen(
        [sys.executable, "-m", "stages.app", "sweep", *LONG, *more],
        cwd=project.root,
        env=project.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        end = time.monotonic() + 300
        while len({path.parent for path in project.root.glob(STATES)}) < jobs:
            assert sweep.poll() is None, sweep.communicate()[0]
            assert time.monotonic() < end
            time.sleep(0.05)
        yield sweep
    finally:
        sweep.terminate()  # it takes its jobs with it
        sweep.wait(120)
