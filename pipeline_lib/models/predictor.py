"""The trained classifier as a file that cannot execute: safetensors and JSON."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.nn.functional import normalize

from pipeline_lib.artifacts import publish_bytes, publish_json, read_json, verify
from pipeline_lib.errors import UserError
from pipeline_lib.models.build import Architecture, build
from pipeline_lib.models.projection import headless, projected_width, projection_head

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from torch import Tensor

    from pipeline_lib.models.classifier import Classifier

SCHEMA_VERSION = 2
WEIGHTS = "predictor.safetensors"
DESCRIPTION = "predictor.json"
SNAPSHOTS = "snapshots"


class Predictor(nn.Module):
    """uint8 images (B, C, H, W) -> float32 probabilities (B, K), by the softmax of a classifier.

    Attributes:
        description: what it takes, beside the architecture, to build another one like it.
    """

    def __init__(self, classifier: Classifier) -> None:
        super().__init__()
        self.classifier = classifier
        self.description: dict[str, Any] = {"kind": "softmax"}

    def forward(self, images_BCHW: Tensor) -> Tensor:
        """Predict."""
        return torch.softmax(self.classifier(images_BCHW), dim=1)


class SoftNeighbours(Predictor):
    """uint8 images -> probabilities, by soft nearest neighbours among labeled images (PAWS).

    Args:
        classifier: whose features are used; it loses its linear head.
        projection: features -> embeddings, see `projection_head`.
        supports_SD: embeddings of the labeled images.
        class_S: their classes, int64.
        num_classes: K.
        temperature: tau.
    """

    supports_SD: Tensor
    class_S: Tensor

    def __init__(
        self,
        classifier: Classifier,
        projection: nn.Sequential,
        supports_SD: Tensor,
        class_S: Tensor,
        num_classes: int,
        temperature: float,
    ) -> None:
        super().__init__(headless(classifier))
        self.projection, self.temperature = projection, temperature
        self.num_classes = num_classes
        self.register_buffer("supports_SD", normalize(supports_SD))
        self.register_buffer("class_S", class_S.to(supports_SD.device))
        self.description = {
            "kind": "soft_neighbours",
            "supports": len(supports_SD),
            "temperature": temperature,
            "projection_layers": len(projection),
            "projection_width": supports_SD.shape[1],
        }

    def embed(self, images_BCHW: Tensor) -> Tensor:
        """Embeddings of unit length, float32 (B, D)."""
        return normalize(self.projection(self.classifier.features(images_BCHW)).float())

    def forward(self, images_BCHW: Tensor) -> Tensor:
        """Predict: `softmax_s(z . s / tau) Y_S` (B, K)."""
        z_BD = self.embed(images_BCHW)
        share_BS = torch.softmax(z_BD @ self.supports_SD.T / self.temperature, dim=1)
        none_BK = share_BS.new_zeros(len(share_BS), self.num_classes)
        return none_BK.index_add(1, self.class_S, share_BS)


class ProjectedSoftmax(Predictor):
    """uint8 images -> probabilities, by a linear layer on the first layer of a projection head.

    Args:
        classifier: whose features are used; it loses its linear head.
        projection: see `projection_head`.
        linear: from that layer to logits.
    """

    def __init__(
        self, classifier: Classifier, projection: nn.Sequential, linear: nn.Linear
    ) -> None:
        super().__init__(headless(classifier))
        self.first, self.linear = projection[:1], linear
        self.description = {
            "kind": "projected_softmax",
            "projection_layers": len(projection),
            "projection_width": linear.in_features,
        }

    def embed(self, images_BCHW: Tensor) -> Tensor:
        """What the linear layer sees (B, D)."""
        embedding_BD: Tensor = self.first(self.classifier.features(images_BCHW))
        return embedding_BD

    def logits(self, images_BCHW: Tensor) -> Tensor:
        """Classify: float32 logits (B, K)."""
        logits_BK: Tensor = self.linear(self.embed(images_BCHW))
        return logits_BK.float()

    def forward(self, images_BCHW: Tensor) -> Tensor:
        """Predict."""
        return torch.softmax(self.logits(images_BCHW), dim=1)


def predictor_like(architecture: Architecture, description: Mapping[str, Any]) -> nn.Module:
    """A predictor of the described kind, whose weights are to be loaded.

    Raises:
        UserError: There is no such kind.
    """
    classifier = build(architecture)
    match description["kind"]:
        case "softmax":
            return Predictor(classifier)
        case "soft_neighbours" | "projected_softmax":
            return _projecting(classifier, architecture.num_classes, description)
    msg = f"{DESCRIPTION}: no predictor of kind {description['kind']!r}; train again"
    raise UserError(msg)


def _projecting(
    classifier: Classifier, num_classes: int, description: Mapping[str, Any]
) -> nn.Module:
    inputs, width = classifier.head.in_features, description["projection_width"]
    projection = projection_head(inputs, description["projection_layers"], width)
    if description["kind"] == "projected_softmax":
        return ProjectedSoftmax(classifier, projection, nn.Linear(width, num_classes))
    supports = description["supports"]
    return SoftNeighbours(
        classifier,
        projection,
        torch.zeros(supports, projected_width(inputs, projection)),
        torch.zeros(supports, dtype=torch.int64),
        num_classes,
        description["temperature"],
    )


def save_weights(path: Path, weights: Mapping[str, Tensor]) -> None:
    """Write a predictor's `state_dict()` as safetensors."""
    from safetensors.torch import save

    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in weights.items()}
    publish_bytes(path, save(tensors))


def save_predictor(
    folder: Path,
    weights: Mapping[str, Tensor],
    description: Mapping[str, Any],
    architecture: Architecture,
    about: Mapping[str, Any],
) -> None:
    """Write a predictor's weights and what is needed to use them.

    Args:
        folder: gets predictor.safetensors and predictor.json.
        weights: of the predictor, its `state_dict()`.
        description: of the predictor.
        architecture: of its network.
        about: method, classes, seed and so on, for readers and later stages.
    """
    save_weights(folder / WEIGHTS, weights)
    content = {
        "schema_version": SCHEMA_VERSION,
        **about,
        "predictor": dict(description),
        "architecture": asdict(architecture),
    }
    publish_json(folder / DESCRIPTION, content)


def load_predictor(folder: Path) -> nn.Module:
    """Read the predictor written by `save_predictor`, in evaluation mode on the CPU.

    Raises:
        UserError: A file is missing, damaged, or of a later version of the project.
    """
    description = read_description(folder)
    return _load(folder / WEIGHTS, description["architecture"], description["predictor"])


def load_snapshot(folder: Path, name: str) -> nn.Module:
    """Read one of the predictors in `folder`/snapshots, by its name in predictor.json.

    Raises:
        UserError: As `load_predictor`.
    """
    description = read_description(folder)
    snapshot = description["snapshots"][name]
    path = folder / SNAPSHOTS / f"{name}.safetensors"
    return _load(path, description["architecture"], snapshot["predictor"])


def read_description(folder: Path) -> dict[str, Any]:
    """The content of predictor.json.

    Raises:
        UserError: It is missing, damaged, or of another version of the project.
    """
    description: dict[str, Any] = read_json(folder / DESCRIPTION)
    if description.get("schema_version") != SCHEMA_VERSION:
        msg = (
            f"{folder / DESCRIPTION}: schema_version {description.get('schema_version')!r}, this "
            f"version reads {SCHEMA_VERSION}; train again or use the version that wrote it"
        )
        raise UserError(msg)
    return description


def _load(path: Path, architecture: Mapping[str, Any], description: Mapping[str, Any]) -> nn.Module:
    from safetensors.torch import load

    predictor = predictor_like(Architecture(**architecture), description)
    verify(path)
    try:
        predictor.load_state_dict(load(path.read_bytes()))
    except RuntimeError as error:
        msg = f"{path}: not the weights of the network in {DESCRIPTION}; train again"
        raise UserError(msg) from error
    return predictor.eval()
