"""What training opens says nothing of the true labels, in no column and in no byte."""

from __future__ import annotations

import io
import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from ruamel.yaml import YAML

from stages import configure, download, ingest, split

CLASSES = ("aardvark", "quokka", "zebu")
OPENED = ("images.parquet", "split/train.parquet", "split/val.parquet")


@pytest.fixture
def data(tmp_path, monkeypatch, request):
    """The folder `data` after the split of three folders of images."""
    params = YAML(typ="safe").load((request.config.rootpath / "params.yaml").read_text())
    params["data"] |= {"name": "image_folder", "path": "photos"}
    (tmp_path / "params.yaml").write_text(json.dumps(params))
    for k, name in enumerate(CLASSES):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for number in range(12):
            file = io.BytesIO()
            Image.fromarray(np.full((4, 4, 3), 20 * k + number, np.uint8)).save(file, "PNG")
            (tmp_path / "photos" / name / f"{number}.png").write_bytes(file.getvalue())
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DVC_ROOT", raising=False)
    for stage in (configure, download, ingest, split):
        stage.main()
    return tmp_path / "data"


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
