"""Cutout: hide a square of the image (DeVries and Taylor, 2017, arXiv 1708.04552)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import torch

if TYPE_CHECKING:
    from torch import Tensor


class Holes(NamedTuple):
    """The pixel at the centre of each hole."""

    row_B: Tensor
    column_B: Tensor


@dataclass(frozen=True)
class Cutout:
    """A square hole around a pixel drawn uniformly; the part beyond the edge is lost.

    A hole of odd size is centred on that pixel, one of even size reaches one pixel less to the
    right and down.
    """

    height: int
    width: int
    size_h: int
    size_w: int
    fill: int

    def sample(self, generator: torch.Generator, batch: int) -> Holes:
        """Draw `batch` holes."""
        uniform_2B = torch.rand(2, batch, generator=generator, dtype=torch.float64)
        sides_2 = torch.tensor([self.height, self.width])
        row_B, column_B = (uniform_2B * sides_2[:, None]).long()
        return Holes(row_B, column_B)

    def apply(self, images_BCHW: Tensor, holes: Holes) -> Tensor:
        """Fill every image's hole."""
        height, width = images_BCHW.shape[2:]
        rows_BH = _span(holes.row_B, self.size_h, height).to(images_BCHW.device)
        columns_BW = _span(holes.column_B, self.size_w, width).to(images_BCHW.device)
        inside_B1HW = rows_BH[:, None, :, None] & columns_BW[:, None, None, :]
        return images_BCHW.masked_fill(inside_B1HW, self.fill)


def _span(centre_B: Tensor, size: int, side: int) -> Tensor:
    """Whether each of `side` positions is among the `size` ones around the centre."""
    distance_BN = torch.arange(side) - (centre_B - size // 2)[:, None]
    return (distance_BN >= 0) & (distance_BN < size)
