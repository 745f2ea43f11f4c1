"""Named policies: what `train.weak_augment` and its like can say.

Sources: shared by CR-DPLL (Wu et al., ICML 2022), MixMatch and FixMatch for crop and flip; CR-DPLL's
official code for the order flip, crop, cutout of half the side in black, AutoAugment, and for SVHN
a larger cutout and neither flip nor crop; FixMatch for its RandAugment and a mid-grey cutout;
PAWS's official code (Assran et al., ICCV 2021) for `global_crop`, `small_crop` and the ImageNet
pair. The affine ones, and the views of PAWS for characters and house numbers, are this project's.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol

import torch

from pipeline_lib.augment.autoaugment import AutoAugment
from pipeline_lib.augment.blur import GaussianBlur
from pipeline_lib.augment.colour import BrightnessJitter
from pipeline_lib.augment.geometry import Affine, Crop, Flip
from pipeline_lib.augment.jitter import (
    ColourJitter,
    random_equalize,
    random_grey,
    random_solarize,
)
from pipeline_lib.augment.occlusion import Cutout
from pipeline_lib.augment.randaugment import RandAugment
from pipeline_lib.augment.resized_crop import ResizedCrop
from pipeline_lib.errors import UserError
from pipeline_lib.params.policy_names import randaugment_numbers

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

Strength = Literal["weak", "strong", "global", "small"]

SMALLEST_SIDE = 4
BLOCK_PIXELS = 1 << 20
"""Treated at a time on the CPU: no more memory than is at hand already, and most of it in the cache."""
BLACK = 0
GREY = 127

AUTO: dict[str, dict[Strength, str]] = {
    "digits": {
        "weak": "affine_small",
        "strong": "affine_strong",
        "global": "affine_small",
        "small": "small_affine",
    },
    "natural": {
        "weak": "crop_flip",
        "strong": "autoaugment",
        "global": "global_crop",
        "small": "small_crop",
    },
    "characters": {
        "weak": "crop",
        "strong": "crop_cutout",
        "global": "global_characters",
        "small": "small_characters",
    },
    "numbers": {
        "weak": "crop",
        "strong": "autoaugment_svhn",
        "global": "global_numbers",
        "small": "small_numbers",
    },
}


class Transform(Protocol):
    """One step of a policy: parameters drawn on the CPU, then a pure function of the images."""

    def sample(self, generator: torch.Generator, batch: int) -> Any:  # noqa: ANN401 - each has its own type
        """Draw the parameters of `batch` images."""

    def apply(self, images_BCHW: Tensor, parameters: Any) -> Tensor:  # noqa: ANN401
        """Change every image by its own parameters."""


@dataclass(frozen=True)
class View:
    """A policy for images of one shape: `view(images_BCHW, generator)` gives augmented images."""

    steps: tuple[Transform, ...]

    def __call__(self, images_BCHW: Tensor, generator: torch.Generator) -> Tensor:
        """Augment every image by its own random parameters.

        Args:
            images_BCHW: uint8 images, on any device; left unchanged.
            generator: CPU generator that all parameters are drawn from.

        Returns:
            uint8 images on the same device, of the same shape or of the policy's own size.
        """
        return self.apply(images_BCHW, self.sample(generator, len(images_BCHW)))

    def sample(self, generator: torch.Generator, batch: int) -> tuple[Any, ...]:
        """Draw the parameters of `batch` images: one NamedTuple of CPU tensors per step."""
        return tuple(step.sample(generator, batch) for step in self.steps)

    @staticmethod
    def joined(drawn: Sequence[tuple[Any, ...]]) -> tuple[Any, ...]:
        """Parameters of several batches, in a row, as those of one."""
        return tuple(
            type(parts[0])(*map(torch.cat, zip(*parts, strict=True)))
            for parts in zip(*drawn, strict=True)
        )

    def apply(self, images_BCHW: Tensor, parameters: tuple[Any, ...]) -> Tensor:
        """Change every image by its own parameters; pure, so that a view can be replayed."""
        height, width = images_BCHW.shape[2:]
        block = max(1, BLOCK_PIXELS // (height * width))
        if images_BCHW.device.type != "cpu" or len(images_BCHW) <= block:
            return self._applied(images_BCHW, parameters)
        blocks = range(0, len(images_BCHW), block)
        drawn = [_part(parameters, slice(first, first + block)) for first in blocks]
        parts = zip(images_BCHW.split(block), drawn, strict=True)
        return torch.cat([self._applied(images, of_them) for images, of_them in parts])

    def _applied(self, images_BCHW: Tensor, parameters: tuple[Any, ...]) -> Tensor:
        for step, drawn in zip(self.steps, parameters, strict=True):
            images_BCHW = step.apply(images_BCHW, drawn)
        return images_BCHW


def _part(parameters: tuple[Any, ...], images: slice) -> tuple[Any, ...]:
    return tuple(type(drawn)(*(field[images] for field in drawn)) for drawn in parameters)


def resolve(name: str, data_policy: str, strength: Strength) -> str:
    """Name of a concrete policy: `name` itself, or for `auto` what suits the data.

    Args:
        name: A policy of params.yaml.
        data_policy: `policy` of data/classes.json: what kind of images these are.
        strength: Which of the views is meant.

    Raises:
        UserError: `auto` for a kind of images that has no policies.
    """
    if name != "auto":
        return name
    if data_policy not in AUTO:
        msg = (
            f"data/classes.json: policy {data_policy!r} is none of {', '.join(AUTO)}; "
            f"set train.{strength}_augment to a policy's name"
        )
        raise UserError(msg)
    return AUTO[data_policy][strength]


def policy(name: str, image_shape: tuple[int, int, int]) -> View:
    """The named policy for images of one shape.

    Args:
        name: A policy of params.yaml other than `auto`.
        image_shape: Channels (1 or 3), height and width (4 or more).

    Raises:
        UserError: No such policy, or images that it cannot treat.
    """
    channels, height, width = image_shape
    if name == "none":
        return View(())
    if channels not in (1, 3) or min(height, width) < SMALLEST_SIDE:
        msg = (
            f"augmentation {name}: images are {height} x {width} with {channels} channels; it needs "
            f"{SMALLEST_SIDE} x {SMALLEST_SIDE} or more and 1 or 3 channels (set data.image_size, "
            "data.channels, or the augmentation to none)"
        )
        raise UserError(msg)
    return View(_steps(name, height, width))


def _steps(name: str, height: int, width: int) -> tuple[Transform, ...]:
    if numbers := randaugment_numbers(name):
        return _fixmatch(height, width, RandAugment.create(height, width, *numbers))
    if name == "randaugment_fixmatch":
        return _fixmatch(height, width, RandAugment.fixmatch(height, width))
    policies = _own_size(height, width) | _crops(height, width)
    if name not in policies:
        msg = f"augmentation {name!r}: no such policy; see the comments in params.yaml"
        raise UserError(msg)
    return policies[name]


def _fixmatch(height: int, width: int, operations: RandAugment) -> tuple[Transform, ...]:
    crop_flip = Crop(height, width, flip=True)
    half_grey = Cutout(height, width, height // 2, width // 2, GREY)
    return crop_flip, operations, half_grey


def _own_size(height: int, width: int) -> dict[str, tuple[Transform, ...]]:
    """The policies that keep all of the image in about its place."""
    crop = Crop(height, width, flip=False)
    crop_flip = Crop(height, width, flip=True)
    half = Cutout(height, width, height // 2, width // 2, BLACK)
    most = Cutout(height, width, 20 * height // 32, 20 * width // 32, BLACK)
    hole = Cutout(height, width, 3 * height // 8, 3 * width // 8, BLACK)
    warp = Affine(height, width, degrees=20, translation=0.15)
    return {
        "affine_small": (Affine(height, width, degrees=8, translation=0.1),),
        "affine_strong": (warp, BrightnessJitter(0.3), hole),
        "flip": (Flip(),),
        "crop": (crop,),
        "crop_flip": (crop_flip,),
        "crop_cutout": (crop, half),
        "crop_flip_cutout": (crop_flip, half),
        "autoaugment": (crop_flip, half, AutoAugment.cifar10(height, width)),
        "autoaugment_svhn": (most, AutoAugment.svhn(height, width)),
    }


def _crops(height: int, width: int) -> dict[str, tuple[Transform, ...]]:
    """The policies that resize a part of the image, to its own size or to a smaller one."""

    def crop(low: float, high: float, *, side: float = 1.0, flip: bool = False) -> ResizedCrop:
        out_height, out_width = round(side * height), round(side * width)
        return ResizedCrop(height, width, out_height, out_width, (low, high), flip)

    colours = (_simclr_jitter(0.5), random_solarize(0.2), random_equalize(0.2))
    light = ColourJitter(0.4, 0.4, 0, 0, probability=0.8)
    imagenet = (_simclr_jitter(1), random_grey(0.2), GaussianBlur(0.5, sigma=(0.1, 2)))
    shift = Affine(height, width, degrees=8, translation=0.1)
    return {
        "resized_crop_flip": (crop(0.08, 1, flip=True),),
        "global_crop": (crop(0.75, 1, flip=True), *colours),
        "small_crop": (crop(0.3, 0.75, side=18 / 32, flip=True), *colours),
        "global_numbers": (crop(0.75, 1), *colours),
        "small_numbers": (crop(0.3, 0.75, side=18 / 32), *colours),
        "global_characters": (crop(0.75, 1), light),
        "small_characters": (crop(0.3, 0.75, side=18 / 32), light),
        "small_affine": (shift, crop(0.5, 0.9, side=6 / 8)),
        "global_imagenet": (crop(0.14, 1, flip=True), *imagenet),
        "small_imagenet": (crop(0.05, 0.14, side=96 / 224, flip=True), *imagenet),
    }


def _simclr_jitter(strength: float) -> ColourJitter:
    size = 0.8 * strength
    return ColourJitter(size, size, size, hue=0.2 * strength, probability=0.8)
