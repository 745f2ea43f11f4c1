"""Decoding one image file, safely and to the same pixels everywhere.

Every conversion is defined (see `load` and `fit`), so that no file is clipped, cropped or guessed at.
"""

from __future__ import annotations

import io
import itertools
from typing import TYPE_CHECKING, Literal, NamedTuple, TypeAlias

import numpy as np
from PIL import ExifTags, Image, ImageSequence, UnidentifiedImageError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

Channels: TypeAlias = Literal["rgb", "gray"]
Resize: TypeAlias = Literal["stretch", "center_crop", "pad"]

SUFFIXES = (
    ".jpg", ".jpeg", ".jfif", ".jpe", ".png", ".gif", ".bmp", ".webp", ".tif", ".tiff",
    ".ppm", ".pgm", ".pbm", ".pnm",
)  # fmt: skip
HEIF_BRANDS = (b"heic", b"heix", b"hevc", b"mif1", b"msf1")  # what phones send as .jpg
FORMATS = ("JPEG", "PNG", "GIF", "BMP", "WEBP", "TIFF", "PPM")
# Checked before a pixel is decoded: 200 megapixels fit in a file of 24 kB.
MAX_PIXELS = 64_000_000
TILE_WIDTH, TILE_LENGTH = 322, 323  # tags of TIFF
Image.MAX_IMAGE_PIXELS = None  # Pillow's limit only warns; ours replaces it
# By EXIF orientation. ImageOps.exif_transpose would fail where it cannot write odd metadata back.
TO_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
# Tags of TIFF
BITS_PER_SAMPLE, PHOTOMETRIC_INTERPRETATION, WHITE_IS_ZERO = 258, 262, 0
SAMPLE_FORMAT, SIGNED = 339, 2
NEW_SUBFILE_TYPE, REDUCED = 254, 1
TIFF_STARTS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
BAND = 1 << 20  # pixels that are converted at a time, where that takes copies
FEW_LEVELS = 64  # of the 256, between the darkest and the brightest hundredth of the pixels


class UnreadableImageError(Exception):
    """Why one file cannot be read as an image; the caller knows which file it is."""


class Loaded(NamedTuple):
    """An image, and what its pixels no longer tell.

    Attributes:
        image: of mode L or RGB.
        few_levels: it was gray of 16 bits, of which it used fewer than FEW_LEVELS high bytes.
        several: the file has other pages or frames behind this one.
    """

    image: Image.Image
    few_levels: bool = False
    several: bool = False


def decode(
    encoded: bytes, channels: Channels, size: int | None = None, resize: Resize = "stretch"
) -> NDArray[np.uint8]:
    """Decode one image file: `load`, then `fit`.

    Args:
        encoded: the file: JPEG, PNG, GIF, BMP, WebP, TIFF or PPM.
        channels: `rgb` (C = 3) or `gray` (C = 1).
        size: side in pixels of the result; None keeps the image's own size.
        resize: how an image that is no square gets there.

    Returns:
        uint8 (H, W, C).

    Raises:
        UnreadableImageError: The file is empty, damaged, too large, or no image.
    """
    return fit(load(encoded).image, channels, size, resize)


def load(encoded: bytes) -> Loaded:
    """Read one image file as 8 bits of gray (L) or colour (RGB), upright and without transparency.

    - The camera's rotation (EXIF orientation 1 to 8) is applied.
    - Transparent pixels are laid on white: an alpha channel, also of a gray image or a palette, and
      the one transparent colour of a PNG or GIF (of a PNG with 16 bits a colour, all with its high bytes).
    - Gray stays gray, 1 bit becomes 0 and 255, a palette the colours that it names.
    - CMYK becomes RGB without an ink profile, R = (255 - C)(255 - K) / 255; in a JPEG it is taken as
      inverted, as Adobe and nearly everybody writes it. YCbCr and Lab become RGB.
    - 16 bits keep their high byte, the 12 of a TIFF the upper 8 (PPM: scaled by its own maximum);
      32 bits and floating point have no defined range and are refused.
    - Of an animation or several pages, the first.
    - Colour profiles and gamma are not applied: pixels are taken as they are stored.

    Raises:
        UnreadableImageError: The file is empty, damaged, too large, or no image.
        MemoryError: There is too little, which says nothing of the file.
    """
    _refuse_what_is_no_image(encoded)
    try:
        with Image.open(io.BytesIO(encoded), formats=FORMATS) as image:
            _refuse_what_is_too_large(image)
            # now, since a GIF that looks ahead forgets its pixels
            several = _has_more(image, encoded)
            _scale_transparent_colour(image)
            image.load()  # some formats tell the orientation behind the pixels
            turn = TO_UPRIGHT.get(image.getexif().get(ExifTags.Base.Orientation, 1))
            plain, few_levels = _to_eight_bits(image)
            upright = plain if turn is None else plain.transpose(turn)
            return Loaded(upright, few_levels, several)
    except (UnreadableImageError, MemoryError):
        raise
    except UnidentifiedImageError as error:
        raise UnreadableImageError(_what_it_may_be(encoded)) from error
    except Exception as error:  # Pillow stumbles over broken files in ways without number
        msg = f"damaged image: {str(error).splitlines()[0] if str(error) else type(error).__name__}"
        raise UnreadableImageError(msg) from error


def convert(
    pixels_HWC: NDArray[np.uint8], channels: Channels, size: int | None, resize: Resize = "stretch"
) -> NDArray[np.uint8]:
    """Bring raw pixels to `channels` and `size`, as `decode` does.

    Args:
        pixels_HWC: uint8 (H, W, 1) or (H, W, 3).
        channels: `rgb` or `gray`.
        size: side in pixels, or None.
        resize: how an image that is no square gets there.

    Returns:
        uint8 (H, W, C).
    """
    return fit(from_array(pixels_HWC), channels, size, resize)


def from_array(pixels_HWC: NDArray[np.uint8]) -> Image.Image:
    """Turn raw pixels, one channel or three, into an image as `load` gives it."""
    return Image.fromarray(pixels_HWC[:, :, 0] if pixels_HWC.shape[2] == 1 else pixels_HWC)


def fit(
    image: Image.Image, channels: Channels, size: int | None, resize: Resize
) -> NDArray[np.uint8]:
    """Bring an image of mode L or RGB to `channels` and `size`.

    Gray becomes three equal channels; colour becomes ITU-R 601 luma. An image of another size is
    resized with antialiased bilinear interpolation: all of it (`stretch`), the square in its middle
    (`center_crop`), or all of it in its own proportions, in the middle of a black square (`pad`).

    Returns:
        uint8 (H, W, C).
    """
    mode = "RGB" if channels == "rgb" else "L"
    image = image if image.mode == mode else image.convert(mode)
    if size is not None and image.size != (size, size):
        image = _padded(image, size) if resize == "pad" else _filling(image, size, resize)
    array: NDArray[np.uint8] = np.asarray(image)
    return array if array.ndim == 3 else array[:, :, None]


def _filling(image: Image.Image, size: int, resize: Resize) -> Image.Image:
    box = None
    if resize == "center_crop":
        side = min(image.size)
        left, top = ((length - side) // 2 for length in image.size)
        box = (left, top, left + side, top + side)
    return image.resize((size, size), Image.Resampling.BILINEAR, box)


def _padded(image: Image.Image, size: int) -> Image.Image:
    longest = max(image.size)
    # Rounded to the nearest pixel, halves up.
    width, height = (max(1, (2 * n * size + longest) // (2 * longest)) for n in image.size)
    square = Image.new(image.mode, (size, size))
    whole = image.resize((width, height), Image.Resampling.BILINEAR)
    square.paste(whole, ((size - width) // 2, (size - height) // 2))
    return square


def _refuse_what_is_no_image(encoded: bytes) -> None:
    if not encoded:
        msg = "empty file (0 bytes)"
        raise UnreadableImageError(msg)
    if (
        encoded[:256]
        .lstrip(b"\xef\xbb\xbf \t\r\n")
        .lower()
        .startswith((b"<!doctype", b"<html", b"<?xml"))
    ):
        msg = "a web page, not an image; download it again"
        raise UnreadableImageError(msg)
    if encoded[4:8] == b"ftyp" and encoded[8:12] in HEIF_BRANDS:
        msg = "a HEIC photo, whatever its name says; convert it to JPEG or PNG"
        raise UnreadableImageError(msg)


def _what_it_may_be(encoded: bytes) -> str:
    """Say of a file that Pillow does not know what can be done with it."""
    if encoded.startswith(TIFF_STARTS):
        return "a TIFF that is damaged, or of a kind that is not read; save it as gray or RGB with 8 or 16 bits"
    if encoded[128:132] == b"DICM":
        return "a DICOM file, whatever its name says; export it as PNG"
    return f"not an image in one of the formats {', '.join(FORMATS)}"


def _has_more(image: Image.Image, encoded: bytes) -> bool:
    """Whether pages or frames follow; a page made smaller is none, nor what phones put behind a JPEG (MPO)."""
    try:
        if image.format == "MPO" or not getattr(image, "is_animated", False):
            return False
        if image.format != "TIFF":
            return True
        # opened again, as who has seen damage behind the first page does not find back to it
        with Image.open(io.BytesIO(encoded), formats=["TIFF"]) as again:
            pages = itertools.islice(ImageSequence.Iterator(again), 1, None)
            kinds = (getattr(page, "tag_v2", {}).get(NEW_SUBFILE_TYPE, 0) for page in pages)
            return not all(kind & REDUCED for kind in kinds)
    except Exception:  # noqa: BLE001 - damaged there, which the first one does not suffer from
        return False


def _refuse_what_is_too_large(image: Image.Image) -> None:
    tags = getattr(image, "tag_v2", {})
    tile = tuple(tags.get(tag, 0) for tag in (TILE_WIDTH, TILE_LENGTH))
    # A tile is decoded as a whole, however little of it the image is.
    for width, height in (image.size, tile):
        if width * height > MAX_PIXELS:
            msg = f"{width}x{height} pixels, the limit is {MAX_PIXELS}"
            raise UnreadableImageError(msg)


def _scale_transparent_colour(image: Image.Image) -> None:
    """Bring the one transparent colour of a PNG to 8 bits, as Pillow does with the pixels only."""
    transparent = image.info.get("transparency")
    tiles = getattr(image, "tile", ()) if image.format == "PNG" else ()
    form = tiles[0].args if tiles else ""
    if form in {"L;2", "L;4"} and isinstance(transparent, int):
        image.info["transparency"] = transparent * (85 if form == "L;2" else 17)
    elif form == "RGB;16B" and isinstance(transparent, tuple):
        image.info["transparency"] = tuple(value >> 8 for value in transparent)


def _to_eight_bits(image: Image.Image) -> tuple[Image.Image, bool]:
    """Bring any mode to L or RGB, without transparency; also tells of few levels (see `Loaded`)."""
    if image.mode.startswith("I;16") or (image.mode == "I" and image.format == "PPM"):
        return _high_bytes(image)
    signed = SIGNED in getattr(image, "tag_v2", {}).get(SAMPLE_FORMAT, ())
    if signed or image.mode in {"I", "F"}:
        msg = (
            f"pixels of mode {image.mode} (32 bits, or signed) have no defined range; "
            f"save it with 8 or 16 bits"
        )
        raise UnreadableImageError(msg)
    if image.has_transparency_data:
        return _on_white(image), False
    if image.mode in {"L", "RGB"}:
        return image, False
    return image.convert("L" if image.mode == "1" else "RGB"), False


def _bands(image: Image.Image) -> Iterator[tuple[int, Image.Image]]:
    """Give the image in parts, each with the row at which it starts: copies of all of it would take much memory."""
    rows = max(1, BAND // image.width)
    for top in range(0, image.height, rows):
        yield top, image.crop((0, top, image.width, min(top + rows, image.height)))


def _on_white(image: Image.Image) -> Image.Image:
    opaque = Image.new("RGB", image.size)
    for top, band in _bands(image):
        layer = band.convert("LA" if band.mode == "La" else "RGBA").convert("RGBA")
        paper = Image.new("RGBA", layer.size, "white")
        opaque.paste(Image.alpha_composite(paper, layer).convert("RGB"), (0, top))
    return opaque


def _high_bytes(image: Image.Image) -> tuple[Image.Image, bool]:
    """Scale gray of 16 bits to 8; Pillow's own conversion clips at 255."""
    tags = getattr(image, "tag_v2", {})  # a TIFF's, which Pillow leaves to its reader
    bits = tags.get(BITS_PER_SAMPLE, (16,))[0]
    transparent = image.info.get("transparency")
    shades_HW = np.empty((image.height, image.width), np.uint8)
    for top, band in _bands(image):
        values_HW = np.asarray(band)
        part_HW = shades_HW[top : top + band.height]
        part_HW[...] = values_HW >> (bits - 8)
        if tags.get(PHOTOMETRIC_INTERPRETATION) == WHITE_IS_ZERO:
            np.subtract(255, part_HW, out=part_HW)
        if isinstance(transparent, int):
            part_HW[values_HW == transparent] = 255
    shades = Image.fromarray(shades_HW)
    return shades, bits == 16 and _uses_few_levels(shades)


def _uses_few_levels(shades: Image.Image) -> bool:
    """Whether nearly all pixels lie close together; a mark that was burnt in does not count."""
    counts = np.cumsum(shades.histogram())
    shares = counts[-1] * np.array([0.01, 0.99, 1])
    lowest, (darkest, brightest, highest) = np.argmax(counts > 0), np.searchsorted(counts, shares)
    if darkest == brightest:  # the ground of a drawing, whose lines count, or blank paper
        return bool(brightest < 255 and highest - lowest < FEW_LEVELS)
    return bool(brightest - darkest < FEW_LEVELS)
