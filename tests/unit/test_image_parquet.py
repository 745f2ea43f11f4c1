"""Images in Parquet files: which columns are read, in which order, and what is said of mistakes."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from ruamel.yaml import YAML

from pipeline_lib.artifacts import read_json, sha256
from pipeline_lib.datasets import image_parquet
from pipeline_lib.datasets.ingest import ingest
from pipeline_lib.datasets.load import snapshot
from pipeline_lib.errors import UserError
from pipeline_lib.own_data import AGAIN
from pipeline_lib.params.load import load
from pipeline_lib.params.sections import Data
from pipeline_lib.parquet import read_table

PARAMS = YAML(typ="safe").load(
    (Path(__file__).resolve().parents[2] / "params.yaml").read_text(encoding="utf-8")
)
IMAGE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
CLASSES = ["cat", "dog", "emu"]


def picture(shade: int) -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.full((6, 5, 3), shade, np.uint8)).save(file, "PNG")
    return file.getvalue()


def pictures(count: int) -> list[dict]:
    return [{"bytes": picture(shade), "path": f"{shade}.png"} for shade in range(count)]


def write(path: Path, columns: dict, features: dict | None = None, **options: object) -> None:
    """Write a shard as the `datasets` library does; `features` are those with class names."""
    images = {
        name: pa.array(values, IMAGE)
        for name, values in columns.items()
        if values and isinstance(values[0], dict)
    }
    table = pa.table(columns | images)
    if features is not None:
        told = {name: {"_type": "ClassLabel", "names": names} for name, names in features.items()}
        info = {"info": {"features": {"image": {"_type": "Image"}} | told}}
        table = table.replace_schema_metadata({"huggingface": json.dumps(info)})
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, path, **options)


def data(path: Path, **changes: object) -> Data:
    return Data.model_validate(
        PARAMS["data"] | {"name": "image_parquet", "path": str(path)} | changes
    )


def rows(tmp_path: Path, path: Path, **changes: object) -> list:
    raw = tmp_path / "raw"
    snapshot(data(path, **changes), raw)
    return list(image_parquet.read(raw, data(path, **changes)))


@pytest.fixture
def shards(tmp_path: Path) -> Path:
    """Five images for training in two files, two for testing, one for validation."""
    folder = tmp_path / "set"
    parts = {
        "train-00001-of-00002": ([3, 4], [2, -1]),
        "train-00000-of-00002": ([0, 1, 2], [0, 1, 1]),
        "test-00000-of-00001": ([5, 6], [2, None]),
        "validation-00000-of-00001": ([7], [0]),
    }
    for name, (shades, labels) in parts.items():
        images = [pictures(8)[shade] for shade in shades]
        write(
            folder / f"data/{name}.parquet",
            {"image": images, "label": labels},
            {"label": CLASSES},
            row_group_size=2,
        )
    (folder / "README.md").write_text("a card")
    return folder


def test_shards_are_read_by_name_and_row_with_their_split_and_class(shards: Path, tmp_path: Path):
    read = rows(tmp_path, shards)
    train = "data/train-0000{}-of-00002.parquet:{}"
    assert [(row.source_id, row.split, row.label, row.true_label) for row in read] == [
        ("data/test-00000-of-00001.parquet:0", "test", "emu", "emu"),
        ("data/test-00000-of-00001.parquet:1", "test", None, None),
        (train.format(0, 0), "train", "cat", "cat"),
        (train.format(0, 1), "train", "dog", "dog"),
        (train.format(0, 2), "train", "dog", "dog"),
        (train.format(1, 0), "train", "emu", "emu"),
        (train.format(1, 1), "train", None, None),
        ("data/validation-00000-of-00001.parquet:0", "val", "cat", "cat"),
    ]
    shades = [Image.open(io.BytesIO(row.image)).getpixel((0, 0))[0] for row in read]
    assert shades == [5, 6, 0, 1, 2, 3, 4, 7]


def test_the_tables_are_those_of_the_pipeline(shards: Path, tmp_path: Path):
    raw, out = tmp_path / "raw", tmp_path / "out"
    snapshot(data(shards), raw)
    assert ingest(raw, data(shards), out) == "8 images of 5x6x3, 3 classes (cat, dog, emu)"
    assert read_json(out / "classes.json")["classes"] == CLASSES
    labels = read_table(out / "labels.parquet")
    assert labels["label"].to_pylist() == [2, None, 0, 1, 1, 2, None, 0]


def test_a_single_file_of_plain_bytes_and_text_is_enough(tmp_path: Path):
    path = tmp_path / "birds.parquet"
    images = [picture(0), picture(1), picture(2)]
    write(path, {"photo": images, "label": ["emu", "", None], "note": ["x", "y", "z"]})
    read = rows(tmp_path, path, sha256=sha256(path))
    assert [row.label for row in read] == ["emu", None, None]
    assert [row.source_id for row in read] == [f"birds.parquet:{i}" for i in range(3)]
    assert {row.split for row in read} == {None}


def test_candidates_are_what_training_sees_and_the_label_measures(tmp_path: Path):
    path = tmp_path / "birds.parquet"
    told = {"label": CLASSES, "candidates": CLASSES}
    candidates = [[1, 0, 1], None, [2]]
    write(path, {"image": pictures(3), "label": [0, 1, -1], "candidates": candidates}, told)
    read = rows(tmp_path, path)
    assert [row.candidates for row in read] == [("dog", "cat"), None, ("emu",)]
    assert [(row.label, row.true_label) for row in read] == [
        (None, "cat"),
        (None, "dog"),
        (None, None),
    ]
    write(path, {"image": pictures(2), "candidates": ["cat|dog", None]})
    assert [row.candidates for row in rows(tmp_path, path)] == [("cat", "dog"), None]


def test_a_declared_class_without_an_image_is_told(tmp_path: Path, capsys: pytest.CaptureFixture):
    path = tmp_path / "birds.parquet"
    told = {"label": CLASSES, "candidates": CLASSES}
    write(path, {"image": pictures(2), "label": [0, -1], "candidates": [[0], [1, 0]]}, told)
    rows(tmp_path, path)
    warning = "warning: declared classes without an image are left out: emu"
    assert capsys.readouterr().out.splitlines()[-1] == warning
    write(path, {"image": pictures(3), "label": [0, 1, 2]}, {"label": CLASSES})
    rows(tmp_path, path)
    assert "declared" not in capsys.readouterr().out


def test_other_names_are_found_where_only_one_column_can_be_meant(tmp_path: Path):
    path = tmp_path / "birds.parquet"
    write(path, {"img": pictures(2), "sort": [1, 0], "year": [7, 8]}, {"sort": CLASSES})
    assert [row.label for row in rows(tmp_path, path)] == ["dog", "cat"]


def test_integers_without_names_are_classes_and_a_file_of_images_only_is_unlabeled(tmp_path: Path):
    write(tmp_path / "set/a.parquet", {"image": pictures(3), "label": [10, 2, -1]})
    write(tmp_path / "set/b.parquet", {"image": pictures(1)})
    assert [row.label for row in rows(tmp_path, tmp_path / "set")] == ["10", "2", None, None]


def test_a_class_named_unlabeled_is_none_as_a_folder_of_that_name(tmp_path: Path, capsys):
    path = tmp_path / "set.parquet"
    write(path, {"image": pictures(3), "label": ["cat", "Unlabeled", "dog"]})
    assert [row.label for row in rows(tmp_path, path)] == ["cat", None, "dog"]
    write(path, {"image": pictures(2), "label": [1, 0]}, {"label": ["unlabelled", "dog"]})
    assert [row.label for row in rows(tmp_path, path)] == ["dog", None]
    assert "declared classes" not in capsys.readouterr().out
    write(path, {"image": pictures(2), "candidates": [["unlabeled"], ["cat", "dog"]]})
    assert [row.candidates for row in rows(tmp_path, path)] == [None, ("cat", "dog")]
    write(path, {"image": pictures(1), "candidates": [["cat", "unlabeled"]]})
    with pytest.raises(UserError, match="a hole between the classes"):
        rows(tmp_path, path)


def test_numbers_with_names_and_without_are_no_classes_of_one_set(tmp_path: Path):
    write(tmp_path / "set/a.parquet", {"image": pictures(2), "label": [0, 1]}, {"label": CLASSES})
    write(tmp_path / "set/b.parquet", {"image": pictures(2), "label": [0, 1]})
    with pytest.raises(UserError) as caught:
        rows(tmp_path, tmp_path / "set")
    assert str(caught.value).startswith(
        "classes are names in a.parquet: column label and numbers in b.parquet: column label; write"
    )
    write(tmp_path / "set/b.parquet", {"image": pictures(2), "label": [-1, None]})
    assert [row.label for row in rows(tmp_path, tmp_path / "set")] == ["cat", "dog", None, None]


def test_candidates_have_the_names_of_the_label_unless_they_have_their_own(tmp_path: Path):
    columns = {"image": pictures(2), "label": [0, 1], "candidates": [[0, 2], [1]]}
    write(tmp_path / "set/a.parquet", columns, {"label": CLASSES})
    read = rows(tmp_path, tmp_path / "set")
    assert [row.candidates for row in read] == [("cat", "emu"), ("dog",)]


@pytest.mark.parametrize(
    ("name", "split"),
    [
        ("birds-train-00000-of-00001", "train"),
        ("my_birds_test", "test"),
        ("birds.validation", "val"),
        ("birds/Training/0000", "train"),
        ("contest", None),
    ],
)
def test_a_split_is_a_word_of_the_name(tmp_path: Path, name: str, split: str | None):
    write(tmp_path / f"set/{name}.parquet", {"image": pictures(1), "label": [0]})
    assert [row.split for row in rows(tmp_path, tmp_path / "set")] == [split]


def test_links_to_files_are_followed_as_the_hub_s_cache_consists_of_them(tmp_path: Path):
    write(tmp_path / "blobs/x", {"image": pictures(1), "label": [0]})
    (tmp_path / "set").mkdir()
    (tmp_path / "set/test.parquet").symlink_to("../blobs/x")
    assert [row.split for row in rows(tmp_path, tmp_path / "set")] == ["test"]


TEXT = {"image": pictures(2), "label": ["cat", "dog"]}
# Columns and class names -> what the message must say, from its beginning.
BAD = {
    "two class columns": (
        {"image": pictures(1), "fine": [0], "coarse": [0]},
        {"fine": CLASSES, "coarse": CLASSES},
        "x.parquet: several columns hold classes (fine, coarse); rename the one that is meant to "
        "`label` (there are image: struct, fine: int64, coarse: int64)",
    ),
    "no class column": (
        {"image": pictures(1), "lable": [0]},
        None,
        "x.parquet: no column holds classes; rename the one that is meant to `label` (there are",
    ),
    "two image columns": (
        {"a": [b"1"], "b": [b"2"], "label": [0]},
        None,
        "x.parquet: several columns hold bytes of image files (a, b)",
    ),
    "no image column": ({"label": [0]}, None, "x.parquet: no column holds bytes of image files"),
    "fractions": (
        {"image": pictures(1), "label": [0.5]},
        None,
        "x.parquet: column label: holds double; use class names or numbers",
    ),
    "number too large": (
        {"image": pictures(2), "label": [0, 3]},
        {"label": CLASSES},
        "x.parquet:1: column label: 3 is not a class; they are 0 to 2, -1 is unlabeled",
    ),
    "negative number": (
        {"image": pictures(2), "label": [0, -2]},
        None,
        "x.parquet:1: column label: -2 is not a class; they are 0 and above",
    ),
    "space": (
        {"image": pictures(1), "label": ["cat "]},
        None,
        "x.parquet:0: column label: 'cat ' begins or ends with a space",
    ),
    "empty set": (
        {"image": pictures(3), "candidates": [["cat"], [], []]},
        None,
        "2 rows with an empty candidate set (x.parquet:1, x.parquet:2)",
    ),
    "hole": (
        {"image": pictures(1), "candidates": ["cat||dog"]},
        None,
        "x.parquet:0: column candidates: 'cat||dog': write class names with |",
    ),
    "only a path": (
        {"image": [*pictures(1), {"bytes": None, "path": "1.png"}], "label": [0, 1]},
        None,
        "x.parquet:1: holds no image, only its path '1.png'",
    ),
}


@pytest.mark.parametrize("mistake", BAD)
def test_a_mistake_is_one_line_with_its_place(tmp_path: Path, monkeypatch, mistake: str):
    monkeypatch.chdir(tmp_path)
    columns, features, expected = BAD[mistake]
    write(tmp_path / "x.parquet", columns, features)
    with pytest.raises(UserError) as caught:
        rows(tmp_path, Path("x.parquet"))
    assert str(caught.value).startswith(expected)
    assert "\n" not in str(caught.value)


def test_a_mistake_in_the_rows_says_how_to_go_on_once(tmp_path: Path):
    write(tmp_path / "x.parquet", {"image": pictures(2), "label": ["cat", " dog"]})
    snapshot(data(tmp_path / "x.parquet"), tmp_path / "raw")
    with pytest.raises(UserError) as caught:
        list(image_parquet.read(tmp_path / "raw", data(tmp_path / "x.parquet")))
    assert str(caught.value).endswith(f"a space; remove it; {AGAIN}")
    assert str(caught.value).count(AGAIN) == 1


def test_a_mistake_in_a_label_is_said_before_an_image_is_given(tmp_path: Path):
    write(tmp_path / "x.parquet", {"image": pictures(2), "label": ["cat", " dog"]})
    snapshot(data(tmp_path / "x.parquet"), tmp_path / "raw")
    with pytest.raises(UserError, match=r"x\.parquet:1: column label"):
        next(image_parquet.read(tmp_path / "raw", data(tmp_path / "x.parquet")))


def test_an_image_that_is_null_is_one_that_cannot_be_read(tmp_path: Path):
    path = tmp_path / "x.parquet"
    columns = {"image": [*pictures(2), None], "label": ["cat", "dog", "dog"]}
    write(path, columns)
    snapshot(data(path), tmp_path / "raw")
    with pytest.raises(UserError, match=r"x\.parquet:2: empty file"):
        ingest(tmp_path / "raw", data(path), tmp_path / "out")


@pytest.mark.parametrize("damage", ["truncated", "flipped", "text", "empty"])
def test_a_damaged_file_is_refused_at_once_and_leaves_nothing(tmp_path: Path, damage: str):
    path = tmp_path / "x.parquet"
    write(path, TEXT)
    whole = path.read_bytes()
    footer = len(whole) - 8 - int.from_bytes(whole[-8:-4], "little")
    flipped = whole[:footer] + bytes([whole[footer] ^ 0xFF]) + whole[footer + 1 :]
    content = {"truncated": whole[:-9], "flipped": flipped, "text": b"label\n" * 9, "empty": b""}
    path.write_bytes(content[damage])
    with pytest.raises(UserError, match=r"x\.parquet: no Parquet file, or a damaged one"):
        snapshot(data(path), tmp_path / "raw")
    assert not (tmp_path / "raw").exists()


def test_what_is_not_there_is_said(tmp_path: Path):
    with pytest.raises(UserError, match="not found"):
        rows(tmp_path, tmp_path / "none.parquet")
    (tmp_path / "photos").mkdir()
    with pytest.raises(UserError, match=r"holds no file that ends in \.parquet"):
        rows(tmp_path, tmp_path / "photos")
    with pytest.raises(UserError, match=r"data\.sha256: .* is a folder"):
        rows(tmp_path, tmp_path / "photos", sha256="0" * 64)
    write(tmp_path / "x.parquet", TEXT)
    with pytest.raises(UserError, match="sha256 is"):
        rows(tmp_path, tmp_path / "x.parquet", sha256="0" * 64)


def test_a_table_beside_it_is_refused_in_params(tmp_path: Path):
    params = PARAMS | {
        "data": PARAMS["data"] | {"name": "image_parquet", "path": "x", "table": "labels.csv"}
    }
    (tmp_path / "params.yaml").write_text(json.dumps(params))
    with pytest.raises(UserError, match=r"data\.table: image_parquet has its labels beside"):
        load(tmp_path / "params.yaml")
