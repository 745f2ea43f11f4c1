"""How parameters and operations are drawn, against what torchvision draws for the same settings.

Samples are compared by the tests of Kolmogorov and Smirnov (values) and of chi square (counts). Seeds are fixed, so
that a test either passes always or never. Every kind of comparison also meets a distribution that is a little wrong.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Iterator

import numpy as np
import pytest
import torch
from scipy.stats import chi2_contingency, chisquare, ks_2samp
from torchvision import transforms
from torchvision.transforms import autoaugment as oracle

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
from pipeline_lib.augment.operations import Op, Operations
from pipeline_lib.augment.policies import policy
from pipeline_lib.augment.randaugment import RandAugment
from pipeline_lib.augment.resized_crop import ResizedCrop
from tests.views import generator

SMALLEST = 1e-4
"""Samples of one distribution differ that much once in 10,000 times."""
RARE = 10
"""What occurs less often in both samples together is counted as one."""
JITTER = (Op.BRIGHTNESS, Op.CONTRAST, Op.COLOR, Op.HUE)
NAMES = {
    "Identity": Op.IDENTITY,
    "ShearX": Op.SHEAR_X,
    "ShearY": Op.SHEAR_Y,
    "TranslateX": Op.TRANSLATE_X,
    "TranslateY": Op.TRANSLATE_Y,
    "Rotate": Op.ROTATE,
    "Brightness": Op.BRIGHTNESS,
    "Color": Op.COLOR,
    "Contrast": Op.CONTRAST,
    "Sharpness": Op.SHARPNESS,
    "Posterize": Op.POSTERIZE,
    "Solarize": Op.SOLARIZE,
    "AutoContrast": Op.AUTOCONTRAST,
    "Equalize": Op.EQUALIZE,
    "Invert": Op.INVERT,
}
SIGNED = set(Op) - {Op.IDENTITY, Op.POSTERIZE, Op.SOLARIZE, Op.AUTOCONTRAST, Op.EQUALIZE, Op.INVERT}
NEUTRAL = {Op.BRIGHTNESS: 1, Op.COLOR: 1, Op.CONTRAST: 1, Op.SHARPNESS: 1}


@pytest.fixture(autouse=True)
def _torchvision_s_seed() -> Iterator[None]:
    """It draws from torch's global generator."""
    with torch.random.fork_rng():
        torch.manual_seed(1)
        yield


def same_counts(ours: Iterable[Hashable], theirs: Iterable[Hashable]) -> bool:
    one, other = Counter(ours), Counter(theirs)
    cells = [(one[kind], other[kind]) for kind in one.keys() | other.keys()]
    common = [cell for cell in cells if sum(cell) >= RARE]
    rare = np.sum([cell for cell in cells if sum(cell) < RARE] or [(0, 0)], axis=0)
    table = [*common, tuple(rare)] if rare.sum() >= RARE else common
    return bool(chi2_contingency(np.array(table).T).pvalue > SMALLEST)


def same_values(ours: torch.Tensor | np.ndarray, theirs: torch.Tensor | np.ndarray) -> bool:
    return bool(ks_2samp(np.asarray(ours), np.asarray(theirs)).pvalue > SMALLEST)


def rows(*columns: torch.Tensor) -> list[tuple[float, ...]]:
    return list(zip(*(column.tolist() for column in columns), strict=True))


def test_counts_that_differ_a_little_are_noticed() -> None:
    rng = np.random.default_rng(0)
    nine, again = rng.integers(9, size=(2, 20_000)).tolist()
    assert same_counts(nine, again)
    eight = rng.integers(8, size=20_000).tolist()
    assert not same_counts(eight, nine)
    middle = np.where(rng.random(20_000) < 0.03, 4, nine).tolist()
    assert not same_counts(middle, nine)  # one of nine is 3 % more frequent
    coin = (rng.random(20_000) < 0.2).tolist()
    assert same_counts((rng.random(20_000) < 0.2).tolist(), coin)
    assert not same_counts((rng.random(20_000) < 0.225).tolist(), coin)


def test_values_that_differ_a_little_are_noticed() -> None:
    rng = np.random.default_rng(0)
    values, again = rng.uniform(0.1, 2, (2, 10_000))
    assert same_values(values, again)
    for wrong in (
        rng.uniform(0.1, 1.9, 10_000),
        np.exp(rng.uniform(math.log(0.1), math.log(2), 10_000)),
        rng.normal(1.05, 1.9 / math.sqrt(12), 10_000),
    ):
        assert not same_values(wrong, values)


@pytest.mark.parametrize(("height", "width", "pad_h", "pad_w"), [(32, 32, 4, 4), (28, 20, 4, 3)])
def test_crops_start_where_torchvision_s_do(
    height: int, width: int, pad_h: int, pad_w: int
) -> None:
    count = 20_000
    crops = Crop(height, width, flip=True).sample(generator(), count)
    padded = torch.empty(1, height + 2 * pad_h, width + 2 * pad_w)
    theirs = [transforms.RandomCrop.get_params(padded, (height, width)) for _ in range(count)]
    assert same_counts(rows(crops.top_B, crops.left_B), [(top, left) for top, left, *_ in theirs])


def test_flips_are_as_frequent_as_torchvision_s() -> None:
    count = 10_000
    flip, pixels = transforms.RandomHorizontalFlip(), torch.tensor([[[0, 1]]])
    theirs = [bool(flip(pixels)[0, 0, 0]) for _ in range(count)]
    for drawn in (
        Flip().sample(generator(1), count),
        Crop(32, 32, flip=True).sample(generator(2), count),
        ResizedCrop(32, 32, 32, 32, (0.3, 1), flip=True).sample(generator(3), count),
    ):
        assert same_counts(drawn.flip_B.tolist(), theirs)


def test_a_flip_is_independent_of_its_crop() -> None:
    crops = Crop(32, 32, flip=True).sample(generator(), 40_000)
    by_flip = [
        rows(crops.top_B[flip], crops.left_B[flip]) for flip in (crops.flip_B, ~crops.flip_B)
    ]
    assert same_counts(*by_flip)


def test_affine_warps_are_distributed_as_torchvision_s() -> None:
    count, height, width = 10_000, 40, 60
    matrix = Affine(height, width, degrees=8, translation=0.1).sample(generator(), count).matrix_B23
    angle = torch.rad2deg(torch.atan2(matrix[:, 1, 0], matrix[:, 0, 0]))
    centre = torch.tensor([width / 2, height / 2], dtype=torch.float64)
    shift = matrix[..., :2] @ centre + matrix[..., 2] - centre
    theirs = [
        transforms.RandomAffine.get_params([-8.0, 8.0], (0.1, 0.1), None, None, [width, height])
        for _ in range(count)
    ]
    assert same_values(angle, np.array([drawn[0] for drawn in theirs]))
    # torchvision shifts by whole pixels.
    assert same_counts(rows(*shift.round().T), [drawn[1] for drawn in theirs])


def test_the_brightness_is_distributed_as_torchvision_s() -> None:
    jitter = transforms.ColorJitter(brightness=0.3)
    ranges = (jitter.brightness, jitter.contrast, jitter.saturation, jitter.hue)
    theirs = [jitter.get_params(*ranges)[1] for _ in range(10_000)]
    ours = BrightnessJitter(0.3).sample(generator(), 10_000).factor_B
    assert same_values(ours, np.array(theirs))


def test_the_order_of_the_jitter_is_torchvision_s() -> None:
    count = 20_000
    jitter = transforms.ColorJitter(0.4, 0.4, 0.4, 0.1)
    ranges = (jitter.brightness, jitter.contrast, jitter.saturation, jitter.hue)
    orders = torch.stack([jitter.get_params(*ranges)[0] for _ in range(count)])
    theirs = [tuple(int(JITTER[i]) for i in order) for order in orders.tolist()]
    drawn = ColourJitter(0.4, 0.4, 0.4, 0.1, probability=1).sample(generator(), count)
    assert same_counts(rows(*drawn.op_BS.T), theirs)


@pytest.mark.parametrize("strengths", [(0.4, 0.4, 0.4, 0.1), (0.8, 0.8, 0.8, 0.2)], ids=str)
def test_factors_are_torchvision_s_wherever_they_stand_in_the_order(
    strengths: tuple[float, float, float, float],
) -> None:
    count = 12_000
    drawn = ColourJitter(*strengths, probability=1).sample(generator(), count)
    jitter = transforms.ColorJitter(*strengths)
    ranges = (jitter.brightness, jitter.contrast, jitter.saturation, jitter.hue)
    theirs = np.array([jitter.get_params(*ranges)[1:] for _ in range(count)], dtype=float)
    for op, expected in zip(JITTER, theirs.T, strict=True):
        assert same_values(drawn.magnitude_BS[drawn.op_BS == op], expected)
        for slot in range(4):
            here = drawn.op_BS[:, slot] == op
            assert same_values(drawn.magnitude_BS[here, slot], expected)


COLOURED = torch.tensor([10, 100, 250], dtype=torch.uint8).view(3, 1, 1).expand(3, 4, 4)
SLOPE = (torch.arange(32 * 32) // 8).byte().view(1, 32, 32).expand(3, -1, -1)


def changed(step: Callable[[torch.Tensor], torch.Tensor], image: torch.Tensor) -> bool:
    return not torch.equal(step(image), image)


@pytest.mark.parametrize(
    ("ours", "theirs", "image"),
    [
        (random_solarize(0.2), transforms.RandomSolarize(128, p=0.2), COLOURED),
        (random_equalize(0.2), transforms.RandomEqualize(p=0.2), SLOPE),
        (random_grey(0.2), transforms.RandomGrayscale(p=0.2), COLOURED),
        (
            ColourJitter(0.4, 0.4, 0.4, 0.1, probability=0.8),
            transforms.RandomApply([transforms.RandomInvert(p=1)], p=0.8),
            COLOURED,
        ),
    ],
    ids=["solarize", "equalize", "grey", "jitter"],
)
def test_coins_are_torchvision_s(ours, theirs, image: torch.Tensor) -> None:
    count = 10_000
    drawn = ours.sample(generator(), count)
    done = (drawn.op_BS != Op.IDENTITY).all(1)
    assert same_counts(done.tolist(), [changed(theirs, image) for _ in range(count)])


def test_coins_of_one_policy_are_independent() -> None:
    """Of a pair of views of PAWS each is jittered, solarized and equalized by itself."""
    count = 30_000
    _, *steps = policy("global_crop", (3, 32, 32)).sample(generator(), count)
    coins = [(drawn.op_BS[:, 0] != Op.IDENTITY).tolist() for drawn in steps]
    shares = (0.8, 0.2, 0.2)
    seen = Counter(zip(*coins, strict=True))
    expected = {
        kind: count * math.prod(p if done else 1 - p for p, done in zip(shares, kind, strict=True))
        for kind in np.ndindex(2, 2, 2)
    }
    assert chisquare([seen[k] for k in expected], list(expected.values())).pvalue > SMALLEST


def test_blurs_are_as_wide_as_torchvision_s() -> None:
    count = 10_000
    theirs = [transforms.GaussianBlur.get_params(0.1, 2.0) for _ in range(count)]
    sigma_B = GaussianBlur(0.5, (0.1, 2)).sample(generator(), 2 * count).sigma_B
    assert same_values(sigma_B[sigma_B > 0], np.array(theirs))
    blur = transforms.RandomApply([transforms.RandomInvert(p=1)], p=0.5)
    done = [changed(blur, COLOURED) for _ in range(count)]
    assert same_counts((sigma_B > 0).tolist(), done)


CROPS = (
    "resized_crop_flip",
    "global_crop",
    "small_crop",
    "small_affine",
    "global_imagenet",
    "small_imagenet",
)


@pytest.mark.parametrize("name", CROPS)
@pytest.mark.parametrize("shape", [(3, 32, 32), (3, 96, 96), (3, 120, 160)], ids=str)
def test_boxes_of_a_policy_are_distributed_as_torchvision_s(
    name: str, shape: tuple[int, int, int]
) -> None:
    """Also in what sides and corners say together: areas, shapes, and places in what room is left."""
    (crop,) = (step for step in policy(name, shape).steps if isinstance(step, ResizedCrop))
    low, high = crop.scale
    smaller = ResizedCrop(*shape[1:], 8, 8, (low, low + 0.7 * (high - low)), flip=False)
    theirs = torchvision_s_boxes(crop.scale, shape)
    for mine, other in zip(described(our_boxes(crop), shape), theirs, strict=True):
        assert same_values(mine, other)
    wrong, *_ = described(our_boxes(smaller), shape)
    assert not same_values(wrong, theirs[0])


BOXES = 5_000


def our_boxes(crop: ResizedCrop) -> np.ndarray:
    return torch.stack(list(crop.sample(generator(7), BOXES)[:4])).double().numpy()


def torchvision_s_boxes(
    scale: tuple[float, float], shape: tuple[int, int, int]
) -> list[np.ndarray]:
    image, get_params = torch.empty(shape), transforms.RandomResizedCrop.get_params
    drawn = [get_params(image, list(scale), [3 / 4, 4 / 3]) for _ in range(BOXES)]
    return described(np.array(drawn, dtype=float).T, shape)


def described(boxes_4N: np.ndarray, shape: tuple[int, int, int]) -> list[np.ndarray]:
    """Areas, shapes, centres, and places relative to the room.

    Boxes as high or wide as an image that is not square are left out: where none of ten fits, which is rare in a
    square, torchvision takes the middle of the image, while ours cuts the first of the ten to the image.
    """
    _, image_height, image_width = shape
    if image_height != image_width:
        inside_N = (boxes_4N[2] < image_height) & (boxes_4N[3] < image_width)
        boxes_4N = boxes_4N[:, inside_N]
    top, left, height, width = boxes_4N
    found = [height * width, width / height]
    for start, room in ((top, image_height - height), (left, image_width - width)):
        found += [start - room / 2, start[room > 0] / room[room > 0]]
    return found


def test_cutout_s_centre_is_any_pixel_as_often() -> None:
    holes = Cutout(16, 12, 8, 8, 0).sample(generator(), 100_000)
    pixel = holes.row_B * 12 + holes.column_B
    assert chisquare(pixel.bincount(minlength=16 * 12)).pvalue > SMALLEST


Kind = tuple[Op, bool]
"""An operation, and which way it goes."""


def theirs_applied(
    transform: torch.nn.Module, count: int, monkeypatch: pytest.MonkeyPatch
) -> list[tuple[Kind, ...]]:
    """What torchvision does to each of `count` images."""
    done: list[Kind] = []

    def note(image, name, magnitude, interpolation, fill):
        del interpolation, fill
        done.append((NAMES[name], NAMES[name] in SIGNED and magnitude > 0))
        return image

    monkeypatch.setattr(oracle, "_apply_op", note)
    image, found = torch.zeros(3, 32, 32, dtype=torch.uint8), []
    for _ in range(count):
        transform(image)
        found.append(tuple(done))
        done.clear()
    return found


def ours_applied(operations: Operations) -> list[tuple[Kind, ...]]:
    """The same of our parameters, with identities."""
    pairs = zip(operations.op_BS.tolist(), operations.magnitude_BS.tolist(), strict=True)
    return [
        tuple(
            (Op(op), op in SIGNED and magnitude > NEUTRAL.get(op, 0))
            for op, magnitude in zip(*pair, strict=True)
        )
        for pair in pairs
    ]


def without_identities(found: list[tuple[Kind, ...]]) -> list[tuple[Kind, ...]]:
    return [tuple(kind for kind in kinds if kind[0] is not Op.IDENTITY) for kinds in found]


def test_randaugment_draws_as_torchvision_does(monkeypatch: pytest.MonkeyPatch) -> None:
    count = 6_000
    theirs = theirs_applied(oracle.RandAugment(2, 10), count, monkeypatch)
    ours = ours_applied(RandAugment.create(32, 32, count=2, index=10).sample(generator(), count))
    for slot in (0, 1):
        assert same_counts([kinds[slot] for kinds in ours], [kinds[slot] for kinds in theirs])
    pairs = [[tuple(op for op, _ in kinds) for kinds in found] for found in (ours, theirs)]
    assert same_counts(*pairs)
    one_way = [tuple((op, op in SIGNED) for op, _ in kinds) for kinds in ours]
    assert not same_counts([k[0] for k in one_way], [k[0] for k in theirs])
    twice = [(kinds[0], kinds[0]) for kinds in ours]
    assert not same_counts(twice, theirs)


@pytest.mark.parametrize("dataset", ["cifar10", "svhn"])
def test_autoaugment_draws_as_torchvision_does(
    dataset: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    count = 10_000
    transform = oracle.AutoAugment(oracle.AutoAugmentPolicy(dataset))
    theirs = theirs_applied(transform, count, monkeypatch)
    policies = {"cifar10": AutoAugment.cifar10, "svhn": AutoAugment.svhn}
    operations = policies[dataset](32, 32).sample(generator(), count)
    ours = without_identities(ours_applied(operations))
    assert same_counts(ours, theirs)
    # The other data set's policy is noticed, and so are pairs whose halves come from two images.
    (other,) = (make for name, make in policies.items() if name != dataset)
    wrong = without_identities(ours_applied(other(32, 32).sample(generator(), count)))
    assert not same_counts(wrong, theirs)
    op_BS = torch.stack([operations.op_BS[:, 0], operations.op_BS[:, 1].roll(1)], dim=1)
    torn = without_identities(ours_applied(operations._replace(op_BS=op_BS)))
    assert not same_counts(torn, theirs)
