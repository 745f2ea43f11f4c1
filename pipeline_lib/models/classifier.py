"""From uint8 images to logits: normalisation, encoder, linear head."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn

from pipeline_lib.models.batch_norm import groups_of, one_group_at_a_time, sharing
from pipeline_lib.models.ranks import Shared

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from pipeline_lib.models.ranks import Ranks


class Classifier(nn.Module):
    """A network with its preprocessing inside, so that it cannot be applied with another one.

    Args:
        encoder: float images (B, C, H, W) -> features (B, `encoder.width`).
        num_classes: K.
        mean: per channel, in [0, 1], of the training images.
        std: likewise.

    Attributes:
        ranks: the processes that share the batches of a training step.
    """

    mean: Tensor
    std: Tensor
    ranks: Ranks | None = None

    def __init__(
        self, encoder: nn.Module, num_classes: int, mean: Sequence[float], std: Sequence[float]
    ) -> None:
        super().__init__()
        # Convolutions are faster with the channels last in memory, on processors and on GPUs.
        self.encoder = encoder.to(memory_format=torch.channels_last)
        width: int = encoder.width  # type: ignore[assignment]  # every encoder of models/ has one
        self.head = nn.Linear(width, num_classes)
        self.register_buffer("mean", torch.tensor(mean).view(1, -1, 1, 1) * 255)
        self.register_buffer("std", torch.tensor(std).view(1, -1, 1, 1) * 255)

    def features(self, images_BCHW: Tensor) -> Tensor:
        """Embed uint8 images: (B, C, H, W) -> (B, D)."""
        groups = groups_of(self.encoder)
        if groups > 1 and self.encoder.training and images_BCHW.device.type == "cpu":
            return one_group_at_a_time(self.encoder, self._features, images_BCHW)
        return self._features(images_BCHW)

    def _features(self, images_BCHW: Tensor) -> Tensor:
        if self.ranks is None:
            return self._embed(images_BCHW)
        groups = groups_of(self.encoder)
        shared = Shared(self.ranks, groups, len(images_BCHW) // groups)
        with sharing(self.encoder, shared):
            return shared.all(self._embed(shared.mine(images_BCHW)))

    def _embed(self, images_BCHW: Tensor) -> Tensor:
        normal_BCHW = (images_BCHW - self.mean) / self.std
        features_BD: Tensor = self.encoder(
            normal_BCHW.contiguous(memory_format=torch.channels_last)
        )
        return features_BD

    def forward(self, images_BCHW: Tensor) -> Tensor:
        """Classify uint8 images: (B, C, H, W) -> float32 logits (B, K)."""
        logits_BK: Tensor = self.head(self.features(images_BCHW))
        return logits_BK.float()
