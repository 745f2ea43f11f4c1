"""On this machine, by submitit's local executor: what SLURM would do, without SLURM."""

from __future__ import annotations

import contextlib
import os
import platform
import signal
import sys
from typing import TYPE_CHECKING, Any

from pipeline_lib.sweep.engines.submitted import body, submitit, watch, writing_to
from pipeline_lib.sweep.job import run

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator, Sequence

    from pipeline_lib.sweep.engines.base import Options
    from pipeline_lib.sweep.job import Job, Outcome
    from pipeline_lib.sweep.states import Change

YEAR_MINUTES = 365 * 24 * 60  # submitit ends a local job after two minutes unless told otherwise


def submit(jobs: Sequence[Job], options: Options) -> Generator[Change]:
    """Run jobs, `most` at a time, one by default.

    Raises:
        UserError: submitit is not installed, or its folder cannot be written.
    """
    with writing_to(options.folder):
        executor = submitit().LocalExecutor(folder=options.folder / "%j")
    executor.update_parameters(timeout_min=YEAR_MINUTES)
    work = body(_work())

    def start(new: list[Job]) -> list[Any]:
        with _no_ctrl_c(), writing_to(options.folder):
            return [executor.submit(work, job) for job in new]

    for change in watch(start, _end, jobs, options.most or 1, options.retries):
        yield change._replace(node=change.node or platform.node())


def _work() -> Callable[[Job], Outcome]:
    """What a job does: it sees the GPUs that we see, and ends when it is told to.

    submitit hides all GPUs that it was not asked for, and ignores SIGTERM, which on a cluster announces something.
    """
    gpus = os.environ.get("CUDA_VISIBLE_DEVICES")

    def work(job: Job) -> Outcome:
        os.environ.pop("CUDA_VISIBLE_DEVICES", None)
        if gpus is not None:
            os.environ["CUDA_VISIBLE_DEVICES"] = gpus
        signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
        return run(job)

    return work


def _end(handles: Sequence[Any]) -> None:
    """Tell jobs to end, and wait: trainings save their state first."""
    running = [handle for handle in handles if not handle.done()]
    for handle in running:
        with contextlib.suppress(ProcessLookupError):
            os.kill(int(handle.job_id), signal.SIGTERM)
    for handle in running:
        handle.wait()


@contextlib.contextmanager
def _no_ctrl_c() -> Iterator[None]:
    """What is started within does not hear a Ctrl-C, of which we tell it in order."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
