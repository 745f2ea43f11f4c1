"""The trained classifier as a file that cannot execute: safetensors and JSON."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from pipeline_lib.artifacts import publish_bytes, publish_json, read_json, verify
from pipeline_lib.errors import UserError
from pipeline_lib.models.build import Architecture, build

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from torch import Tensor

    from pipeline_lib.models.classifier import Classifier

SCHEMA_VERSION = 1
WEIGHTS = "predictor.safetensors"
DESCRIPTION = "predictor.json"


class Predictor(nn.Module):
    """uint8 images (B, C, H, W) -> float32 probabilities (B, K), by the softmax of a classifier."""

    def __init__(self, classifier: Classifier) -> None:
        super().__init__()
        self.classifier = classifier

    def forward(self, images_BCHW: Tensor) -> Tensor:
        """Predict."""
        return torch.softmax(self.classifier(images_BCHW), dim=1)


def save_predictor(
    folder: Path,
    weights: Mapping[str, Tensor],
    architecture: Architecture,
    about: Mapping[str, Any],
) -> None:
    """Write a predictor's weights and what is needed to use them.

    Args:
        folder: gets predictor.safetensors and predictor.json.
        weights: `Predictor.state_dict()`.
        architecture: of its classifier.
        about: method, classes, seed and so on, for readers and later stages.
    """
    from safetensors.torch import save

    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in weights.items()}
    publish_bytes(folder / WEIGHTS, save(tensors))
    publish_json(
        folder / DESCRIPTION,
        {"schema_version": SCHEMA_VERSION, **about, "architecture": asdict(architecture)},
    )


def load_predictor(folder: Path) -> Predictor:
    """Read a predictor written by `save_predictor`, in evaluation mode on the CPU.

    Raises:
        UserError: A file is missing, damaged, or of a later version of the project.
    """
    from safetensors.torch import load

    description = read_json(folder / DESCRIPTION)
    if description.get("schema_version") != SCHEMA_VERSION:
        msg = (
            f"{folder / DESCRIPTION}: schema_version {description.get('schema_version')!r}, this "
            f"version reads {SCHEMA_VERSION}; train again or use the version that wrote it"
        )
        raise UserError(msg)
    predictor = Predictor(build(Architecture(**description["architecture"])))
    verify(folder / WEIGHTS)
    try:
        predictor.load_state_dict(load((folder / WEIGHTS).read_bytes()))
    except RuntimeError as error:
        msg = f"{folder / WEIGHTS}: not the weights of the network in {DESCRIPTION}; train again"
        raise UserError(msg) from error
    return predictor.eval()
