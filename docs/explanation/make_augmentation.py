"""Draw augmentation.svg: what every policy, CutMix and MixUp make of one image each.

python -m docs.explanation.make_augmentation

The photos are two that come with scikit-learn, under a Creative Commons licence (CC BY 2.0) that asks for their
authors' names: `CREDIT` is drawn beneath them.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from matplotlib.patches import Rectangle
from PIL import Image
from sklearn.datasets import load_digits, load_sample_images

from pipeline_lib.augment.mixing import CutMix, MixUp
from pipeline_lib.augment.policies import policy
from pipeline_lib.figures import style
from pipeline_lib.rng import torch_generator

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from numpy.typing import NDArray
    from torch import Tensor

PICTURE = Path(__file__).parent / "augmentation.svg"
CREDIT = (
    "Photos: china.jpg by danielbuechele, flower.jpg by vultilion (scikit-learn names danielbuechele), both from",
    "flickr.com under CC BY 2.0, as in scikit-learn; cut out, made smaller, and augmented. Digit: scikit-learn.",
)
SIDE, VIEWS, SEED = 32, 7, 3
# Squares of the photos: left, top, right, bottom.
PAGODA, FLOWER = (60, 0, 487, 427), (148, 57, 468, 377)
PLATE, PAINT = (28, 62, 110), (236, 196, 92)  # a house number's colours
ROWS: dict[str, tuple[str, ...]] = {
    "photo": (
        "flip",
        "crop_flip",
        "crop_flip_cutout",
        "autoaugment",
        "randaugment",
        "randaugment_fixmatch",
        "resized_crop_flip",
        "global_crop",
        "small_crop",
        "global_imagenet",
        "small_imagenet",
    ),
    "digit": (
        "affine_small",
        "affine_strong",
        "small_affine",
        "crop",
        "crop_cutout",
        "global_characters",
        "small_characters",
    ),
    "number": ("autoaugment_svhn", "global_numbers", "small_numbers"),
    "photos": ("CutMix", "MixUp"),
}
"""By what they are shown on."""
STEP, HEADING, LABEL = 1.1, 0.75, 3.3
"""From tile to tile, height of a block's heading, and the width of the names; in widths of a tile."""
TILE = 0.56
"""Inches."""


def main() -> None:
    """Write the picture beside this file."""
    PICTURE.write_bytes(picture())


def picture() -> bytes:
    """A row per policy: its name, the image, and random views of it in their own sizes, as SVG."""
    theme, originals = style.LIGHT, images()
    rows = sum(map(len, ROWS.values()))
    width = LABEL + STEP * (VIEWS + 1)
    height = STEP * rows + HEADING * len(ROWS) + 1.0
    with style.applied(theme):
        figure = style.plain_figure(TILE * width, TILE * height)
        axes = figure.add_axes((0, 0, 1, 1))
        axes.set(xlim=(-0.2, width), ylim=(height - 0.2, -0.2), aspect="equal")
        axes.set_axis_off()
        top = 0.0
        for kind, names in ROWS.items():
            heading = {"fontsize": 9.5, "color": theme.muted, "va": "center"}
            axes.text(LABEL, top + 0.45, kind, **heading)
            told = "random views of it" if kind != "photos" else "mixed at random with another one"
            axes.text(LABEL + STEP, top + 0.45, told, **heading)
            top += HEADING
            for name in names:
                axes.text(0, top + 0.5, name, fontsize=10.5, va="center")
                for column, image_CHW in enumerate(
                    [originals[kind], *views(originals, kind, name)]
                ):
                    draw(axes, image_CHW, LABEL + STEP * column, top)
                top += STEP
        for number, line in enumerate(CREDIT):
            axes.text(
                0, top + 0.3 + 0.33 * number, line, fontsize=8, va="center", color=theme.muted
            )
        return style.as_svg(figure, theme)


def images() -> dict[str, Tensor]:
    """What views are made of: uint8 [C, 32, 32], the second of two photos apart."""
    china, flower = load_sample_images().images
    four = (load_digits().images[4] * 255 / 16).astype(np.uint8)
    large = Image.fromarray(four).resize((SIDE, SIDE), Image.Resampling.BICUBIC)
    digit = torch.from_numpy(np.array(large))[None]
    plate, paint = (torch.tensor(colour).view(3, 1, 1) for colour in (PLATE, PAINT))
    number = (plate + (paint - plate) * (digit / 255)).byte()
    pagoda = reduced(china, PAGODA)
    return {
        "photo": pagoda,
        "digit": digit,
        "number": number,
        "photos": pagoda,
        "the other": reduced(flower, FLOWER),
    }


def reduced(photo_HWC: NDArray[np.uint8], box: tuple[int, int, int, int]) -> Tensor:
    """A square of a photo at 32x32 pixels."""
    small = Image.fromarray(photo_HWC).resize((SIDE, SIDE), Image.Resampling.LANCZOS, box=box)
    return torch.from_numpy(np.array(small)).permute(2, 0, 1)


def views(originals: dict[str, Tensor], kind: str, name: str) -> Tensor:
    """Random views of one image, uint8 [views, C, h, w]."""
    image_CHW, generator = originals[kind], torch_generator(SEED, "picture", name)
    many = image_CHW.expand(VIEWS, -1, -1, -1)
    if kind == "photos":
        return mixed(name, torch.cat([many, originals["the other"].expand_as(many)]), generator)
    channels, height, width = image_CHW.shape
    return policy(name, (channels, height, width))(many, generator)


def mixed(name: str, images_BCHW: Tensor, generator: torch.Generator) -> Tensor:
    """The images of the first half, each with one of the second half: a random partner may be the same photo."""
    transform = CutMix(SIDE, SIDE) if name == "CutMix" else MixUp()
    drawn = transform.sample(generator, len(images_BCHW))
    drawn = drawn._replace(partner_B=torch.arange(len(images_BCHW)).roll(VIEWS))
    return transform.apply(images_BCHW, drawn)[:VIEWS]


def draw(axes: Axes, image_CHW: Tensor, left: float, top: float) -> None:
    """One image; smaller ones are smaller, framed in the middle of their tile."""
    height, width = image_CHW.shape[1:]
    image_HWC = image_CHW.expand(3, -1, -1).permute(1, 2, 0).numpy()
    x, y = left + (1 - width / SIDE) / 2, top + (1 - height / SIDE) / 2
    axes.imshow(image_HWC, extent=(x, x + width / SIDE, y + height / SIDE, y))
    if width < SIDE:  # a light one would be lost on the page
        frame = {"fill": False, "edgecolor": style.LIGHT.rule, "linewidth": 0.8}
        axes.add_patch(Rectangle((x, y), width / SIDE, height / SIDE, **frame))


if __name__ == "__main__":
    main()
