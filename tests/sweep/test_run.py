"""From the first job to the last: what interrupts a sweep, and whether a machine sees the cache."""

from __future__ import annotations

import inspect
import os
import signal
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from pipeline_lib.errors import InterruptedRunError, UserError
from pipeline_lib.sweep import job as job_module
from pipeline_lib.sweep.engines import ray as engine
from pipeline_lib.sweep.engines.base import Options
from pipeline_lib.sweep.job import Job
from pipeline_lib.sweep.run import sweep

OPTIONS = Options(1, 0, Path("engine"), {})


def a_job(cache: Path) -> Job:
    return Job("one", "hub", "commit", (), cache=str(cache))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_is_named_though_the_engine_raises_another_exception(
    number: int, tmp_path: Path
) -> None:
    """As Ray's wait() does."""

    def submit(jobs, options):
        try:
            os.kill(os.getpid(), number)
        except KeyboardInterrupt:
            raise KeyboardInterrupt from None
        yield from ()

    with pytest.raises(InterruptedRunError, match="interrupted; 1 jobs are left: one") as caught:
        sweep([a_job(tmp_path)], submit, OPTIONS, print)
    assert caught.value.exit_code == 128 + number


def test_a_machine_with_another_folder_at_the_path_of_the_cache_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(job_module, "own_folder", lambda: tmp_path)
    seen = []

    def submit(jobs, options):
        (job,) = jobs
        assert Path(job.mark).parent == tmp_path / "cache"
        assert Path(job.mark).is_file()
        seen.append(job)
        yield from ()

    (tmp_path / "cache").mkdir()
    sweep([a_job(tmp_path / "cache")], submit, OPTIONS, print)
    assert list((tmp_path / "cache").iterdir()) == [], "nothing is left there"
    (tmp_path / "one").mkdir()
    outcome = job_module.run(seen[0])  # the cache is there, but not the one of the sweep
    assert not outcome.done
    assert f"{tmp_path / 'cache'}: the cache of the jobs is not on this machine" in outcome.why


def test_a_cache_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"none: the cache of the jobs cannot be written"):
        sweep([a_job(tmp_path / "none")], lambda jobs, options: iter(()), OPTIONS, print)


class FakeRay:
    """One that runs a task where it is called."""

    def __init__(self, *alive: bool) -> None:
        self.alive = alive

    @staticmethod
    def cluster_resources() -> dict[str, float]:
        return {"CPU": 2.0, "memory": 17533112320.0, "node:here": 1.0}

    def nodes(self) -> list[dict[str, bool]]:
        return [{"Alive": each} for each in self.alive]

    def remote(self, **options: object) -> Callable[[Any], Any]:
        return lambda work: work if inspect.isfunction(work) else SimpleNamespace(remote=work)


@pytest.mark.parametrize(
    ("alive", "seconds"), [([True], []), ([True, False], []), ([True, True], [60])]
)
def test_a_job_that_fails_at_once_holds_its_machine_only_where_there_are_others(
    alive: list[bool], seconds: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    slept: list[float] = []
    monkeypatch.setattr(engine.time, "sleep", slept.append)
    monkeypatch.setattr(
        engine, "run", lambda job: job_module.Outcome(done=False, node="here", why="bad")
    )
    task, _ = engine._task(FakeRay(*alive), OPTIONS)
    board = SimpleNamespace(begin=SimpleNamespace(remote=lambda *news: None))
    with pytest.raises(RuntimeError, match="bad"):
        task(a_job(Path("cache")), board)
    assert [round(each) for each in slept] == seconds


def test_what_no_machine_has_is_told_once(monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    now = [0.0]
    monkeypatch.setattr(engine.time, "monotonic", lambda: now[0])
    idle = engine._Idle(FakeRay(), {"num_cpus": 1, "num_gpus": 0.5, "accelerator_type": "H100"})
    idle.look(busy=False)
    assert capsys.readouterr().out == ""
    now[0] = 31.0
    idle.look(busy=False)
    idle.look(busy=False)
    assert capsys.readouterr().out == (
        "no job has begun in 30 s: each asks for num_cpus=1, num_gpus=0.5, accelerator_type=H100, and the whole "
        "cluster has CPU=2, memory=17533112320; waiting for more machines\n"
    )


def test_nothing_is_told_once_jobs_have_begun(monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    now = [0.0]
    monkeypatch.setattr(engine.time, "monotonic", lambda: now[0])
    idle = engine._Idle(FakeRay(), {"num_cpus": 1})
    idle.look(busy=True)
    now[0] = 31.0
    idle.look(busy=False)
    assert capsys.readouterr().out == ""


def test_the_address_for_clients_is_refused() -> None:
    with pytest.raises(UserError, match="run this on a machine of the cluster"):
        engine._look_for("ray://head:10001")
