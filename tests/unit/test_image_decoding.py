"""Golden pixels: every kind of file becomes exactly these bytes (row 16 of the faults, and row 15)."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from pipeline_lib.images import UnreadableImageError, convert, decode

RED, GREEN, BLUE, WHITE = [255, 0, 0], [0, 255, 0], [0, 0, 255], [255, 255, 255]


def saved(image: Image.Image, form: str, **options) -> bytes:
    file = io.BytesIO()
    image.save(file, form, **options)
    return file.getvalue()


def array(pixels) -> Image.Image:
    return Image.fromarray(np.array(pixels, np.uint8))


COLOURS = [[RED, GREEN, BLUE], [WHITE, [1, 2, 3], [250, 128, 7]]]


@pytest.mark.parametrize("form", ["PNG", "BMP", "TIFF", "PPM"])
def test_lossless_colours_are_kept(form: str):
    assert decode(saved(array(COLOURS), form), "rgb").tolist() == COLOURS


def test_lossless_webp_is_kept():
    assert decode(saved(array(COLOURS), "WEBP", lossless=True), "rgb").tolist() == COLOURS


def test_jpeg_is_close_and_always_the_same():
    content = saved(array(np.full((16, 16, 3), [200, 100, 50])), "JPEG", quality=95)
    pixels = decode(content, "rgb")
    assert pixels.shape == (16, 16, 3)
    assert np.abs(pixels.astype(int) - [200, 100, 50]).max() <= 2
    assert (pixels == decode(content, "rgb")).all()


def test_gray_becomes_three_equal_channels_and_colour_becomes_luma():
    gray = saved(array([[0, 77, 255]]), "PNG")
    assert decode(gray, "rgb").tolist() == [[[0] * 3, [77] * 3, [255] * 3]]
    assert decode(gray, "gray").tolist() == [[[0], [77], [255]]]
    # ITU-R 601: 0.299 R + 0.587 G + 0.114 B
    assert decode(saved(array(COLOURS[:1]), "PNG"), "gray").tolist() == [[[76], [150], [29]]]


def test_black_and_white_is_0_and_255():
    image = array([[0, 255], [255, 0]]).convert("1")
    assert decode(saved(image, "PNG"), "gray")[..., 0].tolist() == [[0, 255], [255, 0]]


def test_transparent_pixels_lie_on_white():
    rgba = Image.fromarray(np.array([[[*RED, 255], [*RED, 0], [0, 0, 0, 128]]], np.uint8))
    assert decode(saved(rgba, "PNG"), "rgb").tolist() == [[RED, WHITE, [127] * 3]]
    gray = Image.fromarray(np.array([[[10, 255], [10, 0]]], np.uint8), "LA")
    assert decode(saved(gray, "PNG"), "gray").tolist() == [[[10], [255]]]


def test_a_transparent_colour_of_a_palette_lies_on_white():
    image = Image.new("P", (3, 1))
    image.putpalette([*RED, *GREEN, *BLUE])
    image.putdata([0, 1, 2])
    assert decode(saved(image, "PNG"), "rgb").tolist() == [[RED, GREEN, BLUE]]
    assert decode(saved(image, "PNG", transparency=1), "rgb").tolist() == [[RED, WHITE, BLUE]]


def test_cmyk_becomes_rgb():
    image = Image.new("CMYK", (8, 8), (0, 255, 255, 0))
    assert decode(saved(image, "TIFF"), "rgb")[0, 0].tolist() == RED


@pytest.mark.parametrize("form", ["PNG", "TIFF", "PPM"])
def test_16_bits_are_scaled_and_not_clipped(form: str):
    image = Image.fromarray(np.array([[0, 255, 256, 40_000, 65_535]], np.uint16))
    assert decode(saved(image, form), "gray")[..., 0].tolist() == [[0, 0, 1, 156, 255]]


def test_32_bits_are_refused():
    for values in (np.float32([[0.5]]), np.int32([[70_000]])):
        with pytest.raises(UnreadableImageError, match="save it with 8 or 16 bits"):
            decode(saved(Image.fromarray(values), "TIFF"), "rgb")


# EXIF orientation -> where the pixels of [[1, 2], [3, 4], [5, 6]] end up.
UPRIGHT = {
    1: [[1, 2], [3, 4], [5, 6]],
    2: [[2, 1], [4, 3], [6, 5]],
    3: [[6, 5], [4, 3], [2, 1]],
    4: [[5, 6], [3, 4], [1, 2]],
    5: [[1, 3, 5], [2, 4, 6]],
    6: [[5, 3, 1], [6, 4, 2]],
    7: [[6, 4, 2], [5, 3, 1]],
    8: [[2, 4, 6], [1, 3, 5]],
}


@pytest.mark.parametrize("orientation", UPRIGHT)
def test_the_rotation_of_the_camera_is_applied(orientation: int):
    exif = Image.Exif()
    exif[0x0112] = orientation
    content = saved(array([[1, 2], [3, 4], [5, 6]]), "PNG", exif=exif)
    assert decode(content, "gray")[..., 0].tolist() == UPRIGHT[orientation]


@pytest.mark.parametrize("form", ["GIF", "PNG", "WEBP"])
def test_an_animation_is_its_first_frame(form: str):
    frames = [Image.new("RGB", (4, 4), tuple(colour)) for colour in (RED, GREEN, BLUE)]
    options = {"lossless": True} if form == "WEBP" else {}
    content = saved(frames[0], form, save_all=True, append_images=frames[1:], **options)
    assert decode(content, "rgb")[0, 0].tolist() == RED


def test_enlarging_interpolates_and_shrinking_averages():
    content = saved(array([[0, 100]]), "PNG")
    assert decode(content, "gray", 4)[0, :, 0].tolist() == [0, 25, 75, 100]
    board = np.indices((64, 64)).sum(axis=0) % 2 * 255
    small = decode(saved(array(board), "PNG"), "gray", 4)
    assert small.shape == (4, 4, 1)
    assert np.abs(small.astype(int) - 128).max() <= 1, "every second pixel only: not antialiased"


def test_raw_pixels_are_treated_like_files():
    pixels_HWC = np.array(COLOURS, np.uint8)
    for channels in ("rgb", "gray"):
        for size in (None, 5):
            expected = decode(saved(array(COLOURS), "PNG"), channels, size)
            assert (convert(pixels_HWC, channels, size) == expected).all()
    assert convert(pixels_HWC[:, :, :1], "gray", None).shape == (2, 3, 1)


def test_a_format_that_is_not_listed_is_refused():
    for form in ("ICO", "TGA", "PCX"):
        with pytest.raises(UnreadableImageError, match="not an image in one of the formats JPEG"):
            decode(saved(Image.new("RGB", (16, 16)), form), "rgb")
