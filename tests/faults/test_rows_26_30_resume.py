"""Rows 26 to 30 of the table of faults: training that is killed, stopped, or not alone."""

from __future__ import annotations

import contextlib
import random
import re
import signal
from pathlib import Path

import pytest

from pipeline_lib.cells.workspace import as_yaml
from pipeline_lib.params.methods import KINDS
from tests import toy_training
from tests.kill_harness import Attacked, Server, made_by, server

MADE = made_by("train")


@pytest.fixture(scope="module")
def stages() -> Server:
    with server() as running:
        yield running


def toy(folder: Path, method: str, **train: object) -> Path:
    """A folder in which the train stage takes a second."""
    folder.mkdir(parents=True, exist_ok=True)
    with contextlib.chdir(folder):
        toy_training.write_inputs()
        params = toy_training.params(method, **train)
        Path("params.yaml").write_text(as_yaml(params.model_dump()))
    return folder


def attack(stages: Server, folder: Path, method: str, kills: int, seed: int) -> Attacked:
    toy(folder, method, checkpoint_steps=1, epochs=4)
    attacked = Attacked(stages, "train", folder, MADE, random.Random(seed))
    attacked.survive(kills)
    return attacked


@pytest.mark.parametrize("method", ["cr_dpll", "mixmatch", "paws", "two_phase"])
def test_row_26_killed_at_any_moment_training_ends_with_the_same_bytes(
    stages: Server, tmp_path: Path, method: str
) -> None:
    attacked = attack(stages, tmp_path, method, 5, 26)
    assert len(attacked.kills) == 5
    assert attacked.resumed


@pytest.mark.soak
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("method", KINDS)
def test_row_26_soak(stages: Server, tmp_path: Path, method: str) -> None:
    attacked = attack(stages, tmp_path, method, 15, 1)
    print(f"{method}: {len(attacked.kills)} kills, resumed {attacked.resumed} times")
    assert attacked.resumed


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_row_27_told_to_end_it_finishes_the_step_saves_and_says_how_to_go_on(
    stages: Server, tmp_path: Path, number: signal.Signals
) -> None:
    toy(tmp_path, "fixmatch", checkpoint_steps=2, epochs=4)
    attacked = Attacked(stages, "train", tmp_path, MADE, random.Random(27))
    events = attacked.in_peace()["event"]
    expected = attacked.outcome()
    attacked.drop_outputs()
    done = stages.run("train", tmp_path, {"event": events // 3, "signal": number})
    assert done["code"] == 128 + number
    last = done["said"].splitlines()[-1]
    told = rf"train: {number.name} after step (\d+) of 12; the state is saved in \S+: run the same command again"
    step = int(re.match(told, last)[1])
    assert "Traceback" not in done["said"]
    assert attacked.outcome() == {}
    assert list(tmp_path.glob(f".dvc/tmp/resume/*/step-{step:012d}.safetensors"))
    again = stages.run("train", tmp_path)
    assert f"resuming after step {step} of 12" in again["said"]
    assert attacked.outcome() == expected
