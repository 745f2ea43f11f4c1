"""Random images, and views for tests that do not care how images are changed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from pipeline_lib.augment.policies import View


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def noise(batch: int, channels: int, height: int, width: int, seed: int = 11) -> Tensor:
    """Images of random pixels, uint8 (B, C, H, W)."""
    shape = (batch, channels, height, width)
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator(seed))


class Shifts(NamedTuple):
    """Per image what is added."""

    shift_B111: Tensor


@dataclass(frozen=True)
class Shift:
    """All pixels of an image become brighter by one of `levels` steps, 0 to `levels` - 1."""

    levels: int

    def sample(self, generator: torch.Generator, batch: int) -> Shifts:
        drawn = torch.randint(0, self.levels, (batch, 1, 1, 1), generator=generator)
        return Shifts(drawn.byte())

    def apply(self, images_BCHW: Tensor, shifts: Shifts) -> Tensor:
        return images_BCHW + shifts.shift_B111


class Nothing(NamedTuple):
    """No parameters."""


@dataclass(frozen=True)
class Changed:
    """The same change of every image; `noise` is added, the upper left corner kept, or both."""

    side: int | None = None
    noise_1CHW: Tensor | None = None
    value: int | None = None

    def sample(self, generator: torch.Generator, batch: int) -> Nothing:
        del generator, batch
        return Nothing()

    def apply(self, images_BCHW: Tensor, _: Nothing) -> Tensor:
        if self.noise_1CHW is not None:
            images_BCHW = images_BCHW + self.noise_1CHW
        if self.value is not None:
            images_BCHW = torch.full_like(images_BCHW, self.value)
        return images_BCHW[..., : self.side, : self.side]


PLAIN = View(())


def shifted(levels: int) -> View:
    """Brightness alone changes."""
    return View((Shift(levels),))
