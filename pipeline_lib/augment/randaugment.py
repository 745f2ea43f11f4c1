"""RandAugment (Cubuk et al., 2020, arXiv 1909.13719): n random operations at one magnitude; and FixMatch's of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from pipeline_lib.augment.operations import Op, Operations, apply_operations, magnitudes

if TYPE_CHECKING:
    from torch import Tensor

OPS = tuple(op for op in Op if op < Op.INVERT)
"""The paper's fourteen; the identity is one of them."""
LARGEST_INDEX = 30
FIXMATCH_OPERATIONS, FIXMATCH_PROBABILITY = 2, 0.5
FIXMATCH_INDICES = range(1, 10)
"""Of ten: its code draws from 1 to 9."""


@dataclass(frozen=True, eq=False)
class RandAugment:
    """`count` operations per image, drawn with replacement, each in either direction.

    Attributes:
        count: of operations per image, S.
        probability: that one of them is done; else it is the identity.
        op_K: the operations.
        magnitude_KL2: for each of them L magnitudes, equally likely, in both directions.
    """

    count: int
    probability: float
    op_K: Tensor
    magnitude_KL2: Tensor

    @classmethod
    def create(cls, height: int, width: int, count: int, index: int) -> RandAugment:
        """RandAugment(n=`count`, m=`index` of 0..30) for images of this size in pixels."""
        sizes = [[magnitudes(op, index / LARGEST_INDEX, height, width)] for op in OPS]
        return cls(count, 1.0, *_tables(sizes))

    @classmethod
    def fixmatch(cls, height: int, width: int) -> RandAugment:
        """That of FixMatch: two operations, each done or not, each of a random magnitude.

        Section 2.3 of Sohn et al., NeurIPS 2020, with the ranges of its appendix; the official code has wider
        ones for enhancements, bits and shifts.
        """
        sizes = [
            [fixmatch_magnitudes(op, index / 10, height, width) for index in FIXMATCH_INDICES]
            for op in OPS
        ]
        return cls(FIXMATCH_OPERATIONS, FIXMATCH_PROBABILITY, *_tables(sizes))

    def sample(self, generator: torch.Generator, batch: int) -> Operations:
        """Draw `batch` rows of operations."""
        uniform_4BS = torch.rand(4, batch, self.count, generator=generator, dtype=torch.float64)
        choice_BS = (uniform_4BS[0] * len(self.op_K)).long()
        direction_BS = (uniform_4BS[1] < 0.5).long()
        level_BS = (uniform_4BS[2] * self.magnitude_KL2.shape[1]).long()
        skipped_BS = uniform_4BS[3] >= self.probability
        return Operations(
            self.op_K[choice_BS].masked_fill(skipped_BS, Op.IDENTITY),
            self.magnitude_KL2[choice_BS, level_BS, direction_BS],
        )

    apply = staticmethod(apply_operations)


def _tables(sizes: list[list[tuple[float, float]]]) -> tuple[Tensor, Tensor]:
    return torch.tensor(list(map(int, OPS))), torch.tensor(sizes, dtype=torch.float64)


def fixmatch_magnitudes(op: Op, level: float, height: int, width: int) -> tuple[float, float]:
    """The two equally likely magnitudes of an operation of FixMatch.

    Shears, shifts and rotations go either way; enhancements go towards grey or blur only, from a factor of
    0.05 at level 0 to 0.95.

    Args:
        op: One of OPS.
        level: Between 0 and 1.
        height: Image height in pixels.
        width: Image width in pixels.

    Returns:
        Magnitudes in the units of `Operations.magnitude_BS`.
    """
    match op:
        case Op.BRIGHTNESS | Op.COLOR | Op.CONTRAST | Op.SHARPNESS:
            return (0.9 * level + 0.05,) * 2
        case Op.POSTERIZE:
            return (4.0 + int(4 * level),) * 2
        case Op.SOLARIZE:
            return (256.0 - int(256 * level),) * 2
        case Op.TRANSLATE_X | Op.TRANSLATE_Y:
            shift = float(int(0.3 * level * (width if op == Op.TRANSLATE_X else height)))
            return shift, -shift
        case _:
            return magnitudes(op, level, height, width)
