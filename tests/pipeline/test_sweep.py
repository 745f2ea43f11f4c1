"""Sweeps as their user runs them: on this machine, over a remote, stopped, and on a Ray cluster that loses a worker."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from tests.pipeline.conftest import ROOT, Project
from tests.pipeline.sweeps import LONG, app, clones_left, logs, small_project, under_way

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

PIPELINE = "reports/compare/dvc.yaml"


def needs(package: str) -> None:
    if importlib.util.find_spec(package) is None:
        pytest.skip(f"{package} is not installed: see docs/how-to/cluster.md")


@pytest.fixture
def small(tmp_path: Path) -> Project:
    needs("submitit")
    (tmp_path / "project").mkdir()
    return small_project(tmp_path / "project")


def test_four_experiments_here_and_none_again(small: Project) -> None:
    small.dvc("repro", "ingest")
    grid = ("sweep", "-S", "method=supervised,proden", "-S", "seed=1,2", "--jobs", "2")
    done = app(small, *grid)
    assert done.returncode == 0, done.stdout + logs(small)
    assert done.stdout.startswith("results go to this project, their outputs to the cache ")
    assert "4 experiments, 0 of them done before" in done.stdout
    assert re.search(r"4/4 \S+ done \d+ s on ", done.stdout)
    said = logs(small)
    assert said.count("Running stage 'train'") == 4
    assert "Running stage 'ingest'" not in said, "the project's cache has it"
    assert clones_left(small) == []
    board = app(small, "leaderboard", "--experiments").stdout.splitlines()
    assert sorted(line.split("\t")[1:4:2] for line in board[1:]) == [
        ["proden", "1"],
        ["proden", "2"],
        ["supervised", "1"],
        ["supervised", "2"],
    ]
    again = app(small, *grid)
    assert "4 experiments, 4 of them done before" in again.stdout
    assert logs(small) == said, "nothing was started"
    # What is not committed would not be in the clones.
    small.set(seed=9)
    refused = app(small, *grid)
    assert refused.returncode == 1
    assert refused.stdout.startswith("not committed: params.yaml; jobs work on a clone of HEAD")


def test_a_failing_job_is_tried_again_then_named_with_its_log(small: Project) -> None:
    broken = small.root / "stages/train.py"
    broken.write_text("raise SystemExit('broken on purpose')\n")
    small.run("git", "commit", "-qam", "broken")
    done = app(small, "sweep", "-S", "seed=1", "--retries", "1")
    assert done.returncode == 1
    *_, last = done.stdout.splitlines()
    assert last.startswith("1 of 1 jobs failed: 1-")
    assert "`dvc exp run` failed (exit code 255): broken on purpose (ERROR: failed to repr" in last
    (log,) = (small.root / ".dvc/tmp/sweep").glob("*.log")
    assert str(log) in last
    assert done.stdout.count(" retried ") == 1
    assert log.read_text().count("broken on purpose") == 2
    assert clones_left(small) == []


def test_ctrl_c_keeps_the_state_and_the_same_command_goes_on(small: Project) -> None:
    with under_way(small) as sweep:
        os.killpg(sweep.pid, signal.SIGINT)  # as a terminal does: to all that are in the foreground
        said = sweep.communicate(timeout=120)[0]
    assert sweep.returncode == 130, said
    assert "interrupted; 1 jobs are left: 80-5-supervised-" in said
    assert "train: SIGTERM after step" in logs(small), "it was told once, and saved its state"
    assert clones_left(small) == []
    done = app(small, "sweep", *LONG)
    assert done.returncode == 0, done.stdout
    assert "resuming after step" in logs(small)


def test_a_preempted_job_is_put_into_the_queue_again_by_submitit(small: Project) -> None:
    """As SLURM does before it takes a machine: a signal to the job, which is not a failure."""
    with under_way(small) as sweep:
        (task,) = [
            process
            for process in psutil.Process(sweep.pid).children(recursive=True)
            if "submitit.core._submit" in process.cmdline()
        ]
        task.send_signal(signal.SIGUSR2)
        said = sweep.communicate(timeout=600)[0]
    assert sweep.returncode == 0, said
    assert " retried " not in said
    assert "train: SIGTERM after step" in logs(small)
    assert "resuming after step" in logs(small)
    assert clones_left(small) == []


def test_the_cells_of_the_comparison_then_compare_runs_nothing(small: Project) -> None:
    done = app(small, "sweep", "--compare", "--jobs", "2")
    assert done.returncode == 0, done.stdout + logs(small)
    assert "2 cells to run" in done.stdout
    made = app(small, "compare")
    assert made.returncode == 0, made.stdout
    assert "cells to run" not in made.stdout
    assert "Running stage 'reports/compare/dvc.yaml:aggregate'" in made.stdout
    assert "Running stage 'reports/compare/dvc.yaml:cell" not in made.stdout
    assert (small.root / "reports/compare/index.html").stat().st_size > 10_000
    assert "0 cells to run" in app(small, "sweep", "--compare").stdout


def test_without_a_common_cache_all_comes_and_goes_by_hub_and_remote(small: Project) -> None:
    """The jobs have caches of their own, as on machines that share nothing but two servers."""
    hub = small.root.parent / "hub.git"
    stale = small.root / PIPELINE
    stale.write_text("# of an older version\nstages: {}\n")
    for command in (
        f"git add {PIPELINE}",
        f"git init -q --bare {hub}",
        f"git remote add origin {hub}",
        f"dvc remote add -q --default store {small.root.parent / 'store'}",
        "git commit -qam remote",
    ):
        assert small.run(*command.split()).returncode == 0
    refused = app(small, "sweep", "--compare")
    assert refused.stdout.startswith("HEAD is not on the Git remote origin")
    assert small.run("git", "push", "-q", "origin", "HEAD").returncode == 0
    assert app(small, "sweep", "--compare", "--jobs", "2").returncode == 0, logs(small)
    again = app(small, "sweep", "--compare")
    assert "0 cells to run" in again.stdout, (
        "a committed copy that was stale is rewritten, and stops nobody"
    )
    made = app(small, "compare")
    assert made.returncode == 0, made.stdout
    assert "Running stage 'reports/compare/dvc.yaml:cell" not in made.stdout
    done = app(small, "sweep", "-S", "method=supervised")
    assert done.returncode == 0, done.stdout + logs(small)
    (name,) = re.findall(r"(supervised-\w+) done", done.stdout)
    assert name in small.dvc("exp", "list")
    pulled = small.run("dvc", "exp", "pull", "origin", name)
    assert pulled.returncode == 0, pulled.stdout
    small.dvc("exp", "apply", name)
    assert (small.root / "models/predictor.safetensors").exists()


def test_what_head_records_and_no_remote_has_is_made_again(small: Project) -> None:
    """As in a new clone, whose dvc.lock tells of outputs that nobody has pushed."""
    small.dvc("repro", "ingest")
    small.dvc("remote", "add", "-q", "--default", "store", str(small.root.parent / "store"))
    small.run("git", "add", "-A")
    assert small.run("git", "commit", "-qm", "recorded").returncode == 0
    shutil.rmtree(small.root / ".dvc/cache")
    done = app(small, "sweep", "-S", "method=supervised", "--retries", "0")
    assert done.returncode == 0, done.stdout + logs(small)
    said = logs(small)
    assert "$ dvc exp run --pull --allow-missing -n supervised-" in said
    assert "$ dvc exp run --pull -n supervised-" in said
    assert said.count("Running stage 'ingest'") == 1


def test_on_ray_a_killed_worker_costs_only_what_came_after_its_last_state(tmp_path: Path) -> None:
    needs("ray")
    (tmp_path / "project").mkdir()
    project = small_project(tmp_path / "project")
    output = tmp_path / "result.json"
    trial = ("-m", "benchmarks.sweep_on_ray", "--project", str(project.root), "-o", str(output))
    done = subprocess.run(
        [sys.executable, *trial],
        cwd=ROOT,
        # The paths of Ray's sockets have to be short.
        env=project.environment | {"RAY_TMPDIR": "/tmp"},  # noqa: S108
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    (result,) = json.loads(output.read_text())["runs"]
    assert result["exit code"] == 0
    assert result["finished"] == 6
    assert result["outputs equal to a serial run"] is True
    assert result["retries"] == 1
    assert result["processes killed"] >= 3
    assert int(result["resumed after step"]) >= result["killed after step"] - 4
    assert result["trainings begun of each"] == "1 1 1 1 1 2"
    assert result["downloads and ingests run"] == 0
    assert result["not run"] >= 12
    assert result["jobs of the same command again"] == 0
    assert result["clones left"] == 0
