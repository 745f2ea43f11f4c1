"""The decoders of stored files, fastest first; for stages that have torch anyway.

torchcodec and Pillow both decode JPEG with libjpeg-turbo and mostly give the same pixels. Where they do
not, the sha256 in data/images.parquet says so, and Pillow's are taken (`pixels.pixel_blocks`).
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from pipeline_lib.images import convert, decode

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from pipeline_lib.images import Channels, Resize
    from pipeline_lib.pixels import Decoder

try:
    from torchcodec.decoders import decode_image
except (ImportError, OSError, RuntimeError):  # not installed, or not made for this torch
    decode_image = None

JPEG = b"\xff\xd8\xff"


def decode_fast(
    encoded: bytes, channels: Channels, size: int | None, resize: Resize
) -> NDArray[np.uint8]:
    """Decode a colour JPEG file by torchcodec, and what it does not take as `images.decode` does."""
    if channels == "rgb" and encoded.startswith(JPEG):
        with contextlib.suppress(RuntimeError, ValueError):
            pixels_HWC: NDArray[np.uint8] = decode_image(encoded).permute(1, 2, 0).numpy()
            return convert(pixels_HWC, channels, size, resize)
    return decode(encoded, channels, size, resize)


DECODERS: tuple[Decoder, ...] = (decode_fast, decode) if decode_image else (decode,)
