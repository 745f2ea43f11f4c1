"""Outputs and experiments travel over a real S3 server, and nothing is computed twice."""

from __future__ import annotations

import re
import subprocess

import pytest

from pipeline_lib.doctor import cache
from tests.pipeline.conftest import Project
from tests.pipeline.sharing.conftest import APP, PAGE, Team, ok

pytestmark = [pytest.mark.timeout(600), pytest.mark.usefixtures("well_behaved")]


def test_a_fresh_clone_pulls_and_computes_nothing(team: Team, pulled: Project) -> None:
    out = ok(pulled, "dvc", "repro")
    assert "Running stage" not in out
    assert "Data and pipelines are up to date." in out
    folders = ("data", "models", "reports")
    made = team.origin.bytes_of(*folders)
    del made["reports/environment.json"]  # of the machine
    assert pulled.bytes_of(*folders) == made
    assert pulled.run("git", "status", "--porcelain").stdout == ""


@pytest.mark.slow
def test_an_experiment_that_is_pushed_by_hand_is_not_run_again_elsewhere(team: Team) -> None:
    push = "dvc exp push --run-cache origin fixmatch-1"
    assert f"{push} " in PAGE
    run = ("dvc", "exp", "run", "-S", "method=fixmatch", "-S", "seed=2")
    assert "Running stage 'train'" in ok(team.origin, *run, "--name", "fixmatch-1")
    ok(team.origin, *push.split())
    ok(team.origin, *APP, "push")
    again = ok(team.clone(), *run[:3], "--pull", *run[3:])
    assert "Running stage" not in again
    ok(team.origin, "dvc", "exp", "remove", "-g", "origin", "fixmatch-1")
    ok(team.origin, "dvc", "exp", "remove", "fixmatch-1")
    ok(team.origin, "sh", "-euc", "git restore --staged --worktree . && dvc checkout -q dvc.yaml")


@pytest.mark.slow
def test_an_experiment_that_pushes_itself_is_not_run_again_elsewhere(team: Team) -> None:
    for setting in (("exp.auto_push", "true"), ("exp.git_remote", "origin")):
        assert f"dvc config --local {' '.join(setting)}" in PAGE
        ok(team.origin, "dvc", "config", "--local", *setting)
    run = ("dvc", "exp", "run", "-S", "method=fixmatch")
    assert "Running stage 'train'" in ok(team.origin, *run, "--name", "fixmatch-1")
    ok(team.origin, *APP, "push")
    clone = team.clone()
    again = ok(clone, *run[:3], "--pull", *run[3:])
    assert "Running stage" not in again
    assert again.count("is cached - skipping run") >= 3
    metrics = "reports/metrics.json"
    assert (clone.root / metrics).read_bytes() == (team.origin.root / metrics).read_bytes()
    assert "fixmatch-1" in ok(clone, "dvc", "exp", "list", "origin")
    ok(team.origin, "sh", "-euc", "git restore --staged --worktree . && dvc checkout -q dvc.yaml")


@pytest.mark.slow
def test_two_clones_work_at_once_through_one_cache(team: Team) -> None:
    """The harder case: both fetch, and then make, the same objects. Set up by the commands of the page."""
    clones = [team.clone(), team.clone()]
    script = re.search(r"```sh\n(dvc cache dir --local.*?)```", PAGE, re.DOTALL)
    assert script is not None
    shared = team.folder / "shared-cache"
    at_once(clones, "sh", "-ec", script[1].replace("/srv/dvc-cache", str(shared)))
    at_once(clones, *APP, "pull")
    for clone in clones:
        clone.set(method="average")
    for out in at_once(clones, "dvc", "repro", "train"):
        assert "Data and pipelines are up to date." not in out
    first, second = (clone.bytes_of("data", "models", "reports/train") for clone in clones)
    assert first == second
    assert (clones[0].root / "dvc.lock").read_bytes() == (clones[1].root / "dvc.lock").read_bytes()
    for clone in clones:
        assert cache.check(clone.root).findings == ()
    assert "Running stage" not in ok(clones[0], "dvc", "repro", "train")


@pytest.mark.slow
def test_what_an_applied_experiment_has_put_aside_comes_back(team: Team) -> None:
    command = re.search(r"`(git restore [^`]* && git stash apply [^`]*)`", PAGE)
    assert command is not None
    clone = team.clone()
    ok(clone, *APP, "pull")
    ok(clone, "dvc", "exp", "run", "-S", "report.grid_images=3", "--name", "fewer")
    ok(clone, "sh", "-euc", "git restore --staged --worktree . && dvc checkout --allow-missing")
    clone.set(report={"grid_images": 4}, seed=7)
    mine = (clone.root / "params.yaml").read_bytes()
    made = clone.bytes_of("reports")
    ok(clone, "dvc", "exp", "apply", "fewer")
    assert clone.bytes_of("reports") != made
    ok(clone, "sh", "-euc", command[1])
    assert (clone.root / "params.yaml").read_bytes() == mine
    assert clone.bytes_of("reports") == made


def at_once(projects: list[Project], *command: str) -> list[str]:
    started = [
        subprocess.Popen(
            command,
            cwd=project.root,
            env=project.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for project in projects
    ]
    said = [process.communicate()[0] for process in started]
    for process, out in zip(started, said, strict=True):
        assert process.returncode == 0, out
    return said
