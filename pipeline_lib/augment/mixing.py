"""Two images in one: CutMix (Yun et al., ICCV 2019) and MixUp (Zhang et al., ICLR 2018).

Split like every transform into `sample` and `apply`, but no step of a policy: an image's result
depends on its partner, another image of the same batch. `share_B` says how much of each image is
its own, so that labels are mixed as the pixels were:

    mixed = cutmix.sample(generator, len(images_BCHW))
    images_BCHW = cutmix.apply(images_BCHW, mixed)
    targets_BK = mix(targets_BK, targets_BK[mixed.partner_B], mixed.share_B.float())

Every image has a share of its own, which the authors and torchvision draw once per batch. MixMatch
mixes by `mix` as well; it draws by rules of its own (shares of 1/2 or more, partners by kind), and
keeps its images as floats.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

ONE = 1 << 16
"""MixUp's shares are multiples of 1 / ONE. Times a grey level that has 24 bits: float32 holds it exactly."""


class Patches(NamedTuple):
    """The part of its partner that each image gets, in whole pixels; ends are exclusive."""

    top_B: Tensor
    bottom_B: Tensor
    left_B: Tensor
    right_B: Tensor
    partner_B: Tensor
    share_B: Tensor
    """Share of the pixels that stay the image's own, float64: the part of its label."""


@dataclass(frozen=True)
class CutMix:
    """A rectangle of another image, of the image's own shape and in the place it has there.

    It has the share 1 - lambda of the area, with lambda ~ Beta(alpha, alpha), and its centre is any
    pixel; what lies beyond the border is cut off, which the label's share takes into account. Half
    sides are rounded down to whole pixels (the authors' own code).
    """

    height: int
    width: int
    alpha: float = 1.0

    def sample(self, generator: torch.Generator, batch: int) -> Patches:
        """Draw `batch` rectangles, and a partner for every image."""
        lambda_B = _lambdas(generator, batch, self.alpha)
        uniform_2B = torch.rand(2, batch, generator=generator, dtype=torch.float64)
        top_B, bottom_B = span(self.height, (uniform_2B[0] * self.height).long(), lambda_B)
        left_B, right_B = span(self.width, (uniform_2B[1] * self.width).long(), lambda_B)
        patch_B = (bottom_B - top_B) * (right_B - left_B)
        share_B = 1 - patch_B.double() / (self.height * self.width)
        partner_B = torch.randperm(batch, generator=generator)
        return Patches(top_B, bottom_B, left_B, right_B, partner_B, share_B)

    def apply(self, images_BCHW: Tensor, patches: Patches) -> Tensor:
        """Put every image's rectangle of its partner into it; images of any type."""
        top_B, bottom_B, left_B, right_B, partner_B, _ = (
            field.to(images_BCHW.device) for field in patches
        )
        rows_BH = _inside(self.height, top_B, bottom_B)
        columns_BW = _inside(self.width, left_B, right_B)
        patch_B1HW = rows_BH[:, None, :, None] & columns_BW[:, None, None, :]
        return torch.where(patch_B1HW, images_BCHW[partner_B], images_BCHW)


class Mixtures(NamedTuple):
    """Which two images are added up, and how much of it is the first."""

    partner_B: Tensor
    share_B: Tensor
    """lambda, float64, a multiple of 1 / ONE: the part of the image, and of its label."""


@dataclass(frozen=True)
class MixUp:
    """`lambda x + (1 - lambda) x'` with lambda ~ Beta(alpha, alpha), to whole grey levels, half up."""

    alpha: float = 1.0

    def sample(self, generator: torch.Generator, batch: int) -> Mixtures:
        """Draw `batch` shares, and a partner for every image."""
        share_B = (_lambdas(generator, batch, self.alpha) * ONE).round() / ONE
        return Mixtures(torch.randperm(batch, generator=generator), share_B)

    def apply(self, images_BCHW: Tensor, mixtures: Mixtures) -> Tensor:
        """Add every image and its partner up; uint8 like the other transforms, on any device the same."""
        device = images_BCHW.device
        others_BCHW = images_BCHW[mixtures.partner_B.to(device)]
        share_B = mixtures.share_B.float().to(device)
        levels = mix(images_BCHW.float(), others_BCHW.float(), share_B)
        return levels.add_(0.5).to(torch.uint8)


def mix(values: Tensor, others: Tensor, shares_N: Tensor) -> Tensor:
    """MixUp, `s x + (1 - s) x'` (MixMatch eqs. 10 and 11); exactly x where x' is x.

    Args:
        values: x, floats (N, ...): images or targets.
        others: x', likewise.
        shares_N: s, the part of x; of the same type.
    """
    return torch.lerp(others, values, shares_N.view(-1, *[1] * (values.ndim - 1)))


def span(side: int, centre_B: Tensor, lambda_B: Tensor) -> tuple[Tensor, Tensor]:
    """Start and end along one side of rectangles that leave lambda of the area (CutMix, section 3.1).

    `r +- side sqrt(1 - lambda) / 2`, the half rounded down, and cut to the image.

    Args:
        side: Height or width of the image in pixels.
        centre_B: r, whole pixels.
        lambda_B: float64, 0 to 1.
    """
    half_B = (side * (1 - lambda_B).sqrt() / 2).long()
    return (centre_B - half_B).clamp(min=0), (centre_B + half_B).clamp(max=side)


def _lambdas(generator: torch.Generator, batch: int, alpha: float) -> Tensor:
    """`batch` numbers ~ Beta(alpha, alpha), float64; NumPy's, as torch has none that takes a generator."""
    seed = int(torch.randint(2**63 - 1, (), generator=generator))
    return torch.from_numpy(np.random.Generator(np.random.PCG64(seed)).beta(alpha, alpha, batch))


def _inside(side: int, start_B: Tensor, end_B: Tensor) -> Tensor:
    """Which positions lie between start and end, [B, side]."""
    position_S = torch.arange(side, device=start_B.device)
    return (position_S >= start_B[:, None]) & (position_S < end_B[:, None])
