"""Random changes of colour: SimCLR's jitter (Chen et al., 2020, arXiv 2002.05709), and single operations."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from pipeline_lib.augment.operations import Op, Operations, apply_operations


@dataclass(frozen=True)
class ColourJitter:
    """Brightness, contrast, saturation and hue change at random, in a random order per image.

    All orders are equally likely. Factors are uniform in [max(0, 1 - strength), 1 + strength], the
    shift of the hue in [-hue, hue], in turns of the colour wheel (at most 0.5). A strength of 0
    leaves that property alone.
    """

    brightness: float
    contrast: float
    saturation: float
    hue: float
    probability: float
    """That an image is changed at all."""

    def sample(self, generator: torch.Generator, batch: int) -> Operations:
        """Draw `batch` rows of operations; where the coin fails they are the identity."""
        op_S, low_S, high_S = self._ranges()
        slots = len(op_S)
        uniform_BN = torch.rand(batch, 2 * slots + 1, generator=generator, dtype=torch.float64)
        order_BS = uniform_BN[:, :slots].argsort(dim=1, stable=True)
        magnitude_BS = low_S + (high_S - low_S) * uniform_BN[:, slots:-1]
        skipped_B1 = uniform_BN[:, -1:] >= self.probability
        op_BS = op_S[order_BS].masked_fill(skipped_B1, Op.IDENTITY)
        return Operations(op_BS, magnitude_BS.gather(1, order_BS))

    apply = staticmethod(apply_operations)

    def _ranges(self) -> tuple[Tensor, Tensor, Tensor]:
        factors = (
            (Op.BRIGHTNESS, self.brightness),
            (Op.CONTRAST, self.contrast),
            (Op.COLOR, self.saturation),
        )
        ranges = [(op, max(0.0, 1 - size), 1 + size) for op, size in factors if size]
        if self.hue:
            ranges.append((Op.HUE, -self.hue, self.hue))
        table_S3 = torch.tensor(ranges, dtype=torch.float64).view(-1, 3)
        return table_S3[:, 0].long(), table_S3[:, 1], table_S3[:, 2]


@dataclass(frozen=True)
class Sometimes:
    """One operation, done to an image with some probability, of a magnitude in [low, high)."""

    probability: float
    op: Op
    low: float = 0.0
    high: float = 0.0

    def sample(self, generator: torch.Generator, batch: int) -> Operations:
        """Draw `batch` coins and magnitudes; where a coin fails the operation is the identity."""
        uniform_2B1 = torch.rand(2, batch, 1, generator=generator, dtype=torch.float64)
        op_B1 = torch.where(uniform_2B1[0] < self.probability, int(self.op), int(Op.IDENTITY))
        return Operations(op_B1, self.low + (self.high - self.low) * uniform_2B1[1])

    apply = staticmethod(apply_operations)


def random_grey(probability: float) -> Sometimes:
    """The grey version in all three channels (ITU-R 601)."""
    return Sometimes(probability, Op.COLOR)


def random_solarize(probability: float) -> Sometimes:
    """Invert the grey levels from a random one on (PAWS's official code)."""
    return Sometimes(probability, Op.SOLARIZE, 0.0, 256.0)


def random_equalize(probability: float) -> Sometimes:
    """Flatten the histogram of every channel."""
    return Sometimes(probability, Op.EQUALIZE)
