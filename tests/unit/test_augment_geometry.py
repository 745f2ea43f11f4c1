"""Crop, flip, cutout and the interpolated warp against plain one-image versions."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from torch.nn import functional

from pipeline_lib.augment.colour import BrightnessJitter
from pipeline_lib.augment.geometry import Affine, Crop, Warps, rotation, warp_bilinear, warp_nearest
from pipeline_lib.augment.occlusion import Cutout, Holes
from tests.views import generator, noise

SHAPES = [(1, 8, 8), (3, 32, 32), (3, 28, 28), (1, 4, 4), (3, 7, 13)]


@pytest.mark.parametrize("shape", SHAPES)
def test_crop_equals_numpy_padding_and_slicing(shape: tuple[int, int, int]) -> None:
    images = noise(100, *shape)
    _, height, width = shape
    crop = Crop(height, width, flip=True)
    crops = crop.sample(generator(), 100)
    actual = crop.apply(images, crops).numpy()
    rows, columns = math.ceil(height / 8), math.ceil(width / 8)
    for i, (top, left, flip) in enumerate(zip(*map(torch.Tensor.tolist, crops), strict=True)):
        padding = ((0, 0), (rows, rows), (columns, columns))
        padded = np.pad(images[i].numpy(), padding, mode="reflect")
        expected = padded[:, top : top + height, left : left + width]
        np.testing.assert_array_equal(actual[i], expected[..., ::-1] if flip else expected)


def test_every_offset_and_both_directions_are_equally_likely() -> None:
    count = 90_000
    crops = Crop(32, 32, flip=True).sample(generator(), count)
    for offset_B in (crops.top_B, crops.left_B):
        shares = offset_B.bincount() / count
        assert len(shares) == 9  # none of the nine is left out
        assert (shares - 1 / 9).abs().max() < 0.005
    assert abs(crops.flip_B.double().mean().item() - 0.5) < 0.01
    together = torch.stack([crops.top_B.double(), crops.left_B.double(), crops.flip_B.double()])
    assert (torch.corrcoef(together) - torch.eye(3)).abs().max() < 0.015


def test_crop_without_flip_never_mirrors() -> None:
    assert not Crop(32, 32, flip=False).sample(generator(), 1000).flip_B.any()


@pytest.mark.parametrize("shape", SHAPES)
def test_bilinear_warp_equals_grid_sample(shape: tuple[int, int, int]) -> None:
    images = noise(64, *shape)
    _, height, width = shape
    drawn = Affine(height, width, degrees=25, translation=0.3).sample(generator(), 64)
    matrix = drawn.matrix_B23
    # From pixels measured at the corner to grid_sample's -1..1.
    size = torch.tensor([width, height], dtype=torch.float64)
    linear = matrix[..., :2] * size / size[:, None]
    moved = matrix[..., 2] + 0.5 * (matrix[..., :2] @ size)
    theta = torch.cat([linear, (2 * moved / size - 1)[..., None]], dim=2)
    grid = functional.affine_grid(theta, list(images.shape), align_corners=False)
    smooth = functional.grid_sample(images.double(), grid, align_corners=False)
    actual = warp_bilinear(images, matrix)
    assert (actual.double() - smooth).abs().max() < 0.5 + 2.1  # 1/256 pixel on full-range noise
    assert (actual.double() - smooth).abs().mean() < 0.6
    assert not torch.equal(actual, images)


@pytest.mark.parametrize("shape", SHAPES)
def test_the_identity_warp_changes_nothing(shape: tuple[int, int, int]) -> None:
    images = noise(5, *shape)
    matrix = rotation(*shape[1:], torch.zeros(5, dtype=torch.float64))
    assert torch.equal(warp_bilinear(images, matrix), images)
    assert torch.equal(warp_nearest(images, matrix, fill=9), images)


def test_a_quarter_turn_and_a_whole_shift_are_exact() -> None:
    images = noise(3, 3, 16, 16)
    turn = rotation(16, 16, torch.full((3,), 90.0, dtype=torch.float64))
    assert torch.equal(warp_bilinear(images, turn), images.rot90(1, (2, 3)))
    shift = rotation(16, 16, torch.zeros(3, dtype=torch.float64))
    shift[:, 0, 2] = 2
    expected = functional.pad(images[..., 2:], (0, 2))
    assert torch.equal(warp_bilinear(images, shift), expected)


def test_a_warp_far_outside_is_black_or_filled() -> None:
    images = noise(2, 1, 8, 8) | 1
    away = rotation(8, 8, torch.zeros(2, dtype=torch.float64))
    away[0, 0, 2], away[1, 1, 2] = 1000, -1000
    assert not warp_bilinear(images, away).any()
    assert (warp_nearest(images, away, fill=128) == 128).all()


def test_affine_parameters_fill_their_range() -> None:
    matrix = Affine(20, 10, degrees=8, translation=0.1).sample(generator(), 20_000).matrix_B23
    angle = torch.rad2deg(torch.atan2(matrix[:, 1, 0], matrix[:, 0, 0]))
    centre = torch.tensor([5.0, 10.0], dtype=torch.float64)
    shift = matrix[..., :2] @ centre + matrix[..., 2] - centre
    for values, largest in ((angle, 8), (shift[:, 0], 1), (shift[:, 1], 2)):
        assert values.abs().max() <= largest + 1e-9
        assert abs(values.mean().item()) < 0.03 * largest
        assert abs(values.std().item() - largest / math.sqrt(3)) < 0.02 * largest


@pytest.mark.parametrize(("size", "fill"), [(16, 0), (3, 127), (8, 255)])
def test_cutout_hides_the_square_and_nothing_else(size: int, fill: int) -> None:
    images = noise(200, 3, 32, 24)
    cutout = Cutout(32, 24, size, size, fill)
    holes = cutout.sample(generator(), 200)
    actual = cutout.apply(images, holes)
    for i, (row, column) in enumerate(zip(*map(torch.Tensor.tolist, holes), strict=True)):
        top, left = max(row - size // 2, 0), max(column - size // 2, 0)
        expected = images[i].clone()
        expected[:, top : row - size // 2 + size, left : column - size // 2 + size] = fill
        assert torch.equal(actual[i], expected)


def test_cutout_centres_cover_every_pixel() -> None:
    holes = Cutout(8, 6, 3, 3, 0).sample(generator(), 20_000)
    assert holes.row_B.unique().tolist() == list(range(8))
    assert holes.column_B.unique().tolist() == list(range(6))


def test_brightness_factors_fill_their_range() -> None:
    factor = BrightnessJitter(0.3).sample(generator(), 20_000).factor_B
    assert 0.7 <= factor.min() < 0.705
    assert 1.295 < factor.max() <= 1.3
    assert abs(factor.mean().item() - 1) < 0.005


@given(
    height=st.integers(4, 40),
    width=st.integers(4, 40),
    top=st.integers(0, 39),
    left=st.integers(0, 39),
    angle=st.floats(-180, 180),
    x=st.floats(-50, 50),
    y=st.floats(-50, 50),
)
def test_warps_of_any_size_keep_shape_and_range(
    height: int, width: int, top: int, left: int, angle: float, x: float, y: float
) -> None:
    images = torch.full((2, 3, height, width), 200, dtype=torch.uint8)
    matrix = rotation(height, width, torch.full((2,), angle, dtype=torch.float64))
    matrix[:, 0, 2] += x
    matrix[:, 1, 2] += y
    smooth = Affine(height, width, 0, 0).apply(images, Warps(matrix))
    assert smooth.shape == images.shape
    assert smooth.dtype == torch.uint8
    assert smooth.max() <= 200  # interpolation never overshoots
    holes = Holes(torch.tensor([top % height] * 2), torch.tensor([left % width] * 2))
    hidden = Cutout(height, width, 4, 4, 0).apply(images, holes)
    assert hidden[0, 0, top % height, left % width] == 0


@given(angle=st.floats(-180, 180, allow_subnormal=False), side=st.integers(4, 33))
def test_any_rotation_picks_pil_s_pixels(angle: float, side: int) -> None:
    image = noise(1, 1, side, side + 3)
    matrix = rotation(side, side + 3, torch.tensor([angle], dtype=torch.float64))
    actual = warp_nearest(image, matrix, fill=7)[0, 0].numpy()
    pil = Image.fromarray(image[0, 0].numpy())
    expected = np.array(pil.rotate(angle, Image.Resampling.NEAREST, fillcolor=7))
    # A source position on the very edge of two pixels may go either way: PIL rounds the matrix
    # to 15 digits first, and turns by multiples of 90 degrees without one.
    assert (actual != expected).mean() < 0.02
