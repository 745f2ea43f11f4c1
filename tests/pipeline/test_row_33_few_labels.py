"""FAULTS row 33: fewer labels than a batch holds train all the same, and the log says how."""

import shutil
from pathlib import Path

from dvc.utils.serialize import modify_yaml

from tests.pipeline.conftest import ROOT, Project


def test_row_33_fewer_labeled_images_than_a_batch_are_repeated(tmp_path: Path) -> None:
    for folder in ("stages", "pipeline_lib"):
        shutil.copytree(ROOT / folder, tmp_path / folder)
    shutil.copy2(ROOT / "params.yaml", tmp_path)
    project = Project(tmp_path)
    project.set(method="supervised", train={"epochs": 1, "steps_per_epoch": 2, "batch_size": 64})
    with modify_yaml(tmp_path / "params.yaml") as params:
        params["split"]["few_shot"]["labels"] = 10
    for stage in ("configure", "download", "ingest", "split", "train"):
        done = project.stage(stage)
        assert done.returncode == 0, done.stdout
    assert "10 images, fewer than the 64 of a batch, are repeated within it" in done.stdout
    assert (tmp_path / "models/predictor.safetensors").exists()
