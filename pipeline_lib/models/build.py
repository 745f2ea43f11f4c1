"""The backbones by name."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from pipeline_lib.errors import UserError
from pipeline_lib.models.batch_norm import batch_norms
from pipeline_lib.models.classifier import Classifier
from pipeline_lib.models.lenet import LeNet
from pipeline_lib.models.mobilenet_v1 import MobileNetV1
from pipeline_lib.models.small_cnn import SmallCnn
from pipeline_lib.models.torchvision_models import SMALL_IMAGE, TorchvisionEncoder
from pipeline_lib.models.wide_resnet import WideResNet
from pipeline_lib.params.model_names import OWN_MODELS


@dataclass(frozen=True)
class Architecture:
    """All that it takes to build the same network again; predictor.json stores it."""

    name: str
    width: int
    alpha: float
    dropout: float
    stem: str
    bn_momentum: float
    channels: int
    image_height: int
    image_width: int
    num_classes: int
    mean: tuple[float, ...]
    std: tuple[float, ...]


def _encoder(a: Architecture) -> nn.Module:
    common: dict[str, Any] = {
        "channels": a.channels,
        "dropout": a.dropout,
        "bn_momentum": a.bn_momentum,
    }
    match a.name:
        case "small_cnn":
            return SmallCnn(width=a.width, **common)
        case "lenet":
            return LeNet(height=a.image_height, width=a.image_width, **common)
        case "wrn_28_2":  # the leaky slope is MixMatch's and FixMatch's
            return WideResNet(depth=28, widen=2, slope=0.1, **common)
        case "wrn_34_10":
            return WideResNet(depth=34, widen=10, slope=0.0, **common)
        case "mobilenet_v1":
            return MobileNetV1(alpha=a.alpha, stem_stride=1 if _small_stem(a) else 2, **common)
        case _:
            if a.name in OWN_MODELS:
                msg = f"{a.name} is in OWN_MODELS and has no case in models/build.py"
                raise LookupError(msg)
            return _torchvision_encoder(a, common)


def _small_stem(a: Architecture) -> bool:
    largest = max(a.image_height, a.image_width)
    return a.stem == "small" or (a.stem == "auto" and largest <= SMALL_IMAGE)


def _torchvision_encoder(a: Architecture, common: dict[str, Any]) -> nn.Module:
    """Build a torchvision network and try it on one image: not all of them take every size."""
    size = (a.image_height, a.image_width)
    try:
        encoder = TorchvisionEncoder(
            a.name, size=size, num_classes=a.num_classes, stem=a.stem, **common
        ).train()
        if not next(encoder.parameters()).is_meta:  # else it is one that has been trained
            # Two images, and in training mode: batch statistics of a single value are refused as well.
            encoder(torch.zeros(2, a.channels, *size))
    except (RuntimeError, AssertionError, ValueError) as error:
        msg = (
            f"model.name: {a.name} cannot take images of {size[0]}x{size[1]} pixels; set "
            f"data.image_size, or choose another model"
        )
        raise UserError(msg) from error
    for layer in batch_norms(encoder):
        layer.reset_running_stats()
    return encoder


def build(architecture: Architecture) -> Classifier:
    """Build the network with fresh weights, drawn from torch's global generator.

    Raises:
        UserError: The images are too small for it.
    """
    return Classifier(
        _encoder(architecture), architecture.num_classes, architecture.mean, architecture.std
    )
