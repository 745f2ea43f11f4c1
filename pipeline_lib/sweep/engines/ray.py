"""On a Ray cluster, or with Ray on this machine: where jobs run, and retries, are Ray's."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import threading
import time
from typing import TYPE_CHECKING, Any

from pipeline_lib.cells.children import ENDS
from pipeline_lib.errors import UserError, in_one_line
from pipeline_lib.progress import say
from pipeline_lib.sweep import job as job_module
from pipeline_lib.sweep.engines.base import missing
from pipeline_lib.sweep.job import run
from pipeline_lib.sweep.states import Change

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator, Mapping, Sequence

    from pipeline_lib.sweep.engines.base import Options
    from pipeline_lib.sweep.job import Job

LOOK_SECONDS = 0.5
ENDING_SECONDS = 30.0
ANSWER_SECONDS = 10.0
IDLE_SECONDS = 30.0  # without a job that runs, after which it is said what is waited for
# One of several machines on which jobs fail at once keeps each for so long: it would be free first for every other, and
# fail them all.
HELD_SECONDS = 60.0


def submit(jobs: Sequence[Job], options: Options) -> Generator[Change]:
    """Run jobs as Ray's tasks, which Ray starts again where they failed or their machine did.

    Raises:
        UserError: Ray is not installed, not there, or a setting is none of a task's.
    """
    ray = _connected(options)
    try:
        yield from _watch(ray, jobs, options)
    finally:
        ray.shutdown()


def _connected(options: Options) -> Any:  # noqa: ANN401 - a module
    try:
        import ray
    except ImportError as error:
        raise missing(error, "ray", "requirements-ray.txt") from error
    ray.cloudpickle.register_pickle_by_value(job_module)
    # Of a job that took too much memory, which Ray would start again for ever.
    os.environ.setdefault("RAY_task_oom_retries", str(options.retries))
    address = options.address
    try:
        _look_for(address)
        with _own_signals():
            ray.init(address=address, log_to_driver=False, logging_level="error")
    except (OSError, RuntimeError, ValueError) as error:
        msg = (
            f"--address {address}: {in_one_line(error)}; start Ray there (`ray start --head`), or leave it out; where Ray says "
            f"InvalidAuthToken, export RAY_AUTH_MODE=token, with its ~/.ray/auth_token in yours"
        )
        raise UserError(msg) from error
    return ray


@contextlib.contextmanager
def _own_signals() -> Iterator[None]:
    """Keep what signals do here; Ray makes SIGTERM its own."""
    before = {each: signal.getsignal(each) for each in ENDS}
    try:
        yield
    finally:
        if threading.current_thread() is threading.main_thread():
            for each, handler in before.items():
                signal.signal(each, handler)


def _look_for(address: str | None) -> None:
    """Reach a host:port once, for Ray itself would try for minutes.

    Raises:
        OSError: Nothing answers.
        UserError: It is the address for clients, who are on no machine of the cluster.
    """
    if (address or "").startswith("ray://"):
        msg = f"--address {address}: is for clients; run this on a machine of the cluster, with --address auto"
        raise UserError(msg)
    host, colon, port = (address or "").rpartition(":")
    if colon and port.isdigit():
        socket.create_connection((host.strip("[]"), int(port)), ANSWER_SECONDS).close()


def _watch(ray: Any, jobs: Sequence[Job], options: Options) -> Generator[Change]:  # noqa: ANN401
    try:
        task, board = _task(ray, options)
    except (TypeError, ValueError) as error:
        msg = f"--ray: {in_one_line(error)}"
        raise UserError(msg) from error
    waiting, seen = list(jobs), set[str]()
    running: dict[Any, str] = {}
    idle = _Idle(ray, _wanted(options))
    try:
        while waiting or running:
            for job in waiting[: (options.most or len(jobs)) - len(running)]:
                running[_started(task, job, board)] = job.name
                waiting.remove(job)
            ended, _ = ray.wait(list(running), timeout=LOOK_SECONDS)
            began = ray.get(board.news.remote())
            for name, node in began:
                if name in seen:
                    yield Change(name, "retried", node)
                seen.add(name)
                yield Change(name, "running", node)
            for ref in ended:
                yield _ended(ray, ref, running.pop(ref))
            idle.look(busy=bool(seen))
    finally:
        for ref in running:
            ray.cancel(ref)
        with contextlib.suppress(Exception):
            ray.wait(list(running), num_returns=len(running), timeout=ENDING_SECONDS)


def _started(task: Any, job: Job, board: Any) -> Any:  # noqa: ANN401
    try:
        return task.remote(job, board)
    except ValueError as error:  # Ray looks at some settings only now
        msg = f"--ray: {in_one_line(''.join(map(str, error.args)))}"
        raise UserError(msg) from error


class _Idle:
    """Says once what the jobs wait for, where none of them has begun."""

    def __init__(self, ray: Any, wanted: Mapping[str, Any]) -> None:  # noqa: ANN401
        self._ray, self._wanted = ray, wanted
        self._until: float | None = time.monotonic() + IDLE_SECONDS

    def look(self, *, busy: bool) -> None:
        """Called again and again."""
        if busy:
            self._until = None
        elif self._until is not None and time.monotonic() > self._until:
            self._until = None
            found = self._ray.cluster_resources()
            there = {key: found[key] for key in ("CPU", "GPU", "memory") if key in found}
            say(
                f"no job has begun in {IDLE_SECONDS:.0f} s: each asks for {_named(self._wanted)}, and the whole cluster "
                f"has {_named(there)}; waiting for more machines"
            )


def _named(resources: Mapping[str, Any]) -> str:
    """Numbers in full: of memory these are bytes."""
    return ", ".join(
        f"{key}={value}" if isinstance(value, str) else f"{key}={value:.12g}"
        for key, value in resources.items()
    )


def _task(ray: Any, options: Options) -> tuple[Any, Any]:  # noqa: ANN401
    """The task, and an actor to which it says that it has begun: Ray itself tells nobody."""

    class Board:
        def __init__(self) -> None:
            self.began: list[tuple[str, str]] = []

        def begin(self, name: str, node: str) -> None:
            self.began.append((name, node))

        def news(self) -> list[tuple[str, str]]:
            told, self.began = self.began, []
            return told

    held = HELD_SECONDS

    def work(job: Job, board: Any) -> str:  # noqa: ANN401
        import platform
        import time

        began = time.monotonic()
        board.begin.remote(job.name, platform.node())
        outcome = run(job)
        if not outcome.done:
            if sum(node["Alive"] for node in ray.nodes()) > 1:
                time.sleep(max(0.0, held - (time.monotonic() - began)))
            raise RuntimeError(outcome.why)
        return outcome.node

    board = ray.remote(num_cpus=0, max_restarts=-1, max_task_retries=-1)(Board).remote()
    task = ray.remote(max_retries=options.retries, retry_exceptions=True, **_wanted(options))(work)
    return task, board


def _wanted(options: Options) -> dict[str, Any]:
    """`num_cpus`, `num_gpus`, `memory` and their kind as numbers."""
    found: dict[str, Any] = {"num_cpus": 1}
    for key, text in options.settings.items():
        try:
            found[key] = float(text)
        except ValueError:
            found[key] = text
    return found


def _ended(ray: Any, ref: Any, name: str) -> Change:  # noqa: ANN401
    try:
        return Change(name, "done", ray.get(ref))
    except ray.exceptions.RayTaskError as error:
        return Change(name, "failed", why=str(error.cause))
    except ray.exceptions.RayError as error:
        return Change(name, "failed", why=in_one_line(error))
