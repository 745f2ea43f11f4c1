"""What docs/how-to/use-the-model.md shows is run as it stands."""

from __future__ import annotations

import contextlib
import io
import re
import zipfile
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch

from pipeline_lib.apply.export import export
from pipeline_lib.images import decode
from pipeline_lib.models.predictor import load_predictor
from tests.photos import photo
from tests.pipeline.conftest import ROOT, Project
from tests.toy_evaluation import CLASSES, TEST, run, write_inputs

PAGE = (ROOT / "docs/how-to/use-the-model.md").read_text(encoding="utf-8")


def blocks(kind: str, section: str) -> list[str]:
    text = PAGE.split(f"\n## {section}\n")[1].split("\n## ")[0]
    return re.findall(rf"^```{kind}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


def executed(code: str) -> tuple[dict, str]:
    names: dict = {}
    with contextlib.redirect_stdout(io.StringIO()) as said:
        exec(code, names)  # noqa: S102 - it is our own page
    return names, said.getvalue()


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    write_inputs(tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.filterwarnings("ignore")  # torch's exporter
def test_the_onnx_file_is_used_alone_in_ten_lines(workspace: Path) -> None:
    (code,) = blocks("python", "Use the ONNX file alone")
    assert len([line for line in code.splitlines() if "import" not in line and line]) <= 10
    assert set(re.findall(r"^(?:import|from) (\w+)", code, re.MULTILINE)) == {
        *("json", "numpy", "onnxruntime", "PIL")
    }
    export(Path("models"), Path("data"), Path("exported"), ["onnx"])
    photo(Path("photo.png"), 6)  # of an odd number it has 16 bits
    names, said = executed(code)
    pixels_HWC = decode(Path("photo.png").read_bytes(), "rgb", 8)
    with torch.inference_mode():
        images_BCHW = torch.from_numpy(pixels_HWC.copy()).permute(2, 0, 1)[None]
        expected_BK = load_predictor(Path("models"))(images_BCHW).numpy()
    np.testing.assert_allclose(names["probabilities"], expected_BK, atol=1e-6)
    name, probability = said.rsplit(" ", 1)
    assert name == CLASSES[expected_BK[0].argmax()]
    assert float(probability) == pytest.approx(expected_BK.max(), abs=1e-6)


def test_cleanlab_gets_arrays_of_the_shapes_it_takes(workspace: Path) -> None:
    """Labels (N,) of integers 0 to K - 1, and probabilities (N, K) whose rows sum to 1."""
    run(workspace)
    (code,) = blocks("python", "Look for wrong labels with cleanlab")
    names, _ = executed(code)
    labels, pred_probs = names["labels"], names["pred_probs"]
    assert labels.shape == (len(TEST),)
    assert np.issubdtype(labels.dtype, np.integer)
    assert 0 <= labels.min() <= labels.max() < len(CLASSES)
    assert pred_probs.shape == (len(TEST), len(CLASSES))
    np.testing.assert_allclose(pred_probs.sum(axis=1), 1, atol=1e-5)


@pytest.mark.slow
def test_the_commands_do_what_the_page_says(workspace: Path) -> None:
    (workspace / "clone").mkdir()
    (workspace / "models").rename(workspace / "clone/models")
    (workspace / "data").rename(workspace / "clone/data")
    clone = Project(workspace / "clone")
    photo(workspace / "photos/a/1.png", 5)
    photo(clone.root / "one.jpg", 6)
    (workspace / "photos/2.jpg").write_text("no image")
    with zipfile.ZipFile(clone.root / "more.zip", "w") as archive:
        archive.write(clone.root / "one.jpg", "x/1.jpg")
    images = [{"bytes": (clone.root / "one.jpg").read_bytes()}]
    pl.DataFrame({"image": images}).write_parquet(clone.root / "table.parquet")
    for command in "".join(blocks("sh", "Predict") + blocks("sh", "Export")).splitlines():
        done = clone.run("sh", "-euc", command, PYTHONPATH=str(ROOT))
        assert done.returncode == 0, done.stdout
        if command.endswith("../photos -o predictions.parquet"):
            last = "predictions.parquet: 2 images, 1 could not be read (column problem)"
            assert done.stdout.splitlines()[-1] == last
            with contextlib.chdir(clone.root):
                names, _ = executed(blocks("python", "Predict")[0])
            assert names["unreadable"]["source"].to_list() == ["../photos/2.jpg"]
            assert len(names["to_look_at"]) == 0
            written = (clone.root / "predictions.csv").read_bytes()
            assert written.startswith(b"\xef\xbb\xbfsource,")  # else Excel garbles names
    top = pl.read_parquet(clone.root / "predictions.parquet")
    assert top["source"].to_list() == ["one.jpg", "more.zip/x/1.jpg", "table.parquet:0"]
    assert top["top_classes"].list.len().to_list() == [3] * 3
    assert top["label"].null_count() == (top["probability"] < 0.9).sum()
    assert (clone.root / "exported/predictor.pt2").exists()
    assert (workspace / "app/predictor.onnx").exists()


def test_the_predictor_is_loaded_in_python(workspace: Path) -> None:
    (code,) = blocks("python", "In Python")
    assert "2, 1, 8, 8" in code
    names, _ = executed(code.replace("2, 1, 8, 8", "2, 3, 8, 8"))
    torch.testing.assert_close(names["probabilities_BK"].sum(dim=1), torch.ones(2))
    assert names["probabilities_BK"].shape == (2, len(CLASSES))
