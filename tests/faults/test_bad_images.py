"""Rows 13, 14 and 17 of the faults: files that are no images, too large ones, mixed sizes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline_lib.own_data import AGAIN
from tests.faults.images import huge_png, huge_tile, jpeg

BAD = {
    "truncated.jpg": (jpeg()[:900], "damaged image: image file is truncated"),
    "truncated.png": (huge_png(100)[:-20], "damaged image"),
    "empty.png": (b"", "empty file (0 bytes)"),
    "page.jpg": (b"\n<!DOCTYPE html><html>404</html>", "a web page, not an image"),
    "phone.jpg": (b"\0\0\0\x24ftypheic\0\0\0\0mif1heic", "a HEIC photo, whatever its name says"),
    "text.png": (b"hello", "not an image in one of the formats JPEG, PNG"),
    "bomb.png": (huge_png(15_000), "15000x15000 pixels, the limit is 64000000"),
    "tile.tif": (huge_tile(26_000), "26000x26000 pixels, the limit is 64000000"),
    "fits.png": (
        b"SIMPLE  =                    T" + b" " * 3000,
        "not an image in one of the formats",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_one_bad_image_stops_the_run_with_its_name_and_reason(workspace, name: str):
    content, reason = BAD[name]
    workspace.two_classes()
    workspace.write(f"cat/{name}", content)
    message = workspace.refused("ingest", "download")
    assert message.splitlines()[0].startswith("1 images cannot be read")
    assert "data.on_bad_image: skip" in message
    assert f"cat/{name}: {reason}" in message


def test_many_bad_images_are_counted_and_ten_are_named(workspace):
    workspace.two_classes()
    for number in range(13):
        workspace.write(f"dog/bad{number:02d}.jpg", b"")
    lines = workspace.refused("ingest", "download").splitlines()
    assert lines[0].startswith("13 images cannot be read")
    assert len(lines) == 13
    assert [line.strip() for line in lines[-2:]] == ["and 3 more", AGAIN]


def test_bad_images_are_skipped_and_listed_on_request(workspace):
    workspace.two_classes()
    for name, (content, _) in BAD.items():
        workspace.write(f"cat/{name}", content)
    workspace.set(data={"on_bad_image": "skip"})
    workspace.run("configure", "download", "ingest", "split")
    rejected = workspace.read("rejected.parquet")
    assert [row["source"] for row in rejected] == sorted(f"cat/{name}" for name in BAD)
    for row in rejected:
        assert BAD[row["source"].removeprefix("cat/")][1] in row["reason"]
    images = workspace.read("images.parquet")
    assert [row["id"] for row in images] == list(range(16))
    assert [row["id"] for row in workspace.read("labels.parquet")] == list(range(16))


def test_nothing_but_bad_images_is_refused_even_when_they_may_be_skipped(workspace):
    workspace.write("cat/1.png", b"")
    workspace.write("dog/1.png", b"x")
    workspace.set(data={"on_bad_image": "skip"})
    assert workspace.refused("ingest", "download").startswith("2 images cannot be read")


def test_mixed_sizes_need_an_image_size(workspace):
    workspace.two_classes()
    workspace.add("dog/wide.png", 1, (40, 20))
    message = workspace.refused("ingest", "download")
    assert message == (
        "images differ in size: cat/00.png is 8x8, dog/wide.png is 40x20; set data.image_size"
    )
    workspace.set(data={"image_size": 12})
    workspace.run("ingest")
    assert {
        (row["height"], row["width"], len(row["image"])) for row in workspace.read("images.parquet")
    } == {(12, 12, 432)}


def test_a_pixel_and_a_strip_can_be_resized(workspace):
    workspace.two_classes()
    workspace.add("cat/dot.png", 9, (1, 1))
    workspace.add("cat/strip.png", 9, (10_000, 2))
    workspace.set(data={"image_size": 8})
    workspace.run("download", "ingest")
    images, labels = (workspace.read(f"{name}.parquet") for name in ("images", "labels"))
    rows = {row["source"]: images[row["id"]]["image"] for row in labels}
    assert rows["cat/dot.png"] == rows["cat/strip.png"] == bytes([9]) * 192


def test_row_21_damaged_input_of_a_stage_is_noticed_before_it_works(workspace):
    workspace.two_classes()
    workspace.run("configure", "download")
    archive = workspace.root / "data/raw/images.archive"
    content = bytearray(archive.read_bytes())
    content[700] ^= 1
    archive.write_bytes(content)
    message = workspace.refused("ingest")
    assert message.startswith("data/raw/images.archive: damaged: sha256 is")
    assert AGAIN not in message, "a copy may be at hand where the source is not"
    (workspace.root / "data/raw/images.archive.sha256").unlink()
    assert workspace.refused("ingest").startswith("data/raw/images.archive.sha256: missing")


@pytest.mark.parametrize("how", ["truncated", "empty", "a flipped bit"])
def test_row_21_a_damaged_table_is_noticed_before_it_is_read(workspace, how: str):
    workspace.two_classes()
    workspace.run("configure", "download", "ingest")
    table = workspace.root / "data/labels.parquet"
    content = bytearray(table.read_bytes())
    content[len(content) // 2] ^= 16
    table.write_bytes({"truncated": content[:-9], "empty": b"", "a flipped bit": content}[how])
    message = workspace.refused("split")
    assert message.startswith("data/labels.parquet: damaged: sha256 is ")
    assert "\n" not in message


def test_the_stage_as_a_program_prints_one_line_and_exits_with_1(workspace):
    root = Path(__file__).resolve().parents[2]
    workspace.two_classes()
    workspace.run("download")
    (workspace.root / "data/raw/images.archive").unlink()
    command = [sys.executable, "-m", "stages.ingest"]
    environment = os.environ | {"PYTHONPATH": str(root)}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 1
    assert (
        done.stderr
        == "data/raw/images.archive: missing; run `dvc repro` (or `dvc pull`) to get it\n"
    )
