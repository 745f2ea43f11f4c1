"""Decoding one image file, safely and to the same pixels everywhere.

Every conversion is defined (see `decode`), so that no file is clipped, cropped or guessed at.
"""

from __future__ import annotations

import io
import struct
import zlib
from typing import TYPE_CHECKING, Literal, TypeAlias

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

if TYPE_CHECKING:
    from numpy.typing import NDArray

Channels: TypeAlias = Literal["rgb", "gray"]

SUFFIXES = (
    ".jpg", ".jpeg", ".png", ".gif", ".bmp", ".webp", ".tif", ".tiff", ".ppm", ".pgm", ".pbm", ".pnm",
)  # fmt: skip
FORMATS = ("JPEG", "PNG", "GIF", "BMP", "WEBP", "TIFF", "PPM")
# Checked before a pixel is decoded: 200 megapixels fit in a file of 24 kB.
MAX_PIXELS = 64_000_000
Image.MAX_IMAGE_PIXELS = None  # Pillow's limit only warns; ours replaces it

# What Pillow's plugins raise on bytes that are not what they seem.
_DAMAGED = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    LookupError,
    TypeError,
    AttributeError,
    ArithmeticError,
    RuntimeError,
    MemoryError,
    struct.error,
    zlib.error,
)


class UnreadableImageError(Exception):
    """Why one file cannot be read as an image; the caller knows which file it is."""


def decode(encoded: bytes, channels: Channels, size: int | None = None) -> NDArray[np.uint8]:
    """Decode one image file.

    The camera's rotation (EXIF) is applied. Transparent pixels are laid on white. Palette, CMYK and
    YCbCr images become RGB, 16-bit images keep their high byte, animations their first frame; gray
    from colour is ITU-R 601 luma.

    Args:
        encoded: the file: JPEG, PNG, GIF, BMP, WebP, TIFF or PPM.
        channels: `rgb` (C = 3) or `gray` (C = 1).
        size: side in pixels that the image is stretched to; None keeps its own size.

    Returns:
        uint8 (H, W, C).

    Raises:
        UnreadableImageError: The file is empty, damaged, too large, or no image.
    """
    _refuse_what_is_no_image(encoded)
    try:
        with Image.open(io.BytesIO(encoded), formats=FORMATS) as image:
            if image.width * image.height > MAX_PIXELS:
                msg = f"{image.width}x{image.height} pixels, the limit is {MAX_PIXELS}"
                raise UnreadableImageError(msg)
            ImageOps.exif_transpose(image, in_place=True)
            return _to_array(_to_eight_bits(image), channels, size)
    except UnidentifiedImageError as error:
        msg = f"not an image in one of the formats {', '.join(FORMATS)}"
        raise UnreadableImageError(msg) from error
    except _DAMAGED as error:
        msg = f"damaged image: {str(error).splitlines()[0] if str(error) else type(error).__name__}"
        raise UnreadableImageError(msg) from error


def convert(
    pixels_HWC: NDArray[np.uint8], channels: Channels, size: int | None
) -> NDArray[np.uint8]:
    """Bring raw pixels to `channels` and `size`, as `decode` does.

    Args:
        pixels_HWC: uint8 (H, W, 1) or (H, W, 3).
        channels: `rgb` or `gray`.
        size: side in pixels, or None.

    Returns:
        uint8 (H, W, C).
    """
    plain = pixels_HWC[:, :, 0] if pixels_HWC.shape[2] == 1 else pixels_HWC
    return _to_array(Image.fromarray(plain), channels, size)


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


def _to_eight_bits(image: Image.Image) -> Image.Image:
    """Bring any mode to L or RGB, without transparency."""
    if image.mode.startswith("I;16") or (image.mode == "I" and image.format == "PPM"):
        return Image.fromarray((np.asarray(image).astype(np.uint32) >> 8).astype(np.uint8))
    if image.mode in {"I", "F"}:
        msg = f"pixels of 32 bits (mode {image.mode}) have no defined range; save it with 8 or 16 bits"
        raise UnreadableImageError(msg)
    if image.has_transparency_data:
        layer = image.convert("RGBA")
        paper = Image.new("RGBA", layer.size, "white")
        return Image.alpha_composite(paper, layer).convert("RGB")
    if image.mode in {"L", "RGB"}:
        return image
    return image.convert("L" if image.mode == "1" else "RGB")


def _to_array(image: Image.Image, channels: Channels, size: int | None) -> NDArray[np.uint8]:
    mode = "RGB" if channels == "rgb" else "L"
    image = image if image.mode == mode else image.convert(mode)
    if size is not None and image.size != (size, size):
        image = image.resize((size, size), Image.Resampling.BILINEAR)
    array: NDArray[np.uint8] = np.asarray(image)
    return array if array.ndim == 3 else array[:, :, None]
