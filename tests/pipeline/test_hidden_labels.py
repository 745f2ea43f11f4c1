"""What training opens says nothing of the true labels, in no column and in no byte."""

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

from pipeline_lib.errors import UserError
from stages import configure, download, ingest, split

CLASSES = ("aardvark", "quokka", "zebu")
OPENED = ("images.parquet", "split/train.parquet", "split/val.parquet")


@pytest.fixture
def params(tmp_path, monkeypatch, request):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DVC_ROOT", raising=False)
    params = YAML(typ="safe").load((request.config.rootpath / "params.yaml").read_text())
    params["data"] |= {"name": "image_folder", "path": "photos"}
    return params


def add(name: str, shade: int) -> None:
    path = Path("photos", name)
    path.parent.mkdir(parents=True, exist_ok=True)
    file = io.BytesIO()
    Image.fromarray(np.full((4, 4, 3), shade, np.uint8)).save(file, "PNG")
    path.write_bytes(file.getvalue())


def run(params) -> Path:
    """Give the folder `data` after the split."""
    Path("params.yaml").write_text(json.dumps(params))
    for stage in (configure, download, ingest, split):
        stage.main()
    return Path("data")


@pytest.fixture
def data(params):
    """Of three folders of images."""
    for k, name in enumerate(CLASSES):
        for number in range(12):
            add(f"{name}/{number}.png", 20 * k + number)
    return run(params)


def texts(path) -> dict[str, list[str]]:
    """The columns of text: compressed bytes alone could hide a name."""
    table = pq.read_table(path)
    return {
        name: table[name].to_pylist()
        for name in table.column_names
        if pa.types.is_string(table.schema.field(name).type)
    }


def test_no_file_that_training_opens_names_a_class(data):
    columns = {name: texts(data / name) for name in OPENED}
    assert list(columns["images.parquet"]) == ["sha256"]
    assert all(list(columns[name]) == ["role"] for name in OPENED[1:])
    for name in OPENED:
        stored = (data / name).read_bytes() + json.dumps(columns[name]).encode()
        assert not [label for label in CLASSES if label.encode() in stored]


def test_evaluation_finds_the_names_of_files_beside_the_true_labels(data):
    known = {row["id"]: row for row in pq.read_table(data / "labels.parquet").to_pylist()}
    hidden = pq.read_table(data / "split/oracle.parquet").to_pylist()
    assert {row["part"] for row in hidden} == {"train", "val"}
    for row in hidden:
        assert row["source"] == known[row["id"]]["source"]
        assert row["source"].split("/")[0] == CLASSES[row["label"]]


COLUMNS = {"candidates": "quokka|zebu", "label": "zebu", "ann,bob": "quokka,zebu"}


@pytest.mark.parametrize("columns", COLUMNS)
def test_true_labels_of_a_table_are_measured_with_and_nothing_else(params, columns):
    """Whatever they say of training images, training opens the same bytes."""
    params["split"]["allow_noisy_candidates"] = True
    params["data"]["table"] = "labels.csv"
    opened, hidden = [], []
    for shade, name in enumerate(
        f"{part}/{i}.png" for part in ("train", "val", "test") for i in range(6)
    ):
        add(name, shade)
    for truths in (("aardvark", "zebu", ""), ("", "quokka", "aardvark")):
        rows = [f"file,{columns},true_label"]
        for part in ("train", "val"):
            rows += [f"{part}/{i}.png,{COLUMNS[columns]},{truths[i % 3]}" for i in range(4)]
            rows += [
                f"{part}/{i}.png,{COLUMNS[columns].replace('zebu', name)},"
                for i, name in ((4, "aardvark"), (5, "quokka"))
            ]
        blank = "aardvark|quokka|zebu" if columns == "candidates" else "," * columns.count(",")
        rows += [f"test/{i}.png,{blank},{(*CLASSES, '')[i % 4]}" for i in range(6)]
        Path("labels.csv").write_text("\n".join(rows))
        data = run(params)
        opened.append([(data / name).read_bytes() for name in OPENED])
        known = {
            row["source"]: row["label"]
            for row in pq.read_table(data / "split/oracle.parquet").to_pylist()
        }
        for part in ("train", "val"):
            told = [known[f"{part}/{i}.png"] for i in range(6)]
            number = {name: k for k, name in enumerate(CLASSES)} | {"": None}
            assert told == [*(number[truths[i % 3]] for i in range(4)), None, None]
        tested = pq.read_table(data / "split/test.parquet")
        assert tested["label"].to_pylist() == [0, 1, 2, 0, 1]
        hidden.append(known)
    assert opened[0] == opened[1]
    assert hidden[0] != hidden[1]
    for content in opened[0]:
        assert not [name for name in CLASSES if name.encode() in content]


def test_flat_images_are_tested_where_the_table_knows_the_truth(params):
    params["data"]["table"] = "labels.csv"
    params["split"]["allow_noisy_candidates"] = True
    rows = ["file,label,true_label"]
    for number in range(40):
        add(f"{number:02d}.png", number)
        said, true = CLASSES[number % 2], CLASSES[number // 2 % 2] if number < 20 else ""
        rows.append(f"{number:02d}.png,{said},{true}")
    Path("labels.csv").write_text("\n".join(rows))
    data = run(params)
    tested = pq.read_table(data / "split/test.parquet").to_pylist()
    assert len(tested) == 5  # a quarter of the 20
    assert all(row["label"] == row["id"] // 2 % 2 and row["id"] < 20 for row in tested)
    summary = json.loads((data / "split/summary.json").read_text())
    trained = pq.read_table(data / "split/train.parquet").to_pylist()
    assert {tuple(row["candidates"]) for row in trained} == {(0,), (1,)}
    assert all(row["candidates"] == [row["id"] % 2] for row in trained)
    missed = [row for row in trained if row["id"] < 20 and row["id"] % 2 != row["id"] // 2 % 2]
    assert summary["noisy"]["train"] == len(missed) > 0


def test_without_any_known_truth_the_column_is_named(params):
    params["data"]["table"] = "labels.csv"
    rows = ["file,ann"]
    for number in range(6):
        add(f"{number}.png", number)
        rows.append(f"{number}.png,{CLASSES[number % 2]}")
    Path("labels.csv").write_text("\n".join(rows))
    with pytest.raises(UserError, match=r"or a column `true_label` to data\.table"):
        run(params)
