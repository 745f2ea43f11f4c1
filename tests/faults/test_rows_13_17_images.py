"""Rows 13 to 17 of the faults, as a user meets them: what images can be, and how each is answered."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from tests.faults.images import huge_png, jpeg

INGESTED = ("images.parquet", "labels.parquet", "classes.json", "rejected.parquet")


def encoded(image: Image.Image, form: str = "PNG", **options) -> bytes:
    file = io.BytesIO()
    image.save(file, form, **options)
    return file.getvalue()


@pytest.fixture
def ingested(workspace):
    """A workspace that already holds the tables of an earlier, good run."""
    workspace.two_classes()
    workspace.run("configure", "download", "ingest")
    assert all((workspace.root / "data" / name).is_file() for name in INGESTED)
    return workspace


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("row13.jpg", jpeg()[:900], "damaged image: image file is truncated"),
        ("row13.png", b"", "empty file (0 bytes)"),
        ("row13.html.jpg", b"<html>404</html>", "a web page, not an image"),
        ("row14.png", huge_png(15_000), "15000x15000 pixels, the limit is 64000000"),
    ],
)
def test_rows_13_and_14_an_unreadable_image_stops_ingest(ingested, name, content, reason):
    ingested.write(f"cat/{name}", content)
    ingested.run("download")
    message = ingested.refused_as_a_user("ingest")
    assert message.splitlines()[0].startswith("1 images cannot be read")
    assert f"cat/{name}: {reason}" in message
    assert "data.on_bad_image: skip" in message


def pixel_of(workspace, name: str, content: bytes) -> list[int]:
    """The first pixel that training would see of one more image of 8x8 pixels."""
    workspace.write(f"cat/{name}", content)
    workspace.run("download", "ingest")
    images, labels = (workspace.read(f"{table}.parquet") for table in ("images", "labels"))
    number = next(row["id"] for row in labels if row["source"] == f"cat/{name}")
    return list(images[number]["image"][:3])


@pytest.mark.parametrize("value", [0, 255, 256, 40_000, 65_535])
def test_row_15_sixteen_bits_are_scaled_never_clipped(ingested, value: int):
    deep = Image.fromarray(np.full((8, 8), value, np.uint16))
    assert pixel_of(ingested, "deep.png", encoded(deep)) == [value >> 8] * 3


def rotated() -> bytes:
    """An upright image is black at the upper left; this one lies on its side and says so."""
    pixels = np.full((8, 8, 3), 255, np.uint8)
    pixels[4:, :4] = 0  # lower left, which orientation 6 turns to the upper left
    exif = Image.Exif()
    exif[0x0112] = 6
    return encoded(Image.fromarray(pixels), "PNG", exif=exif)


ORANGE, WHITE = (200, 100, 50), (255, 255, 255)
PLAIN = Image.new("RGB", (8, 8), ORANGE)


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("rotated.png", rotated(), (0, 0, 0)),
        ("gray.png", encoded(Image.new("L", (8, 8), 77)), (77, 77, 77)),
        ("clear.png", encoded(Image.new("RGBA", (8, 8), (*ORANGE, 0))), WHITE),
        ("palette.png", encoded(PLAIN.quantize(4)), ORANGE),
        ("cmyk.tif", encoded(Image.new("CMYK", (8, 8), (255, 0, 0, 0)), "TIFF"), (0, 255, 255)),
        (
            "moving.gif",
            encoded(
                Image.new("L", (8, 8), 10),
                "GIF",
                save_all=True,
                append_images=[Image.new("L", (8, 8), 200)],
            ),
            (10, 10, 10),
        ),
    ],
)
def test_row_16_every_kind_of_image_has_its_conversion(ingested, name, content, expected):
    assert tuple(pixel_of(ingested, name, content)) == expected


def test_row_17_mixed_sizes_need_a_size_and_a_policy(ingested, capsys):
    ingested.add("dog/strip.png", 9, (10_000, 2))
    ingested.add("dog/dot.png", 9, (1, 1))
    ingested.run("download")
    message = ingested.refused_as_a_user("ingest")
    assert message.endswith("set data.image_size")
    for resize, corner in (("stretch", 9), ("center_crop", 9), ("pad", 0)):
        ingested.set(data={"image_size": 8, "resize": resize})
        ingested.run("ingest")
        images, labels = (ingested.read(f"{table}.parquet") for table in ("images", "labels"))
        of = {row["source"]: images[row["id"]]["image"] for row in labels}
        assert {len(pixels) for pixels in of.values()} == {8 * 8 * 3}
        assert of["dog/dot.png"] == bytes([9]) * 192, "a dot is a square"
        assert of["dog/strip.png"][0] == corner
        warned = "images that may be of no use: 1 longer than 20:1 (dog/strip.png), 1 enlarged"
        assert warned in capsys.readouterr().out
