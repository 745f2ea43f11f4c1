"""Named policies: what `train.weak_augment` and `train.strong_augment` can say.

Sources: shared by CR-DPLL (Wu et al., ICML 2022), MixMatch and FixMatch for crop and flip; CR-DPLL's
official code for the order flip, crop, cutout of half the side in black, AutoAugment; FixMatch for
RandAugment(2, 10) and a mid-grey cutout. The affine ones are this project's, for small digits.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol

from pipeline_lib.augment.autoaugment import AutoAugment
from pipeline_lib.augment.colour import BrightnessJitter
from pipeline_lib.augment.geometry import Affine, Crop
from pipeline_lib.augment.occlusion import Cutout
from pipeline_lib.augment.randaugment import RandAugment
from pipeline_lib.errors import UserError

if TYPE_CHECKING:
    import torch
    from torch import Tensor

DataPolicy = Literal["digits", "natural", "characters"]
Strength = Literal["weak", "strong"]

SMALLEST_SIDE = 4
BLACK = 0
GREY = 127

AUTO: dict[tuple[str, str], str] = {
    ("digits", "weak"): "affine_small",
    ("digits", "strong"): "affine_strong",
    ("natural", "weak"): "crop_flip",
    ("natural", "strong"): "autoaugment",
    ("characters", "weak"): "crop",
    ("characters", "strong"): "crop_cutout",
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
            uint8 images of the same shape, on the same device.
        """
        return self.apply(images_BCHW, self.sample(generator, len(images_BCHW)))

    def sample(self, generator: torch.Generator, batch: int) -> tuple[Any, ...]:
        """Draw the parameters of `batch` images: one NamedTuple of CPU tensors per step."""
        return tuple(step.sample(generator, batch) for step in self.steps)

    def apply(self, images_BCHW: Tensor, parameters: tuple[Any, ...]) -> Tensor:
        """Change every image by its own parameters; pure, so that a view can be replayed."""
        for step, drawn in zip(self.steps, parameters, strict=True):
            images_BCHW = step.apply(images_BCHW, drawn)
        return images_BCHW


def resolve(name: str, data_policy: str, strength: Strength) -> str:
    """Name of a concrete policy: `name` itself, or for `auto` what suits the data.

    Args:
        name: A policy of params.yaml.
        data_policy: `policy` of data/classes.json: what kind of images these are.
        strength: Which of the two views is meant.

    Raises:
        UserError: `auto` for a kind of images that has no policies.
    """
    if name != "auto":
        return name
    if (data_policy, strength) not in AUTO:
        msg = (
            f"data/classes.json: policy {data_policy!r} is none of digits, natural, characters; "
            f"set train.{strength}_augment to a policy's name"
        )
        raise UserError(msg)
    return AUTO[data_policy, strength]


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
    crop = Crop(height, width, flip=False)
    crop_flip = Crop(height, width, flip=True)
    half = Cutout(height, width, height // 2, width // 2, BLACK)
    match name:
        case "affine_small":
            return (Affine(height, width, degrees=8, translation=0.1),)
        case "affine_strong":
            hole = Cutout(height, width, 3 * height // 8, 3 * width // 8, BLACK)
            warp = Affine(height, width, degrees=20, translation=0.15)
            return (warp, BrightnessJitter(0.3), hole)
        case "crop":
            return (crop,)
        case "crop_flip":
            return (crop_flip,)
        case "crop_cutout":
            return (crop, half)
        case "crop_flip_cutout":
            return (crop_flip, half)
        case "autoaugment":
            return (crop_flip, half, AutoAugment.cifar10(height, width))
        case "randaugment":
            grey = Cutout(height, width, height // 2, width // 2, GREY)
            return (crop_flip, RandAugment.create(height, width, count=2, index=10), grey)
    msg = f"augmentation {name!r}: no such policy; see the comments in params.yaml"
    raise UserError(msg)
