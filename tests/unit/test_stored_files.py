"""Files stored as they came: read again to the pixels that ingest saw, by whichever decoder is there."""

from __future__ import annotations

import hashlib
import io
import warnings
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from pipeline_lib import decoders, images, pixels
from pipeline_lib.decoders import decode_fast
from pipeline_lib.errors import UserError
from pipeline_lib.parquet import publish_rows
from pipeline_lib.pixels import Stored, pixel_blocks, read_pixels

HEIGHT, WIDTH = 45, 61


def orientation(number: int) -> Image.Exif:
    """As cameras note it: 1 is upright, 6 turned by a quarter."""
    exif = Image.Exif()
    exif[274] = number
    return exif


JPEGS = {
    "4:4:4": {"subsampling": 0},
    "4:2:2": {"subsampling": 1},
    "4:2:0": {"subsampling": 2},
    "coarse": {"quality": 10},
    "finest": {"quality": 100},
    "progressive": {"progressive": True},
    "restarts": {"restart_marker_rows": 1},
    "stored as rgb": {"keep_rgb": True},
    "with metadata": {"exif": orientation(1), "dpi": (72, 72)},
}


def picture(mode: str = "RGB") -> Image.Image:
    """Smooth colours with an edge and some noise."""
    draw = np.random.default_rng(7)
    coarse = Image.fromarray(draw.integers(0, 256, (6, 8, 3), dtype=np.uint8))
    smooth_HWC = np.asarray(coarse.resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC)).astype(int)
    smooth_HWC[:, 30:] = 255 - smooth_HWC[:, 30:]
    noisy = smooth_HWC + draw.integers(-9, 10, smooth_HWC.shape)
    return Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).convert(mode)


def encoded(kind: str, image: Image.Image, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


OTHERS = {
    "gray": encoded("JPEG", picture("L")),
    "cmyk": encoded("JPEG", picture("CMYK")),
    "turned": encoded("JPEG", picture(), exif=orientation(6)),
    "odd metadata": encoded("JPEG", picture(), exif=b"Exif\0\0II*\0\x08\0\0\0\0\0"),
    "png": encoded("PNG", picture()),
    "transparent": encoded("PNG", picture("RGBA")),
    "palette": encoded("GIF", picture("P")),
}


@pytest.fixture(scope="module")
def decode_image():
    """torchcodec, which requirements.txt holds."""
    return pytest.importorskip("torchcodec.decoders").decode_image


@pytest.mark.parametrize("options", JPEGS.values(), ids=JPEGS)
@pytest.mark.parametrize("size", [None, 16, 45, 100])
def test_torchcodec_and_pillow_give_the_same_pixels(monkeypatch, decode_image, options, size):
    file = encoded("JPEG", picture(), **options)
    expected = images.decode(file, "rgb", size, "center_crop")
    monkeypatch.setattr(decoders, "decode_image", decode_image)
    monkeypatch.setattr(decoders, "decode", lambda *_: pytest.fail("Pillow was asked"))
    assert np.array_equal(decode_fast(file, "rgb", size, "center_crop"), expected)


def store(path: Path, files: list[bytes], stored: Stored) -> np.ndarray:
    """Write images.parquet as ingest does; returns the pixels that it saw."""
    size = stored.shape[0] if stored.shape[0] == stored.shape[1] else None
    channels = "rgb" if stored.shape[2] == 3 else "gray"
    with warnings.catch_warnings():  # of the odd metadata, as ingest does
        warnings.filterwarnings("ignore", module="PIL")
        seen = [images.decode(file, channels, size, stored.resize) for file in files]
    digests = [hashlib.sha256(pixels_HWC.tobytes()).hexdigest() for pixels_HWC in seen]
    table = pa.table({"image": files, "sha256": digests})
    with publish_rows(path, table.schema, row_group_size=6) as write:
        write(table)
    return np.stack(seen)


FILES = [*(encoded("JPEG", picture(), **options) for options in JPEGS.values()), *OTHERS.values()]


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("resize", ["stretch", "center_crop", "pad"])
def test_files_are_read_to_the_pixels_that_ingest_saw(tmp_path, monkeypatch, channels, resize):
    stored = Stored((20, 20, channels), "files", resize)
    seen_NHWC = store(tmp_path / "images.parquet", FILES, stored)
    monkeypatch.setattr(pixels, "BLOCK_BYTES", 4 * stored.image_bytes)
    ids_N = np.array([len(FILES) - 1, 3, 3, *range(len(FILES) - 2)])
    for tried in (decoders.DECODERS, (images.decode,)):
        blocks = list(pixel_blocks(tmp_path / "images.parquet", ids_N, stored, tried))
        assert max(len(positions_B) for positions_B, _ in blocks) == 4
        positions_N = np.concatenate([positions_B for positions_B, _ in blocks])
        images_NHWC = np.concatenate([images_BHWC for _, images_BHWC in blocks])
        assert sorted(positions_N) == list(range(len(ids_N)))
        assert np.array_equal(images_NHWC, seen_NHWC[ids_N[positions_N]])
    assert np.array_equal(read_pixels(tmp_path / "images.parquet", ids_N, stored), seen_NHWC[ids_N])


def test_files_that_are_not_square_keep_their_size(tmp_path):
    stored = Stored((HEIGHT, WIDTH, 3), "files", "stretch")
    seen_NHWC = store(tmp_path / "images.parquet", FILES[:3], stored)
    images_NHWC = read_pixels(tmp_path / "images.parquet", np.arange(3), stored)
    assert images_NHWC.shape == (3, HEIGHT, WIDTH, 3)
    assert np.array_equal(images_NHWC, seen_NHWC)


@pytest.mark.parametrize("error", [None, RuntimeError("unsupported"), ValueError("unknown")])
def test_what_a_decoder_gets_wrong_is_left_to_the_next(tmp_path, monkeypatch, decode_image, error):
    """As another version of torchcodec may: one level in one pixel is enough."""
    stored = Stored((20, 20, 3), "files", "stretch")
    seen_NHWC = store(tmp_path / "images.parquet", FILES[:2], stored)

    def wrong(file: bytes):
        if error:
            raise error
        pixels_CHW = decode_image(file)
        pixels_CHW[0, :9, :9] ^= 255
        return pixels_CHW

    monkeypatch.setattr(decoders, "decode_image", wrong)
    path, ids_N, tried = tmp_path / "images.parquet", np.arange(2), (decode_fast, images.decode)
    ((_, images_NHWC),) = pixel_blocks(path, ids_N, stored, tried)
    assert np.array_equal(images_NHWC, seen_NHWC)


@pytest.mark.parametrize("file", [FILES[0], b"no image"], ids=["other pixels", "unreadable"])
def test_pixels_that_ingest_did_not_see_are_refused(tmp_path, file):
    path = tmp_path / "images.parquet"
    table = pa.table({"image": [file], "sha256": ["0" * 64]})
    with publish_rows(path, table.schema) as write:
        write(table)
    stored = Stored((20, 20, 3), "files", "stretch")
    with pytest.raises(
        UserError, match=r"sha256 0000000000000000\.\.\. is decoded to other pixels"
    ):
        list(pixel_blocks(path, np.arange(1), stored, decoders.DECODERS))
