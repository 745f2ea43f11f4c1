"""torchvision's image classifiers as encoders, from scratch, for images of any size and colour."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeGuard

import torch
from torch import nn

if TYPE_CHECKING:
    from torch import Tensor

SMALL_IMAGE = 64  # pixels a side; above, the original stem is kept
# A first convolution of this many pixels or more cuts the image into patches: it has no small form.
_RESNET_LIKE_KERNELS = (3, 7, 11)


class TorchvisionEncoder(nn.Module):
    """Any torchvision classifier with its last linear layer taken off.

    Args:
        name: as torchvision registers it, for example `resnet18`.
        channels: of the images.
        size: (height, width).
        num_classes: for the few networks that end in a convolution, whose features are its K maps.
        dropout: in place of the network's own rate, where it has one.
        stem: `auto`, `small` or `original`.
        bn_momentum: of every batch normalisation.
    """

    def __init__(
        self,
        name: str,
        channels: int,
        size: tuple[int, int],
        num_classes: int,
        dropout: float,
        stem: str,
        bn_momentum: float,
    ) -> None:
        super().__init__()
        # torchvision takes seconds to import, which the project's own networks need not wait for.
        from torchvision import models

        options: dict[str, Any] = {"weights": None, "num_classes": num_classes}
        if name.startswith("vit_"):
            options["image_size"] = size[0]
        if name in {"googlenet", "inception_v3"}:
            options |= {"aux_logits": False, "init_weights": True}
        self.network = models.get_model(name, **options)
        small = stem == "small" or (stem == "auto" and max(size) <= SMALL_IMAGE)
        _adapt_stem(self.network, channels, small=small)
        self.width = _remove_head(self.network, num_classes)
        for path, module in list(self.network.named_modules()):
            if isinstance(module, nn.AdaptiveAvgPool2d) and _several(module.output_size):
                _replace(self.network, path, AveragePool(module.output_size))
        for module in self.network.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.momentum = bn_momentum
            if isinstance(module, nn.Dropout):
                module.p = dropout

    def forward(self, images_BCHW: Tensor) -> Tensor:
        """Embed: (B, C, H, W) -> (B, D)."""
        features_BD: Tensor = self.network(images_BCHW)
        return features_BD.flatten(1)


class AveragePool(nn.Module):
    """nn.AdaptiveAvgPool2d to several values a side, whose own gradient on a GPU is not reproducible.

    Args:
        output_size: (height, width).
    """

    def __init__(self, output_size: tuple[int, int]) -> None:
        super().__init__()
        self.output_size = output_size

    def forward(self, maps_BCHW: Tensor) -> Tensor:
        """Means over rows, then over columns: (B, C, H, W) -> (B, C, *output_size)."""
        for dim, out in zip((2, 3), self.output_size, strict=True):
            side = maps_BCHW.shape[dim]
            starts = [i * side // out for i in range(out)]
            ends = [-(-(i + 1) * side // out) for i in range(out)]
            means = [
                maps_BCHW.narrow(dim, start, end - start).mean(dim, keepdim=True)
                for start, end in zip(starts, ends, strict=True)
            ]
            maps_BCHW = torch.cat(means, dim)
        return maps_BCHW


def _several(output_size: Any) -> TypeGuard[tuple[int, int]]:  # noqa: ANN401 - torch allows a number, a pair, None
    return isinstance(output_size, tuple) and max(output_size) > 1


def _adapt_stem(network: nn.Module, channels: int, *, small: bool) -> None:
    """Give the first convolution `channels` inputs; for small images, 3x3 without stride or pooling."""
    path, first = next((n, m) for n, m in network.named_modules() if isinstance(m, nn.Conv2d))
    shrink = small and first.kernel_size[0] in _RESNET_LIKE_KERNELS and first.stride[0] > 1
    if channels != first.in_channels or shrink:
        replacement = nn.Conv2d(
            channels,
            first.out_channels,
            3 if shrink else first.kernel_size,  # type: ignore[arg-type]
            stride=1 if shrink else first.stride,  # type: ignore[arg-type]
            padding=1 if shrink else first.padding,  # type: ignore[arg-type]
            bias=first.bias is not None,
        )
        _replace(network, path, replacement)
    if shrink:
        pooling = next((n for n, m in network.named_modules() if isinstance(m, nn.MaxPool2d)), None)
        if pooling in {"maxpool", "features.pool0", "maxpool1"}:
            _replace(network, pooling, nn.Identity())


def _remove_head(network: nn.Module, num_classes: int) -> int:
    """Replace the last linear layer by the identity and return its input width."""
    linear = [
        (name, module)
        for name, module in network.named_modules()
        if isinstance(module, nn.Linear) and module.out_features == num_classes
    ]
    if not linear:
        return num_classes
    path, head = linear[-1]
    _replace(network, path, nn.Identity())
    return head.in_features


def _replace(network: nn.Module, path: str, module: nn.Module) -> None:
    parent, _, name = path.rpartition(".")
    setattr(network.get_submodule(parent), name, module)
