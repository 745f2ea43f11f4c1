"""On a SLURM cluster, by submitit: partitions, limits, preemption and queues are SLURM's."""

from __future__ import annotations

import contextlib
import io
import os
import shutil
import signal
import subprocess
import sys
from typing import TYPE_CHECKING, Any

from pipeline_lib.errors import UserError, in_one_line
from pipeline_lib.sweep.engines.base import LINES
from pipeline_lib.sweep.engines.submitted import body, submitit, watch, writing_to
from pipeline_lib.sweep.job import run

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Mapping, Sequence

    from pipeline_lib.sweep.engines.base import Options
    from pipeline_lib.sweep.job import Job, Outcome
    from pipeline_lib.sweep.states import Change

# Between two calls of `sacct`, for all jobs; submitit's ten minutes would leave a lost job unnoticed for as long.
SECONDS_BETWEEN_LOOKS = 30
SIGNAL_SECONDS = 90  # submitit's signal_delay_s unless it is given
TIMEOUTS = "max_num_timeout"  # of submitit: how often a job whose time is up goes on in another


def submit(jobs: Sequence[Job], options: Options) -> Generator[Change]:
    """Submit all jobs as one array, of which SLURM runs `most` at a time.

    Raises:
        UserError: submitit or SLURM is not there, or a setting is none of theirs, or refused by `sbatch`.
    """
    executor = executor_of(options)
    work = body(_work())

    def start(new: list[Job]) -> list[Any]:
        # What sbatch complains of is in the error as well.
        quiet = contextlib.redirect_stderr(io.StringIO())
        try:
            with writing_to(options.folder), quiet, executor.batch():
                return [executor.submit(work, job) for job in new]
        except submitit().core.utils.FailedJobError as error:
            msg = f"--engine slurm: {in_one_line(error, 400)}"
            raise UserError(msg) from error

    yield from watch(start, _end, jobs, len(jobs), options.retries)


def executor_of(options: Options) -> Any:  # noqa: ANN401 - of submitit
    """The executor with the user's settings; a number or true is taken as such, anything else as text.

    Raises:
        UserError: See `submit`.
    """
    package = submitit()
    if shutil.which("srun") is None:
        msg = "--engine slurm: this machine has no `srun`; run it where jobs of SLURM are submitted"
        raise UserError(msg)
    package.SlurmJob.watcher = watcher()
    settings = {key: _value(key, text) for key, text in options.settings.items()}
    _check_time(settings)
    timeouts = settings.pop(TIMEOUTS, options.retries)
    executor = package.AutoExecutor(
        folder=options.folder / "%j", cluster="slurm", slurm_max_num_timeout=timeouts
    )
    try:
        executor.update_parameters(**_prefixed(settings, executor, options.most))
    except (AssertionError, NameError, TypeError, ValueError) as error:
        msg = f"--engine slurm: {in_one_line(error, 400)}"
        raise UserError(msg) from error
    return executor


def _value(key: str, text: str) -> Any:  # noqa: ANN401
    if key in LINES:
        return text.splitlines()
    if text in ("true", "True"):
        return True
    return int(text) if text.isdecimal() else text


def _check_time(settings: Mapping[str, Any]) -> None:
    """A job needs time before the signal that its time is up.

    Raises:
        UserError: It would have none.
    """
    minutes = settings.get("time", settings.get("timeout_min"))
    if type(minutes) is not int:
        msg = "--engine slurm: say how long a job may take, in minutes: --slurm time=120"
        raise UserError(msg)
    delay = settings.get("signal_delay_s", SIGNAL_SECONDS)
    if type(delay) is int and 60 * minutes <= delay:
        msg = (
            f"--slurm time={minutes}: a job is told to end {delay} s before (signal_delay_s), so it would never get on; "
            "give it more minutes"
        )
        raise UserError(msg)


def _prefixed(settings: Mapping[str, Any], executor: Any, most: int | None) -> dict[str, Any]:  # noqa: ANN401
    """As AutoExecutor wants them: its own names as they are, those of SLURM with its name before them.

    What it does not know goes to `sbatch` as it is, which knows its options best.
    """
    own, known = executor._valid_parameters(), executor._executor._valid_parameters()
    found = {
        key if key in own else f"slurm_{key}": settings[key]
        for key in settings
        if key in own | known
    }
    more = {key: value for key, value in settings.items() if key not in own | known}
    found |= {"slurm_additional_parameters": more} if more else {}
    return found | ({"slurm_array_parallelism": most} if most else {})


def watcher() -> Any:  # noqa: ANN401 - of a class of submitit's
    """Asks `sacct` how jobs are, for all of them, and with which exit code they ended.

    It says PREEMPTED of a job that is in the queue again and of one that is not; only the latter is over.
    """

    class Watcher(submitit().slurm.slurm.SlurmInfoWatcher):  # type: ignore[misc]
        def _make_command(self) -> list[str] | None:
            command: list[str] | None = super()._make_command()
            return command and [*command, "-o", "ExitCode"]  # beside what it asks

        def read_info(self, string: str | bytes) -> dict[str, dict[str, str]]:
            found: dict[str, dict[str, str]] = super().read_info(string)
            taken = [job for job, info in found.items() if info["State"] == "PREEMPTED"]
            left = _queued() if taken else None
            for job in taken:
                if left is not None and job not in left:
                    found[job] = {**found[job], "State": "PREEMPTED for good"}
            return found

    return Watcher(SECONDS_BETWEEN_LOOKS)


def _queued() -> set[str] | None:
    """Jobs of the user that wait, run, or are being ended; None: SLURM does not answer."""
    done = subprocess.run(
        ["squeue", "--noheader", "--me", "--array", "--format=%i"],
        capture_output=True,
        text=True,
        check=False,
    )
    return None if done.returncode else set(done.stdout.split())


def _work() -> Callable[[Job], Outcome]:
    """What a job does.

    SLURM takes a job's machine with SIGTERM, to the job and to its training alike. Such a job gives no outcome: it goes
    on where SLURM has put it into the queue again, and failed where it was cancelled. One that is given time to end
    by itself (GraceTime) still runs then, and puts itself into the queue.
    """

    def work(job: Job) -> Outcome:
        told = []
        signal.signal(signal.SIGTERM, lambda number, frame: told.append(number))
        outcome = run(job)
        if not told:
            return outcome
        # Of an array, one task's SLURM_JOB_ID is that of the whole.
        array, task = (os.environ.get(f"SLURM_ARRAY_{part}_ID") for part in ("JOB", "TASK"))
        name = f"{array}_{task}" if array else os.environ["SLURM_JOB_ID"]
        state = subprocess.run(
            ["squeue", "--noheader", f"--jobs={name}", "--format=%T"],
            capture_output=True,
            text=True,
            check=False,
        )
        if state.stdout.strip() == "RUNNING":
            subprocess.run(["scontrol", "requeue", name], check=False)
        sys.exit(128 + signal.SIGTERM)

    return work


def _end(handles: Sequence[Any]) -> None:
    if handles:
        names = [handle.job_id for handle in handles]
        subprocess.run(["scancel", "--quiet", *names], capture_output=True, check=False)
