"""A training that is too short for its settings says so; one of the usual length says nothing."""

from __future__ import annotations

import pytest

from pipeline_lib.methods.average import Average
from pipeline_lib.methods.cr_dpll import CrDpll
from pipeline_lib.methods.two_phase import TwoPhase
from pipeline_lib.training.unfinished import unfinished
from tests.unit.test_trainer import EPOCHS, PARAMS, STEPS, make_trainer


def told(tmp_path, kind=Average, momentum=0.5, **changes) -> list[str]:
    params = PARAMS.model_copy(
        update={"model": PARAMS.model.model_copy(update={"bn_momentum": momentum})}
    )
    trainer = make_trainer(tmp_path, kind, **changes)
    return unfinished(params, trainer, trainer.phases)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"ema_decay": 0.99}, "train.ema_decay 0.99: after 12 steps, 89 % of the averaged weights"),
        (
            {"momentum": 0.01},
            "model.bn_momentum 0.01: after 12 steps, 89 % of the batch statistics",
        ),
        (
            {"schedule": "multi_step", "milestones": [2, 4, 150]},
            "train.milestones 4, 150: training has 4 epochs, and the learning rate is not lowered there",
        ),
        (
            {"schedule": "cosine", "warmup_epochs": 4.5},
            "train.warmup_epochs 4.5: training has 4 epochs, and the learning rate does not reach its peak",
        ),
    ],
)
def test_what_does_not_come_to_its_end_is_told(tmp_path, changes, words: str) -> None:
    assert (EPOCHS, STEPS) == (4, 3)
    (sentence,) = told(tmp_path, **changes)
    assert sentence.startswith(words)


@pytest.mark.parametrize(
    "changes",
    [
        {"ema_decay": 0.7, "momentum": 0.3},
        {"ema_decay": 0.0, "momentum": 1.0},
        {"schedule": "multi_step", "milestones": [1, 3]},
        {"schedule": "cosine", "milestones": [150]},
        {"schedule": "cosine", "warmup_epochs": 4},
        {"schedule": "cosine", "warmup_epochs": 5, "warmup_start": 1},
        {"schedule": "cosine", "warmup_epochs": 4 * (1 + 1e-9)},
        {"schedule": "one_cycle", "warmup_epochs": 10},
        {"ema_decay": 0.999, "momentum": 0.001, "epochs": 0},
    ],
)
def test_what_comes_to_its_end_is_not(tmp_path, changes) -> None:
    assert told(tmp_path, **changes) == []


@pytest.mark.parametrize(
    ("ramp_epochs", "start", "percent"),
    [(100, "zero", 3), (100, "one_step", 4), (4, "zero", 75), (3, "zero", None), (0, "zero", None)],
)
def test_a_ramp_that_ends_low_is_told(tmp_path, ramp_epochs, start, percent) -> None:
    trainer = make_trainer(tmp_path, CrDpll)
    trainer.method.params = trainer.method.params.model_copy(
        update={"ramp_epochs": ramp_epochs, "ramp_start": start}
    )
    told = [why for why in unfinished(PARAMS, trainer, trainer.phases) if "a ramp" in why]
    assert len(told) == (percent is not None)
    assert all(f"ends at {percent} % of its height" in why for why in told)
    trainer.method.params = trainer.method.params.model_copy(update={"lambda_max": 0})
    assert unfinished(PARAMS, trainer, trainer.phases) == []


def test_a_step_may_move_the_batch_statistics_several_times(tmp_path) -> None:
    """Of 12 steps, each of which moves them once for every view."""
    trainer = make_trainer(tmp_path, CrDpll)
    assert PARAMS.model.bn_momentum == 0.1
    assert not [why for why in unfinished(PARAMS, trainer, trainer.phases) if "bn_momentum" in why]
    joint = trainer.method.params.model_copy(update={"bn": "joint"})
    trainer.method.params = joint
    assert [why for why in unfinished(PARAMS, trainer, trainer.phases) if "bn_momentum" in why]


def test_a_phase_is_named_where_there_are_several(tmp_path) -> None:
    """The first phase measures the batch statistics anew at its end."""
    sentences = told(tmp_path, TwoPhase, momentum=0.001, ema_decay=0.9)
    assert [s.rpartition("(")[2] for s in sentences] == [
        "phase warm_up)",
        "phase supervised)",
        "phase semi_supervised)",
    ]
    assert all("train.ema_decay 0.9: after" in s for s in sentences)
