"""Random resized crops: a box of random area and shape, brought to one size (Szegedy et al., 2015).

Resampling is PIL's bilinear one: each output pixel is the mean of the box's pixels weighted by a
tent as wide as one source or one output pixel, whichever is larger, so that shrinking smooths
first. It is done across and then down, with whole grey levels in between as in PIL (which now goes
down first where that shrinks more), as two products with matrices of whole numbers. The matrices are
split into high and low digits, so that float32, which is several times as fast as float64, holds the
sums of both exactly: no order of summation, and so no device, changes a bit.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache
from typing import NamedTuple

import torch
from torch import Tensor

from pipeline_lib.augment.geometry import take

BITS = 22
ONE = 1 << BITS
"""Unit of the weights, as in PIL."""
LOW_BITS = 8
"""The digits that are summed apart: with 255 grey levels, as many as leave both sums below 2**24."""
MOST_SHRINKING = 100
"""A low sum has two weights per source pixel of an output pixel, below 2**8 each: that stays below 2**24."""
TRIES = 10
"""How many boxes are drawn for an image in the hope that one fits, as in torchvision."""
# Pixels treated at a time. On a processor the matrices should stay in the cache, which is twice as fast; elsewhere
# a block is some forty launches, and takes about 64 bytes a pixel.
BLOCK_PIXELS = {"cpu": 1 << 16}
OTHERWISE = 1 << 24
LARGEST_TABLE = 1 << 23
"""Elements of a table of the weights for all sizes of a box; above that they are computed every time."""


class Boxes(NamedTuple):
    """What each crop takes from its image, in pixels, and whether it is mirrored."""

    top_B: Tensor
    left_B: Tensor
    height_B: Tensor
    width_B: Tensor
    flip_B: Tensor


@dataclass(frozen=True)
class ResizedCrop:
    """A box with a random share of the image's area and a random shape, resized to one size.

    The share is uniform, the logarithm of width / height too. Boxes are drawn until one fits into
    the image; should none of ten fit, the first is cut to the image. All places are equally likely.
    """

    height: int
    width: int
    out_height: int
    out_width: int
    scale: tuple[float, float]
    """Smallest and largest share of the image's area."""
    flip: bool
    ratio: tuple[float, float] = (3 / 4, 4 / 3)
    """Smallest and largest width / height, in pixels."""

    def __post_init__(self) -> None:
        """Refuse what the sums have no digits for."""
        if max(self.height / self.out_height, self.width / self.out_width) > MOST_SHRINKING:
            msg = f"crops of {self.height} x {self.width} pixels cannot be shrunk more than {MOST_SHRINKING}-fold"
            raise ValueError(msg)

    def sample(self, generator: torch.Generator, batch: int) -> Boxes:
        """Draw `batch` boxes."""
        uniform_BN = torch.rand(batch, 2 * TRIES + 3, generator=generator, dtype=torch.float64)
        share_BT, shape_BT, place_B3 = uniform_BN.split((TRIES, TRIES, 3), dim=1)
        area_BT = torch.lerp(*_ends(*self.scale), share_BT) * (self.height * self.width)
        ratio_BT = torch.lerp(*_ends(*map(math.log, self.ratio)), shape_BT).exp()
        height_BT = (area_BT / ratio_BT).sqrt().round()
        width_BT = (area_BT * ratio_BT).sqrt().round()
        fits_BT = (height_BT <= self.height) & (width_BT <= self.width)
        first_B1 = fits_BT.int().argmax(1, keepdim=True)  # the first one, also where none fits
        height_B = height_BT.gather(1, first_B1)[:, 0].clamp(1, self.height)
        width_B = width_BT.gather(1, first_B1)[:, 0].clamp(1, self.width)
        top_B = (place_B3[:, 0] * (self.height - height_B + 1)).long()
        left_B = (place_B3[:, 1] * (self.width - width_B + 1)).long()
        flip_B = (place_B3[:, 2] < 0.5) & self.flip
        return Boxes(top_B, left_B, height_B.long(), width_B.long(), flip_B)

    def apply(self, images_BCHW: Tensor, boxes: Boxes) -> Tensor:
        """Take every image's box and bring it to the output size."""
        pixels = BLOCK_PIXELS.get(images_BCHW.device.type, OTHERWISE)
        block = max(1, pixels // (self.height * self.width))
        on_device = (field.to(images_BCHW.device).split(block) for field in boxes)
        blocks = zip(images_BCHW.split(block), *on_device, strict=True)
        return torch.cat([self._resized(images, Boxes(*fields)) for images, *fields in blocks])

    def _resized(self, images_BCHW: Tensor, boxes: Boxes) -> Tensor:
        rows_BH = _box(self.height, boxes.top_B, boxes.height_B, torch.zeros_like(boxes.flip_B))
        columns_BW = _box(self.width, boxes.left_B, boxes.width_B, boxes.flip_B)
        box_BCHW = take(images_BCHW, rows_BH[:, :, None] * self.width + columns_BW[:, None, :])
        across_BWD = _weights(self.width, self.out_width, boxes.width_B)
        down_BHD = _weights(self.height, self.out_height, boxes.height_B)
        # Rows first and channels next, so that both products find their factors as they lie in memory.
        values_BHCW = box_BCHW.transpose(1, 2).float()
        wide_BNO = _levels(values_BHCW.flatten(1, 2) @ across_BWD, dim=2)
        wide_BHM = wide_BNO.float().view(len(images_BCHW), self.height, -1)
        small_BOM = _levels(down_BHD.transpose(1, 2) @ wide_BHM, dim=1)
        small_BOCO = small_BOM.to(torch.uint8).unflatten(2, (-1, self.out_width))
        small_BCOO: Tensor = small_BOCO.transpose(1, 2)
        return small_BCOO.contiguous()


def _levels(sums: Tensor, dim: int) -> Tensor:
    """Whole grey levels, rounded half up, from sums of high and then of low digits along `dim`; int32."""
    high, low = sums.int().chunk(2, dim)
    return torch.add(low, high, alpha=1 << LOW_BITS).add_(ONE // 2).bitwise_right_shift_(BITS)


def _ends(low: float, high: float) -> tuple[Tensor, Tensor]:
    return torch.tensor(low, dtype=torch.float64), torch.tensor(high, dtype=torch.float64)


def _box(side: int, start_B: Tensor, size_B: Tensor, mirror_B: Tensor) -> Tensor:
    """Positions of every box's pixels, mirrored or not, and of any others behind them, [B, side]."""
    here_S = torch.arange(side, device=start_B.device)
    here_BS = torch.where(mirror_B[:, None], size_B[:, None] - 1 - here_S, here_S)
    return (here_BS + start_B[:, None]).clamp_(0, side - 1)


def _weights(side: int, out: int, size_B: Tensor) -> Tensor:
    """What every pixel of a box of `size` pixels gives to every output pixel [B, side, 2 out].

    All high digits come before the low ones, so that one product does for both.
    """
    if side * side * 2 * out > LARGEST_TABLE:
        return _digits(side, out, size_B)
    return _table(side, out, size_B.device).index_select(0, size_B)


@cache
def _table(side: int, out: int, device: torch.device) -> Tensor:
    return _digits(side, out, torch.arange(side + 1, device=device))


def _digits(side: int, out: int, size_B: Tensor) -> Tensor:
    weight_BSO = _tents(side, out, size_B)
    high_BSO = (weight_BSO / (1 << LOW_BITS)).floor_()
    low_BSO = weight_BSO.sub_(high_BSO, alpha=1 << LOW_BITS)
    return torch.cat([high_BSO, low_BSO], dim=2).float()


def _tents(side: int, out: int, size_B: Tensor) -> Tensor:
    """The weights in units of 1 / ONE, float64 [B, side, out].

    In half output pixels the centres of source pixel s and output pixel o lie at (2 s + 1) out and
    (2 o + 1) size, so that the tents are whole numbers. The quotients are the only rounding, and
    IEEE division gives the same everywhere.
    """
    size_B11 = size_B.double()[:, None, None]
    output_O = torch.arange(out, dtype=torch.float64, device=size_B.device)
    source_S1 = torch.arange(side, dtype=torch.float64, device=size_B.device)[:, None]
    distance_BSO = ((2 * source_S1 + 1) * out - (2 * output_O + 1) * size_B11).abs_()
    tent_BSO = (2 * size_B11.clamp(min=out) - distance_BSO).clamp_(min=0).mul_(source_S1 < size_B11)
    share_BSO = tent_BSO.div_(tent_BSO.sum(1, keepdim=True))
    return share_BSO.mul_(ONE).add_(0.5).floor_()
