"""What ingest writes: pixels or files, twins, and the same bytes on any number of cores."""

from __future__ import annotations

import io
import types
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from ruamel.yaml import YAML

from pipeline_lib.artifacts import read_json
from pipeline_lib.datasets import decoding, sayings
from pipeline_lib.datasets import ingest as module
from pipeline_lib.datasets.ingest import ingest
from pipeline_lib.errors import UserError
from pipeline_lib.images import convert, decode
from pipeline_lib.params.sections import Data
from pipeline_lib.parquet import read_table
from pipeline_lib.records import Row

ROOT = Path(__file__).resolve().parents[2]
PARAMS = YAML(typ="safe").load((ROOT / "params.yaml").read_text())["data"]
TABLES = ("images.parquet", "labels.parquet", "rejected.parquet", "classes.json")


@pytest.fixture
def take(tmp_path, monkeypatch):
    """Ingest rows from a dataset of this test; give the folder of its tables."""
    runs = []

    def run(rows: list[Row], workers: int = 1, **changes) -> Path:
        dataset = types.SimpleNamespace(
            POLICY="natural", CHANNELS="rgb", read=lambda _raw, _data: iter(rows)
        )
        monkeypatch.setattr(module, "load_dataset", lambda _name: dataset)
        out = tmp_path / str(len(runs))
        runs.append(out)
        ingest(tmp_path, Data.model_validate(PARAMS | changes), out, workers)
        return out

    return run


def encoded(pixels: np.ndarray, form: str = "PNG") -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, form)
    return file.getvalue()


def noise(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def two(image: bytes | np.ndarray) -> list[Row]:
    return [Row(f"{name}/1", image, label=name, true_label=name) for name in ("cat", "dog")]


def variety() -> list[Row]:
    """Images of all kinds of labels, some unreadable, some the same."""
    rows = []
    for number in range(60):
        image = b"" if number % 11 == 3 else encoded(noise(20, 30, number % 50))
        name = f"class {(number * 7) % 5}"
        said = (("zoe", name), ("ann", "class 9")) if number % 3 else None
        candidates = (name, "another") if number % 4 == 0 else None
        split = ("train", "test", None)[number % 3]
        label = None if candidates or said else name
        rows.append(Row(f"{number:02d}", image, label, candidates, said, name, split))
    return rows


def test_the_bytes_do_not_depend_on_the_number_of_processes(take, monkeypatch):
    monkeypatch.setattr(decoding, "CHUNK_IMAGES", 4)
    monkeypatch.setattr(decoding, "FEW_CHUNKS", 2)
    changes = {"on_bad_image": "skip", "image_size": 16, "resize": "pad"}
    here, elsewhere = take(variety(), 1, **changes), take(variety(), 3, **changes)
    for name in TABLES:
        assert (here / name).read_bytes() == (elsewhere / name).read_bytes(), name
    assert len(read_table(here / "rejected.parquet")) == 6


def test_names_are_numbered_in_their_order_whenever_they_come(take):
    out = take(variety(), on_bad_image="skip")
    described = read_json(out / "classes.json")
    assert described["classes"] == ["another", *(f"class {n}" for n in (0, 1, 2, 3, 4, 9))]
    assert described["annotators"] == ["ann", "zoe"]
    kept = [row for row in variety() if row.image]
    number = {name: i for i, name in enumerate(described["classes"])}
    for row, said in zip(kept, read_table(out / "labels.parquet").to_pylist(), strict=True):
        assert said["source"] == row.source_id
        assert said["split"] == row.split
        assert said["true_label"] == number[row.true_label]
        assert said["label"] == (None if row.label is None else number[row.label])
        candidates = None if row.candidates is None else sorted(number[c] for c in row.candidates)
        assert said["candidates"] == candidates
        pairs = row.annotations
        assert said["annotators"] == (None if pairs is None else [1, 0])
        assert said["annotations"] == (None if pairs is None else [number[c] for _, c in pairs])


def expected_twins(rows: list[Row]) -> list[int | None]:
    first: dict[bytes, int] = {}
    kept = [row.image for row in rows if row.image]
    earliest = [first.setdefault(image, i) for i, image in enumerate(kept)]
    return [None if e == i else e for i, e in enumerate(earliest)]


@pytest.mark.parametrize("collide", [False, True])
def test_a_twin_is_the_first_image_with_the_same_pixels(take, monkeypatch, collide: bool):
    if collide:  # the short keys of all images are the same: only whole digests tell them apart
        monkeypatch.setattr(sayings, "_keys", lambda d: np.zeros(len(bytes(d)) // 32, np.uint64))
    monkeypatch.setattr(decoding, "CHUNK_IMAGES", 7)
    out = take(variety(), on_bad_image="skip")
    twins = read_table(out / "labels.parquet")["twin"].to_pylist()
    assert twins == expected_twins(variety())
    assert sum(twin is not None for twin in twins) == 8


@pytest.mark.parametrize("form", ["PNG", "JPEG"])
@pytest.mark.parametrize("size", [None, 12])
@pytest.mark.parametrize("resize", ["stretch", "center_crop", "pad"])
def test_stored_files_decode_to_the_pixels_that_would_be_stored(take, form, size, resize):
    rows = [Row(str(n), encoded(noise(18, 25, n), form), label=str(n % 2)) for n in range(5)]
    changes = {"image_size": size, "resize": resize}
    pixels, files = take(rows, store="pixels", **changes), take(rows, store="files", **changes)
    assert (pixels / "labels.parquet").read_bytes() == (files / "labels.parquet").read_bytes()
    a, b = (read_json(out / "classes.json") for out in (pixels, files))
    assert (a.pop("store"), b.pop("store")) == ("pixels", "files")
    assert a == b
    a, b = (read_table(out / "images.parquet").to_pylist() for out in (pixels, files))
    for row, raw, file in zip(rows, a, b, strict=True):
        assert file.pop("image") == row.image
        assert decode(row.image, "rgb", size, resize).tobytes() == raw.pop("image")
        assert file == raw


@pytest.mark.parametrize(("side", "store"), [(96, "pixels"), (97, "files")])
def test_auto_stores_pixels_up_to_96_a_side(take, side: int, store: str):
    out = take(two(encoded(noise(40, side))))
    assert read_json(out / "classes.json")["store"] == store
    out = take(two(encoded(noise(200, 300))), image_size=side)
    assert read_json(out / "classes.json")["store"] == store
    out = take(two(encoded(noise(200, 300))), image_size=side, store="pixels")
    assert read_json(out / "classes.json")["store"] == "pixels"


def test_raw_pixels_are_stored_as_pixels(take):
    pixels = noise(97, 97)
    out = take(two(pixels))
    assert read_json(out / "classes.json")["store"] == "pixels"
    assert read_table(out / "images.parquet")["image"][0].as_py() == pixels.tobytes()
    out = take(two(pixels), image_size=100, resize="pad")
    expected = convert(pixels, "rgb", 100, "pad").tobytes()
    assert read_table(out / "images.parquet")["image"][0].as_py() == expected
    with pytest.raises(UserError, match=r"^data\.store: files: these images come as pixels"):
        take(two(pixels), store="files")


def test_images_too_large_to_train_on_need_a_size(take):
    strip = encoded(np.zeros((1, 40_000), np.uint8))
    with pytest.raises(UserError, match="cat/1 is 40000x1, the limit is 1024 a side; set data"):
        take(two(strip))
    assert read_json(take(two(strip), image_size=8) / "classes.json")["width"] == 8


def test_oddly_resized_images_are_counted_in_one_line(take, capsys):
    rows = [Row(f"plain {n}", encoded(noise(16, 16, n)), label=str(n % 2)) for n in range(3)]
    rows += [Row(f"strip {n}", encoded(noise(2, 41)), label="1") for n in range(4)]
    rows += [Row("just not", encoded(noise(2, 40)), label="1")]
    rows += [Row(f"speck {n}", encoded(noise(3, 3)), label="1") for n in range(2)]
    rows += [Row("just large enough", encoded(noise(1, 4)), label="1")]
    of_12_bits = Image.fromarray(np.full((9, 9), 4095, np.uint16))
    file = io.BytesIO()
    of_12_bits.save(file, "TIFF")
    rows += [Row("dark", file.getvalue(), label="1")]
    rows += [Row("faint", encoded(np.full((9, 9), 16_383, np.uint16), "TIFF"), label="1")]
    file = io.BytesIO()
    Image.new("L", (9, 9), 99).save(
        file, "TIFF", save_all=True, append_images=[Image.new("L", (9, 9))]
    )
    rows += [Row("pages", file.getvalue(), label="1")]
    take(rows, image_size=16)
    assert capsys.readouterr().out == (
        "images that may be of no use: 4 longer than 20:1 (strip 0), "
        "2 enlarged over 4 times (speck 0), 1 nearly black (none of 255 above 15), as 12 bits stored in 16 are (dark), "
        "1 of 16 bits that use few of the 256 levels that are kept: rescale them first (faint), "
        "1 with several pages or frames: the first is taken (pages)\n"
    )
    take(rows[:3])
    assert capsys.readouterr().out == ""
    # cropped, what the shorter side has is what is enlarged
    take([*rows[:3], rows[7]], image_size=16, resize="center_crop")
    assert "1 enlarged over 4 times (just not)" in capsys.readouterr().out


@settings(max_examples=50)
@given(st.lists(st.integers(0, 400), max_size=30), st.booleans())
def test_chunks_hold_all_rows_in_their_order(sizes: list[int], raw: bool):
    images = [np.zeros((size, 1, 1), np.uint8) if raw else bytes(size) for size in sizes]
    rows = [Row(str(n), image) for n, image in enumerate(images)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(decoding, "CHUNK_IMAGES", 5)
        patch.setattr(decoding, "CHUNK_BYTES", 1000)
        target = decoding.Target("rgb", 4, "stretch", "auto")
        chunks = list(decoding._chunks(iter(rows), target))
    assert [row for chunk in chunks for row in chunk] == rows
    for chunk in chunks:
        assert 1 <= len(chunk) <= 5
        assert sum(sizes[int(row.source_id)] for row in chunk[:-1]) < 1000
