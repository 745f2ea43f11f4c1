"""Cutout: hide a square of the image (DeVries and Taylor, 2017, arXiv 1708.04552)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
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
        device = images_BCHW.device
        rows_NH = _spans(self.height, self.size_h, device)
        columns_NW = _spans(self.width, self.size_w, device)
        rows_BH = rows_NH.index_select(0, holes.row_B.to(device))
        columns_BW = columns_NW.index_select(0, holes.column_B.to(device))
        hole_B1HW = rows_BH[:, None, :, None] & columns_BW[:, None, None, :]
        # Bit masks: on the CPU they are twenty times as fast as masked_fill.
        return (images_BCHW & ~hole_B1HW) | (hole_B1HW & self.fill)


@cache
def _spans(side: int, size: int, device: torch.device) -> Tensor:
    """Row c is 255 at the `size` positions around c and 0 elsewhere, uint8 [side, side]."""
    position_N = torch.arange(side)
    distance_NN = position_N - (position_N[:, None] - size // 2)
    inside_NN = (distance_NN >= 0) & (distance_NN < size)
    return (inside_NN * 255).to(torch.uint8).to(device)
