"""Thousands of broken PNG and JPEG files: pixels or UnreadableImageError, soon and in little memory."""

from __future__ import annotations

import io
import re
import struct
import time
import zlib
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from pipeline_lib.images import MAX_PIXELS, UnreadableImageError, decode
from tests.fuzzing import in_little_memory, soon

CASES = 2000
# Sizes, lengths and counts that somebody forgot to check.
EXTREMES = [
    0,
    1,
    255,
    256,
    7999,
    8000,
    32_767,
    65_535,
    1 << 24,
    (1 << 31) - 1,
    1 << 31,
    (1 << 32) - 1,
]

fuzzing = settings(
    max_examples=CASES,
    derandomize=True,
    database=None,
    suppress_health_check=list(HealthCheck),
)


def saved(image: Image.Image, form: str, **options) -> bytes:
    file = io.BytesIO()
    image.save(file, form, **options)
    return file.getvalue()


def exif() -> Image.Exif:
    told = Image.Exif()
    told[0x0112], told[0x010F] = 6, "a camera"
    return told


NOISE = np.random.default_rng(1).integers(0, 256, (24, 17, 4), np.uint8)
COLOUR, ALPHA = Image.fromarray(NOISE[..., :3]), Image.fromarray(NOISE)
GRAY, PALETTE = Image.fromarray(NOISE[..., 0]), COLOUR.quantize(9)


def pngs() -> list[bytes]:
    notes = PngInfo()
    notes.add_text("Title", "a title " * 40, zip=True)
    notes.add_itxt("Note", "a note", "en")
    deep = Image.fromarray(NOISE[..., 0].astype(np.uint16) << 8)
    return [
        saved(COLOUR, "PNG", pnginfo=notes, exif=exif(), dpi=(72, 72)),
        saved(ALPHA, "PNG"),
        saved(GRAY, "PNG", transparency=7, icc_profile=b"no profile at all"),
        saved(GRAY.convert("1"), "PNG"),
        saved(PALETTE, "PNG", transparency=bytes(range(9))),
        saved(deep, "PNG"),
        saved(COLOUR, "PNG", save_all=True, append_images=[COLOUR.rotate(180)]),
    ]


def jpegs() -> list[bytes]:
    return [
        saved(COLOUR, "JPEG", exif=exif(), comment=b"a comment"),
        saved(COLOUR, "JPEG", progressive=True, subsampling=2),
        saved(COLOUR, "JPEG", restart_marker_blocks=2, quality=30, icc_profile=b"no profile"),
        saved(GRAY, "JPEG", optimize=True),
        saved(COLOUR.convert("CMYK"), "JPEG"),
        saved(COLOUR, "MPO", save_all=True, append_images=[COLOUR]),
    ]


def chunks(content: bytes) -> list[bytes]:
    """Cut a PNG into its signature and chunks, as far as lengths tell."""
    parts, start = [content[:8]], 8
    while start + 12 <= len(content):
        stop = start + 12 + struct.unpack(">I", content[start : start + 4])[0]
        parts.append(content[start:stop])
        start = stop
    return [*parts, content[start:]]


def segments(content: bytes) -> list[bytes]:
    """Cut a JPEG before each of its markers."""
    return re.split(rb"(?=\xff[\xc0-\xfe])", content)


def with_checksums(content: bytes) -> bytes:
    """Repair the checksums of a PNG, so that damage is seen by what lies behind them."""
    signature, *parts = chunks(content)
    whole = [part for part in parts if len(part) >= 12]
    rest = [part for part in parts if len(part) < 12]
    fixed = [part[:-4] + struct.pack(">I", zlib.crc32(part[4:-4])) for part in whole]
    return b"".join([signature, *fixed, *rest])


@st.composite
def broken(draw: st.DrawFn, seeds: list[bytes], cut: Callable[[bytes], list[bytes]]) -> bytes:
    """A file, changed one to four times."""
    content = draw(st.sampled_from(seeds))
    for _ in range(draw(st.integers(1, 4))):
        kind = draw(st.sampled_from(["bit", "number", "truncate", "parts", "header", "bytes"]))
        place = draw(st.integers(0, max(0, len(content) - 1)))
        if kind == "bit":
            flipped = bytes([content[place] ^ 1 << draw(st.integers(0, 7))]) if content else b""
            content = content[:place] + flipped + content[place + 1 :]
        elif kind == "number":
            wide = draw(st.sampled_from([">I", ">H"]))
            number = draw(st.sampled_from(EXTREMES)) % (1 << 8 * struct.calcsize(wide))
            packed = struct.pack(wide, number)
            content = content[:place] + packed + content[place + len(packed) :]
        elif kind == "truncate":
            content = content[:place]
        elif kind == "parts":  # of this file and another: some twice, some left out, in any order
            pool = [*cut(content), *cut(draw(st.sampled_from(seeds)))]
            picked = draw(st.lists(st.integers(0, len(pool) - 1), min_size=1, max_size=12))
            content = b"".join([pool[0], *(pool[i] for i in picked)])
        elif kind == "header":
            other = draw(st.sampled_from([*pngs_and_jpegs]))
            size = draw(st.integers(1, 40))
            content = other[:size] + content[size:]
        else:
            content = content[:place] + draw(st.binary(max_size=30)) + content[place:]
    return with_checksums(content) if cut is chunks and draw(st.booleans()) else content


pngs_and_jpegs = [*pngs(), *jpegs()]


def outcome(content: bytes, channels: str, size: int | None) -> NDArray | UnreadableImageError:
    try:
        with soon():
            return decode(content, channels, size)
    except UnreadableImageError as error:
        return error


def check(content: bytes, channels: str, size: int | None, counts: dict[str, int]) -> None:
    found = outcome(content, channels, size)
    if isinstance(found, UnreadableImageError):
        counts["refused"] += 1
        assert str(found)
        assert not isinstance(found.__cause__, MemoryError)
        return
    counts["read"] += 1
    height, width, depth = found.shape
    assert found.dtype == np.uint8
    assert depth == (3 if channels == "rgb" else 1)
    assert (height, width) == (size, size) if size else 0 < height * width <= MAX_PIXELS


@pytest.mark.filterwarnings("ignore:.*:UserWarning:PIL")
@pytest.mark.parametrize(
    ("seeds", "cut"), [(pngs(), chunks), (jpegs(), segments)], ids=["PNG", "JPEG"]
)
def test_broken_images_are_read_or_refused(seeds, cut):
    counts = {"refused": 0, "read": 0}

    @fuzzing
    @given(broken(seeds, cut), st.sampled_from(["rgb", "gray"]), st.sampled_from([None, 9]))
    def run(content: bytes, channels: str, size: int | None) -> None:
        check(content, channels, size, counts)

    for seed in seeds:
        check(seed, "rgb", None, counts)
    assert counts["read"] == len(seeds), "they are whole before they are broken"
    started = time.monotonic()
    with in_little_memory():
        run()
    print(f"{counts}, {time.monotonic() - started:.1f} s")
    assert sum(counts.values()) >= CASES
    assert min(counts.values()) > CASES // 20, "all are read, or all refused: nothing is tested"
