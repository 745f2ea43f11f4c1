"""Five convolutions: enough for images of 8 to 32 pixels, seconds on one core."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import nn

if TYPE_CHECKING:
    from torch import Tensor


class SmallCnn(nn.Module):
    """conv w, w, pool, 2w, 2w, pool, 4w, mean over the map; BN and ReLU after every convolution."""

    def __init__(self, channels: int, width: int, dropout: float, bn_momentum: float) -> None:
        super().__init__()
        self.width = 4 * width

        def block(inputs: int, outputs: int) -> list[nn.Module]:
            return [
                nn.Conv2d(inputs, outputs, 3, padding=1, bias=False),
                nn.BatchNorm2d(outputs, momentum=bn_momentum),
                nn.ReLU(inplace=True),
            ]

        self.layers = nn.Sequential(
            *block(channels, width),
            *block(width, width),
            nn.MaxPool2d(2),
            *block(width, 2 * width),
            *block(2 * width, 2 * width),
            nn.MaxPool2d(2),
            *block(2 * width, 4 * width),
        )
        self.dropout = nn.Dropout(dropout)

    def forward(self, images_BCHW: Tensor) -> Tensor:
        """Embed: (B, C, H, W) -> (B, 4 width)."""
        features_BD: Tensor = self.dropout(self.layers(images_BCHW).mean(dim=(2, 3)))
        return features_BD
