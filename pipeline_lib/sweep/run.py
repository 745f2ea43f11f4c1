"""A sweep from its first job to its last: who is asked to run them, what is shown, and what is said in the end."""

from __future__ import annotations

import contextlib
import signal
import sys
import tempfile
import time
from typing import TYPE_CHECKING

from pipeline_lib.cells.children import ended_by_signals
from pipeline_lib.errors import InterruptedRunError, UserError, in_one_line, listed
from pipeline_lib.sweep.states import Change, States

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from pipeline_lib.sweep.engines.base import Engine, Options
    from pipeline_lib.sweep.job import Job
    from pipeline_lib.sweep.states import Row

AGAIN = "run the same command again"
LONGEST = 1000  # characters of why a job failed, which ends with the path of its log


def engine_named(name: str) -> Engine:
    """The engine; its package is asked for when it starts.

    Raises:
        UserError: There is no such engine.
    """
    match name:
        case "local":
            from pipeline_lib.sweep.engines.local import submit
        case "slurm":
            from pipeline_lib.sweep.engines.slurm import submit
        case "ray":
            from pipeline_lib.sweep.engines.ray import submit
        case _:
            msg = f"--engine {name}: is none of local, slurm, ray"
            raise UserError(msg)
    return submit


def sweep(
    jobs: Sequence[Job], engine: Engine, options: Options, settle: Callable[[str], None]
) -> None:
    """Run jobs to their end, and show how they are.

    Args:
        jobs: that are to be done.
        engine: that does them.
        options: of it.
        settle: called with the name of each job that is done, to bring home what it made.

    Raises:
        UserError: Some failed; the message names them and their logs.
        InterruptedRunError: A signal ended it; the jobs were told to end.
    """
    if not jobs:
        return
    states = States(job.name for job in jobs)
    with ended_by_signals() as came:
        try:
            with _marked(jobs) as known, _shown(states) as show:
                changes = engine(known, options)
                with contextlib.closing(changes):
                    for change in changes:
                        _take(change, states, show, settle)
        except KeyboardInterrupt:
            left = states.left()
            msg = f"interrupted; {len(left)} jobs are left: {listed(left)}; trainings kept their states; {AGAIN}"
            raise InterruptedRunError(msg, came[0] if came else signal.SIGINT) from None
    if failed := states.failed():
        each = listed(f"{row.name}: {in_one_line(row.why, LONGEST)}" for row in failed)
        msg = f"{len(failed)} of {len(jobs)} jobs failed: {each}; {AGAIN}, and only these are run"
        raise UserError(msg)


@contextlib.contextmanager
def _marked(jobs: Sequence[Job]) -> Iterator[list[Job]]:
    """Put a file into the cache that the jobs share: a machine without it has another folder by that name.

    Raises:
        UserError: The cache cannot be written.
    """
    cache = jobs[0].cache
    if not cache:
        yield list(jobs)
        return
    with contextlib.ExitStack() as stack:
        try:
            mark = stack.enter_context(tempfile.NamedTemporaryFile(dir=cache, prefix="sweep-"))
        except OSError as error:
            msg = f"{cache}: the cache of the jobs cannot be written ({error.strerror})"
            raise UserError(msg) from error
        yield [job._replace(mark=mark.name) for job in jobs]


def _take(
    change: Change, states: States, show: Callable[[Row], None], settle: Callable[[str], None]
) -> None:
    if change.state == "done":
        try:
            settle(change.name)
        except UserError as error:
            change = Change(change.name, "failed", change.node, str(error))
    if (row := states.take(change, time.monotonic())) is not None:
        show(row)


@contextlib.contextmanager
def _shown(states: States) -> Iterator[Callable[[Row], None]]:
    """At a terminal a table that moves, with the reasons of failures above it; elsewhere a line per change."""

    def say(row: Row) -> None:
        print(states.line(row, time.monotonic()), flush=True)  # noqa: T201 - what this is for

    if not sys.stdout.isatty():
        yield say
        return
    from rich.live import Live

    def say_why(row: Row) -> None:
        if row.why:
            live.console.print(states.line(row, time.monotonic()), highlight=False, markup=False)

    with Live(states, refresh_per_second=2) as live:
        yield say_why
