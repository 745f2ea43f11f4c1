"""`export`: the files give the predictor's probabilities without this project, or are not written."""

from __future__ import annotations

import io
import json
import shutil
import subprocess
from dataclasses import asdict
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from dvc.repo import Repo

from pipeline_lib.apply import export as module
from pipeline_lib.apply.export import CHECKED, NAMES, export
from pipeline_lib.artifacts import publish_json, sha256
from pipeline_lib.doctor.recorded import md5_of
from pipeline_lib.errors import UserError
from pipeline_lib.models.predictor import Predictor, load_predictor, save_predictor
from pipeline_lib.params.methods import KINDS as KINDS_OF_LABELS
from pipeline_lib.parquet import publish_table
from stages.export import _commit
from stages.export import export as command
from tests.pipeline.conftest import ROOT, Project
from tests.toy_predictors import ABOUT, ARCHITECTURE, CLASSES, predictors

KINDS = predictors()
BOTH = list(NAMES)


def saved(folder: Path, kind: str = "softmax") -> Predictor:
    about = ABOUT | {"snapshots": {}}
    predictor = KINDS[kind].eval()
    save_predictor(folder, predictor.state_dict(), predictor.description, ARCHITECTURE, about)
    return predictor


def write_images(data: Path, count: int, test: int | None = None) -> None:
    pixels = np.random.default_rng(2).integers(0, 256, (count, 64), np.uint8)
    publish_table(data / "images.parquet", pa.table({"image": [row.tobytes() for row in pixels]}))
    about = {"height": 8, "width": 8, "channels": 1, "store": "pixels", "resize": "stretch"}
    publish_json(data / "classes.json", about)
    if test is not None:
        ids = pa.array(range(count - test, count), pa.int32())
        publish_table(data / "split/test.parquet", pa.table({"id": ids}))


def random_images(count: int) -> torch.Tensor:
    shape = (count, ARCHITECTURE.channels, ARCHITECTURE.image_height, ARCHITECTURE.image_width)
    return torch.from_numpy(np.random.default_rng(5).integers(0, 256, shape, np.uint8))


def check_files(out: Path, models: Path, images: torch.Tensor) -> tuple[dict, dict]:
    """Compare both files with the predictor, without the library; give what they say of themselves."""
    with torch.inference_mode():
        expected = load_predictor(models)(images).numpy()
    said = {"metadata.json": ""}
    program = torch.export.load(io.BytesIO((out / NAMES["torch"]).read_bytes()), extra_files=said)
    with torch.inference_mode():
        np.testing.assert_allclose(program.module()(images), expected, rtol=0, atol=1e-4)
    session = onnxruntime.InferenceSession(out / NAMES["onnx"])
    (found,) = session.run(None, {"images": images.numpy()})
    assert found.shape == expected.shape
    ends = session.get_inputs()[0], session.get_outputs()[0]
    assert [end.shape[0] for end in ends] == ["batch", "batch"]
    # onnxruntime adds to one place from several threads at once, and loses some
    nodes = {node.op_type for node in onnx.load(out / NAMES["onnx"]).graph.node}
    assert not any(name.startswith("Scatter") for name in nodes)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4)
    return json.loads(said["metadata.json"]), session.get_modelmeta().custom_metadata_map


@pytest.mark.filterwarnings("ignore")  # torch loads a program with warnings
@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_predictor_is_exported(kind: str, tmp_path: Path) -> None:
    saved(tmp_path / "models", kind)
    done = export(
        tmp_path / "models", tmp_path / "data", tmp_path / "out", BOTH, lambda: "0a1b-dirty"
    )
    assert all(one.difference < 1e-4 for one in done)
    said = (
        f"{CHECKED} random images, as {tmp_path}/data/images.parquet holds none for this predictor"
    )
    assert [one.images for one in done] == [said] * 2
    about, props = check_files(tmp_path / "out", tmp_path / "models", random_images(7))
    assert about["classes"] == json.loads(props["classes"]) == CLASSES
    assert about["commit"] == props["commit"] == "0a1b-dirty"
    digest = sha256(tmp_path / "models/predictor.safetensors")
    assert about["predictor_sha256"] == props["predictor_sha256"] == digest
    for name in ("method", "variant", "dataset", "resize"):
        assert about[name] == props[name] == ABOUT[name]
    sizes = ("image_height", "image_width", "channels", "seed")
    assert [about[name] for name in sizes] == [int(props[name]) for name in sizes] == [8, 8, 1, 1]


@pytest.mark.filterwarnings("ignore")  # DVC warns of its own insides
def test_the_commit_is_named_if_its_lock_records_the_predictor(
    tmp_path: Path, capsys, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "cells/checkout"  # cells of a comparison have such a folder too
    root.mkdir(parents=True)

    def git(*arguments: str) -> str:
        who = ("-c", "user.name=a", "-c", "user.email=a@localhost")
        return subprocess.check_output(["git", *who, *arguments], cwd=root, text=True).strip()

    models = root / "models"
    (models / "snapshots").mkdir(parents=True)
    (models / "predictor.safetensors").write_text("of seed 7")
    (models / "snapshots/1").write_text("of seed 7")
    assert _commit(models) is None
    git("init", "-q")
    assert _commit(models) is None
    assert not capsys.readouterr().out
    with Repo.init(str(root)) as repo:
        repo.add([str(models)])  # records it as stages do, in another file
    capsys.readouterr()
    (root / "models.dvc").rename(root / "dvc.lock")
    git("add", ".")
    git("commit", "-q", "-m", "run")
    git("tag", "-a", "predictor@v1.0.0", "-m", "first")
    assert _commit(models) == git("rev-parse", "HEAD")
    (root / "notes.txt").write_text("of no run")
    assert _commit(models) == git("rev-parse", "HEAD")
    assert not capsys.readouterr().out
    comparison = root / "reports/compare"
    cell = comparison / "cells/mixmatch-standard-labels_20-1"  # is recorded as a whole
    cell.parent.mkdir(parents=True)
    shutil.copytree(models, cell / "models")
    assert _commit(cell / "models") is None
    (comparison / "dvc.lock").write_text(f"md5: {md5_of(cell)}\n")
    git("add", "reports/compare/dvc.lock")
    git("commit", "-q", "-m", "comparison")
    capsys.readouterr()
    assert _commit(cell / "models") == git("rev-parse", "HEAD")
    assert not capsys.readouterr().out
    (models / "predictor.safetensors").write_text("of seed 1")  # not committed, or not checked out
    assert _commit(models) is None
    assert capsys.readouterr().out.startswith(
        f"note: {models} is not what the commit that is checked out records: the files name no commit"
    )
    monkeypatch.setenv("PATH", str(tmp_path))
    assert _commit(models) is None


@pytest.mark.parametrize(
    ("count", "test", "words"),
    [(400, 300, "256 test images"), (300, 20, "256 images of"), (40, None, "40 images of")],
)
def test_real_images_are_compared_the_tests_first(
    count: int, test: int | None, words: str, tmp_path: Path
) -> None:
    write_images(tmp_path, count, test)
    about = {"architecture": asdict(ARCHITECTURE)}
    images, said = module._images_to_compare(tmp_path, about)
    assert said.startswith(words)
    assert images.shape == (min(count, CHECKED), 1, 8, 8)
    stored = pq.read_table(tmp_path / "images.parquet")["image"]
    first = count - test if test else 0
    assert images[0].numpy().tobytes() == stored[first].as_py()


@pytest.mark.parametrize("name", NAMES)
def test_row_40_a_file_that_answers_otherwise_is_not_written(
    name: module.Format, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The program is of a predictor that is a little different: 2e-4 in a probability."""
    predictor = saved(tmp_path / "models")
    program_of = module._program

    class Other(torch.nn.Module):
        def forward(self, images_BCHW: torch.Tensor) -> torch.Tensor:
            p_BK = predictor(images_BCHW)
            return p_BK + 2e-4 * torch.tensor([1.0, -1.0, 0.0])

    monkeypatch.setattr(module, "_program", lambda _, images: program_of(Other().eval(), images))
    with pytest.raises(UserError, match=rf"{NAMES[name]}: its probabilities differ .* by 0\.0002"):
        export(tmp_path / "models", tmp_path / "data", tmp_path / "out", [name])
    assert not list((tmp_path / "out").iterdir())


def test_a_model_that_is_replaced_meanwhile_is_not_exported(tmp_path: Path) -> None:
    """The files would name the commit of another one."""
    saved(tmp_path / "models")

    def other() -> None:
        saved(tmp_path / "models", "soft_neighbours")

    with pytest.raises(UserError, match="models: was replaced by another model meanwhile"):
        export(tmp_path / "models", tmp_path / "data", tmp_path / "out", BOTH, other)
    assert not (tmp_path / "out").exists()


def test_answers_that_are_no_numbers_do_not_agree() -> None:
    images, nothing = random_images(3), torch.full((1, 3), torch.nan)
    for broken in (0, 1):

        def loaded(part: torch.Tensor, broken: int = broken) -> torch.Tensor:
            p_BK = KINDS["softmax"].eval()(part)
            return torch.where(nothing.isnan(), nothing, p_BK) if len(part) == 1 + broken else p_BK

        with pytest.raises(UserError, match="differ from the predictor's by nan"):
            module._compared(Path("x.onnx"), KINDS["softmax"].eval(), loaded, images)


@pytest.mark.parametrize(
    ("name", "problem"), [("nowhere", "not found"), ("file.onnx", "is a file")]
)
def test_what_is_no_folder_of_a_predictor_is_named(tmp_path: Path, name: str, problem: str) -> None:
    (tmp_path / "file.onnx").touch()
    with pytest.raises(UserError, match=rf"--models .*{name}: {problem}; give the folder"):
        command(models=tmp_path / name)


def test_missing_packages_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "find_spec", lambda name: None if name == "onnxscript" else name)
    with pytest.raises(UserError, match="ONNX needs onnxscript: pip install onnxscript, or --form"):
        export(tmp_path / "models", tmp_path / "data", tmp_path / "out", BOTH)
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("method", KINDS_OF_LABELS)
def test_every_method_is_exported(method: str, tmp_path: Path) -> None:
    """After an epoch on the digits; the test images are what is compared."""
    (tmp_path / "params.yaml").write_bytes((ROOT / "params.yaml").read_bytes())
    project = Project(tmp_path)
    project.set(method=method, train={"epochs": 1})
    for stage in ("configure", "download", "ingest", "split", "train"):
        done = project.stage(stage)
        assert done.returncode == 0, done.stdout
    models, out = tmp_path / "models", tmp_path / "out"
    exported = export(models, tmp_path / "data", out, BOTH)
    assert [one.images for one in exported] == ["256 test images"] * 2
    print(f"{method}:", *(f"{one.path.name} {one.difference:.1e}" for one in exported))
    check_files(out, models, torch.randint(0, 256, (5, 1, 8, 8), dtype=torch.uint8))
