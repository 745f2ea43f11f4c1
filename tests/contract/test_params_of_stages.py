"""A stage reads no parameter of the data that dvc.yaml does not list: DVC would keep its output when that changes."""

import importlib
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from ruamel.yaml import YAML

from pipeline_lib.params.sections import Data

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def read(monkeypatch):
    """Names of the fields of `data` that are read, but by the check of the whole file."""
    names = set()
    get = Data.__getattribute__

    def noted(self, name):
        by = Path(sys._getframe(1).f_code.co_filename)
        if name in Data.model_fields and by.parent.name != "params":
            names.add(f"data.{name}")
        return get(self, name)

    monkeypatch.setattr(Data, "__getattribute__", noted)
    return names


def declared(stage):
    content = YAML(typ="safe").load(ROOT / "dvc.yaml")
    return {name for name in content["stages"][stage]["params"] if name.startswith("data.")}


def own_images(folder):
    """Photos in folders by class, and a table that says more of them."""
    for name in ("cat", "dog"):
        for number in range(3):
            path = folder / f"photos/{name}/{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(np.full((8, 8, 3), 40 * number, np.uint8)).save(path)
    rows = "file,candidates\nphotos/cat/0.png,cat|dog\n"
    (folder / "table.csv").write_text(rows)
    return {"name": "image_folder", "path": f"{folder}/photos", "table": f"{folder}/table.csv"}


def test_download_and_ingest_read_what_they_list(tmp_path, monkeypatch, read):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DVC_ROOT", raising=False)
    content = YAML(typ="safe").load(ROOT / "params.yaml")
    content["data"] |= own_images(tmp_path / "own")
    YAML().dump(content, tmp_path / "params.yaml")
    for stage in ("download", "ingest"):
        read.clear()
        importlib.import_module(f"stages.{stage}").main()
        assert read <= declared(stage), stage
        assert {"data.name", "data.path", "data.table"} <= read
    assert len(read) > 6, "what ingest reads"
