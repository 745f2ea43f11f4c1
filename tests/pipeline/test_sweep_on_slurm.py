"""A sweep on a real SLURM cluster of two nodes, of which one is lost while its job trains."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.pipeline.conftest import Project
from tests.pipeline.sweeps import LONG, app, clones_left, logs, small_project, under_way
from tests.slurm_cluster import cluster, missing

NODES = ("n1", "n2")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(1800),
    pytest.mark.skipif(
        bool(missing()) or os.getuid() != 0,
        reason=f"SLURM is not installed here ({', '.join(missing())}), or we are not root: see CONTRIBUTING.md",
    ),
]
SLURM = ("--engine", "slurm", "--slurm", "time=20", "--slurm", "signal_delay_s=60")


@pytest.fixture(scope="module")
def slurm() -> Iterator[dict[str, str]]:
    """In a folder of a short name, for its sockets."""
    folder = Path(tempfile.mkdtemp(prefix="slurm-"))
    try:
        with cluster(folder, NODES) as environment:
            yield environment
    finally:
        shutil.rmtree(folder)


def small_project_in(folder: Path) -> Project:
    (folder / "project").mkdir(parents=True)
    return small_project(folder / "project")


@pytest.fixture
def small(slurm: dict[str, str], tmp_path: Path) -> Project:
    project = small_project_in(tmp_path)
    project.environment |= slurm
    return project


def accounts(project: Project) -> list[list[str]]:
    """Job, state and node of every attempt, as `sacct` has them."""
    said = project.run("sacct", "-D", "-X", "-n", "-P", "-o", "JobID,State,NodeList").stdout
    return [line.split("|") for line in said.splitlines()]


def locks(project: Project) -> dict[str, str]:
    """The dvc.lock of every experiment: the checksum of all that it made."""
    refs = project.run("git", "for-each-ref", "--format=%(refname)", "refs/exps/*/*/*").stdout
    return {
        ref.rpartition("/")[2]: project.run("git", "show", f"{ref}:dvc.lock").stdout
        for ref in refs.splitlines()
    }


def lose(node: str) -> None:
    """As if its power went: all that runs on it is gone, and it says nothing any more."""
    of_node, daemons = [], []
    for process in psutil.process_iter():
        try:
            if process.environ().get("SLURMD_NODENAME") == node:
                of_node += [process, *(p for p in process.parents() if p.name() == "slurmstepd")]
            elif process.name() == "slurmd" and process.cmdline()[-2:] == ["-N", node]:
                daemons.append(process)
        except psutil.Error:
            continue
    gone = [*daemons, *set(of_node)]
    for process in gone:
        try:
            process.kill()
        except psutil.NoSuchProcess:
            continue
    psutil.wait_procs(gone, timeout=20)


def hurry(project: Project) -> None:
    """Let jobs that are put into the queue again start at once; SLURM would wait for two minutes."""
    waiting = project.run("squeue", "-h", "-r", "-t", "PENDING", "-o", "%i").stdout.split()
    for job in waiting:
        project.run("scontrol", "update", f"JobId={job}", "StartTime=now")


def nothing_is_left(project: Project) -> None:
    """On the cluster, once its jobs have ended, or in the temporary folder."""
    end = time.monotonic() + 120
    while said := project.run("squeue", "-h").stdout:
        assert time.monotonic() < end, said
        time.sleep(0.5)
    assert clones_left(project) == []


@pytest.mark.parametrize(("partition", "retried"), [("all", 0), ("grace", 0), ("cancel", 2)])
def test_jobs_whose_machines_are_taken_go_on_and_leave_none_behind(
    small: Project, partition: str, retried: int
) -> None:
    """As their partition has it: put into the queue again, told long before, or cancelled.

    It takes both nodes, of which a later test loses one for good.
    """
    two = ("-S", "seed=1,2", "--slurm", f"partition={partition}")
    with under_way(small, *SLURM, *two, jobs=2) as sweep:
        began = small.run("squeue", "-h", "-r", "-o", "%i").stdout.split()
        urgent = ("sbatch", "-p", "urgent", "-N2", "-o", "/dev/null", "--wrap", "sleep 20")
        assert small.run(*urgent).returncode == 0
        while sweep.poll() is None:
            hurry(small)
            time.sleep(2)
        said = sweep.communicate()[0]
    assert sweep.returncode == 0, said + logs(small)
    assert said.count(" retried ") == retried, said
    assert logs(small).count("train: SIGTERM after step") == 2
    assert logs(small).count("resuming after step") == 2
    nothing_is_left(small)
    states = dict(line[:2] for line in accounts(small))  # the last one of each
    assert [states[job] == "COMPLETED" for job in began] == [retried == 0] * 2, states


def test_a_preempted_job_and_one_of_a_lost_node_go_on_from_their_states(small: Project) -> None:
    with under_way(small, "-S", "seed=1,2", *SLURM, jobs=2) as sweep:
        first, second = (job for job, state, _ in accounts(small) if state == "RUNNING")
        (lost,) = (node for job, _, node in accounts(small) if job == second)
        small.run("scancel", "--signal=USR2", first)
        lose(lost)
        while sweep.poll() is None:
            hurry(small)
            time.sleep(2)
        said = sweep.communicate()[0]
    assert sweep.returncode == 0, said + logs(small)
    assert "2/2 " in said
    states = {
        job: [state for name, state, _ in accounts(small) if name == job] for job in (first, second)
    }
    assert states[first] == ["REQUEUED", "COMPLETED"]
    assert states[second][0] in {"NODE_FAIL", "REQUEUED"}
    assert states[second][-1] == "COMPLETED"
    assert logs(small).count("resuming after step") == 2
    assert clones_left(small) == []
    # What came out is what trainings that nothing stopped give.
    undisturbed = small_project_in(small.root.parent / "undisturbed")
    done = app(undisturbed, "sweep", *LONG, "-S", "seed=1,2")
    assert done.returncode == 0, done.stdout
    assert len(locks(small)) == 2
    assert locks(small) == locks(undisturbed)


def test_what_sbatch_refuses_is_told_in_a_line(small: Project) -> None:
    done = app(small, "sweep", "-S", "seed=1", *SLURM, "--slurm", "partition=nowhere")
    assert done.returncode == 1
    assert done.stdout.count("sbatch: error: invalid partition") == 1
    assert done.stdout.splitlines()[-1].startswith(
        "--engine slurm: sbatch: error: invalid partition specified: nowhere"
    )


def test_what_sbatch_does_not_know_and_what_slurm_says_of_a_job_that_never_began(
    small: Project,
) -> None:
    done = app(small, "sweep", "-S", "seed=1", *SLURM, "--slurm", "colour=red")
    assert done.returncode == 1
    assert "--engine slurm: sbatch: unrecognized option '--colour=red'" in done.stdout
    never = ("--slurm", "setup=true", "--slurm", "setup=exit 3", "--retries", "0")
    done = app(small, "sweep", "-S", "seed=1", *SLURM, *never)
    assert done.returncode == 1
    assert (
        "it ended without an outcome, as FAILED, exit code 3:0; it wrote nothing: does its node see "
        in done.stdout.splitlines()[-1]
    )
    nothing_is_left(small)


def test_an_interrupted_sweep_takes_its_jobs_off_the_cluster(small: Project) -> None:
    with under_way(small, *SLURM) as sweep:
        sweep.terminate()
        said = sweep.communicate(timeout=120)[0]
    assert sweep.returncode == 143, said
    assert "interrupted; 1 jobs are left: 80-5-supervised-" in said
    nothing_is_left(small)
    assert "train: SIGTERM after step" in logs(small)
