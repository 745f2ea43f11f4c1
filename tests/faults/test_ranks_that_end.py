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

import numpy as np
import polars as pl
import psutil
import pytest

from pipeline_lib.cells.workspace import as_yaml
from tests import toy_training
from tests.signals import as_at_a_terminal

ROOT = Path(__file__).parents[2]
SECONDS = 60  # to start
AT_ONCE = 20  # s, in which all have ended
COMMAND = (sys.executable, "-m", "stages.train")
ENVIRONMENT = {k: v for k, v in os.environ.items() if k != "DVC_STAGE"} | {"PYTHONPATH": str(ROOT)}

pytestmark = pytest.mark.timeout(240)


def write(folder: Path, devices: int, epochs: int) -> None:
    params = toy_training.params(
        "fixmatch", devices=devices, epochs=epochs, checkpoint_steps=3, keep_last=0
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
