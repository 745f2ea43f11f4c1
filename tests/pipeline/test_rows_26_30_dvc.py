"""Rows 26 to 30 of the table of faults under DVC: it is killed, stopped, or runs elsewhere."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from tests.pipeline.conftest import Project

LONG = {"epochs": 6, "checkpoint_steps": 20}  # of 18 steps each


def started(project: Project, log: Path, *arguments: str) -> subprocess.Popen[bytes]:
    """A run of DVC, once its training has saved a new state."""
    before = states(project)
    with log.open("wb") as file:
        process = subprocess.Popen(
            ["dvc", *arguments],
            cwd=project.root,
            env=project.environment,
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    deadline = time.monotonic() + 120
    while states(project) <= before:
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.02)
    return process


def states(project: Project) -> set[str]:
    return {path.name for path in saved_states(project)}


def saved_states(project: Project) -> list[Path]:
    return list(project.root.glob(".dvc/tmp/resume/*/step-*.safetensors"))


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_rows_26_27_dvc_is_killed_then_stopped_and_ends_with_the_same_lock(
    project: Project, tmp_path: Path
) -> None:
    lock = project.root / "dvc.lock"
    project.set(train=LONG)
    try:
        alone = started(project, tmp_path / "killed", "repro", "train")
        training = psutil.Process(alone.pid).children(recursive=True)
        alone.kill()
        alone.wait()
        assert psutil.wait_procs(training, timeout=60)[1] == [], "training outlives DVC by a step"

        stopped = started(project, tmp_path / "stopped", "repro", "train")
        os.killpg(stopped.pid, signal.SIGINT)  # as Ctrl-C does
        assert stopped.wait(60) != 0
        said = (tmp_path / "stopped").read_text()
        assert "resuming after step" in said
        assert "train: SIGINT after step" in said
        assert "Traceback" not in said

        assert "resuming after step" in project.dvc("repro", "train")
        gone_on = lock.read_bytes()
        project.dvc("repro", "--force", "--single-item", "train")
        assert lock.read_bytes() == gone_on
        assert states(project) == set()
    finally:
        project.run("git", "restore", "--staged", "--worktree", "dvc.lock", "params.yaml")
        project.dvc("checkout", "dvc.yaml")


@pytest.mark.slow
def test_row_26_an_experiment_elsewhere_goes_on_from_the_first_state(
    project: Project, tmp_path: Path
) -> None:
    """`dvc exp run --temp` trains in a folder that is gone after a kill; the state is not."""
    arguments = ["exp", "run", "--temp", "-n", "again", "-S", "train.epochs=7"]
    arguments += ["-S", "train.checkpoint_steps=20"]
    first = started(project, tmp_path / "killed", *arguments)
    os.killpg(first.pid, signal.SIGKILL)
    first.wait()
    (saved,) = project.root.glob(".dvc/tmp/resume/*")
    project.dvc(*arguments)
    assert not saved.exists(), "removed by the training that went on from it"
    project.dvc("exp", "remove", "again")


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_row_26_a_task_of_the_queue_goes_on_from_the_first_state(
    project: Project, tmp_path: Path
) -> None:
    """The training that the queue's worker has started is killed; the same task, queued again, goes on with it."""
    arguments = ["exp", "run", "--queue", "-n", "queued", "-S", "train.epochs=8"]
    arguments += ["-S", "train.checkpoint_steps=20"]
    known = {path.parent for path in saved_states(project)}
    try:
        project.dvc(*arguments)
        start_the_queue(project)
        until(lambda: {path.parent for path in saved_states(project)} > known, "no state is saved")
        (training,) = trainings(project.root)
        training.kill()
        until(lambda: "Failed" in project.dvc("queue", "status"), "the task does not fail")
        (new,) = {path.parent for path in saved_states(project)} - known
        project.dvc("queue", "remove", "--failed")
        project.dvc(*arguments)
        start_the_queue(project)
        until(lambda: "Success" in project.dvc("queue", "status"), "the task does not succeed")
        assert "resuming after step" in project.dvc("queue", "logs", "queued")
        assert not new.exists()
    finally:
        project.run("dvc", "queue", "stop", "--kill")
        project.run("dvc", "exp", "remove", "queued")


def start_the_queue(project: Project) -> None:
    """As `dvc queue start`; its worker keeps the output open, so that is nobody's to read to its end."""
    command = ["dvc", "queue", "start"]
    subprocess.run(
        command,
        cwd=project.root,
        env=project.environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        check=True,
    )


def trainings(root: Path) -> list[psutil.Process]:
    """Those below a folder; of processes that end meanwhile psutil gives None."""
    return [
        p
        for p in psutil.process_iter(["cmdline", "cwd"])
        if "stages.train" in (p.info["cmdline"] or ())
        and Path(p.info["cwd"] or "/").is_relative_to(root)
    ]


def until(true: Callable[[], bool], otherwise: str) -> None:
    deadline = time.monotonic() + 300
    while not true():
        assert time.monotonic() < deadline, otherwise
        time.sleep(0.2)
