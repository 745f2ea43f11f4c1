"""How long a step takes, also where a training was interrupted and gone on with."""

import json
import platform
import shutil
from importlib.metadata import version
from pathlib import Path

import pytest
import torch

from pipeline_lib.cells.cell import TIMES
from pipeline_lib.control_groups import cores
from pipeline_lib.errors import UserError
from pipeline_lib.params.load import check, load
from pipeline_lib.training.determinism import processor
from pipeline_lib.training.loop import Trainer
from pipeline_lib.training.outputs import LIBRARIES
from stages.compare_times import compare_times
from tests import toy_training

ROOT = Path(__file__).parents[2]
ROUNDED = 1  # millisecond: both sides are written with three digits, and their roundings differ


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
    assert 0 < took["ms_per_step"]["train"] * took["steps_here"] <= 1000 * took["seconds"] + ROUNDED
    toy_training.outcome(params)
    took = json.loads(Path("reports/environment.json").read_text())
    assert took["steps"] == took["steps_here"] == 6
    assert (took["device"], took["processor"]) == ("cpu", processor())
    assert {name: took[name] for name in LIBRARIES} == {name: version(name) for name in LIBRARIES}
    assert (took["python"], took["torch"]) == (platform.python_version(), torch.__version__)
    assert (took["cores"], took["threads"]) == (cores(), torch.get_num_threads())


def test_each_phase_and_the_search_have_times_of_their_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DVC_ROOT", raising=False)
    toy_training.write_inputs()
    content = toy_training.params("two_phase").model_dump()
    own = {"warmup_steps": 2, "supervised_steps": 4, "semi_supervised_steps": 3}
    content["methods"]["two_phase"] |= own | {"learning_rate": None}
    toy_training.outcome(check(content, Path("params.yaml")))
    took = json.loads(Path("reports/environment.json").read_text())
    ms = took["ms_per_step"]
    assert list(ms) == ["search", "warm_up", "supervised", "semi_supervised"]
    found = json.loads(Path("reports/train/phases.json").read_text())["found"]
    assert {"batch_size", "learning_rate", "reasons"} <= set(found)
    assert Path("reports/train/range_test.csv").stat().st_size > 100
    steps = {"search": 1, "warm_up": 2, "supervised": 4, "semi_supervised": 3}
    assert sum(ms[name] * steps[name] for name in steps) <= 1000 * took["seconds"] + ROUNDED


@pytest.fixture
def project(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copy2(ROOT / "params.yaml", tmp_path)
    TIMES.mkdir(parents=True)

    def took(seed, **ms_per_step):
        path = TIMES / f"paws-standard-labels_20-{seed}.json"
        path.write_text(json.dumps({"seconds": 3.0, "ms_per_step": ms_per_step}))

    return took


def test_the_times_of_steps_are_medians_by_phase(project, capsys):
    """The second training was gone on with in its last phase."""
    project(1, search=200.0, pretrain=10.0, finetune=3.0)
    project(2, finetune=5.0)
    project(3, search=300.0, pretrain=12.0, finetune=4.0)
    compare_times()
    found = {"search": 250.0, "pretrain": 11.0, "finetune": 4.0}
    assert load().compare.ms_per_step == {"paws-standard": found}
    assert capsys.readouterr().out == (
        "paws-standard: 250.0 ms in all (search), 11.0 ms per step (pretrain), 4.0 ms per step (finetune)\n"
    )


def test_without_cells_there_is_a_line(project):
    with pytest.raises(UserError, match="no cell of this comparison ran on this machine"):
        compare_times()
