"""Operations on grey levels, equal to PIL's ImageEnhance and ImageOps byte for byte.

(`autocontrast` differs by one grey level at most: PIL rounds twice in floating point, here the
quotient is exact. `hue` has no equal there.) Images are uint8 [B, 1 or 3, H, W]; a factor, bits,
threshold or shift is one number per image, on any device. Grey images behave as PIL's mode "L"
does: `color` and `hue` leave them alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

LEVELS = 256
ONE = 1 << 16


class Factors(NamedTuple):
    """Per image the factor of its brightness, float64 on the CPU."""

    factor_B: Tensor


@dataclass(frozen=True)
class BrightnessJitter:
    """Multiply every image's grey levels by a factor uniform in [1 - strength, 1 + strength]."""

    strength: float

    def sample(self, generator: torch.Generator, batch: int) -> Factors:
        """Draw `batch` factors."""
        uniform_B = torch.rand(batch, generator=generator, dtype=torch.float64)
        return Factors(1 + self.strength * (2 * uniform_B - 1))

    def apply(self, images_BCHW: Tensor, factors: Factors) -> Tensor:
        """Brighten or darken every image by its own factor."""
        return brightness(images_BCHW, factors.factor_B)


def brightness(images_BCHW: Tensor, factor_B: Tensor) -> Tensor:
    """Blend with black: 0 is black, 1 the image itself."""
    return _cut(images_BCHW.float().mul_(_per_image(factor_B.float(), images_BCHW)))


def color(images_BCHW: Tensor, factor_B: Tensor) -> Tensor:
    """Blend with the grey version: 0 is grey, 1 the image itself."""
    if images_BCHW.shape[1] == 1:
        return images_BCHW
    levels_BCHW = images_BCHW.float()
    return _blend(_luma(levels_BCHW), levels_BCHW, factor_B)


def hue(images_BCHW: Tensor, shift_B: Tensor) -> Tensor:
    """Turn the colour wheel of HSV by -0.5 to 0.5 of a turn: 0 is the image itself.

    In integers, rounded once at the end: within half a grey level of the exact result, where PIL's
    own HSV images know 255 hues and saturations and do not return to where they came from.
    """
    if images_BCHW.shape[1] == 1:
        return images_BCHW
    # 16 bits as long as they are enough, and channel by channel: on the CPU both save a fourth of the time.
    red, green, blue = images_BCHW.short().unbind(1)
    low_BHW = red.minimum(green).minimum(blue)
    high_BHW = red.maximum(green).maximum(blue)
    # Positions on the wheel in sixths of a turn times the chroma: whole numbers, then in 1/65536.
    chroma_BHW = high_BHW - low_BHW
    # Chosen by products: torch's `where` takes four times as long on the CPU, and so does a mask of bool.
    position = 4 * chroma_BHW + red - green
    position += _equal(green, high_BHW).mul_(2 * chroma_BHW + blue - red - position)
    position += _equal(red, high_BHW).mul_(green - blue - position)
    sixths_B11 = (shift_B * (6 * ONE)).round().to(torch.int32).to(images_BCHW.device)[:, None, None]
    chroma = chroma_BHW.int()
    position = position.int().mul_(ONE).addcmul_(sixths_B11, chroma)
    chroma *= ONE
    # Between -4 and 8 sixths; once above 4 is less a turn, none is more than a turn from any primary.
    beyond = torch.gt(position, 4 * chroma, out=torch.empty_like(position))
    position -= beyond.mul_(6 * chroma)
    half_turn, rounded_low = 3 * chroma, low_BHW.int().mul_(ONE).add_(ONE // 2)
    turned_BCHW = torch.empty_like(images_BCHW)
    for channel_BHW, primary in zip(turned_BCHW.unbind(1), (0, 2, -2), strict=True):
        # A channel is full up to one sixth from its own hue and gone from two sixths on.
        distance = (position - primary * chroma).abs_()
        part = distance.sub_(half_turn).abs_().sub_(chroma).clamp_(min=0)
        torch.minimum(part, chroma, out=part)
        channel_BHW.copy_(part.add_(rounded_low).bitwise_right_shift_(16))
    return turned_BCHW


def _equal(one: Tensor, other: Tensor) -> Tensor:
    """1 where they are equal and 0 elsewhere, in their own type."""
    return torch.eq(one, other, out=torch.empty_like(one))


def contrast(images_BCHW: Tensor, factor_B: Tensor) -> Tensor:
    """Blend with the mean grey level, rounded half up: 0 is flat grey, 1 the image itself."""
    levels_BCHW = images_BCHW.float()
    grey_B1HW = _luma(levels_BCHW)
    count = grey_B1HW[0].numel()
    sum_B111 = grey_B1HW.short().sum((1, 2, 3), keepdim=True, dtype=torch.int64)
    mean_B111 = (2 * sum_B111 + count) // (2 * count)
    return _blend(mean_B111.float(), levels_BCHW, factor_B)


def sharpness(images_BCHW: Tensor, factor_B: Tensor) -> Tensor:
    """Blend with a smoothed version: 0 is smoothed, 1 the image itself, 2 sharpened.

    Smoothing is PIL's: weight 5 for the pixel, 1 for its eight neighbours, the border unchanged.
    """
    wide = images_BCHW.short()
    rows = wide[:, :, :-2] + wide[:, :, 1:-1] + wide[:, :, 2:]
    total = rows[..., :-2] + rows[..., 1:-1] + rows[..., 2:]
    total = total.add_(wide[:, :, 1:-1, 1:-1], alpha=4)
    smooth = images_BCHW.float()
    # 13 is odd, so no sum lies half-way: the rounding is exact, whatever the device's division does.
    smooth[:, :, 1:-1, 1:-1] = ((total + 6.5) / 13).floor_()
    return _blend(smooth, images_BCHW.float(), factor_B)


def posterize(images_BCHW: Tensor, bits_B: Tensor) -> Tensor:
    """Keep the highest `bits` (1 to 8) bits of every grey level."""
    mask_B = (256 - (1 << (8 - bits_B.long()))).to(torch.uint8)
    return images_BCHW & _per_image(mask_B, images_BCHW)


def solarize(images_BCHW: Tensor, threshold_B: Tensor) -> Tensor:
    """Invert the grey levels from the threshold (0 to 256) upwards."""
    threshold_B = threshold_B.ceil().long()
    # Exclusive or with 255 inverts. 256 does not fit uint8: there nothing is inverted, 255 neither.
    start_B111 = _per_image(threshold_B.clamp(max=255).to(torch.uint8), images_BCHW)
    inverter_B111 = _per_image(((threshold_B < LEVELS) * 255).to(torch.uint8), images_BCHW)
    return images_BCHW ^ ((images_BCHW >= start_B111) * inverter_B111)


def invert(images_BCHW: Tensor) -> Tensor:
    """The negative."""
    return 255 - images_BCHW


def autocontrast(images_BCHW: Tensor) -> Tensor:
    """Stretch every channel linearly to 0..255; a channel of one level stays as it is."""
    pixels_BCP = images_BCHW.flatten(2)
    low_BC1 = pixels_BCP.amin(2, keepdim=True).float()
    range_BC1 = pixels_BCP.amax(2, keepdim=True) - low_BC1
    flat_BC1 = range_BC1 == 0
    low_BC1, range_BC1 = low_BC1.masked_fill(flat_BC1, 0), range_BC1.masked_fill(flat_BC1, 255)
    # Whole numbers below 2**16 divided: IEEE division then truncation gives the exact quotient.
    stretched_BCP = (pixels_BCP.float() - low_BC1).mul_(255).div_(range_BC1)
    return _cut(stretched_BCP).view_as(images_BCHW)


def equalize(images_BCHW: Tensor) -> Tensor:
    """Flatten every channel's histogram by PIL's rule; too small a channel stays as it is."""
    batch, channels, height, width = images_BCHW.shape
    device = images_BCHW.device
    pixels_BCP = images_BCHW.flatten(2).long()
    first_bin_BC1 = torch.arange(0, batch * channels * LEVELS, LEVELS, device=device)
    flat = (pixels_BCP + first_bin_BC1.view(batch, channels, 1)).flatten()
    histogram = torch.zeros(batch * channels * LEVELS, dtype=torch.int32, device=device)
    # One dimension: the form of scatter_add_ that is deterministic on CUDA too.
    histogram.scatter_add_(0, flat, torch.ones_like(flat, dtype=torch.int32))
    count_BCN = histogram.view(batch, channels, LEVELS)
    below_BCN = count_BCN.cumsum(2, dtype=torch.int32) - count_BCN
    brightest_BC1 = count_BCN.gather(2, pixels_BCP.amax(2, keepdim=True))
    step_BC1 = (height * width - brightest_BC1) // 255
    flattened_BCN = (step_BC1 // 2 + below_BCN) // step_BC1.clamp(min=1)
    level_N = torch.arange(LEVELS, dtype=torch.int32, device=device)
    table_BCN = torch.where(step_BC1 > 0, flattened_BCN, level_N).clamp_(max=255).to(torch.uint8)
    return table_BCN.gather(2, pixels_BCP).view_as(images_BCHW)


def _blend(start: Tensor, levels_BCHW: Tensor, factor_B: Tensor) -> Tensor:
    """`start + factor (level - start)` in single precision, cut to 0..255 and truncated, as PIL does.

    Both are float32; `levels_BCHW` is overwritten.
    """
    factor_B111 = _per_image(factor_B.float(), levels_BCHW)
    # Two separate roundings: a fused multiply-add would differ in the last grey level.
    return _cut(levels_BCHW.sub_(start).mul_(factor_B111).add_(start))


def _cut(levels: Tensor) -> Tensor:
    """Cut to 0..255 and truncated; by way of int16, faster on the CPU than directly."""
    return levels.clamp_(0, 255).short().to(torch.uint8)


def _luma(levels_BCHW: Tensor) -> Tensor:
    """ITU-R 601 grey levels [B, 1, H, W] in PIL's fixed-point form; grey images as they are.

    In float32, which holds the sums: they are whole numbers below 2**24, and a power of two divides exactly.
    """
    if levels_BCHW.shape[1] == 1:
        return levels_BCHW
    red, green, blue = levels_BCHW.split(1, dim=1)
    weighted: Tensor = red * 19595
    weighted.add_(green, alpha=38470).add_(blue, alpha=7471).add_(1 << 15)
    return weighted.mul_(2**-16).floor_()


def _per_image(value_B: Tensor, images_BCHW: Tensor) -> Tensor:
    return value_B.to(images_BCHW.device).view(-1, 1, 1, 1)
