"""Transforms that move pixels: flip, crop, and affine warps.

Warps work in 16.16 fixed point, as PIL's nearest-neighbour transform does: the same source pixel is
chosen on every device, and results equal PIL's byte for byte.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

ONE = 1 << 16


class Flips(NamedTuple):
    """Whether each image is mirrored."""

    flip_B: Tensor


@dataclass(frozen=True)
class Flip:
    """The mirror image, left for right, of about half of the images."""

    def sample(self, generator: torch.Generator, batch: int) -> Flips:
        """Draw `batch` coins."""
        return Flips(torch.rand(batch, generator=generator, dtype=torch.float64) < 0.5)

    def apply(self, images_BCHW: Tensor, flips: Flips) -> Tensor:
        """Mirror the images whose coin says so."""
        flip_B111 = flips.flip_B.to(images_BCHW.device).view(-1, 1, 1, 1)
        return torch.where(flip_B111, images_BCHW.flip(3), images_BCHW)


class Crops(NamedTuple):
    """Where each crop starts in the padded image (0 to 2 x padding), and whether it is mirrored."""

    top_B: Tensor
    left_B: Tensor
    flip_B: Tensor


@dataclass(frozen=True)
class Crop:
    """Random crop at the image's own size after reflect padding, then an optional mirror image.

    The padding is an eighth of each side, rounded up: 4 pixels of 32 and of 28, as in CR-DPLL and
    MixMatch. All offsets are equally likely.
    """

    height: int
    width: int
    flip: bool

    def sample(self, generator: torch.Generator, batch: int) -> Crops:
        """Draw `batch` crops."""
        uniform_3B = torch.rand(3, batch, generator=generator, dtype=torch.float64)
        sizes_2 = torch.tensor([_padding(self.height), _padding(self.width)]) * 2 + 1
        top_B, left_B = (uniform_3B[:2] * sizes_2[:, None]).long()
        return Crops(top_B, left_B, (uniform_3B[2] < 0.5) & self.flip)

    def apply(self, images_BCHW: Tensor, crops: Crops) -> Tensor:
        """Crop every image at its own place."""
        device = images_BCHW.device
        windows_NH = _windows(self.height, device)
        windows_NW = _windows(self.width, device)
        mirrored_B = crops.flip_B * (len(windows_NW) // 2)
        rows_BH = windows_NH.index_select(0, crops.top_B.to(device)) * self.width
        columns_BW = windows_NW.index_select(0, (crops.left_B + mirrored_B).to(device))
        return take(images_BCHW, rows_BH[:, :, None] + columns_BW[:, None, :])


class Warps(NamedTuple):
    """Per image the 2 x 3 matrix from output to source position, in pixels, float64 on the CPU."""

    matrix_B23: Tensor


@dataclass(frozen=True)
class Affine:
    """Random rotation about the centre and translation, interpolated, black outside the image."""

    height: int
    width: int
    degrees: float
    translation: float
    """Largest shift in either direction, as a share of the side."""

    def sample(self, generator: torch.Generator, batch: int) -> Warps:
        """Draw `batch` warps: angle and both shifts uniform and symmetric about zero."""
        uniform_B3 = torch.rand(batch, 3, generator=generator, dtype=torch.float64).sub_(0.5)
        shift_2 = (2 * self.translation * self.width, 2 * self.translation * self.height)
        drawn_B3 = uniform_B3.mul_(torch.tensor((2 * self.degrees, *shift_2), dtype=torch.float64))
        matrix_B23 = rotation(self.height, self.width, drawn_B3[:, 0])
        matrix_B23[..., 2] += drawn_B3[:, 1:]
        return Warps(matrix_B23)

    def apply(self, images_BCHW: Tensor, warps: Warps) -> Tensor:
        """Warp every image by its own matrix."""
        return warp_bilinear(images_BCHW, warps.matrix_B23)


def rotation(height: int, width: int, angle_B: Tensor) -> Tensor:
    """Matrices from output to source position that rotate images about their centre.

    The form that PIL's `Image.transform` takes: positions in pixels from the top left corner. To
    shift or shear as well, add to the elements.

    Args:
        height: Image height in pixels.
        width: Image width in pixels.
        angle_B: Counter-clockwise rotation in degrees, float64 on the CPU.

    Returns:
        float64 matrices [B, 2, 3].
    """
    radians_B11 = torch.deg2rad(angle_B)[:, None, None]
    along_23, across_23, centre_23 = _rotation_basis(height, width)
    matrix_B23 = torch.cos(radians_B11) * along_23
    return matrix_B23.add_(torch.sin(radians_B11) * across_23).add_(centre_23)


def warp_nearest(images_BCHW: Tensor, matrix_B23: Tensor, fill: int) -> Tensor:
    """Warp with the nearest source pixel; equals PIL's affine transform with NEAREST.

    Args:
        images_BCHW: uint8 images.
        matrix_B23: float64 matrices on the CPU, from `rotation`.
        fill: Grey level, 0 to 255, outside the source image.

    Returns:
        uint8 images of the same shape.
    """
    height, width = images_BCHW.shape[2:]
    nearest_B2HW = _positions(images_BCHW, matrix_B23, offset=0.0) >> 16
    x_BHW, y_BHW = nearest_B2HW.unbind(1)
    x_BHW, y_BHW = x_BHW.clamp_(-1, width), y_BHW.clamp_(-1, height)
    padded = functional.pad(images_BCHW, (1, 1, 1, 1), value=fill)
    start = width + 3
    return take(padded, torch.add(x_BHW, y_BHW, alpha=width + 2) + start)


def warp_bilinear(images_BCHW: Tensor, matrix_B23: Tensor) -> Tensor:
    """Warp with bilinear interpolation and zeros outside, in integers.

    Equals `torch.nn.functional.grid_sample` (zeros, align_corners=False) to one grey level, and is
    the same on every device.

    Args:
        images_BCHW: uint8 images.
        matrix_B23: float64 matrices on the CPU, from `rotation`.

    Returns:
        uint8 images of the same shape.
    """
    batch, _, height, width = images_BCHW.shape
    position_B2HW = _positions(images_BCHW, matrix_B23, offset=-0.5)
    x_BHW, y_BHW = position_B2HW.unbind(1)
    x_BHW.clamp_(-ONE, width * ONE)
    y_BHW.clamp_(-ONE, height * ONE)
    stride = width + 3
    x_BHW, y_BHW = (position_B2HW >> 16).unbind(1)
    corner_B1HW = torch.add(x_BHW, y_BHW, alpha=stride)[:, None]
    padded = functional.pad(images_BCHW, (1, 2, 1, 2))
    values_BC4HW = take(padded, corner_B1HW + _corners(stride, images_BCHW.device))
    # Eight bits of the fraction are enough for one grey level and keep the products in 31 bits.
    far_B2HW = (position_B2HW >> 8) & 255
    across_B2HW, down_B2HW = torch.stack([256 - far_B2HW, far_B2HW], dim=1).unbind(2)
    weight_B22HW = down_B2HW[:, :, None] * across_B2HW[:, None]
    weighted_BC4HW = values_BC4HW * weight_B22HW.view(batch, 1, 4, height, width)
    sum_BCHW = weighted_BC4HW.sum(2, dtype=torch.int32)
    return sum_BCHW.add_(ONE // 2).bitwise_right_shift_(16).to(torch.uint8)


def _positions(images_BCHW: Tensor, matrix_B23: Tensor, offset: float) -> Tensor:
    """Source x and y of every output pixel's centre plus `offset`, int32 [B, 2, H, W] in 1/65536."""
    height, width = images_BCHW.shape[2:]
    to_fixed_33, rounding_3 = _fixed_point(offset)
    fixed_B23 = (matrix_B23.view(-1, 3) @ to_fixed_33).add_(rounding_3).floor_().to(torch.int32)
    column_W, row_H1 = _axes(height, width, images_BCHW.device)
    step_x_B2, step_y_B2, start_B2 = fixed_B23.to(images_BCHW.device).view(-1, 2, 3, 1, 1).unbind(2)
    return torch.addcmul(torch.addcmul(start_B2, step_y_B2, row_H1), step_x_B2, column_W)


def take(images_BCHW: Tensor, index: Tensor) -> Tensor:
    """Pixels at flat positions `index` [B, ..., H, W], the same for every channel: [B, C, ..., H, W]."""
    batch, channels = images_BCHW.shape[:2]
    flat_BCN = index.flatten(1)[:, None].long().expand(-1, channels, -1)
    return images_BCHW.flatten(2).gather(2, flat_BCN).view(batch, channels, *index.shape[1:])


@cache
def _rotation_basis(height: int, width: int) -> tuple[Tensor, Tensor, Tensor]:
    """What the cosine, the sine and one contribute to a rotation's matrix."""
    x, y = width / 2, height / 2
    along_23 = torch.tensor([[1, 0, -x], [0, 1, -y]], dtype=torch.float64)
    across_23 = torch.tensor([[0, -1, y], [1, 0, -x]], dtype=torch.float64)
    centre_23 = torch.tensor([[0, 0, x], [0, 0, y]], dtype=torch.float64)
    return along_23, across_23, centre_23


@cache
def _fixed_point(offset: float) -> tuple[Tensor, Tensor]:
    """Matrix columns to 1/65536 pixel, the last one at the first pixel's centre plus `offset`."""
    to_fixed_33 = torch.tensor([[1, 0, 0.5], [0, 1, 0.5], [0, 0, 1]], dtype=torch.float64) * ONE
    rounding_3 = torch.tensor([0.5, 0.5, 0.5 + offset * ONE], dtype=torch.float64)
    return to_fixed_33, rounding_3


@cache
def _axes(height: int, width: int, device: torch.device) -> tuple[Tensor, Tensor]:
    column_W = torch.arange(width, dtype=torch.int32, device=device)
    row_H1 = torch.arange(height, dtype=torch.int32, device=device)[:, None]
    return column_W, row_H1


@cache
def _corners(stride: int, device: torch.device) -> Tensor:
    """Flat positions of a pixel and its right, lower and lower right neighbour, past the padding."""
    here = stride + 1
    neighbours = [here, here + 1, here + stride, here + stride + 1]
    return torch.tensor(neighbours, dtype=torch.int32, device=device)[:, None, None]


@cache
def _windows(side: int, device: torch.device) -> Tensor:
    """Source positions of every crop of one side: one row per offset, then the same mirrored.

    Positions beyond the image are reflected at the edge pixels' centres, which are not repeated.
    """
    padding = _padding(side)
    offset_N1 = torch.arange(2 * padding + 1)[:, None]
    beyond_NS = (torch.arange(side) + offset_N1 - padding).abs()
    inside_NS = (side - 1) - ((side - 1) - beyond_NS).abs()
    return torch.cat([inside_NS, inside_NS.flip(1)]).to(device)


def _padding(side: int) -> int:
    return math.ceil(side / 8)
