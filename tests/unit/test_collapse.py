"""The collapse alarm on a training that does collapse: PAWS without its mean-entropy maximisation."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from pipeline_lib.errors import UserError
from pipeline_lib.methods.paws import Paws
from pipeline_lib.models.build import Architecture, build
from pipeline_lib.params.load import load
from pipeline_lib.params.sections import Train
from pipeline_lib.records import Problem
from pipeline_lib.rng import seeded_layers
from pipeline_lib.training.loop import Trainer
from pipeline_lib.training.pool import Pool
from pipeline_lib.training.progress import TrainingProgress
from pipeline_lib.training.resume import Slot
from pipeline_lib.training.selection import Validation
from tests.views import shifted

PARAMS = load(Path(__file__).parents[2] / "params.yaml")
LABELED, IMAGES, CLASSES, EPOCHS, STEPS = 8, 48, 4, 8, 3
CPU = torch.device("cpu")


class Quiet(TrainingProgress):
    """Says nothing."""

    def __init__(self) -> None:
        super().__init__(EPOCHS * STEPS, 0, STEPS)

    def say(self, line: str) -> None:
        pass


def make_problem() -> Problem:
    """Labeled images that show their class, and unlabeled ones that are nothing but brighter noise."""
    noise = torch.Generator().manual_seed(1)
    images = torch.randint(0, 90, (IMAGES, 1, 8, 8), generator=noise)
    label_N = torch.arange(LABELED) % CLASSES
    images[torch.arange(LABELED), 0, :, 2 * label_N] += 150
    images[LABELED:] += 60
    candidates_NK = torch.ones(IMAGES, CLASSES, dtype=torch.bool)
    candidates_NK[:LABELED] = torch.eye(CLASSES, dtype=torch.bool)[label_N]
    roles = ("labeled",) * LABELED + ("unlabeled",) * (IMAGES - LABELED)
    return Problem(candidates_NK, roles, tuple("abcd"), 16, images.byte())


def make_trainer(folder: Path, me_max: float, collapse: float = 0.05) -> Trainer:
    problem = make_problem()
    changes = {"epochs": EPOCHS, "schedule": "constant", "learning_rate": 0.1, "collapse": collapse}
    train = Train.model_validate(PARAMS.train.model_dump() | changes)
    chosen = {"me_max": me_max, "images_per_class": 2, "small_views": 0, "finetune": "none"}
    section = type(PARAMS.methods.paws).model_validate(PARAMS.methods.paws.model_dump() | chosen)
    architecture = Architecture(
        "small_cnn", 4, 1.0, 0.0, "auto", 0.1, 1, 8, 8, CLASSES, mean=(0.3,), std=(0.3,)
    )
    with seeded_layers(0, "weights"):
        method = Paws(section, problem, build(architecture))

    pool = Pool(problem.images_NCHW, problem.candidates_NK, lambda _: shifted(10), 1, CPU)
    nothing = Validation(problem.images_NCHW[:0], problem.candidates_NK[:0].float())
    slot = Slot(folder, {"params": {}})
    return Trainer(method, pool, nothing, train, "last", STEPS, slot)


def entropies(trainer: Trainer) -> list[float]:
    return [row["prediction_entropy"] for row in trainer.record.rows[1:]]


def test_without_me_max_paws_collapses_and_is_stopped_with_advice(tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path, me_max=0.0)
    with pytest.raises(UserError, match=r"predictions have collapsed.*raise me_max"):
        trainer.run(Quiet())
    limit = 0.05 * torch.tensor(CLASSES).log()
    assert max(entropies(trainer)[-2:]) < limit <= min(entropies(trainer)[:-2])
    assert len(entropies(trainer)) < EPOCHS, "long before the end"


def test_with_me_max_the_same_training_goes_through(tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path, me_max=1.0)
    trainer.run(Quiet())
    assert len(entropies(trainer)) == EPOCHS
    assert min(entropies(trainer)) > 0.5 * torch.tensor(CLASSES).log()


def test_the_alarm_can_be_turned_off(tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path, me_max=0.0, collapse=0.0)
    trainer.run(Quiet())
    assert len(entropies(trainer)) == EPOCHS
