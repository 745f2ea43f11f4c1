"""A training by two processes, of which one is killed, or which is told to end; one process goes on with it."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import polars as pl
import psutil
import pytest
import torch
import torch.distributed as dist

from pipeline_lib.cells.workspace import as_yaml
from pipeline_lib.errors import UserError
from pipeline_lib.models.ranks import Ranks
from pipeline_lib.params.sections import Train
from pipeline_lib.training import distributed, launch, saving
from pipeline_lib.training.interruption import Interruption
from pipeline_lib.training.saving import Due, Saving
from tests import toy_training
from tests.signals import as_at_a_terminal

ROOT = Path(__file__).parents[2]
SECONDS = 60  # to start
AT_ONCE = 20  # s, in which all have ended
COMMAND = (sys.executable, "-m", "stages.train")
ENVIRONMENT = {k: v for k, v in os.environ.items() if k != "DVC_STAGE"} | {"PYTHONPATH": str(ROOT)}

pytestmark = pytest.mark.timeout(240)


def write(folder: Path, devices: int, epochs: int, **changes: object) -> None:
    params = toy_training.params(
        "fixmatch", devices=devices, epochs=epochs, checkpoint_steps=3, keep_last=0, **changes
    )
    (folder / "params.yaml").write_text(as_yaml(params.model_dump()))


class Training:
    """The stage at work; `folder`/log has what it says."""

    def __init__(self, folder: Path) -> None:
        self.log = folder / "log"
        with self.log.open("wb") as out:
            self.process = subprocess.Popen(
                COMMAND,
                cwd=folder,
                env=ENVIRONMENT,
                stdout=out,
                stderr=out,
                preexec_fn=as_at_a_terminal,
            )
        end = time.monotonic() + SECONDS
        while not re.search("epoch [1-9]", self.said):
            assert time.monotonic() < end, self.said
            assert self.process.poll() is None, self.said
            time.sleep(0.02)

    @property
    def said(self) -> str:
        return self.log.read_text()

    def ranks(self) -> dict[str, psutil.Process]:
        return {p.environ()["RANK"]: p for p in psutil.Process(self.process.pid).children()}

    def ended(self, ranks: dict[str, psutil.Process]) -> int:
        code = self.process.wait(AT_ONCE)
        _, alive = psutil.wait_procs(list(ranks.values()), AT_ONCE)
        assert not alive
        return code


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    with contextlib.chdir(tmp_path):
        toy_training.write_inputs()
    write(tmp_path, 2, 2000)
    return tmp_path


def test_all_end_with_one_and_one_process_goes_on(folder: Path) -> None:
    training = Training(folder)
    ranks = training.ranks()
    assert sorted(ranks) == ["0", "1"]
    ranks["1"].kill()
    assert training.ended(ranks) == 1
    assert training.said.splitlines()[-1] == (
        "train: rank 1 was ended by SIGKILL, so all were stopped; run the same command again to go on from "
        "the last saved state"
    )
    assert "Traceback" not in training.said
    assert not (folder / "models").exists()

    write(folder, 1, 2000)
    training = Training(folder)
    assert "resuming after step" in training.said
    training.process.send_signal(signal.SIGINT)
    assert training.ended({}) == 128 + signal.SIGINT


def test_a_broken_number_is_said_once(folder: Path) -> None:
    write(folder, 2, 2000, learning_rate=1e30, clip_gradient=None, evaluate_every=1000)
    done = subprocess.run(
        COMMAND, cwd=folder, env=ENVIRONMENT, capture_output=True, text=True, timeout=SECONDS
    )
    assert done.returncode == 1
    broken, failed = done.stderr.splitlines()
    assert re.match(r"train: (the loss|a weight) (of|after) step \d+ is not finite", broken)
    assert failed == "train: rank 0 has failed (exit code 1), and all were stopped; see above"


@pytest.mark.parametrize(
    ("number", "advice"),
    [
        (signal.SIGKILL, launch.GO_ON),
        (signal.SIGTERM, launch.GO_ON),
        (signal.SIGABRT, "see above"),
        (signal.SIGSEGV, "see above"),
    ],
)
def test_who_has_broken_is_not_told_to_go_on(number: signal.Signals, advice: str) -> None:
    failed = Mock(get_first_failure=lambda: (1, Mock(exitcode=-number)))
    told = f"train: rank 1 was ended by {number.name}, so all were stopped; {advice}"
    assert str(launch._failure(failed)) == told


class TestRanksWithClocksOfTheirOwn:
    """Two ranks, one of which has looked for broken numbers long ago, and the other just now."""

    def saving(self, rank: int, ago: float) -> Saving:
        train = Train.model_validate(toy_training.params("fixmatch").train.model_dump())
        made = Saving(train, Interruption(), Ranks(rank, 2))
        made.looked = made.last = time.monotonic() - ago
        return made

    @pytest.mark.parametrize("late", [0, 1])
    def test_both_look_and_only_the_first_asks_for_saves(
        self, late: int, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        ranks = [self.saving(rank, 1e4 if rank == late else 0) for rank in range(2)]
        asked: list[list[int]] = []
        monkeypatch.setattr(saving, "largest", lambda wanted: asked.append(wanted) or wanted)
        for each in ranks:
            each.due(1)
        answer = [max(pair) for pair in zip(*asked, strict=True)]
        assert answer == [True, late == 0, 0]
        monkeypatch.setattr(saving, "largest", lambda _: answer)
        assert {each.due(2) for each in ranks} == {Due(look=True, save=late == 0, end=None)}


def test_a_rank_that_fails_leaves_without_a_farewell(tmp_path: Path) -> None:
    """Which stands here for what NCCL does at a normal end: wait for the others."""
    script = """
import atexit, sys, time
from pipeline_lib.training.launch import leaving_at_once
atexit.register(time.sleep, 60)
with leaving_at_once():
    print("said")
    {}
"""
    for end, code, said in (("sys.exit(3)", 3, ""), ("1 / 0", 1, "ZeroDivisionError")):
        started = time.monotonic()
        done = subprocess.run(
            [sys.executable, "-c", script.format(end)],
            env=ENVIRONMENT | {"RANK": "1"},
            capture_output=True,
            text=True,
        )
        assert time.monotonic() - started < AT_ONCE
        assert (done.returncode, done.stdout) == (code, "said\n")
        assert said in done.stderr


class TestMeeting:
    """`met` with a stand-in for the meeting itself."""

    @pytest.fixture(autouse=True)
    def ended(self, monkeypatch: pytest.MonkeyPatch) -> list[str]:
        ended: list[str] = []
        monkeypatch.setenv("RANK", "1")
        monkeypatch.setenv(distributed.INTERFACE, "lo")
        monkeypatch.setattr(distributed, "PATIENCE", 0)
        monkeypatch.setattr(dist, "init_process_group", lambda _: None)
        monkeypatch.setattr(dist, "get_rank", lambda: 1)
        monkeypatch.setattr(dist, "get_world_size", lambda: 2)
        monkeypatch.setattr(dist, "destroy_process_group", lambda: ended.append("well"))
        return ended

    def test_only_a_good_end_is_said_to_the_others(self, ended: list[str]) -> None:
        with distributed.met(torch.device("cpu")) as ranks:
            assert ranks == Ranks(1, 2)
        assert ended == ["well"]

    @pytest.mark.parametrize(
        ("error", "raised", "words"),
        [
            (RuntimeError("Connection closed by peer [::1]:5"), UserError, "has ended .*::1"),
            (
                RuntimeError(
                    "[x/gloo/transport/tcp/pair.cc:545] Read error [::1]:5: No route to host"
                ),
                UserError,
                "has ended .*No route to host",
            ),
            (dist.DistNetworkError("The client socket has timed out"), UserError, "has ended"),
            (dist.DistBackendError("NCCL error: Duplicate GPU"), RuntimeError, "Duplicate GPU"),
            (UserError("the disk is full"), UserError, "^the disk is full"),
        ],
    )
    def test_another_process_is_blamed_only_where_it_is_gone(
        self, error: Exception, raised: type[Exception], words: str, ended: list[str]
    ) -> None:
        with pytest.raises(raised, match=words), distributed.met(torch.device("cpu")):
            raise error
        assert not ended


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_all_end_with_the_one_that_started_them_and_save_the_state(
    folder: Path, number: signal.Signals
) -> None:
    training = Training(folder)
    ranks = training.ranks()
    training.process.send_signal(number)
    expected = 128 + number if number == signal.SIGTERM else -number
    assert training.ended(ranks) == expected
    told = re.search(r"train: SIGTERM after step (\d+) of 6000", training.said)
    assert told is not None
    assert "Traceback" not in training.said
    again = Training(folder)
    assert f"resuming after step {told[1]} of 6000" in again.said
    again.process.send_signal(signal.SIGTERM)
    again.ended(again.ranks())


@pytest.mark.slow
def test_two_processes_learn_what_one_learns(folder: Path) -> None:
    tables = []
    for devices in (1, 2):
        write(folder, devices, 2)
        done = subprocess.run(COMMAND, cwd=folder, env=ENVIRONMENT, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert done.stdout.splitlines()[-1].startswith("fixmatch: kept epoch")
        assert done.stdout.count("epoch 2/2") == 1, "one of them speaks"
        made_with = json.loads((folder / "reports/train/phases.json").read_text())["made_with"]
        assert made_with["processes"] == devices
        tables.append(pl.read_csv(folder / "reports/train/history.csv").to_numpy())
    np.testing.assert_allclose(*tables, rtol=1e-3, equal_nan=True)
