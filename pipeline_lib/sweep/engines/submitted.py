"""Jobs as submitit has them, on this machine or on a SLURM cluster alike."""

from __future__ import annotations

import contextlib
import sys
import time
from collections import deque
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline_lib.errors import UserError
from pipeline_lib.sweep import job as job_module
from pipeline_lib.sweep.engines.base import missing
from pipeline_lib.sweep.job import KILLED, Outcome, last_words
from pipeline_lib.sweep.states import Change

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator, Sequence

    from pipeline_lib.sweep.job import Job

LOOK_SECONDS = 0.5
REFUSED_SECONDS = (
    60.0  # until a job is submitted again where a scheduler that took jobs before took none
)
# As SLURM calls them; the local executor says RUNNING from the start.
RUNNING = ("RUNNING", "COMPLETING")
WAITING = ("PENDING", "REQUEUED", "PREEMPTED", "READY")


def submitit() -> Any:  # noqa: ANN401 - a module
    """The package; with it, jobs are pickled with their code, and need no checkout where they run.

    Raises:
        UserError: It is not installed.
    """
    try:
        import cloudpickle
        import submitit as installed
    except ImportError as error:
        raise missing(error, "slurm", "requirements.txt") from error
    cloudpickle.register_pickle_by_value(job_module)
    return installed


def body(work: Callable[[Job], Outcome]) -> Any:  # noqa: ANN401 - of a class of submitit's
    """The job for submitit, which puts it into the queue again when its machine is taken or its time is up.

    Args:
        work: does the job where it runs; pickled by value as well, so a function within a function.
    """

    class Body(submitit().helpers.Checkpointable):  # type: ignore[misc]
        def __call__(self, job: Job) -> Outcome:
            return work(job)

    return Body()


@contextlib.contextmanager
def writing_to(folder: Path) -> Iterator[None]:
    """Whatever keeps jobs from being written there is told as that of this folder.

    Raises:
        UserError: The disk is full, or we have no rights there.
    """
    try:
        yield
    except OSError as error:
        msg = f"{error.filename or folder}: {error.strerror or error}; free space or fix the rights"
        raise UserError(msg) from error


def watch(
    submit: Callable[[list[Job]], list[Any]],
    end: Callable[[list[Any]], None],
    jobs: Sequence[Job],
    most: int,
    retries: int,
) -> Generator[Change]:
    """Submit jobs, and those that fail again, until none is left.

    Args:
        submit: gives a job of submitit's for each of those that it is given.
        end: tells jobs of submitit's to end, in case they have not: those that failed, and all when nobody listens
            any more.
        jobs: all of them.
        most: of them at a time.
        retries: of each.

    Raises:
        UserError: `submit` takes no job at first. Later this is a failure of the jobs that it was given.
    """
    waiting, attempts = deque(jobs), dict.fromkeys([job.name for job in jobs], 0)
    handles: dict[Job, Any] = {}
    not_before = 0.0

    def ended(job: Job, outcome: Outcome) -> Change:
        if outcome.done:
            return Change(job.name, "done", outcome.node)
        if attempts[job.name] == retries:
            return Change(job.name, "failed", outcome.node, outcome.why)
        attempts[job.name] += 1
        waiting.append(job)
        return Change(job.name, "retried", outcome.node, outcome.why)

    try:
        while waiting or handles:
            room = most - len(handles) if time.monotonic() >= not_before else 0
            new = [waiting.popleft() for _ in range(min(room, len(waiting)))]
            try:
                handles.update(zip(new, submit(new) if new else [], strict=True))
            except UserError as error:
                if not any(attempts.values()):
                    raise
                not_before = time.monotonic() + REFUSED_SECONDS
                for job in new:
                    yield ended(job, Outcome(done=False, node="", why=str(error)))
            for job, outcome in _over(handles, end):
                yield ended(job, outcome)
            yield from _states(handles)
            time.sleep(LOOK_SECONDS)
    finally:
        end(list(handles.values()))


def _over(
    handles: dict[Job, Any], end: Callable[[list[Any]], None]
) -> Iterator[tuple[Job, Outcome]]:
    """Take those out that are over; one that failed may be in the queue again, and nobody waits for it any more."""
    for job, handle in list(handles.items()):
        if handle.done():
            outcome = _outcome(job, handle)
            if not outcome.done:
                end([handle])
            del handles[job]
            yield job, outcome


def _states(handles: dict[Job, Any]) -> Iterator[Change]:
    for job, handle in handles.items():
        state = str(handle.state).upper().split()[0] if handle.state else ""
        if state in RUNNING:
            yield Change(job.name, "running", handle.get_info(mode="cache").get("NodeList", ""))
        elif state in WAITING:
            yield Change(job.name, "waiting")


def _outcome(job: Job, handle: Any) -> Outcome:  # noqa: ANN401 - of submitit
    """Of a job that ended by itself, or did not get to say how."""
    utils = submitit().core.utils
    try:
        return Outcome(*handle.result())
    except utils.FailedJobError as error:
        trace = str(error).rpartition("-" * 22)[0] or str(error)
        why = [line.strip() for line in trace.splitlines() if line.strip()][-1]
    except utils.UncompletedJobError:
        why = f"it ended without an outcome, as {handle.state}"
    info = handle.get_info(mode="cache")
    code = f", exit code {info['ExitCode']}" if "ExitCode" in info else ""
    memory = f"; {KILLED}" if str(handle.state).startswith("OUT_OF_ME") else ""
    words = _last_words(job, handle)
    return Outcome(done=False, node=info.get("NodeList", ""), why=f"{why}{code}{memory}; {words}")


def _last_words(job: Job, handle: Any) -> str:  # noqa: ANN401 - of submitit
    """Of this attempt, in the log of the job or else in submitit's own."""
    for path in (Path(job.logs) / f"{job.name}.log", handle.paths.stderr):
        with contextlib.suppress(OSError):
            if path.stat().st_mtime >= handle.paths.submitted_pickle.stat().st_mtime:
                with path.open("rb") as log:
                    if words := last_words(log):
                        return f"its last words: {words} (log: {path})"
    return f"it wrote nothing: does its node see {job.logs} and {sys.executable} under these paths, and is there room?"
