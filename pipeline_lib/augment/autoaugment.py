"""AutoAugment with the policies found for CIFAR-10 and SVHN (Cubuk et al., 2019, arXiv 1805.09501).

A policy was searched with its dataset's labels: there, with few or weak labels, it carries
knowledge that the labels given do not; `randaugment` does not. Shears and rotations resample to the
nearest pixel and every signed magnitude goes either way, as in the authors' code and torchvision;
CR-DPLL's own code has bicubic shears and rotates one way only.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import torch

from pipeline_lib.augment.operations import Op, Operations, apply_operations, magnitudes

if TYPE_CHECKING:
    from torch import Tensor

LARGEST_LEVEL = 9


class Slot(NamedTuple):
    """One half of a sub-policy."""

    op: Op
    probability: float
    level: int = 0
    """Magnitude index, 0 to 9."""


CIFAR10_POLICY: tuple[tuple[Slot, Slot], ...] = (
    (Slot(Op.INVERT, 0.1), Slot(Op.CONTRAST, 0.2, 6)),
    (Slot(Op.ROTATE, 0.7, 2), Slot(Op.TRANSLATE_X, 0.3, 9)),
    (Slot(Op.SHARPNESS, 0.8, 1), Slot(Op.SHARPNESS, 0.9, 3)),
    (Slot(Op.SHEAR_Y, 0.5, 8), Slot(Op.TRANSLATE_Y, 0.7, 9)),
    (Slot(Op.AUTOCONTRAST, 0.5), Slot(Op.EQUALIZE, 0.9)),
    (Slot(Op.SHEAR_Y, 0.2, 7), Slot(Op.POSTERIZE, 0.3, 7)),
    (Slot(Op.COLOR, 0.4, 3), Slot(Op.BRIGHTNESS, 0.6, 7)),
    (Slot(Op.SHARPNESS, 0.3, 9), Slot(Op.BRIGHTNESS, 0.7, 9)),
    (Slot(Op.EQUALIZE, 0.6), Slot(Op.EQUALIZE, 0.5)),
    (Slot(Op.CONTRAST, 0.6, 7), Slot(Op.SHARPNESS, 0.6, 5)),
    (Slot(Op.COLOR, 0.7, 7), Slot(Op.TRANSLATE_X, 0.5, 8)),
    (Slot(Op.EQUALIZE, 0.3), Slot(Op.AUTOCONTRAST, 0.4)),
    (Slot(Op.TRANSLATE_Y, 0.4, 3), Slot(Op.SHARPNESS, 0.2, 6)),
    (Slot(Op.BRIGHTNESS, 0.9, 6), Slot(Op.COLOR, 0.2, 8)),
    (Slot(Op.SOLARIZE, 0.5, 2), Slot(Op.INVERT, 0.0)),
    (Slot(Op.EQUALIZE, 0.2), Slot(Op.AUTOCONTRAST, 0.6)),
    (Slot(Op.EQUALIZE, 0.2), Slot(Op.EQUALIZE, 0.6)),
    (Slot(Op.COLOR, 0.9, 9), Slot(Op.EQUALIZE, 0.6)),
    (Slot(Op.AUTOCONTRAST, 0.8), Slot(Op.SOLARIZE, 0.2, 8)),
    (Slot(Op.BRIGHTNESS, 0.1, 3), Slot(Op.COLOR, 0.7, 0)),
    (Slot(Op.SOLARIZE, 0.4, 5), Slot(Op.AUTOCONTRAST, 0.9)),
    (Slot(Op.TRANSLATE_Y, 0.9, 9), Slot(Op.TRANSLATE_Y, 0.7, 9)),
    (Slot(Op.AUTOCONTRAST, 0.9), Slot(Op.SOLARIZE, 0.8, 3)),
    (Slot(Op.EQUALIZE, 0.8), Slot(Op.INVERT, 0.1)),
    (Slot(Op.TRANSLATE_Y, 0.7, 9), Slot(Op.AUTOCONTRAST, 0.9)),
)

SVHN_POLICY: tuple[tuple[Slot, Slot], ...] = (
    (Slot(Op.SHEAR_X, 0.9, 4), Slot(Op.INVERT, 0.2)),
    (Slot(Op.SHEAR_Y, 0.9, 8), Slot(Op.INVERT, 0.7)),
    (Slot(Op.EQUALIZE, 0.6), Slot(Op.SOLARIZE, 0.6, 6)),
    (Slot(Op.INVERT, 0.9), Slot(Op.EQUALIZE, 0.6)),
    (Slot(Op.EQUALIZE, 0.6), Slot(Op.ROTATE, 0.9, 3)),
    (Slot(Op.SHEAR_X, 0.9, 4), Slot(Op.AUTOCONTRAST, 0.8)),
    (Slot(Op.SHEAR_Y, 0.9, 8), Slot(Op.INVERT, 0.4)),
    (Slot(Op.SHEAR_Y, 0.9, 5), Slot(Op.SOLARIZE, 0.2, 6)),
    (Slot(Op.INVERT, 0.9), Slot(Op.AUTOCONTRAST, 0.8)),
    (Slot(Op.EQUALIZE, 0.6), Slot(Op.ROTATE, 0.9, 3)),
    (Slot(Op.SHEAR_X, 0.9, 4), Slot(Op.SOLARIZE, 0.3, 3)),
    (Slot(Op.SHEAR_Y, 0.8, 8), Slot(Op.INVERT, 0.7)),
    (Slot(Op.EQUALIZE, 0.9), Slot(Op.TRANSLATE_Y, 0.6, 6)),
    (Slot(Op.INVERT, 0.9), Slot(Op.EQUALIZE, 0.6)),
    (Slot(Op.CONTRAST, 0.3, 3), Slot(Op.ROTATE, 0.8, 4)),
    (Slot(Op.INVERT, 0.8), Slot(Op.TRANSLATE_Y, 0.0, 2)),
    (Slot(Op.SHEAR_Y, 0.7, 6), Slot(Op.SOLARIZE, 0.4, 8)),
    (Slot(Op.INVERT, 0.6), Slot(Op.ROTATE, 0.8, 4)),
    (Slot(Op.SHEAR_Y, 0.3, 7), Slot(Op.TRANSLATE_X, 0.9, 3)),
    (Slot(Op.SHEAR_X, 0.1, 6), Slot(Op.INVERT, 0.6)),
    (Slot(Op.SOLARIZE, 0.7, 2), Slot(Op.TRANSLATE_Y, 0.6, 7)),
    (Slot(Op.SHEAR_Y, 0.8, 4), Slot(Op.INVERT, 0.8)),
    (Slot(Op.SHEAR_X, 0.7, 9), Slot(Op.TRANSLATE_Y, 0.8, 3)),
    (Slot(Op.SHEAR_Y, 0.8, 5), Slot(Op.AUTOCONTRAST, 0.7)),
    (Slot(Op.SHEAR_X, 0.7, 2), Slot(Op.INVERT, 0.1)),
)


@dataclass(frozen=True, eq=False)
class AutoAugment:
    """One sub-policy per image, each of its two operations with its own probability."""

    op_P2: Tensor
    probability_P2: Tensor
    magnitude_P22: Tensor
    """Last dimension: the two directions."""

    @classmethod
    def cifar10(cls, height: int, width: int) -> AutoAugment:
        """The CIFAR-10 policy for images of this size in pixels."""
        return cls._of(CIFAR10_POLICY, height, width)

    @classmethod
    def svhn(cls, height: int, width: int) -> AutoAugment:
        """The SVHN policy for images of this size in pixels."""
        return cls._of(SVHN_POLICY, height, width)

    @classmethod
    def _of(cls, policy: tuple[tuple[Slot, Slot], ...], height: int, width: int) -> AutoAugment:
        slots = [slot for pair in policy for slot in pair]
        sizes = [magnitudes(slot.op, slot.level / LARGEST_LEVEL, height, width) for slot in slots]
        return cls(
            op_P2=torch.tensor([int(slot.op) for slot in slots]).view(-1, 2),
            probability_P2=_doubles([slot.probability for slot in slots]).view(-1, 2),
            magnitude_P22=_doubles(sizes).view(-1, 2, 2),
        )

    def sample(self, generator: torch.Generator, batch: int) -> Operations:
        """Draw `batch` pairs of operations; one whose coin fails becomes the identity."""
        uniform_B5 = torch.rand(batch, 5, generator=generator, dtype=torch.float64)
        policy_B = (uniform_B5[:, 0] * len(self.op_P2)).long()
        done_B2 = uniform_B5[:, 1:3] < self.probability_P2[policy_B]
        direction_B21 = (uniform_B5[:, 3:] < 0.5).long()[..., None]
        magnitude_B2 = self.magnitude_P22[policy_B].gather(2, direction_B21).squeeze(2)
        return Operations(self.op_P2[policy_B].masked_fill(~done_B2, Op.IDENTITY), magnitude_B2)

    apply = staticmethod(apply_operations)


def _doubles(values: list[float] | list[tuple[float, float]]) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)
