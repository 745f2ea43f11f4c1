"""How long a step takes, also where a training was interrupted and gone on with."""

import json
import shutil
from pathlib import Path

import pytest

from pipeline_lib.cells.cell import TIMES
from pipeline_lib.errors import UserError
from pipeline_lib.params.load import load
from pipeline_lib.training.loop import Trainer
from stages.compare import compare_times
from tests import toy_training

ROOT = Path(__file__).parents[2]


def test_a_resumed_training_notes_the_steps_of_its_own_process(tmp_path, monkeypatch):
    """Six steps; the first process ends in the fifth, its state is that of the fourth."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DVC_ROOT", raising=False)
    toy_training.write_inputs()
    params = toy_training.params("supervised", checkpoint_steps=1)
    step = Trainer.step

    def stopped(trainer):
        if trainer.done == 4:
            raise KeyboardInterrupt
        step(trainer)

    monkeypatch.setattr(Trainer, "step", stopped)
    with pytest.raises(KeyboardInterrupt):
        toy_training.outcome(params)
    monkeypatch.setattr(Trainer, "step", step)
    toy_training.outcome(params)
    took = json.loads(Path("reports/environment.json").read_text())
    assert took["steps"] == 6
    assert 0 < took["steps_here"] <= 3, "the last state was saved before an evaluation"
    toy_training.outcome(params)
    took = json.loads(Path("reports/environment.json").read_text())
    assert took["steps"] == took["steps_here"] == 6


@pytest.fixture
def project(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copy2(ROOT / "params.yaml", tmp_path)
    TIMES.mkdir(parents=True)

    def took(seed, **content):
        path = TIMES / f"paws-standard-labels_20-{seed}.json"
        path.write_text(json.dumps({"seconds": 3.0, "steps": 300} | content))

    return took


def test_the_time_of_a_step_is_that_of_the_steps_since(project):
    """10 ms each; over all 300 steps the resumed training would have had 1 ms."""
    project(1, steps_here=300)
    project(2, seconds=0.3, steps_here=30)
    project(3, seconds=0.3, steps_here=30)
    compare_times()
    assert load().compare.ms_per_step == {"paws-standard": 10.0}


def test_without_cells_there_is_a_line(project):
    with pytest.raises(UserError, match="no cell of this comparison ran on this machine"):
        compare_times()
