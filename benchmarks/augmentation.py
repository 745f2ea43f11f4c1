"""Views of images, made in batches here and image by image by torchvision and PIL; results as JSON.

    python -m benchmarks.augmentation --archive cifar10-jpeg.tar.gz -o benchmarks/results/augmentation.json

Both sides start from the same decoded uint8 images and end with normalised float batches; decoding is left out.
They do the same work: the same crops, operations and probabilities, drawn by each in its own way. They
take turns, so that whatever else the machine does meets both; a ratio is that of two runs next to each other.
With two threads, the other side has two worker processes, as its users have. Without an archive the images are
noise.
"""

from __future__ import annotations

import argparse
import statistics
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from PIL import Image, ImageOps
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms
from torchvision.transforms.functional import InterpolationMode

from benchmarks.images import cifar_images
from benchmarks.record import environment, write
from pipeline_lib.augment.policies import policy
from pipeline_lib.rng import torch_generator

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray
    from torch import Tensor

    View = Callable[[Image.Image], Image.Image]

STEP = 128
"""Images of a batch that a network would be given, on both sides."""
TOGETHER = 512
"""Images of which views are made together, as in training (`Pool.steps_at_once`)."""
SEED = 1
MEAN, STD = (0.5,) * 3, (0.3,) * 3


@dataclass(frozen=True)
class Case:
    """Views of one image.

    Attributes:
        name: of the method that wants them.
        ours: names of policies.
        theirs: the same for a side of so many pixels.
    """

    name: str
    ours: tuple[str, ...]
    theirs: Callable[[int], list[View]]


class Cutout:
    """A square of one grey level; its centre is anywhere in the image."""

    def __init__(self, side: int, grey: int) -> None:
        self.side, self.grey = side, grey

    def __call__(self, image: Image.Image) -> Image.Image:
        """Blacken a copy."""
        pixels_HWC = np.array(image)
        height, width = pixels_HWC.shape[:2]
        y, x = int(torch.randint(height, ())), int(torch.randint(width, ()))
        low, left = max(y - self.side // 2, 0), max(x - self.side // 2, 0)
        pixels_HWC[low : y + self.side // 2, left : x + self.side // 2] = self.grey
        return Image.fromarray(pixels_HWC)


class Equalize:
    """With a probability; torchvision's own goes the same way."""

    def __init__(self, probability: float) -> None:
        self.probability = probability

    def __call__(self, image: Image.Image) -> Image.Image:
        """Equalize a copy, or give the image."""
        return ImageOps.equalize(image) if float(torch.rand(())) < self.probability else image


def weak(side: int) -> list[View]:
    """Crop after reflection, and flip."""
    crop = transforms.RandomCrop(side, padding=-(-side // 8), padding_mode="reflect")
    return [crop, transforms.RandomHorizontalFlip()]


def crops(side: int, scale: tuple[float, float]) -> View:
    """A view of PAWS: a resized crop, and colours."""
    jitter = transforms.ColorJitter(0.4, 0.4, 0.4, 0.1)
    steps = [
        transforms.RandomResizedCrop(side, scale=scale, interpolation=InterpolationMode.BILINEAR),
        transforms.RandomHorizontalFlip(),
        transforms.RandomApply([jitter], p=0.8),
        transforms.RandomSolarize(128, p=0.2),
        Equalize(0.2),
    ]
    return transforms.Compose(steps)


def randaugment(side: int) -> list[View]:
    """FixMatch: a weak view, and a strong one."""
    strong = transforms.RandAugment(2, 10, fill=[128] * 3)
    return [
        transforms.Compose(weak(side)),
        transforms.Compose([*weak(side), strong, Cutout(side // 2, 127)]),
    ]


def autoaugment(side: int) -> list[View]:
    """CR-DPLL: a weak view, and two strong ones."""
    learned = transforms.AutoAugment(transforms.AutoAugmentPolicy.CIFAR10, fill=[128] * 3)
    strong = transforms.Compose([*weak(side), Cutout(side // 2, 0), learned])
    return [transforms.Compose(weak(side)), strong, strong]


def paws(side: int) -> list[View]:
    """PAWS: two large views and six small ones."""
    large, small = crops(side, (0.75, 1)), crops(round(side * 18 / 32), (0.3, 0.75))
    return [large, large, *[small] * 6]


CASES = (
    Case(
        "MixMatch: 2 weak",
        ("crop_flip", "crop_flip"),
        lambda side: [transforms.Compose(weak(side))] * 2,
    ),
    Case("FixMatch: weak, RandAugment", ("crop_flip", "randaugment"), randaugment),
    Case("CR-DPLL: weak, 2 AutoAugment", ("crop_flip", "autoaugment", "autoaugment"), autoaugment),
    Case("PAWS: 2 large, 6 small", ("global_crop",) * 2 + ("small_crop",) * 6, paws),
)


class ImageByImage(Dataset[tuple["Tensor", ...]]):
    """What a loader of theirs works on."""

    def __init__(self, images_NHWC: NDArray[np.uint8], views: list[View]) -> None:
        normal = transforms.Compose([transforms.ToTensor(), transforms.Normalize(MEAN, STD)])
        self.images_NHWC = images_NHWC
        self.views = [transforms.Compose([view, normal]) for view in views]

    def __len__(self) -> int:
        """Number of images."""
        return len(self.images_NHWC)

    def __getitem__(self, position: int) -> tuple[Tensor, ...]:
        """All views of one image."""
        image = Image.fromarray(self.images_NHWC[position])
        return tuple(view(image) for view in self.views)


def ours(images_NCHW: Tensor, names: tuple[str, ...], number: int) -> float:
    """Seconds for all views of all images."""
    channels, height, width = images_NCHW.shape[1:]
    views = [policy(name, (channels, height, width)) for name in names]
    mean, std = (torch.tensor(values).view(1, -1, 1, 1) * 255 for values in (MEAN, STD))
    started = time.perf_counter()
    for batch, images_BCHW in enumerate(images_NCHW.split(TOGETHER)):
        for position, view in enumerate(views):
            changed = view(images_BCHW, torch_generator(SEED, "benchmark", number, batch, position))
            for of_step in changed.split(STEP):
                (of_step - mean) / std  # as `models.classifier` does
    return time.perf_counter() - started


def theirs(loader: DataLoader[Any]) -> float:
    """Seconds for all views of all images, without the start of the worker processes."""
    batches = iter(loader)
    started = time.perf_counter()
    for _ in batches:
        pass
    return time.perf_counter() - started


def compared(
    case: Case, images_NHWC: NDArray[np.uint8], threads: int, rounds: int
) -> dict[str, Any]:
    """One row: microseconds per image either way, and how many times faster."""
    torch.set_num_threads(threads)
    side, count = images_NHWC.shape[1], len(images_NHWC)
    dataset = ImageByImage(images_NHWC, case.theirs(side))
    workers = threads if threads > 1 else 0
    loader = DataLoader(dataset, STEP, num_workers=workers)
    images_NCHW = torch.from_numpy(images_NHWC).permute(0, 3, 1, 2).contiguous()
    repeated = images_NCHW.repeat(8, 1, 1, 1)  # it takes so little time
    # A network's activations come and go in the same process, after which the allocator keeps what is
    # freed. Without one, most of the time would go to getting the same memory anew.
    torch.empty(30_000_000, dtype=torch.uint8)
    ours(images_NCHW, case.ours, 0)
    own, other = [], []
    for number in range(rounds):
        own.append(ours(repeated, case.ours, number) / len(repeated))
        other.append(theirs(loader) / count)
    ratios = [b / a for a, b in zip(own, other, strict=True)]
    return {
        "case": case.name,
        "side": side,
        "threads": threads,
        "views": len(case.ours),
        "ours us/image": round(1e6 * statistics.median(own), 1),
        "PIL us/image": round(1e6 * statistics.median(other), 1),
        "times faster": round(statistics.median(ratios), 1),
        "least": round(min(ratios), 1),
        "most": round(max(ratios), 1),
    }


def main() -> None:
    """Measure every case, print what came out and write it down."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--archive", type=Path, help="of CIFAR-10 as image files")
    parser.add_argument("--images", type=int, default=1024)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("-o", "--output", type=Path)
    options = parser.parse_args()
    torch.manual_seed(SEED)
    images_NHWC = cifar_images(options.archive, options.images)
    runs = []
    for side in (32, 96):
        resized = images_NHWC
        if side != images_NHWC.shape[1]:
            fewer = images_NHWC[: options.images // 4]
            large = [Image.fromarray(image).resize((side, side)) for image in fewer]
            resized = np.stack([np.asarray(image) for image in large])
        for threads in (1, 2):
            for case in CASES:
                runs.append(compared(case, resized, threads, options.rounds))
                print(*(f"{name} {value}" for name, value in runs[-1].items()), flush=True)
    if options.output:
        archive = f"--archive {options.archive.name} " if options.archive else ""
        size = f"--images {options.images} --rounds {options.rounds}"
        said = f"python -m benchmarks.augmentation {archive}{size}"
        versions = {"torch": torch.__version__, "pillow": Image.__version__}
        content = {"command": said, **environment(), **versions, "seed": SEED, "runs": runs}
        write(options.output, content)


if __name__ == "__main__":
    main()
