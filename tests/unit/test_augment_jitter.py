"""Colour jitter, single operations and blur against torchvision, PIL and plain floating point."""

from __future__ import annotations

import colorsys
import math
from itertools import permutations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageEnhance, ImageOps
from scipy.stats import kstest
from torchvision.transforms import ColorJitter
from torchvision.transforms import functional as torchvision

from pipeline_lib.augment import colour
from pipeline_lib.augment.blur import Blurs, GaussianBlur
from pipeline_lib.augment.jitter import (
    ColourJitter,
    Sometimes,
    random_equalize,
    random_grey,
    random_solarize,
)
from pipeline_lib.augment.operations import Op, Operations
from tests import views
from tests.views import generator

OPS = (Op.BRIGHTNESS, Op.CONTRAST, Op.COLOR, Op.HUE)


def noise(batch: int, channels: int, height: int = 12, width: int = 10) -> torch.Tensor:
    """Full-range, faint and dark images in turn, so that every branch of HSV is met."""
    images = views.noise(batch, channels, height, width)
    images[1::3] = images[1::3] // 16 + 100
    images[2::3] //= 64
    return images


def turned(pixel: list[int], shift: float) -> tuple[float, float, float]:
    hue, saturation, value = colorsys.rgb_to_hsv(*pixel)
    return colorsys.hsv_to_rgb((hue + shift) % 1, saturation, value)


def test_the_hue_is_the_exact_one_rounded() -> None:
    images = noise(30, 3)
    shifts = torch.rand(30, generator=generator(), dtype=torch.float64) - 0.5
    shifts[:4] = torch.tensor([0.5, -0.5, 1 / 3, 1e-9])
    actual = colour.hue(images, shifts).double()
    for image, shift, result in zip(images, shifts.tolist(), actual, strict=True):
        expected = [turned(pixel, shift) for pixel in image.flatten(1).T.tolist()]
        # Half a level of rounding; the shift itself is a multiple of 1/65536 of a sixth of a turn.
        error = result.flatten(1).T.numpy() - np.array(expected)
        assert np.abs(error).max() <= 0.5 + 0.5 * 255 / 65536


def test_the_hue_equals_torchvision_s_to_one_grey_level() -> None:
    images = noise(30, 3)
    shifts = torch.linspace(-0.5, 0.5, 30, dtype=torch.float64)
    actual = colour.hue(images, shifts).int()
    pairs = zip(images, shifts.tolist(), strict=True)
    theirs = torch.stack([torchvision.adjust_hue(image, shift) for image, shift in pairs]).int()
    # torchvision maps 0..1 to 0..255 by flooring 255.999 x, which rounds the other way at times.
    assert (actual - theirs).abs().max() <= 1


def test_no_shift_and_a_third_of_a_turn_are_exact() -> None:
    images = noise(9, 3)
    assert torch.equal(colour.hue(images, torch.zeros(9)), images)
    third = colour.hue(images, torch.full((9,), 1 / 3, dtype=torch.float64))
    assert (third.int() - images.roll(1, dims=1).int()).abs().max() <= 1  # red becomes green
    grey = images[:, :1].expand(-1, 3, -1, -1).contiguous()
    assert torch.equal(colour.hue(grey, torch.full((9,), 0.2)), grey)


def by_pil(image_CHW: torch.Tensor, ops: list[int], magnitudes: list[float]) -> torch.Tensor:
    for op, magnitude in zip(ops, magnitudes, strict=True):
        pil = Image.fromarray(image_CHW.permute(1, 2, 0).numpy())
        match op:
            case Op.BRIGHTNESS:
                pil = ImageEnhance.Brightness(pil).enhance(magnitude)
            case Op.CONTRAST:
                pil = ImageEnhance.Contrast(pil).enhance(magnitude)
            case Op.COLOR:
                pil = ImageEnhance.Color(pil).enhance(magnitude)
        image_CHW = torch.from_numpy(np.array(pil)).permute(2, 0, 1)
    return image_CHW


def test_the_jitter_equals_pil_s_operations_one_after_the_other() -> None:
    images = noise(60, 3)
    jitter = ColourJitter(0.8, 0.8, 0.8, 0, probability=0.8)
    drawn = jitter.sample(generator(), 60)
    actual = jitter.apply(images, drawn)
    rows = zip(images, drawn.op_BS.tolist(), drawn.magnitude_BS.tolist(), strict=True)
    assert torch.equal(actual, torch.stack([by_pil(*row) for row in rows]))
    assert (actual != images).any(1).any(1).any(1).sum() > 40


def test_every_image_has_an_order_of_its_own() -> None:
    count = 24_000
    drawn = ColourJitter(0.4, 0.4, 0.4, 0.1, probability=1).sample(generator(), count)
    orders, counts = drawn.op_BS.unique(dim=0, return_counts=True)
    assert set(map(tuple, orders.tolist())) == set(permutations(map(int, OPS)))
    assert (counts / count - 1 / 24).abs().max() < 0.006  # 4.6 standard deviations


def test_factors_are_distributed_as_torchvision_s() -> None:
    count = 5_000
    strengths = (0.4, 1.2, 0.4, 0.1)  # above 1: factors from 0 on
    drawn = ColourJitter(*strengths, probability=1).sample(generator(), count)
    oracle = ColorJitter(*strengths)
    with torch.random.fork_rng():
        torch.manual_seed(1)
        ranges = (oracle.brightness, oracle.contrast, oracle.saturation, oracle.hue)
        theirs = np.array([oracle.get_params(*ranges)[1:] for _ in range(count)]).T
    for op, (low, high), expected in zip(OPS, ranges, theirs, strict=True):
        ours = drawn.magnitude_BS[drawn.op_BS == op]
        assert len(ours) == count
        assert low <= ours.min() < low + 0.01 * (high - low)
        assert high - 0.01 * (high - low) < ours.max() <= high
        grid = np.linspace(low, high, 50)
        distance = np.searchsorted(np.sort(ours), grid) - np.searchsorted(np.sort(expected), grid)
        assert np.abs(distance).max() / count < 0.04, op  # chance: less than once in 1,000
    by_op = drawn.magnitude_BS.gather(1, drawn.op_BS.argsort(1)).T
    together = torch.cat([by_op, drawn.op_BS[:, :1].T.double()])
    assert (torch.corrcoef(together) - torch.eye(5)).abs().max() < 0.06


def test_a_coin_decides_whether_an_image_is_changed() -> None:
    count = 20_000
    for probability in (0.0, 0.3, 1.0):
        jitter = ColourJitter(0.4, 0.4, 0.4, 0.1, probability).sample(generator(), count)
        skipped = (jitter.op_BS == Op.IDENTITY).double()
        assert (skipped.amin(1) == skipped.amax(1)).all()  # all four or none
        assert abs(skipped.mean().item() - (1 - probability)) < 0.02
        once = Sometimes(probability, Op.EQUALIZE).sample(generator(), count)
        assert abs((once.op_BS == Op.EQUALIZE).double().mean().item() - probability) < 0.02
        blurs = GaussianBlur(probability, (0.1, 2)).sample(generator(), count)
        assert abs((blurs.sigma_B > 0).double().mean().item() - probability) < 0.02


def test_a_strength_of_zero_leaves_that_property_alone() -> None:
    drawn = ColourJitter(0.4, 0.4, 0, 0, probability=1).sample(generator(), 200)
    assert drawn.op_BS.unique().tolist() == [Op.BRIGHTNESS, Op.CONTRAST]
    images = noise(7, 3)
    nothing = ColourJitter(0, 0, 0, 0, probability=1)
    assert torch.equal(nothing.apply(images, nothing.sample(generator(), 7)), images)


@pytest.mark.parametrize("channels", [1, 3])
def test_neutral_factors_are_the_identity(channels: int) -> None:
    images = noise(24, channels)
    op_BS = torch.tensor(list(permutations(map(int, OPS))))
    neutral_BS = torch.where(op_BS == Op.HUE, 0.0, 1.0).double()
    jitter = ColourJitter(0.4, 0.4, 0.4, 0.1, probability=1)
    assert torch.equal(jitter.apply(images, Operations(op_BS, neutral_BS)), images)


def test_the_order_and_every_factor_count() -> None:
    images = noise(1, 3)
    jitter = ColourJitter(0.4, 0.4, 0.4, 0.1, probability=1)
    op_BS = torch.tensor([[int(op) for op in OPS]])
    magnitude_BS = torch.tensor([[1.3, 0.7, 1.4, 0.1]], dtype=torch.float64)
    first = jitter.apply(images, Operations(op_BS, magnitude_BS))
    for slot in range(4):
        other = magnitude_BS.clone()
        other[0, slot] += 0.1
        assert not torch.equal(jitter.apply(images, Operations(op_BS, other)), first)
    swapped = Operations(op_BS.flip(1), magnitude_BS.flip(1))
    assert not torch.equal(jitter.apply(images, swapped), first)


def test_grey_images_have_no_colour_to_change() -> None:
    images = noise(20, 1)
    jitter = ColourJitter(0, 0, 0.8, 0.2, probability=1)
    assert torch.equal(jitter.apply(images, jitter.sample(generator(), 20)), images)
    step = random_grey(1)
    assert torch.equal(step.apply(images, step.sample(generator(), 20)), images)


@pytest.mark.parametrize(
    ("step", "pil"),
    [
        (random_grey(0.5), lambda image, _: image.convert("L").convert("RGB")),
        (random_solarize(0.5), ImageOps.solarize),
        (random_equalize(0.5), lambda image, _: ImageOps.equalize(image)),
    ],
    ids=["grey", "solarize", "equalize"],
)
def test_single_operations_equal_pil_s_where_the_coin_says_so(step, pil) -> None:
    images = noise(40, 3, 32, 32)
    drawn = step.sample(generator(), 40)
    actual = step.apply(images, drawn)
    done = drawn.op_BS[:, 0] != Op.IDENTITY
    assert 10 < done.sum() < 30
    assert torch.equal(actual[~done], images[~done])
    drawn_D = drawn.magnitude_BS[done, 0].tolist()
    for image, result, magnitude in zip(images[done], actual[done], drawn_D, strict=True):
        expected = np.array(pil(Image.fromarray(image.permute(1, 2, 0).numpy()), magnitude))
        np.testing.assert_array_equal(result.permute(1, 2, 0).numpy(), expected)


def test_solarize_starts_at_any_level_as_often() -> None:
    count = 20_000
    drawn = random_solarize(0.5).sample(generator(), count)
    levels = drawn.magnitude_BS[drawn.op_BS == Op.SOLARIZE]
    assert kstest(levels.numpy(), "uniform", (0, 256)).pvalue > 0.001


@pytest.mark.parametrize(
    ("shape", "size"), [((3, 32, 32), 5), ((1, 28, 28), 3), ((3, 96, 120), 11), ((1, 4, 9), 3)]
)
def test_blur_equals_torchvision_s_to_one_grey_level(
    shape: tuple[int, int, int], size: int
) -> None:
    """Half a level of rounding each, and ours keeps seven bits of the fraction between its passes."""
    images = noise(20, *shape)
    blur = GaussianBlur(0.7, (0.1, 2))
    drawn = blur.sample(generator(), 20)
    actual = blur.apply(images, drawn)
    for image, sigma, result in zip(images, drawn.sigma_B.tolist(), actual, strict=True):
        if sigma == 0:
            assert torch.equal(result, image)
            continue
        smooth = torchvision.gaussian_blur(image.double(), [size, size], [sigma, sigma])
        assert (result - smooth).abs().max() < 0.52


def test_blur_keeps_flat_images_and_the_narrowest_is_the_identity() -> None:
    flat = torch.arange(256, dtype=torch.uint8).view(-1, 1, 1, 1).expand(-1, 3, 40, 50)
    blur = GaussianBlur(1, (0.1, 2))
    assert torch.equal(blur.apply(flat, blur.sample(generator(), 256)), flat)
    images = noise(8, 3)
    narrow = Blurs(torch.full((8,), 0.1, dtype=torch.float64))
    assert torch.equal(blur.apply(images, narrow), images)
    none = Blurs(torch.zeros(8, dtype=torch.float64))
    assert torch.equal(blur.apply(images, none), images)


def test_sigmas_fill_their_range_and_each_counts() -> None:
    sigma_B = GaussianBlur(0.5, (0.1, 2)).sample(generator(), 20_000).sigma_B
    drawn = sigma_B[sigma_B > 0]
    assert 0.1 <= drawn.min() < 0.11
    assert 1.99 < drawn.max() <= 2
    assert abs(drawn.mean().item() - 1.05) < 0.02
    assert abs(drawn.std().item() - 1.9 / math.sqrt(12)) < 0.02
    image = noise(1, 3, 32, 32).expand(2, -1, -1, -1)
    wide = GaussianBlur(1, (0.1, 2)).apply(image, Blurs(torch.tensor([0.5, 1.0]).double()))
    assert not torch.equal(wide[0], wide[1])
    assert wide[1].double().std() < wide[0].double().std() < image.double().std()


@given(
    batch=st.integers(1, 4),
    channels=st.sampled_from([1, 3]),
    height=st.integers(2, 40),
    width=st.integers(2, 40),
    seed=st.integers(0, 2**63 - 1),
)
def test_any_shape_stays_as_it_is_and_can_be_replayed(
    batch: int, channels: int, height: int, width: int, seed: int
) -> None:
    images = noise(batch, channels, height, width)
    before = images.clone()
    for step in (
        ColourJitter(0.8, 0.8, 0.8, 0.2, 0.8),
        random_grey(0.5),
        GaussianBlur(0.5, (0.1, 2)),
    ):
        drawn = step.sample(generator(seed), batch)
        copy = type(drawn)(*(field.clone() for field in drawn))
        first = step.apply(images, drawn)
        assert (first.shape, first.dtype) == (images.shape, torch.uint8)
        assert torch.equal(first, step.apply(images, copy))
        assert all(map(torch.equal, drawn, copy)), "the parameters were changed"
    assert torch.equal(images, before), "the input was changed"
