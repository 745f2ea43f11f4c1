"""Every method on toy images, and a short training of it."""

from __future__ import annotations

import importlib
from pathlib import Path

import torch

from pipeline_lib.augment.policies import View
from pipeline_lib.methods.base import Method
from pipeline_lib.methods.phases import Found
from pipeline_lib.models.build import Architecture, build
from pipeline_lib.params.load import load
from pipeline_lib.params.methods import KINDS
from pipeline_lib.params.sections import Train
from pipeline_lib.records import Problem
from pipeline_lib.rng import seeded_layers
from pipeline_lib.training.loop import Trainer
from pipeline_lib.training.pool import Pool
from pipeline_lib.training.progress import TrainingProgress
from pipeline_lib.training.resume import Slot
from pipeline_lib.training.selection import Validation
from tests.views import Changed, Shift

PARAMS = load(Path(__file__).parents[1] / "params.yaml")
IMAGES, CLASSES, BATCH = 48, 6, 16
UNLABELED = 4  # of the images with candidates: sets of all classes
ARCHITECTURE = Architecture(
    "small_cnn", 8, 1.0, 0.0, "auto", 0.1, 1, 8, 8, CLASSES, mean=(0.3,), std=(0.3,)
)
EPOCHS, STEPS = 2, 3
# Phases of a few steps, so that a training of all of them is short.
SHORT = {
    "paws": {"finetune_steps": 5},
    "two_phase": {
        "warmup_steps": 3,
        "supervised_steps": 6,
        "semi_supervised_steps": 6,
        "patience": 1,
        "reductions": 0,
        "tolerance": 0.5,
    },
    "pico": {"queue": 24},
}


def make_candidates(kind: str) -> tuple[torch.Tensor, tuple[str, ...]]:
    labels = torch.arange(IMAGES) % CLASSES
    mask = torch.nn.functional.one_hot(labels, CLASSES).bool()
    if kind == "clean":
        return mask, ("labeled",) * IMAGES
    if kind == "few_shot":
        mask[12:] = True
        return mask, ("labeled_and_unlabeled",) * 12 + ("unlabeled",) * (IMAGES - 12)
    mask |= torch.rand(IMAGES, CLASSES, generator=torch.Generator().manual_seed(1)) < 0.2
    mask[:UNLABELED] = True
    return mask, ("unlabeled",) * UNLABELED + ("partial",) * (IMAGES - UNLABELED)


def make_images() -> torch.Tensor:
    """Images whose class is visible: a bright column per class, with noise."""
    noise = torch.randint(0, 80, (IMAGES, 1, 8, 8), generator=torch.Generator().manual_seed(2))
    for image in range(IMAGES):
        noise[image, :, :, image % CLASSES] += 150
    return noise.to(torch.uint8)


def make_method(name: str, **changes: object) -> Method:
    candidates_NK, roles = make_candidates(KINDS[name])
    problem = Problem(candidates_NK, roles, tuple("abcdef"), BATCH, make_images())
    section = getattr(PARAMS.methods, name).model_copy(update=changes)
    module = importlib.import_module(f"pipeline_lib.methods.{name}")
    with seeded_layers(0, "weights"):
        method: Method = getattr(module, type(section).__name__)(
            section, problem, build(ARCHITECTURE)
        )
    if method.search() is not None:
        method.use(Found(BATCH, 0.05))
    return method


class KilledError(Exception):
    """Stands for the end of the process."""


class Quiet(TrainingProgress):
    """Says nothing, and may end the run after a step."""

    def __init__(self, stop_after: int | None = None) -> None:
        super().__init__(EPOCHS * STEPS, 0, STEPS)
        self.stop_after = stop_after

    def say(self, line: str) -> None:
        del line

    def step(self, step: int) -> None:
        if self.stop_after is not None and step > self.stop_after:
            raise KilledError


def make_trainer(name: str, folder: Path, **changes: object) -> Trainer:
    """A short training on the toy images; a quarter of them validate."""
    method = make_method(name, **SHORT.get(name, {}))
    values = {
        "batch_size": BATCH,
        "epochs": EPOCHS,
        "ema_decay": 0.5,
        "clip_gradient": 1.0,
    }
    train = Train.model_validate(PARAMS.train.model_dump() | values | changes)
    noise = torch.randint(0, 30, (1, 1, 8, 8), generator=torch.Generator().manual_seed(3)).byte()

    def view(name: str) -> View:
        return View((Shift(20), Changed(side=6 if name == "small" else 8, noise_1CHW=noise)))

    candidates_NK = method.problem.candidates_NK
    pool = Pool(make_images(), candidates_NK, view, 1, torch.device("cpu"))
    few = slice(0, IMAGES, 4)
    validation = Validation(make_images()[few], candidates_NK[few].float())
    slot = Slot(folder, {"params": {}})
    return Trainer(method, pool, validation, train, "last", STEPS, slot)
