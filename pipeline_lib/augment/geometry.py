"""Transforms that move pixels: crop and flip, and affine warps.

Warps work in 16.16 fixed point, as PIL's nearest-neighbour transform does: the same source pixel is
chosen on every device, and results equal PIL's byte for byte.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

ONE = 1 << 16


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
        height, width = images_BCHW.shape[2:]
        rows_BH = crops.top_B[:, None] + torch.arange(height)
        columns_W = torch.arange(width)
        columns_BW = torch.where(crops.flip_B[:, None], columns_W.flip(0), columns_W)
        columns_BW = columns_BW + crops.left_B[:, None]
        rows_BH = _reflect(rows_BH - _padding(height), height) * width
        columns_BW = _reflect(columns_BW - _padding(width), width)
        device = images_BCHW.device
        index_BHW = rows_BH.to(device)[:, :, None] + columns_BW.to(device)[:, None, :]
        return _take(images_BCHW, index_BHW)


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
        uniform_3B = torch.rand(3, batch, generator=generator, dtype=torch.float64) * 2 - 1
        return Warps(
            warp_matrix(
                self.height,
                self.width,
                angle_B=uniform_3B[0] * self.degrees,
                shift_x_B=uniform_3B[1] * self.translation * self.width,
                shift_y_B=uniform_3B[2] * self.translation * self.height,
            )
        )

    def apply(self, images_BCHW: Tensor, warps: Warps) -> Tensor:
        """Warp every image by its own matrix."""
        return warp_bilinear(images_BCHW, warps.matrix_B23)


def warp_matrix(
    height: int,
    width: int,
    *,
    angle_B: Tensor,
    shift_x_B: Tensor,
    shift_y_B: Tensor,
    shear_x_B: Tensor | float = 0.0,
    shear_y_B: Tensor | float = 0.0,
) -> Tensor:
    """Matrices from output to source position, the form that PIL's `Image.transform` takes.

    Args:
        height: Image height in pixels.
        width: Image width in pixels.
        angle_B: Counter-clockwise rotation about the image centre, in degrees.
        shift_x_B: Pixels by which the source lies to the right of the output.
        shift_y_B: Pixels by which the source lies below the output.
        shear_x_B: Shear about the top row: x moves by this much per row (AutoAugment's convention).
        shear_y_B: Shear about the left column.

    Returns:
        float64 matrices [B, 2, 3].
    """
    radians_B = -torch.deg2rad(angle_B)
    cosine_B, sine_B = torch.cos(radians_B), torch.sin(radians_B)
    x, y = width / 2, height / 2
    elements = [
        cosine_B,
        sine_B + shear_x_B,
        x - cosine_B * x - sine_B * y + shift_x_B,
        shear_y_B - sine_B,
        cosine_B,
        y + sine_B * x - cosine_B * y + shift_y_B,
    ]
    return torch.stack(elements, dim=1).view(-1, 2, 3)


def warp_nearest(images_BCHW: Tensor, matrix_B23: Tensor, fill: int) -> Tensor:
    """Warp with the nearest source pixel; equals PIL's affine transform with NEAREST.

    Args:
        images_BCHW: uint8 images.
        matrix_B23: float64 matrices on the CPU, from `warp_matrix`.
        fill: Grey level, 0 to 255, outside the source image.

    Returns:
        uint8 images of the same shape.
    """
    height, width = images_BCHW.shape[2:]
    position_B2HW = _positions(images_BCHW, matrix_B23, offset=0.0) >> 16
    x_BHW = position_B2HW[:, 0].clamp(-1, width) + 1
    y_BHW = position_B2HW[:, 1].clamp(-1, height) + 1
    padded = functional.pad(images_BCHW, (1, 1, 1, 1), value=fill)
    return _take(padded, y_BHW * (width + 2) + x_BHW)


def warp_bilinear(images_BCHW: Tensor, matrix_B23: Tensor) -> Tensor:
    """Warp with bilinear interpolation and zeros outside, in integers.

    Equals `torch.nn.functional.grid_sample` (zeros, align_corners=False) to one grey level, and is
    the same on every device.

    Args:
        images_BCHW: uint8 images.
        matrix_B23: float64 matrices on the CPU, from `warp_matrix`.

    Returns:
        uint8 images of the same shape.
    """
    batch, channels, height, width = images_BCHW.shape
    position_B2HW = _positions(images_BCHW, matrix_B23, offset=-0.5)
    x_BHW = position_B2HW[:, 0].clamp(-ONE, width * ONE)
    y_BHW = position_B2HW[:, 1].clamp(-ONE, height * ONE)
    stride = width + 3
    corner_BHW = ((y_BHW >> 16) + 1) * stride + (x_BHW >> 16) + 1
    corners_B4HW = torch.stack(
        [corner_BHW, corner_BHW + 1, corner_BHW + stride, corner_BHW + stride + 1], dim=1
    )
    padded = functional.pad(images_BCHW, (1, 2, 1, 2))
    values_BC4HW = _take(padded, corners_B4HW).view(batch, channels, 4, height, width)
    # Eight bits of the fraction are enough for one grey level and keep the products in 31 bits.
    right_BHW, down_BHW = (x_BHW >> 8) & 255, (y_BHW >> 8) & 255
    left_BHW, up_BHW = 256 - right_BHW, 256 - down_BHW
    weight_B4HW = torch.stack(
        [left_BHW * up_BHW, right_BHW * up_BHW, left_BHW * down_BHW, right_BHW * down_BHW], dim=1
    )
    sum_BCHW = (values_BC4HW * weight_B4HW[:, None]).sum(2, dtype=torch.int32)
    return ((sum_BCHW + ONE // 2) >> 16).to(torch.uint8)


def _positions(images_BCHW: Tensor, matrix_B23: Tensor, offset: float) -> Tensor:
    """Source x and y of every output pixel's centre plus `offset`, int32 [B, 2, H, W] in 1/65536."""
    height, width = images_BCHW.shape[2:]
    device = images_BCHW.device
    start_B2 = matrix_B23[..., 2] + 0.5 * (matrix_B23[..., 0] + matrix_B23[..., 1]) + offset
    fixed_B23 = torch.stack([matrix_B23[..., 0], matrix_B23[..., 1], start_B2], dim=2)
    fixed_B23 = (fixed_B23 * ONE + 0.5).floor().to(torch.int32).to(device)
    step_x_B211, step_y_B211, start_B211 = fixed_B23[..., None, None].unbind(2)
    column_W = torch.arange(width, dtype=torch.int32, device=device)
    row_H1 = torch.arange(height, dtype=torch.int32, device=device)[:, None]
    return (step_y_B211 * row_H1 + start_B211) + step_x_B211 * column_W


def _take(images_BCHW: Tensor, index: Tensor) -> Tensor:
    """Pixels at flat positions `index` [B, ..., H, W], the same for every channel: [B, C, ..., H, W]."""
    batch, channels = images_BCHW.shape[:2]
    flat_BCN = index.reshape(batch, 1, -1).long().expand(-1, channels, -1)
    return images_BCHW.flatten(2).gather(2, flat_BCN).view(batch, channels, *index.shape[1:])


def _reflect(position: Tensor, size: int) -> Tensor:
    """Mirror positions beyond [0, size) at the edge pixels' centres, which are not repeated."""
    return (size - 1) - ((size - 1) - position.abs()).abs()


def _padding(side: int) -> int:
    return math.ceil(side / 8)
