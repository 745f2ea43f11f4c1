"""Wide residual networks for 32x32 images (Zagoruyko, Komodakis; BMVC 2016)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn

if TYPE_CHECKING:
    from torch import Tensor


class _Block(nn.Module):
    """Pre-activation block: BN, activation, 3x3, BN, activation, dropout, 3x3, plus the shortcut."""

    def __init__(
        self, inputs: int, outputs: int, stride: int, slope: float, dropout: float, momentum: float
    ) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(inputs, momentum=momentum)
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs, momentum=momentum)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.activation = nn.LeakyReLU(slope, inplace=True)
        self.dropout = nn.Dropout(dropout)
        self.shortcut = (
            None
            if inputs == outputs and stride == 1
            else nn.Conv2d(inputs, outputs, 1, stride=stride, bias=False)
        )

    def forward(self, x_BCHW: Tensor) -> Tensor:
        active_BCHW = self.activation(self.bn1(x_BCHW))
        # Where the shape changes, the shortcut starts after the activation, as in the original.
        straight_BCHW = x_BCHW if self.shortcut is None else self.shortcut(active_BCHW)
        hidden_BCHW = self.activation(self.bn2(self.conv1(active_BCHW)))
        out_BCHW: Tensor = straight_BCHW + self.conv2(self.dropout(hidden_BCHW))
        return out_BCHW


class WideResNet(nn.Module):
    """WRN-depth-widen: three stages of 16, 32 and 64 times `widen` channels.

    Args:
        channels: of the images.
        depth: 6n + 4.
        widen: k.
        slope: of the leaky ReLU; 0 is a ReLU.
        dropout: between the convolutions of a block.
        bn_momentum: torch's meaning, 0.1 forgets fast.
    """

    def __init__(
        self,
        channels: int,
        depth: int,
        widen: int,
        slope: float,
        dropout: float,
        bn_momentum: float,
    ) -> None:
        super().__init__()
        blocks = (depth - 4) // 6
        self.width = 64 * widen
        self.stem = nn.Conv2d(channels, 16, 3, padding=1, bias=False)
        layers: list[nn.Module] = []
        inputs = 16
        for stage, outputs in enumerate((16 * widen, 32 * widen, 64 * widen)):
            for position in range(blocks):
                stride = 2 if stage > 0 and position == 0 else 1
                layers.append(_Block(inputs, outputs, stride, slope, dropout, bn_momentum))
                inputs = outputs
        self.blocks = nn.Sequential(*layers)
        self.bn = nn.BatchNorm2d(inputs, momentum=bn_momentum)
        self.activation = nn.LeakyReLU(slope, inplace=True)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, a=slope, mode="fan_out")

    def forward(self, images_BCHW: Tensor) -> Tensor:
        """Embed: (B, C, H, W) -> (B, 64 widen)."""
        maps_BCHW = self.blocks(self.stem(images_BCHW))
        return torch.mean(self.activation(self.bn(maps_BCHW)), dim=(2, 3))
