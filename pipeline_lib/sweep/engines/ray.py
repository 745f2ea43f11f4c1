"""On a Ray cluster, or with Ray on this machine: where jobs run, and retries, are Ray's."""

from __future__ import annotations

import contextlib
import socket
from typing import TYPE_CHECKING, Any

from pipeline_lib.errors import UserError, in_one_line
from pipeline_lib.sweep import job as job_module
from pipeline_lib.sweep.engines.base import missing
from pipeline_lib.sweep.job import run
from pipeline_lib.sweep.states import Change

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping, Sequence

    from pipeline_lib.sweep.engines.base import Options
    from pipeline_lib.sweep.job import Job

LOOK_SECONDS = 0.5
ENDING_SECONDS = 30.0
ANSWER_SECONDS = 10.0


def submit(jobs: Sequence[Job], options: Options) -> Generator[Change]:
    """Run jobs as Ray's tasks, which Ray starts again where they failed or their machine did.

    Raises:
        UserError: Ray is not installed, not there, or a setting is none of a task's.
    """
    ray = _connected(options.address)
    try:
        yield from _watch(ray, jobs, options)
    finally:
        ray.shutdown()


def _connected(address: str | None) -> Any:  # noqa: ANN401 - a module
    try:
        import ray
    except ImportError as error:
        raise missing(error, "ray", "requirements-ray.txt") from error
    ray.cloudpickle.register_pickle_by_value(job_module)
    try:
        _look_for(address)
        ray.init(address=address, log_to_driver=False, logging_level="error")
    except (OSError, RuntimeError, ValueError) as error:
        msg = f"--address {address}: {in_one_line(error)}; start Ray there (`ray start --head`), or leave it out"
        raise UserError(msg) from error
    return ray


def _look_for(address: str | None) -> None:
    """Reach a host:port once, for Ray itself would try for minutes.

    Raises:
        OSError: Nothing answers.
    """
    host, colon, port = (address or "").removeprefix("ray://").rpartition(":")
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
    try:
        while waiting or running:
            for job in waiting[: (options.most or len(jobs)) - len(running)]:
                running[task.remote(job, board)] = job.name
                waiting.remove(job)
            ended, _ = ray.wait(list(running), timeout=LOOK_SECONDS)
            for name, node in ray.get(board.news.remote()):
                if name in seen:
                    yield Change(name, "retried", node)
                seen.add(name)
                yield Change(name, "running", node)
            for ref in ended:
                yield _ended(ray, ref, running.pop(ref))
    finally:
        for ref in running:
            ray.cancel(ref)
        with contextlib.suppress(Exception):
            ray.wait(list(running), num_returns=len(running), timeout=ENDING_SECONDS)


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

    def work(job: Job, board: Any) -> str:  # noqa: ANN401
        import platform

        board.begin.remote(job.name, platform.node())
        outcome = run(job)
        if not outcome.done:
            raise RuntimeError(outcome.why)
        return outcome.node

    wanted = {"num_cpus": 1} | _numbers(options.settings)
    board = ray.remote(num_cpus=0, max_restarts=-1, max_task_retries=-1)(Board).remote()
    task = ray.remote(max_retries=options.retries, retry_exceptions=True, **wanted)(work)
    return task, board


def _numbers(settings: Mapping[str, str]) -> dict[str, Any]:
    """`num_cpus`, `num_gpus`, `memory` and their kind as numbers."""
    found: dict[str, Any] = {}
    for key, text in settings.items():
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
