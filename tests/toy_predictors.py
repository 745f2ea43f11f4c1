"""A small predictor of each kind, untrained, and its files."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from pipeline_lib.models.build import Architecture, build
from pipeline_lib.models.predictor import (
    Predictor,
    ProjectedSoftmax,
    SoftNeighbours,
    save_predictor,
)
from pipeline_lib.models.projection import projection_head
from pipeline_lib.models.weights import save_weights

if TYPE_CHECKING:
    from pathlib import Path

CLASSES = ["ant", "bee", "cow"]
ARCHITECTURE = Architecture(
    *("small_cnn", 2, 1.0, 0.0, "auto", 0.1, 1, 8, 8, len(CLASSES)), mean=(0.3,), std=(0.3,)
)
ABOUT = {"method": "paws", "variant": "official", "dataset": "toy", "seed": 1, "epochs": 2}
ABOUT |= {"classes": CLASSES, "selected_epoch": 2, "steps": 9, "select": "last"}
ABOUT |= {"resize": "stretch"}
FILES = ("predictor.json", "predictor.safetensors", "snapshots/phase-first.safetensors")


def predictors() -> dict[str, Predictor]:
    """One of each kind."""
    torch.manual_seed(1)
    head = projection_head(8, 2, 4)
    supports, class_S = torch.randn(5, 4), torch.tensor([0, 1, 2, 1, 0])
    return {
        "softmax": Predictor(build(ARCHITECTURE)),
        "soft_neighbours": SoftNeighbours(build(ARCHITECTURE), head, supports, class_S, 3, 0.1),
        "projected_softmax": ProjectedSoftmax(build(ARCHITECTURE), head, torch.nn.Linear(4, 3)),
    }


def save_each(root: Path) -> list[Path]:
    """Folders with a saved predictor of each kind and a snapshot."""
    folders = []
    for kind, predictor in predictors().items():
        folder = root / kind
        snapshot = {"of": "phase", "epoch": 1, "predictor": predictor.description}
        about = ABOUT | {"snapshots": {"phase-first": snapshot}}
        save_weights(folder / FILES[2], predictor.state_dict())
        save_predictor(folder, predictor.state_dict(), predictor.description, ARCHITECTURE, about)
        folders.append(folder)
    return folders
