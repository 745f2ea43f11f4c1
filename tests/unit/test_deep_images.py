"""Golden pixels of images with 12, 16 and 32 bits, written out by hand: Pillow writes few of them."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from pipeline_lib.images import UnreadableImageError, decode, load

GRAY, COLOUR, GRAY_ALPHA, COLOUR_ALPHA = 0, 2, 4, 6  # colour types of PNG
VALUES = [0, 255, 256, 40_000, 65_535]
SHADES = [0, 0, 1, 156, 255]


def png16(kind: int, pixels: list, transparent: tuple[int, ...] = ()) -> bytes:
    """A PNG with 16 bits a channel and one row of pixels."""
    row = np.array(pixels, ">u2").tobytes()
    return png(16, kind, len(pixels), row, np.array(transparent, ">u2").tobytes())


def png(bits: int, kind: int, width: int, row: bytes, transparent: bytes) -> bytes:
    """A PNG of one row, as its bytes stand in the file."""

    def chunk(name: bytes, body: bytes) -> bytes:
        return (
            struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
        )

    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", struct.pack(">IIBBBBB", width, 1, bits, kind, 0, 0, 0))
        + (chunk(b"tRNS", transparent) if transparent else b"")
        + chunk(b"IDAT", zlib.compress(b"\0" + row))
        + chunk(b"IEND", b"")
    )


def tiff(
    width: int,
    bits: int,
    content: bytes,
    order: str = "<",
    *,
    channels=1,
    white_is_zero=False,
    form=None,
):
    """A TIFF of one row, without compression."""
    photometric = 2 if channels == 3 else 0 if white_is_zero else 1
    long, short = 4, 3
    tags = [
        (256, long, width),
        (257, long, 1),
        (258, short, bits),
        (259, short, 1),
        (262, short, photometric),
        (273, long, 200),
        (277, short, channels),
        (278, long, 1),
        (279, long, len(content)),
        *([(339, short, form)] if form else []),
    ]
    head = (b"II" if order == "<" else b"MM") + struct.pack(order + "HIH", 42, 8, len(tags))
    for tag, kind, value in tags:
        if tag == 258 and channels == 3:
            head += struct.pack(order + "HHII", tag, kind, 3, 180)
            continue
        layout = "HHIHxx" if kind == short else "HHII"
        head += struct.pack(order + layout, tag, kind, 1, value)
    head = (head + bytes(4)).ljust(180, b"\0") + struct.pack(order + "HHH", bits, bits, bits)
    return head.ljust(200, b"\0") + content


def saved(image: Image.Image, form: str) -> bytes:
    file = io.BytesIO()
    image.save(file, form)
    return file.getvalue()


@pytest.mark.parametrize("form", ["PNG", "TIFF", "PPM"])
def test_16_bits_of_gray_keep_the_high_byte(form: str):
    image = Image.fromarray(np.array([VALUES], np.uint16))
    assert decode(saved(image, form), "gray")[..., 0].tolist() == [SHADES]


@pytest.mark.parametrize("order", "<>")
def test_both_byte_orders_of_tiff_are_read(order: str):
    content = np.array(VALUES, f"{order}u2").tobytes()
    assert decode(tiff(5, 16, content, order), "gray")[0, :, 0].tolist() == SHADES


def test_where_white_is_zero_shades_are_turned_round():
    content = np.array(VALUES, "<u2").tobytes()
    pixels = decode(tiff(5, 16, content, white_is_zero=True), "gray")
    assert pixels[0, :, 0].tolist() == [255 - shade for shade in SHADES]


def test_12_bits_keep_the_upper_8():
    """Two values share three bytes: 0x000 and 0xFFF, 0x800 and 0x7F0."""
    pixels = decode(tiff(4, 12, bytes.fromhex("000fff 8007f0")), "gray")
    assert pixels[0, :, 0].tolist() == [0, 255, 128, 127]


@pytest.mark.parametrize("form", ["PNG", "TIFF", "TIFF, big-endian", "PPM"])
def test_16_bits_of_colour_keep_the_high_byte(form: str):
    pixels = np.array([[0, 256, 65_535], [255, 40_000, 511]])
    encoded = {
        "PNG": png16(COLOUR, pixels.tolist()),
        "TIFF": tiff(2, 16, pixels.astype("<u2").tobytes(), channels=3),
        "TIFF, big-endian": tiff(2, 16, pixels.astype(">u2").tobytes(), ">", channels=3),
        "PPM": b"P6 2 1 65535 " + pixels.astype(">u2").tobytes(),
    }[form]
    rounded = form == "PPM"  # Pillow scales by 255 / 65535 there
    expected = np.rint(pixels * 255 / 65_535) if rounded else pixels >> 8
    assert decode(encoded, "rgb")[0].tolist() == expected.tolist()


def test_ppm_of_another_depth_is_scaled():
    content = np.array([0, 500, 1000], ">u2").tobytes()
    assert decode(b"P5 3 1 1000 " + content, "gray")[0, :, 0].tolist() == [0, 128, 255]


def test_transparent_pixels_of_16_bits_lie_on_white():
    half = 0x8000
    faded = decode(png16(GRAY_ALPHA, [[0, 65_535], [0, 0], [0, half]]), "gray")
    assert faded[0, :, 0].tolist() == [0, 255, 127]
    coloured = decode(png16(COLOUR_ALPHA, [[65_535, 0, 0, 65_535], [0, 0, 0, 0]]), "rgb")
    assert coloured[0].tolist() == [[255, 0, 0], [255, 255, 255]]


def test_one_transparent_shade_of_16_bits_is_white_and_its_neighbour_is_not():
    pixels = decode(png16(GRAY, [40_000, 40_001], transparent=(40_000,)), "gray")
    assert pixels[0, :, 0].tolist() == [255, 156]


def test_one_transparent_colour_of_16_bits_is_white_with_all_of_its_high_bytes():
    """Pillow keeps the high bytes only, so that neighbours cannot be told apart."""
    pixels = [[40_000, 20_000, 300], [40_001, 20_000, 300], [40_000, 20_000, 700]]
    read = decode(png16(COLOUR, pixels, transparent=(40_000, 20_000, 300)), "rgb")
    assert read[0].tolist() == [[255] * 3, [255] * 3, [156, 78, 2]]


@pytest.mark.parametrize(("bits", "step"), [(1, 255), (2, 85), (4, 17)])
@pytest.mark.parametrize("transparent", [0, 1])
def test_one_transparent_shade_of_few_bits_is_white(bits: int, step: int, transparent: int):
    values = [0, 1] * (4 // bits)
    row = bytes([sum(value << (8 - bits * (1 + at)) for at, value in enumerate(values))])
    content = png(bits, GRAY, len(values), row, struct.pack(">H", transparent))
    expected = [255 if value == transparent else value * step for value in values]
    assert decode(content, "gray")[0, :, 0].tolist() == expected


@pytest.mark.parametrize("values", [np.float32([[0.5]]), np.int32([[70_000]])])
def test_32_bits_are_refused(values: np.ndarray):
    with pytest.raises(UnreadableImageError, match="save it with 8 or 16 bits"):
        decode(saved(Image.fromarray(values), "TIFF"), "rgb")


def test_a_signed_tiff_is_refused():
    content = np.array([-128, 0, 127], np.int8).tobytes()
    for bits, width in ((8, 3), (16, 1)):
        with pytest.raises(UnreadableImageError, match=r"or signed\) have no defined range; save"):
            decode(tiff(width, bits, content, form=2), "gray")
    assert decode(tiff(3, 8, content, form=1), "gray")[0, :, 0].tolist() == [128, 0, 127]


@pytest.mark.parametrize(
    "content",
    [
        tiff(2, 16, bytes(4), form=3),
        tiff(2, 64, bytes(16), form=3),
        tiff(2, 32, bytes(24), channels=3, form=3),
        tiff(2, 12, bytes(3), white_is_zero=True),
        tiff(2, 16, bytes(4), ">", white_is_zero=True),
        tiff(2, 16, bytes(4))[:9],
    ],
    ids=["float16", "float64", "RGB of float32", "12 bits", "big-endian", "cut off"],
)
@pytest.mark.filterwarnings("ignore:.*:UserWarning:PIL")
def test_a_tiff_that_is_not_read_is_called_one(content: bytes):
    with pytest.raises(
        UnreadableImageError, match=r"^a TIFF that is damaged, or of a kind that is"
    ):
        decode(content, "rgb")


def test_a_dicom_file_is_called_one():
    with pytest.raises(
        UnreadableImageError, match=r"^a DICOM file, whatever its name says; export"
    ):
        decode(bytes(128) + b"DICM" + bytes(99), "rgb")


RAMP = np.arange(10_000).reshape(100, 100)


@pytest.mark.parametrize(
    ("values", "few"),
    [
        (RAMP * 65_535 // 9_999, False),
        (RAMP * 16_383 // 9_999, True),
        (RAMP * 32_767 // 9_999, False),
        (32_768 - 1_000 + RAMP // 5, True),
        (np.where(RAMP < 50, 65_535, RAMP * 4_095 // 9_999), True),
        (RAMP % 256, True),
        (np.where(RAMP < 50, 0, 65_535), False),
        (np.where(RAMP < 50, 65_535, 0), False),
        (np.where(RAMP < 50, 0, 4_095), True),
        (np.full_like(RAMP, 65_535), False),
    ],
    ids=[
        "all of them",
        "14 bits",
        "15 bits",
        "an offset",
        "12 bits with a mark",
        "8 bits",
        "black lines on white",
        "white lines on black",
        "12 bits of lines",
        "a blank page",
    ],
)
@pytest.mark.parametrize("form", ["PNG", "TIFF", "PPM"])
def test_16_bits_that_use_few_levels_are_noted(values: np.ndarray, few: bool, form: str):
    found = load(saved(Image.fromarray(values.astype(np.uint16)), form))
    assert found.few_levels is few
    assert np.array_equal(np.asarray(found.image), values >> 8)


def test_8_bits_and_12_bits_of_few_levels_are_meant_so():
    assert not load(saved(Image.new("L", (9, 9), 7), "PNG")).few_levels
    assert not load(tiff(4, 12, bytes(6))).few_levels
