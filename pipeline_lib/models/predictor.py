"""The trained classifier as a file that cannot execute: safetensors and JSON."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.nn.functional import normalize

from pipeline_lib.artifacts import as_json, publish_together
from pipeline_lib.errors import UserError
from pipeline_lib.models.build import Architecture, build
from pipeline_lib.models.description import (
    DESCRIPTION,
    SCHEMA_VERSION,
    WEIGHTS,
    read_description,
)
from pipeline_lib.models.projection import headless, projected_width, projection_head
from pipeline_lib.models.weights import Weightless, as_safetensors, fill

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from torch import Tensor

    from pipeline_lib.models.classifier import Classifier

SNAPSHOTS = "snapshots"
FEWEST, MOST = 8, 1024  # images at a time
PIXELS = MOST * 64 * 64


class Predictor(nn.Module):
    """uint8 images (B, C, H, W) -> float32 probabilities (B, K), by the softmax of a classifier.

    Attributes:
        description: what it takes, beside the architecture, to build another one like it.
    """

    def __init__(self, classifier: Classifier) -> None:
        super().__init__()
        self.classifier = classifier
        self.description: dict[str, Any] = {"kind": "softmax"}

    def embed(self, images_BCHW: Tensor) -> Tensor:
        """What is classified: (B, D)."""
        return self.classifier.features(images_BCHW)

    def classify(self, embedding_BD: Tensor) -> Tensor:
        """Probabilities (B, K) of what was embedded."""
        return torch.softmax(self.classifier.head(embedding_BD).float(), dim=1)

    def forward(self, images_BCHW: Tensor) -> Tensor:
        """Predict."""
        return self.classify(self.embed(images_BCHW))


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

    def classify(self, embedding_BD: Tensor) -> Tensor:
        """`softmax_s(z . s / tau) Y_S` (B, K)."""
        share_BS = torch.softmax(embedding_BD @ self.supports_SD.T / self.temperature, dim=1)
        if torch.compiler.is_exporting():
            # Of ONNX's ScatterND onnxruntime adds to one place from several threads at once, and loses some.
            label_SK = nn.functional.one_hot(self.class_S, self.num_classes).to(share_BS.dtype)
            return share_BS @ label_SK
        # A tenth of the time of the product where classes are many.
        none_BK = share_BS.new_zeros(len(share_BS), self.num_classes)
        return none_BK.index_add_(1, self.class_S, share_BS)


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

    def classify(self, embedding_BD: Tensor) -> Tensor:
        """Probabilities (B, K) of what was embedded."""
        return torch.softmax(self.linear(embedding_BD).float(), dim=1)


def in_passes(images_NCHW: Tensor) -> tuple[Tensor, ...]:
    """Cut images into batches to predict."""
    return torch.split(images_NCHW, pass_size(images_NCHW))


def pass_size(images_NCHW: Tensor) -> int:
    """Images of a batch to predict; of large ones they are fewer, since the memory of a pass goes with pixels."""
    height, width = images_NCHW.shape[2:]
    return max(FEWEST, min(MOST, PIXELS // (height * width)))


def predictor_like(architecture: Architecture, description: Mapping[str, Any]) -> Predictor:
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
) -> Predictor:
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
    content = {
        "schema_version": SCHEMA_VERSION,
        **about,
        "predictor": dict(description),
        "architecture": asdict(architecture),
    }
    with publish_together(folder / WEIGHTS, folder / DESCRIPTION) as (weights_file, about_file):
        weights_file.write_bytes(as_safetensors(weights))
        about_file.write_text(as_json(content), encoding="utf-8")


def load_predictor(folder: Path) -> Predictor:
    """Read the predictor written by `save_predictor`, in evaluation mode on the CPU.

    The files may come from anybody: nothing in them is executed, and they get no more memory than the
    weights in them take.

    Raises:
        UserError: A file is missing, damaged, of a later version of the project, or not of this project.
    """
    description = read_description(folder)
    return _load(folder / WEIGHTS, description["architecture"], description["predictor"])


def load_snapshot(folder: Path, name: str) -> Predictor:
    """Read one of the predictors in `folder`/snapshots, by its name in predictor.json.

    Raises:
        UserError: As `load_predictor`.
    """
    description = read_description(folder)
    snapshot = description["snapshots"][name]
    path = folder / SNAPSHOTS / f"{name}.safetensors"
    return _load(path, description["architecture"], snapshot["predictor"])


def _load(path: Path, architecture: Mapping[str, Any], description: Mapping[str, Any]) -> Predictor:
    with Weightless():
        predictor = predictor_like(Architecture(**architecture), description).float()
    fill(predictor, path)
    if isinstance(predictor, SoftNeighbours):
        lowest, highest = predictor.class_S.aminmax()
        if lowest < 0 or highest >= predictor.num_classes:
            msg = f"{path}: class_S is not of classes 0 to {predictor.num_classes - 1}; train again"
            raise UserError(msg)
    return predictor.eval()
