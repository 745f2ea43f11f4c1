"""What docs/how-to/datasets.md shows of other labels for a dataset's images is run as it stands, on the digits."""

from __future__ import annotations

import importlib
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from dvc.utils.hydra import apply_overrides

from pipeline_lib.errors import UserError
from pipeline_lib.params.load import load
from tests.as_user import ROOT

PAGE = (ROOT / "docs/how-to/datasets.md").read_text(encoding="utf-8")
TITLE = "Other labels for these images"
LABELED = [3, 5, 8, 13, 21, 34, 55, 89, 144, 233]


def run(*stages: str) -> None:
    for stage in stages:
        importlib.import_module(f"stages.{stage}").main()


def test_places_of_labeled_images_become_labels(tmp_path: Path, monkeypatch) -> None:
    clone = tmp_path / "clone"
    clone.mkdir()
    monkeypatch.chdir(clone)
    shutil.copy2(ROOT / "params.yaml", clone)
    run("configure", "download", "ingest")
    images = pl.read_parquet("data/images.parquet").sort("id")
    labels = pl.read_parquet("data/labels.parquet").sort("id")
    np.save(tmp_path / "lb_idx.npy", np.array(LABELED))

    section = PAGE.split(f"## {TITLE}\n")[1].split("\n## ")[0]
    (block,) = re.findall(r"^```sh\n(.*?)^```", section, re.MULTILINE | re.DOTALL)
    snippet, command = block.split("\nEND\n")
    code = snippet.split("\n", 1)[1]
    subprocess.run([sys.executable, "-c", code], check=True)
    flags = re.findall(r"-S (\S+)", command)
    assert command.startswith("dvc exp run -S")
    apply_overrides("params.yaml", [*flags, "data.channels=gray"])
    shutil.rmtree("data")
    run("configure", "download", "ingest", "split")

    again = pl.read_parquet("data/images.parquet").sort("id")
    assert again["image"].to_list() == images["image"].to_list()
    told = pl.read_parquet("data/labels.parquet").sort("id")
    assert told["true_label"].to_list() == labels["true_label"].to_list()
    sets = {row["id"]: row["candidates"] for row in told.rows(named=True) if row["candidates"]}
    assert sets == {place: [labels["true_label"][place]] for place in LABELED}
    roles = json.loads(Path("data/split/summary.json").read_text())["roles"]
    assert set(roles["train"]) == {"labeled_and_unlabeled", "unlabeled"}
    assert sum(part.get("labeled_and_unlabeled", 0) for part in roles.values()) <= len(LABELED)


def test_a_table_for_a_fetched_dataset_is_answered_with_the_way(tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    shutil.copy2(ROOT / "params.yaml", path)
    apply_overrides(path, ["data.table=../lb_idx.npy"])
    with pytest.raises(
        UserError, match=r"data\.table: digits has labels of its own; set it"
    ) as caught:
        load(path)
    page, _, anchor = str(caught.value).split()[-2].partition("#")
    assert (ROOT / page).read_text(encoding="utf-8") == PAGE
    assert anchor == TITLE.lower().replace(" ", "-")
