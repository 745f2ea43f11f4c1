"""The split stage on the digits, one protocol after the other, and what it opens."""

from __future__ import annotations

import importlib
import json
import shutil
from pathlib import Path
from typing import get_args

import pytest
from ruamel.yaml import YAML

from pipeline_lib import artifacts
from pipeline_lib.artifacts import sha256
from pipeline_lib.errors import UserError
from pipeline_lib.params.split import Split

ROOT = Path(__file__).resolve().parents[2]
PROTOCOLS = [
    name
    for name in get_args(Split.model_fields["protocol"].annotation)
    if name not in {"auto", "given"}
]


@pytest.fixture(scope="module")
def ingested(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("digits")
    shutil.copy(ROOT / "params.yaml", root)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        for stage in ("configure", "download", "ingest"):
            importlib.import_module(f"stages.{stage}").main()
    return root


@pytest.fixture
def workspace(ingested: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.copytree(ingested, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def split(workspace: Path, protocol: str) -> dict:
    params = YAML(typ="safe").load((ROOT / "params.yaml").read_text())
    params["split"] |= {"protocol": protocol, "allow_noisy_candidates": True}
    params["split"]["class_dependent"] |= {
        "superclasses": {"even": list("02468"), "odd": list("13579")}
    }
    params["method"] = "fixmatch" if protocol == "few_shot" else "cr_dpll"
    (workspace / "params.yaml").write_text(json.dumps(params))
    for stage in ("configure", "split"):
        importlib.import_module(f"stages.{stage}").main()
    content: dict = json.loads((workspace / "data/split/summary.json").read_text())
    return content


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_each_protocol_runs_without_pixels_unless_it_looks_at_the_images(
    workspace: Path, protocol: str
):
    if protocol != "instance_candidates":
        (workspace / "data/images.parquet").unlink()
    summary = split(workspace, protocol)
    assert summary["protocol"] == protocol
    params = json.loads((workspace / "params.yaml").read_text())["split"]
    assert summary["parameters"] == params.get(protocol, {})  # it may have no knobs
    assert ("annotators" in summary) == (protocol == "annotators")
    assert sum(summary["candidates"]["train"]["sizes"].values()) == summary["images"]["train"]


def test_images_that_are_read_several_times_are_hashed_once(
    workspace: Path, monkeypatch: pytest.MonkeyPatch
):
    """They are many gigabytes, and a small model is trained on them and asked."""
    hashed: list[str] = []
    monkeypatch.setattr(artifacts, "SETTLED_NS", 0)
    monkeypatch.setattr(artifacts, "sha256", lambda path: hashed.append(path.name) or sha256(path))
    split(workspace, "instance_candidates")
    assert hashed.count("images.parquet") == 1


def test_damaged_images_are_noticed_and_nothing_is_written(workspace: Path):
    before = split(workspace, "uniform_candidates")
    images = workspace / "data/images.parquet"
    content = bytearray(images.read_bytes())
    content[len(content) // 2] ^= 1
    images.write_bytes(content)
    with pytest.raises(UserError, match=r"images\.parquet: damaged"):
        split(workspace, "instance_candidates")
    assert json.loads((workspace / "data/split/summary.json").read_text()) == before
