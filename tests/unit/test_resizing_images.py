"""Golden pixels of what `data.image_size` and `data.resize` make of an image."""

from __future__ import annotations

import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from pipeline_lib.images import convert, decode

COLOURS = [
    [[255, 0, 0], [0, 255, 0], [0, 0, 255]],
    [[255, 255, 255], [1, 2, 3], [250, 128, 7]],
]
WAYS = ("stretch", "center_crop", "pad")


def png(pixels) -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.array(pixels, np.uint8)).save(file, "PNG")
    return file.getvalue()


def gray(pixels, size: int, resize: str) -> list[list[int]]:
    return decode(png(pixels), "gray", size, resize)[..., 0].tolist()


def test_enlarging_interpolates_and_shrinking_averages():
    content = png([[0, 100]])
    assert decode(content, "gray", 4)[0, :, 0].tolist() == [0, 25, 75, 100]
    board = np.indices((64, 64)).sum(axis=0) % 2 * 255
    small = decode(png(board), "gray", 4)
    assert small.shape == (4, 4, 1)
    assert np.abs(small.astype(int) - 128).max() <= 1, "every second pixel only: not antialiased"


def test_raw_pixels_are_treated_like_files():
    pixels_HWC = np.array(COLOURS, np.uint8)
    for channels in ("rgb", "gray"):
        for size in (None, 5):
            expected = decode(png(COLOURS), channels, size)
            assert (convert(pixels_HWC, channels, size) == expected).all()
    assert convert(pixels_HWC[:, :, :1], "gray", None).shape == (2, 3, 1)


# Four columns and two rows, to a square of two or four.
WIDE = [[10, 20, 30, 40], [50, 60, 70, 80]]


def test_stretch_takes_all_of_the_image_out_of_proportion():
    # From 4 columns to 2: weights 3, 3, 1 of 7 over the three nearest columns.
    left, right = (3 * 10 + 3 * 20 + 30) / 7, (20 + 3 * 30 + 3 * 40) / 7
    assert gray(WIDE, 2, "stretch") == [
        [round(left), round(right)],
        [round(left) + 40, round(right) + 40],
    ]


def test_center_crop_takes_the_square_in_the_middle():
    assert gray(WIDE, 2, "center_crop") == [[20, 30], [60, 70]]
    assert gray(np.transpose(WIDE), 2, "center_crop") == [[20, 60], [30, 70]]
    # Of an odd rest, the greater half is cut at the end.
    assert gray([[10, 20, 30, 40]], 1, "center_crop") == [[20]]


def test_pad_keeps_all_of_the_image_between_black_borders():
    black = [0] * 4
    assert gray(WIDE, 4, "pad") == [black, *WIDE, black]
    assert gray(np.transpose(WIDE), 4, "pad") == np.transpose([black, *WIDE, black]).tolist()
    # Of an odd rest, the greater half is at the end.
    assert gray([[10, 20, 30, 40]], 4, "pad") == [black, [10, 20, 30, 40], black, black]


def test_pad_scales_by_the_longer_side_and_leaves_a_pixel_of_the_shorter():
    flat = np.full((2, 10_000), 9)
    assert gray(flat, 8, "pad") == [[0] * 8] * 3 + [[9] * 8] + [[0] * 8] * 4
    assert gray(np.full((3, 8), 9), 4, "pad") == [[0] * 4, [9] * 4, [9] * 4, [0] * 4]  # 1.5 is 2


@pytest.mark.parametrize("resize", WAYS)
def test_squares_are_treated_alike(resize: str):
    pixels = np.random.default_rng(1).integers(0, 256, (12, 12, 3), np.uint8)
    for size in (5, 12, 30):
        assert (convert(pixels, "rgb", size, resize) == convert(pixels, "rgb", size)).all()
    assert (convert(pixels, "rgb", 12, resize) == pixels).all()
    assert (convert(pixels[:7], "rgb", None, resize) == pixels[:7]).all(), "no size, no change"


@settings(max_examples=60)
@given(
    st.integers(1, 90),
    st.integers(1, 90),
    st.integers(1, 40),
    st.sampled_from(WAYS),
    st.sampled_from(["rgb", "gray"]),
)
def test_any_size_becomes_the_square_that_was_asked_for(height, width, size, resize, channels):
    image = np.full((height, width, 3), 200, np.uint8)
    pixels = convert(image, channels, size, resize)
    assert pixels.shape == (size, size, 3 if channels == "rgb" else 1)
    shades = set(pixels.reshape(-1).tolist())
    assert 200 in shades
    assert shades <= ({200, 0} if resize == "pad" else {200})
