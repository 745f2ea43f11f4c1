"""The operations of AutoAugment, RandAugment and colour jitter, a different one for every image of a batch.

The papers' operations (arXiv 1805.09501, table 6): geometric ones with nearest-neighbour
resampling and a mid-grey fill (the authors' own code), colour ones as in PIL. The hue belongs to
the jitter alone.
"""

from __future__ import annotations

from enum import IntEnum
from typing import TYPE_CHECKING, NamedTuple

import torch

from pipeline_lib.augment import colour
from pipeline_lib.augment.geometry import rotation, warp_nearest

if TYPE_CHECKING:
    from torch import Tensor

FILL = 128


class Op(IntEnum):
    """One operation; the first six move pixels or do nothing."""

    IDENTITY = 0
    SHEAR_X = 1
    SHEAR_Y = 2
    TRANSLATE_X = 3
    TRANSLATE_Y = 4
    ROTATE = 5
    BRIGHTNESS = 6
    COLOR = 7
    CONTRAST = 8
    SHARPNESS = 9
    POSTERIZE = 10
    SOLARIZE = 11
    AUTOCONTRAST = 12
    EQUALIZE = 13
    INVERT = 14
    HUE = 15


MEASURED = {
    Op.BRIGHTNESS: colour.brightness,
    Op.COLOR: colour.color,
    Op.CONTRAST: colour.contrast,
    Op.SHARPNESS: colour.sharpness,
    Op.POSTERIZE: colour.posterize,
    Op.SOLARIZE: colour.solarize,
    Op.HUE: colour.hue,
}
ABSOLUTE = {
    Op.AUTOCONTRAST: colour.autocontrast,
    Op.EQUALIZE: colour.equalize,
    Op.INVERT: colour.invert,
}

# The element of the matrix from output to source position that each of these adds to.
WARPED_ELEMENTS = (
    (Op.SHEAR_X, 0, 1),
    (Op.TRANSLATE_X, 0, 2),
    (Op.SHEAR_Y, 1, 0),
    (Op.TRANSLATE_Y, 1, 2),
)


class Operations(NamedTuple):
    """Per image its operations in the order they are applied, on the CPU."""

    op_BS: Tensor
    """Values of `Op`, int64."""
    magnitude_BS: Tensor
    """float64: shear factor, shift in pixels, degrees, blend factor, bits, threshold, or turns."""


def magnitudes(op: Op, level: float, height: int, width: int) -> tuple[float, float]:
    """The two equally likely magnitudes of an operation.

    Shears, shifts and rotations go either way; enhancements go from 1 to 0.1 or to 1.9; the others
    have one direction, so that both values are the same.

    Args:
        op: One of the papers' operations.
        level: Its strength between 0 and 1: the magnitude index divided by the largest index.
        height: Image height in pixels.
        width: Image width in pixels.

    Returns:
        Magnitudes in the units of `Operations.magnitude_BS`.
    """
    match op:
        case Op.SHEAR_X | Op.SHEAR_Y:
            largest = 0.3
        case Op.TRANSLATE_X:
            largest = 150 / 331 * width
        case Op.TRANSLATE_Y:
            largest = 150 / 331 * height
        case Op.ROTATE:
            largest = 30.0
        case Op.BRIGHTNESS | Op.COLOR | Op.CONTRAST | Op.SHARPNESS:
            return 1 + 0.9 * level, 1 - 0.9 * level
        case Op.POSTERIZE:
            return (8.0 - round(4 * level),) * 2
        case Op.SOLARIZE:
            return (256 * (1 - level),) * 2
        case _:
            return 0.0, 0.0
    return largest * level, -largest * level


def apply_operations(images_BCHW: Tensor, operations: Operations) -> Tensor:
    """Apply to every image its own operations, one after the other.

    Args:
        images_BCHW: uint8 images with 1 or 3 channels.
        operations: S operations per image.

    Returns:
        uint8 images of the same shape.
    """
    for op_B, magnitude_B in zip(operations.op_BS.T, operations.magnitude_BS.T, strict=True):
        images_BCHW = _apply_slot(images_BCHW, op_B, magnitude_B)
    return images_BCHW


def _apply_slot(images_BCHW: Tensor, op_B: Tensor, magnitude_B: Tensor) -> Tensor:
    # All warps are one group: they differ only in their matrix. The groups are found on the CPU,
    # where the operations were drawn, so no device has to be waited for.
    group_B = op_B.masked_fill((op_B >= Op.SHEAR_X) & (op_B < Op.ROTATE), Op.ROTATE)
    order_B = group_B.argsort(stable=True)
    sizes = group_B.bincount(minlength=len(Op)).tolist()
    index_B = order_B.to(images_BCHW.device)
    groups = zip(
        Op,
        images_BCHW.index_select(0, index_B).split(sizes),
        op_B[order_B].split(sizes),
        magnitude_B[order_B].split(sizes),
        strict=True,
    )
    changed = [_apply_group(*group) for group in groups if len(group[1])]
    back_B = order_B.argsort().to(images_BCHW.device)
    return torch.cat(changed).index_select(0, back_B)


def _apply_group(group: Op, images_BCHW: Tensor, op_B: Tensor, magnitude_B: Tensor) -> Tensor:
    if group is Op.IDENTITY:
        return images_BCHW
    if group is Op.ROTATE:
        return _warp(images_BCHW, op_B, magnitude_B)
    if group in MEASURED:
        return MEASURED[group](images_BCHW, magnitude_B)
    return ABSOLUTE[group](images_BCHW)


def _warp(images_BCHW: Tensor, op_B: Tensor, magnitude_B: Tensor) -> Tensor:
    height, width = images_BCHW.shape[2:]
    matrix_B23 = rotation(height, width, torch.where(op_B == Op.ROTATE, magnitude_B, 0.0))
    for op, row, column in WARPED_ELEMENTS:
        matrix_B23[:, row, column] += torch.where(op_B == op, magnitude_B, 0.0)
    return warp_nearest(images_BCHW, matrix_B23, FILL)
