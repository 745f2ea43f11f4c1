"""The table of jobs: what an engine says of them, and what the user sees."""

import fcntl
import io
import os
import signal
import socket
import sys
import tempfile
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from rich.console import Console

from pipeline_lib.errors import UserError
from pipeline_lib.sweep import job as job_module
from pipeline_lib.sweep import run
from pipeline_lib.sweep.engines import base, slurm, submitted
from pipeline_lib.sweep.job import Job, Outcome, _was_killed, last_words, own_folder
from pipeline_lib.sweep.job import run as run_job
from pipeline_lib.sweep.project import Project
from pipeline_lib.sweep.states import Change, States


@pytest.mark.parametrize(
    ("log", "why"),
    [
        ("", ""),
        ("killed\n\n", "killed"),
        (
            "ERROR: unexpected error\nHaving any troubles?\n",
            "ERROR: unexpected error Having any troubles?",
        ),
        (
            "ERROR: failed to pull\n$ dvc exp run --pull\nRunning stage 'ingest':\nKilled\n",
            "Killed",
        ),
        (
            "ERROR: old\nERROR: failed to reproduce 'split': Checkout failed:\nx\n<https://error.dvc.org/missing-files>\n",
            "ERROR: failed to reproduce 'split': Checkout failed: x <https://error.dvc.org/missing-files>",
        ),
        (
            "params.yaml: train.epochs: must be at least 1\nERROR: failed to reproduce 'train': failed to run: "
            "python -m stages.train, exited with 1\n\n",
            "params.yaml: train.epochs: must be at least 1 (ERROR: failed to reproduce 'train': failed to run: "
            "python -m stages.train, exited with 1)",
        ),
    ],
)
def test_why_a_job_failed_is_what_its_stage_said(log: str, why: str) -> None:
    assert last_words(io.BytesIO(log.encode())) == why


def test_where_results_go_is_told_without_passwords() -> None:
    remote = ("store", "ssh://me:secret@host/srv")
    there = Project(Path(), "0", "https://me:p@ss@host/x.git", "origin", remote, "", at_home=False)
    assert there.home == (
        "the Git remote origin (https://host/x.git), their outputs to the remote store (ssh://host/srv)"
    )
    here = Project(Path(), "0", "/srv/us", "", remote, "/srv/us/.dvc/cache", at_home=True)
    assert here.home == "this project, their outputs to the cache /srv/us/.dvc/cache"


def test_a_line_per_change_and_none_for_what_is_known() -> None:
    states = States(["a", "b"])
    said = []
    for now, change in [
        (1, Change("a", "waiting")),
        (2, Change("a", "running", "node1")),
        (3, Change("a", "running", "node1")),
        (9, Change("a", "retried", "node1", "its machine went")),
        (10, Change("a", "running", "node2")),
        (12, Change("a", "done", "node2")),
        (13, Change("b", "running", "node1")),
        (14, Change("b", "failed", "node1", "no space left")),
    ]:
        row = states.take(change, now)
        said += [states.line(row, now)] if row else []
    assert said == [
        "0/2 a running 0 s on node1",
        "0/2 a retried 7 s on node1: its machine went",
        "0/2 a running 8 s on node2",
        "1/2 a done 10 s on node2",
        "1/2 b running 0 s on node1",
        "1/2 b failed 1 s on node1: no space left",
    ]
    assert states.left() == ["b"]
    assert [row.name for row in states.failed()] == ["b"]
    assert next(states.rows()).retries == 1


def test_the_table_of_a_terminal_names_job_state_seconds_and_machine() -> None:
    states = States(["a", "b"])
    states.take(Change("a", "running", "node1"), 1)
    states.take(Change("a", "done", "node1"), 6)
    console = Console(file=io.StringIO(), width=80)
    console.print(states)
    lines = [line.split() for line in console.file.getvalue().splitlines()]
    assert lines == [
        ["job", "state", "seconds", "retries", "machine"],
        ["a", "done", "5", "node1"],
        ["b", "waiting"],
    ]


def job(name: str) -> Job:
    return Job(name, hub="", commit="", steps=())


def fake(changes, closed):
    def engine(jobs, options):
        try:
            for each in changes:
                if isinstance(each, BaseException):
                    raise each
                yield each
        finally:
            closed.append([job.name for job in jobs])

    return engine


def swept(changes, settle=lambda name: None):
    closed = []
    options = base.Options(None, 0, None, {})
    run.sweep([job("a"), job("b")], fake(changes, closed), options, settle)
    return closed


def test_of_a_long_reason_the_log_is_told_as_well() -> None:
    why = f"{'much was said ' * 30}(log: {'x/' * 60}b.log)"
    with pytest.raises(UserError, match=r"x/b\.log\); run the same command again"):
        swept([Change("a", "done"), Change("b", "failed", "n", why)])


def test_failures_are_named_with_their_reasons_at_the_end(capsys) -> None:
    changes = [Change("a", "done"), Change("b", "failed", "n", "out of memory (log: x/b.log)")]
    with pytest.raises(UserError) as error:
        swept(changes)
    assert str(error.value) == (
        "1 of 2 jobs failed: b: out of memory (log: x/b.log); run the same command again, and only these are run"
    )
    assert error.value.exit_code == 1
    assert capsys.readouterr().out.splitlines()[0] == "1/2 a done"


def test_what_cannot_be_brought_home_has_failed() -> None:
    def settle(name):
        msg = "the remote is gone"
        raise UserError(msg)

    with pytest.raises(UserError, match="1 of 2 jobs failed: a: the remote is gone"):
        swept([Change("a", "done")], settle)


def test_an_interruption_ends_the_engine_and_says_what_is_left() -> None:
    with pytest.raises(UserError) as error:
        swept([Change("a", "done"), KeyboardInterrupt()])
    assert str(error.value).startswith("interrupted; 1 jobs are left: b; trainings kept")
    assert error.value.exit_code == 130


def test_a_folder_that_another_user_has_made_is_not_worked_in(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    own = own_folder()
    assert own.stat().st_mode & 0o077 == 0
    own.rmdir()
    (tmp_path / "elsewhere").mkdir()
    own.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(RuntimeError, match=r"is not of this user.*set TMPDIR"):
        own_folder()
    (tmp_path / "elsewhere").rmdir()
    with pytest.raises(RuntimeError, match="is not of this user"):
        own_folder()
    own.unlink()
    own.mkdir()
    own.chmod(0o775)
    assert own_folder().stat().st_mode & 0o077 == 0
    other = os.getuid() + 1
    monkeypatch.setattr(os, "getuid", lambda: other)
    own.rename(own.with_name(f"weak-label-sweep-{other}"))
    with pytest.raises(RuntimeError, match="is not of this user"):
        own_folder()


def test_an_unknown_engine_and_foreign_settings_are_refused() -> None:
    with pytest.raises(UserError, match="--engine dask: is none of local, slurm, ray"):
        run.engine_named("dask")
    with pytest.raises(UserError, match="--ray: goes with --engine ray, not with slurm"):
        base.settings_of("slurm", None, ["num_gpus=1"], None)
    with pytest.raises(UserError, match="--address: goes with --engine ray"):
        base.settings_of("local", None, None, "auto")
    with pytest.raises(UserError, match="--slurm gpu: write key=value"):
        base.settings_of("slurm", ["gpu"], None, None)
    assert base.settings_of("slurm", ["time=5", "gres=gpu:1"], None, None) == {
        "time": "5",
        "gres": "gpu:1",
    }


@pytest.mark.parametrize(
    ("engine", "extra"), [("ray", "ray"), ("local", "slurm"), ("slurm", "slurm")]
)
def test_a_missing_package_names_its_extra_and_its_pins(monkeypatch, engine, extra) -> None:
    for package in ("ray", "submitit"):
        monkeypatch.setitem(sys.modules, package, None)  # importing it fails
    pins = "requirements-ray.txt" if engine == "ray" else "requirements.txt"
    with pytest.raises(UserError) as error:
        list(run.engine_named(engine)([], base.Options(None, 0, None, {})))
    assert f"the extra `{extra}` of pyproject.toml" in str(error.value)
    assert f"-r {pins}`" in str(error.value)


def test_slurm_is_told_what_the_user_said(tmp_path, monkeypatch) -> None:
    """The script for sbatch, as submitit writes it."""
    pytest.importorskip("submitit", reason="the extra `slurm` is not installed")
    (tmp_path / "srun").write_text("")
    (tmp_path / "srun").chmod(0o755)
    options = base.Options(3, 2, tmp_path, {"time": "90", "partition": "gpu"})
    monkeypatch.setenv("PATH", "")
    with pytest.raises(UserError, match="this machine has no `srun`"):
        slurm.executor_of(options)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UserError, match="say how long a job may take"):
        slurm.executor_of(options._replace(settings={}))
    with pytest.raises(UserError, match="say how long a job may take, in minutes"):
        slurm.executor_of(options._replace(settings={"time": "1:00:00"}))
    with pytest.raises(
        UserError, match=r"time=1: a job is told to end 90 s before \(signal_delay_s"
    ):
        slurm.executor_of(options._replace(settings={"time": "1"}))
    slurm.executor_of(options._replace(settings={"time": "1", "signal_delay_s": "20"}))
    with pytest.raises(UserError, match='--engine slurm: Parameter "nodes" expected type'):
        slurm.executor_of(options._replace(settings={"time": "9", "nodes": "two"}))
    given = ("time=90", "partition=gpu", "gpus_per_node=1", "mem=16GB", "setup=module load git")
    given += (
        "setup=export A=b",
        "srun_args=--mpi=none",
        "reservation=lab",
        "cpu_freq=low",
        "contiguous=true",
    )
    settings = base.settings_of("slurm", given, None, None)
    inner = slurm.executor_of(options._replace(settings=settings))._executor
    script = inner._make_submission_file_text("work", "uid").splitlines()
    for flag in ("time=90", "partition=gpu", "gpus-per-node=1", "mem=16GB", "signal=USR2@90"):
        assert f"#SBATCH --{flag}" in script
    for flag in ("reservation=lab", "cpu-freq=low", "contiguous"):  # that submitit does not know
        assert f"#SBATCH --{flag}" in script
    start = script.index("# setup")
    assert script[start + 1 : start + 3] == ["module load git", "export A=b"]
    assert any(line.startswith("srun ") and " --mpi=none " in line for line in script)
    assert inner.parameters["array_parallelism"] == 3
    assert inner.max_num_timeout == 2


class Handle:
    """Of submitit, of a job that has ended."""

    def __init__(self, *result: object) -> None:
        self.result = lambda: result

    def done(self) -> bool:
        return True


def test_a_scheduler_that_takes_no_job_ends_the_sweep_at_first_and_later_costs_an_attempt(
    monkeypatch,
) -> None:
    pytest.importorskip("submitit", reason="the extra `slurm` is not installed")
    monkeypatch.setattr(submitted, "REFUSED_SECONDS", 0.3)
    monkeypatch.setattr(submitted, "LOOK_SECONDS", 0.01)
    failing = Handle(False, "n1", "its disk is full")
    answers = [
        UserError("sbatch: no such partition"),
        [failing, Handle(True, "n2")],
        UserError("sbatch: the controller does not answer"),
        [Handle(True, "n2")],
    ]
    asked, ended, times = [], [], []

    def submit(new):
        asked.append([each.name for each in new])
        times.append(time.monotonic())
        answer = answers.pop(0)
        if isinstance(answer, UserError):
            raise answer
        return answer

    jobs = [job("a"), job("b")]
    with pytest.raises(UserError, match="no such partition"):
        list(submitted.watch(submit, ended.append, jobs, 2, 2))
    assert list(submitted.watch(submit, ended.append, jobs, 2, 2)) == [
        Change("a", "retried", "n1", "its disk is full"),
        Change("b", "done", "n2"),
        Change("a", "retried", "", "sbatch: the controller does not answer"),
        Change("a", "done", "n2"),
    ]
    assert asked == [["a", "b"], ["a", "b"], ["a"], ["a"]]
    assert ended == [[], [failing], []], "SLURM may have put it into the queue again"
    assert times[3] - times[2] >= 0.3 > times[2] - times[1]


@pytest.fixture
def scheduler(tmp_path, monkeypatch):
    """Commands of SLURM in place of its own: each answers what its file holds, and notes what it was asked."""
    pytest.importorskip("submitit", reason="the extra `slurm` is not installed")

    def answer(name: str, text: str, code: int = 0) -> None:
        (tmp_path / name).write_text(
            f'#!/bin/sh\necho "{name} $*" >>{tmp_path}/asked\necho "{text}"\nexit {code}\n'
        )
        (tmp_path / name).chmod(0o755)

    answer.asked = tmp_path / "asked"
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    return answer


def test_a_preempted_job_is_over_where_it_is_not_in_the_queue_again(scheduler) -> None:
    said = "JobID|State|NodeList\n7_0|PREEMPTED|n1\n7_1|PREEMPTED|n2\n7_1.batch|CANCELLED|n2\n"
    over = slurm.watcher()

    def states() -> list[bool]:
        over._info_dict = over.read_info(said)
        return [over.is_done(job, mode="cache") for job in ("7_0", "7_1")]

    scheduler("squeue", "7_0")
    assert states() == [False, True]
    scheduler("squeue", "Unable to contact slurm controller", 1)
    assert states() == [False, False], "nobody knows"


@pytest.mark.parametrize(
    ("state", "array", "asked"),
    [
        ("RUNNING", {}, ["squeue", "scontrol requeue 7"]),
        (
            "RUNNING",
            {"SLURM_ARRAY_JOB_ID": "7", "SLURM_ARRAY_TASK_ID": "1"},
            ["squeue", "scontrol requeue 7_1"],
        ),
        ("COMPLETING", {}, ["squeue"]),
        ("", {}, ["squeue"]),
    ],
)
def test_a_job_whose_machine_is_taken_has_no_outcome(
    scheduler, monkeypatch, state, array, asked
) -> None:
    """Else it were over, and what SLURM has put into the queue again would be nobody's."""

    def run(job):
        os.kill(os.getpid(), signal.SIGTERM)
        return Outcome(done=False, node="n1", why="exit code -15")

    before = signal.getsignal(signal.SIGTERM)
    monkeypatch.setattr(slurm, "run", run)
    for name, value in ({"SLURM_JOB_ID": "7"} | array).items():
        monkeypatch.setenv(name, value)
    scheduler("squeue", state)
    scheduler("scontrol", "")
    try:
        with pytest.raises(SystemExit) as ended:
            slurm._work()(job("a"))
        assert ended.value.code == 143
        monkeypatch.setattr(slurm, "run", lambda job: Outcome(done=True, node="n1"))
        assert slurm._work()(job("a")).done
    finally:
        signal.signal(signal.SIGTERM, before)
    lines = scheduler.asked.read_text().splitlines()
    assert [line.partition(" --noheader")[0] for line in lines] == asked


@pytest.mark.parametrize("engine", ["local", "slurm"])
def test_a_disk_that_takes_no_job_is_told_with_its_folder(scheduler, tmp_path, engine) -> None:
    """As what a scheduler refuses: at first it ends the sweep, later it costs an attempt."""
    scheduler("srun", "")
    (tmp_path / "file").touch()
    options = base.Options(
        1, 2, tmp_path / "file/engine", {"time": "9"} if engine == "slurm" else {}
    )
    with pytest.raises(UserError, match=r"/file/engine: .*; free space or fix the rights"):
        list(run.engine_named(engine)([job("a")], options))


def test_a_full_disk_of_the_logs_is_the_outcome_of_the_job(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    log = tmp_path / "logs/a.log"
    log.parent.mkdir()
    log.symlink_to("/dev/full")
    outcome = run_job(job("a")._replace(logs=str(log.parent)))
    assert not outcome.done
    assert outcome.why == f"[Errno 28] No space left on device (log: {log})"


def test_a_job_waits_for_another_process_that_does_it(tmp_path, monkeypatch) -> None:
    """Else all attempts are spent in seconds, beside the job of a sweep that was killed."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(job_module, "OTHERS_SECONDS", 0.3)
    folder = job_module._folder_of(job("a"))
    assert folder != job_module._folder_of(job("a")._replace(logs="of another clone"))
    folder.mkdir()
    began = time.monotonic()
    with (folder / "lock").open("a+") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        outcome = run_job(job("a"))
        assert "another process on this machine does this job; wait for it" in outcome.why
        assert time.monotonic() - began >= 0.3
        monkeypatch.setattr(job_module, "OTHERS_SECONDS", 60)
        letting_go = threading.Timer(0.3, fcntl.flock, (other, fcntl.LOCK_UN))
        letting_go.start()
        assert "git clone" in run_job(job("a")).why, "it has begun, and there is no hub"
        letting_go.join()


TRACE = f"""Job (task=0) failed during processing with trace:
{"-" * 22}
Traceback (most recent call last):
UncompletedJobError: Job not requeued because: timed-out too many times.

{"-" * 22}
You can check full logs with 'job.stderr(0)' or at paths:
  - 7_log.err"""


@pytest.mark.parametrize(
    ("error", "state", "log", "why"),
    [
        (
            "Uncompleted",
            "FAILED",
            None,
            "it ended without an outcome, as FAILED, exit code 0:53; it wrote nothing: ",
        ),
        (
            *("Uncompleted", "NODE_FAIL", "== a on n1\n$ dvc exp run\nepoch 3\n"),
            "it ended without an outcome, as NODE_FAIL, exit code 0:53; its last words: epoch 3 (log: ",
        ),
        (
            *("Uncompleted", "OUT_OF_MEMORY", "epoch 3\n"),
            "it ended without an outcome, as OUT_OF_MEMORY, exit code 0:53; killed, often for want of memory: ",
        ),
        (
            *("Failed", "FAILED", "epoch 3\n"),
            "UncompletedJobError: Job not requeued because: timed-out too many times., exit code 0:53; its last words: ",
        ),
    ],
)
def test_of_a_job_that_gave_no_outcome_state_and_last_words_are_told(
    tmp_path, error, state, log, why
) -> None:
    utils = pytest.importorskip("submitit").core.utils

    def result():
        raise getattr(utils, f"{error}JobError")(TRACE if error == "Failed" else "no output")

    (tmp_path / "a.log").write_text("of an earlier attempt\n")
    os.utime(tmp_path / "a.log", (1, 1))
    (tmp_path / "7.pkl").touch()
    if log:
        (tmp_path / "a.log").write_text(log)
    (tmp_path / "7.err").touch()
    paths = SimpleNamespace(submitted_pickle=tmp_path / "7.pkl", stderr=tmp_path / "7.err")
    info = {"State": state, "NodeList": "n1", "ExitCode": "0:53"}
    handle = SimpleNamespace(
        result=result, state=state, paths=paths, get_info=lambda mode="force": info
    )
    outcome = submitted._outcome(job("a")._replace(logs=str(tmp_path)), handle)
    assert (outcome.done, outcome.node) == (False, "n1")
    assert outcome.why.startswith(why)
    if log is None:
        assert f"does its node see {tmp_path} and {sys.executable} under these paths" in outcome.why


@pytest.mark.parametrize(
    ("code", "log", "killed"),
    [
        (255, "ERROR: failed to reproduce 'train': failed to run: x, exited with -9\n", True),
        (
            255,
            "Killed\nERROR: failed to reproduce 'train': failed to run: x, exited with 137\n",
            True,
        ),
        (-9, "epoch 3\n", True),
        (255, "ERROR: failed to reproduce 'train': failed to run: x, exited with -15\n", False),
        (255, "ERROR: failed to reproduce 'train': failed to run: x, exited with 1\n", False),
    ],
)
def test_a_training_that_was_killed_is_told_apart(code, log, killed) -> None:
    assert _was_killed(code, io.BytesIO(log.encode())) == killed


def test_of_a_running_job_only_what_is_known_is_asked() -> None:
    """Else every look at it would be a call of `sacct`."""
    modes = []

    def get_info(mode="force"):
        modes.append(mode)
        return {"NodeList": "n1"}

    handle = SimpleNamespace(state="RUNNING", get_info=get_info)
    assert list(submitted._states({job("a"): handle})) == [Change("a", "running", "n1")]
    assert modes == ["cache"]


def test_where_no_ray_cluster_answers_one_line_says_so_at_once(monkeypatch) -> None:
    cloudpickle = SimpleNamespace(register_pickle_by_value=lambda _module: None)
    monkeypatch.setitem(sys.modules, "ray", SimpleNamespace(cloudpickle=cloudpickle))
    with socket.socket() as bound:  # to a port at which nobody listens
        bound.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{bound.getsockname()[1]}"
        with pytest.raises(UserError, match=f"--address {address}: .*refused; start Ray there"):
            list(run.engine_named("ray")([], base.Options(None, 0, None, {}, address)))
