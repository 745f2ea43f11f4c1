"""LeNet with batch normalisation, as CR-DPLL uses it on Fashion-MNIST and Kuzushiji-MNIST."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import nn

from pipeline_lib.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor

MINIMUM_SIDE = 16  # two 5x5 convolutions and two poolings need at least that


class LeNet(nn.Module):
    """conv 20, pool, conv 50, pool, fully connected 500."""

    width = 500

    def __init__(
        self, channels: int, height: int, width: int, dropout: float, bn_momentum: float
    ) -> None:
        super().__init__()
        if min(height, width) < MINIMUM_SIDE:
            msg = (
                f"model.name: lenet needs images of at least {MINIMUM_SIDE}x{MINIMUM_SIDE}, these are "
                f"{height}x{width}; set data.image_size or choose small_cnn"
            )
            raise UserError(msg)
        after = [((side - 4) // 2 - 4) // 2 for side in (height, width)]
        self.layers = nn.Sequential(
            nn.Conv2d(channels, 20, 5),
            nn.BatchNorm2d(20, momentum=bn_momentum),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(2),
            nn.Conv2d(20, 50, 5),
            nn.BatchNorm2d(50, momentum=bn_momentum),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Linear(50 * after[0] * after[1], self.width),
            nn.BatchNorm1d(self.width, momentum=bn_momentum),
            nn.ReLU(inplace=True),
            nn.Dropout(dropout),
        )

    def forward(self, images_BCHW: Tensor) -> Tensor:
        """Embed: (B, C, H, W) -> (B, 500)."""
        features_BD: Tensor = self.layers(images_BCHW)
        return features_BD
