"""Encoded images, a good one and one that claims to be huge."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
from PIL import Image


def jpeg() -> bytes:
    file = io.BytesIO()
    pixels = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    Image.fromarray(pixels).save(file, "JPEG")
    return file.getvalue()


def huge_png(side: int) -> bytes:
    """Write the header of a PNG with side x side pixels, and hardly a byte of them."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return (
            struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        )

    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(b""))
        + chunk(b"IEND", b"")
    )


def huge_tile(side: int) -> bytes:
    """Write a TIFF of 16x16 pixels in one tile of side x side of them, and none of its bytes."""
    tags = [
        (256, 4, 16),  # width
        (257, 4, 16),  # height
        (258, 3, 8),  # bits
        (259, 3, 8),  # deflate
        (262, 3, 1),  # 0 is black
        (277, 3, 1),  # one channel
        (322, 4, side),  # width of a tile
        (323, 4, side),  # its height
        (324, 4, 8),  # where it begins
        (325, 4, 8),  # bytes of it
    ]
    entries = b"".join(struct.pack("<HHII", tag, kind, 1, value) for tag, kind, value in tags)
    packed = zlib.compress(b"")[:8].ljust(8, b"\0")
    return (
        struct.pack("<2sHI", b"II", 42, 16)
        + packed
        + struct.pack("<H", len(tags))
        + entries
        + bytes(4)
    )
