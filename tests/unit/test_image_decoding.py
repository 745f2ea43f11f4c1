"""Golden pixels: every kind of file becomes exactly these bytes (row 16 of the faults)."""

from __future__ import annotations

import io
import struct

import numpy as np
import pytest
from PIL import Image

from pipeline_lib import images
from pipeline_lib.images import UnreadableImageError, decode, load

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


def test_one_transparent_colour_is_white():
    colours = saved(array([[RED, GREEN, BLUE]]), "PNG", transparency=tuple(GREEN))
    assert decode(colours, "rgb").tolist() == [[RED, WHITE, BLUE]]
    shades = saved(array([[10, 20, 30]]), "PNG", transparency=20)
    assert decode(shades, "gray")[0, :, 0].tolist() == [10, 255, 30]


def palette() -> Image.Image:
    """Red, green and blue, by their numbers."""
    image = Image.new("P", (3, 1))
    image.putpalette([*RED, *GREEN, *BLUE])
    image.putdata([0, 1, 2])
    return image


@pytest.mark.parametrize("form", ["PNG", "GIF", "BMP", "TIFF"])
def test_a_palette_becomes_its_colours(form: str):
    assert decode(saved(palette(), form), "rgb").tolist() == [[RED, GREEN, BLUE]]


@pytest.mark.parametrize("form", ["PNG", "GIF"])
def test_a_transparent_colour_of_a_palette_lies_on_white(form: str):
    content = saved(palette(), form, transparency=1)
    assert decode(content, "rgb").tolist() == [[RED, WHITE, BLUE]]


def test_a_palette_may_fade_its_colours():
    content = saved(palette(), "PNG", transparency=bytes([255, 0, 128]))
    assert decode(content, "rgb").tolist() == [[RED, WHITE, [127, 127, 255]]]


def over_black(ink: int, black: int) -> int:
    """What is left of a colour under some of its ink, then black."""
    return round((255 - ink) * (255 - black) / 255)


INKS = [(0, 255, 255, 0), (255, 0, 0, 0), (0, 0, 0, 255), (0, 0, 0, 0), (40, 80, 120, 60)]


@pytest.mark.parametrize("inks", INKS)
def test_cmyk_becomes_rgb(inks: tuple[int, ...]):
    content = saved(Image.new("CMYK", (8, 8), inks), "TIFF")
    expected = [over_black(ink, inks[3]) for ink in inks[:3]]
    assert decode(content, "rgb")[0, 0].tolist() == expected


@pytest.mark.parametrize("inks", INKS)
def test_cmyk_in_a_jpeg_is_inverted_as_adobe_writes_it(inks: tuple[int, ...]):
    content = saved(Image.new("CMYK", (16, 16), inks), "JPEG", quality=100)
    assert b"Adobe" in content[:64]
    # The file holds the inverse: read as it stands, no ink would be full ink.
    expected = [over_black(ink, inks[3]) for ink in inks[:3]]
    assert np.abs(decode(content, "rgb").astype(int) - expected).max() <= 2


def test_ycbcr_becomes_rgb():
    y, blue, red = 120, 90, 160
    content = saved(Image.new("YCbCr", (2, 1), (y, blue, red)), "TIFF")
    with Image.open(io.BytesIO(content)) as image:
        assert image.mode == "YCbCr"
    # ITU-R 601, full range, as JPEG has it
    expected = [
        y + 1.402 * (red - 128),
        y - 0.344136 * (blue - 128) - 0.714136 * (red - 128),
        y + 1.772 * (blue - 128),
    ]
    assert np.abs(decode(content, "rgb")[0, 0] - expected).max() <= 1


def test_lab_becomes_rgb():
    content = saved(Image.new("LAB", (8, 8), (255, 128, 128)), "TIFF")
    assert np.abs(decode(content, "rgb").astype(int) - 255).max() <= 2


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


@pytest.mark.parametrize("form", ["PNG", "TIFF", "WEBP"])
@pytest.mark.parametrize("orientation", UPRIGHT)
def test_the_rotation_of_the_camera_is_applied(orientation: int, form: str):
    exif = Image.Exif()
    exif[0x0112] = orientation
    image = array([[1, 2], [3, 4], [5, 6]]).convert("RGB")
    content = saved(image, form, exif=exif, **({"lossless": True} if form == "WEBP" else {}))
    assert decode(content, "gray")[..., 0].tolist() == UPRIGHT[orientation]


@pytest.mark.parametrize("orientation", UPRIGHT)
def test_a_rotated_jpeg_is_turned_upright(orientation: int):
    exif = Image.Exif()
    exif[0x0112] = orientation
    shades = np.kron([[20, 60], [100, 140], [180, 220]], np.ones((16, 16)))
    pixels = decode(saved(array(shades), "JPEG", quality=100, exif=exif), "gray")[::16, ::16, 0]
    expected = np.array(UPRIGHT[orientation]) * 40 - 20
    assert pixels.shape == expected.shape
    assert np.abs(pixels.astype(int) - expected).max() <= 2


SIDEWAYS = struct.pack("<HHIHH", 0x112, 3, 1, 6, 0)
ODD = {
    "text for a number": struct.pack("<HHI4s", 0x11A, 2, 4, b"72"),
    "a number for text": struct.pack("<HHIf", 0x131, 11, 1, 7.0),
    "a number too large": struct.pack("<HHIi", 0x128, 9, 1, -5),
    "a pointer to nowhere": struct.pack("<HHII", 0x8769, 4, 1, 99_999),
}


@pytest.mark.filterwarnings("ignore:.*:UserWarning:PIL")
@pytest.mark.parametrize("entry", ODD)
def test_odd_metadata_does_not_keep_an_image_from_being_read(entry: str):
    """Cameras and programs write many such; the orientation beside it counts all the same."""
    metadata = b"Exif\0\0II*\0" + struct.pack("<IH", 8, 2) + SIDEWAYS + ODD[entry] + bytes(4)
    shades = np.kron([[20, 60], [100, 140], [180, 220]], np.ones((16, 16)))
    pixels = decode(saved(array(shades), "JPEG", quality=100, exif=metadata), "gray")
    assert pixels.shape == (32, 48, 1)
    assert np.abs(pixels[::16, ::16, 0].astype(int) - [[180, 100, 20], [220, 140, 60]]).max() <= 2


@pytest.mark.parametrize("form", ["GIF", "PNG", "WEBP"])
def test_an_animation_is_its_first_frame(form: str):
    frames = [Image.new("RGB", (4, 4), tuple(colour)) for colour in (RED, GREEN, BLUE)]
    options = {"lossless": True} if form == "WEBP" else {}
    content = saved(frames[0], form, save_all=True, append_images=frames[1:], **options)
    assert decode(content, "rgb")[0, 0].tolist() == RED
    assert load(content).several
    shades = [Image.new("L", (4, 4), 50 * n) for n in (1, 2, 3)]
    content = saved(shades[0], form, save_all=True, append_images=shades[1:], **options)
    assert decode(content, "rgb")[0, 0].tolist() == [50] * 3
    assert not load(saved(frames[0], form, **options)).several


def test_several_pages_are_the_first():
    pages = [Image.new("RGB", (16, 16), tuple(colour)) for colour in (RED, GREEN)]
    for form in ("TIFF", "MPO"):  # MPO: the JPEG of phones and cameras with more pictures behind
        content = saved(pages[0], form, save_all=True, append_images=pages[1:])
        assert np.abs(decode(content, "rgb").astype(int) - RED).max() <= 2
        assert load(content).several == (form == "TIFF"), "previews are no pages"
    assert not load(saved(pages[0], "TIFF")).several


@pytest.mark.parametrize(
    ("kinds", "several"), [((0, 1), False), ((0, 1, 1), False), ((0, 1, 0), True), ((2, 2), True)]
)
def test_a_thumbnail_behind_a_page_is_no_page(kinds: tuple[int, ...], several: bool):
    pages = [Image.new("RGB", (9, 9), "blue") for _ in kinds]
    for page, kind in zip(pages, kinds, strict=True):
        page.encoderinfo = {"tiffinfo": {254: kind}}
    pages[0].putpixel((0, 0), tuple(RED))
    content = saved(
        pages[0], "TIFF", save_all=True, append_images=pages[1:], **pages[0].encoderinfo
    )
    assert load(content).several == several
    assert decode(content, "rgb")[0, 0].tolist() == RED


def test_damage_behind_the_first_frame_does_not_count():
    frames = [Image.new("RGB", (4, 4), tuple(colour)) for colour in (RED, GREEN)]
    content = saved(frames[0], "GIF", save_all=True, append_images=frames[1:])
    for end in range(len(saved(frames[0], "GIF")), len(content)):
        assert decode(content[:end], "rgb")[0, 0].tolist() == RED


@pytest.mark.parametrize("form", ["PNG", "TIFF"])
@pytest.mark.parametrize(("channels", "kind"), [(0, np.uint16), (2, np.uint8), (4, np.uint8)])
def test_pixels_do_not_depend_on_how_many_are_converted_at_a_time(
    monkeypatch, channels: int, kind: type, form: str
):
    shape = (13, 7, channels) if channels else (13, 7)
    drawn = np.random.default_rng(0).integers(0, np.iinfo(kind).max + 1, shape, kind)
    content = saved(Image.fromarray(drawn), form)
    whole = decode(content, "rgb")
    for pixels in (1, 21, 100):
        monkeypatch.setattr(images, "BAND", pixels)
        assert np.array_equal(decode(content, "rgb"), whole)
    if not channels:
        expected = drawn >> 8
    else:
        gray_HWC, share_HW1 = drawn[..., :-1].astype(int), drawn[..., -1:] / 255
        expected = 255 - (255 - gray_HWC) * share_HW1
    assert np.abs(whole - expected.reshape(13, 7, -1)).max() <= (1 if channels else 0)


def test_a_format_that_is_not_listed_is_refused():
    for form in ("ICO", "TGA", "PCX"):
        with pytest.raises(UnreadableImageError, match="not an image in one of the formats JPEG"):
            decode(saved(Image.new("RGB", (16, 16)), form), "rgb")


def test_a_lack_of_memory_says_nothing_of_the_file(monkeypatch):
    def lacking(*_, **__):
        raise MemoryError

    monkeypatch.setattr(Image, "open", lacking)
    with pytest.raises(MemoryError):
        load(b"\xff\xd8")
