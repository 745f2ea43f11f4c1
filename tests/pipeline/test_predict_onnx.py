"""`predict` with an exported file: the same answers without torch, and what is no such file."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import polars as pl
import pytest
import torch
from onnx import TensorProto, helper
from PIL import Image

from pipeline_lib.apply.export import NAMES, export
from pipeline_lib.apply.model import described
from pipeline_lib.apply.network import load_network
from pipeline_lib.apply.onnx_file import load_onnx
from pipeline_lib.errors import UserError
from tests.as_user import run_app
from tests.pipeline.conftest import ROOT
from tests.toy_predictors import CLASSES, save_each


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, Path]]:
    """By kind: the folder of a predictor, and its predictor.onnx."""
    root = tmp_path_factory.mktemp("exported")
    files = {}
    for models in save_each(root):
        export(models, root / "no data", models / "out", ["onnx"])
        files[models.name] = models, models / "out" / NAMES["onnx"]
    return files


@pytest.fixture
def file(exported: dict[str, tuple[Path, Path]], tmp_path: Path) -> Path:
    """A predictor.onnx of one's own, without the sha256 beside it."""
    path = tmp_path / "predictor.onnx"
    path.write_bytes(exported["softmax"][1].read_bytes())
    return path


@pytest.mark.parametrize("kind", ["softmax", "soft_neighbours", "projected_softmax"])
def test_the_file_answers_as_the_predictor(
    kind: str, exported: dict[str, tuple[Path, Path]]
) -> None:
    models, path = exported[kind]
    cpu = torch.device("cpu")
    network = described(models, lambda shape: load_network(models, shape, cpu))
    file = load_onnx(path)
    ours, theirs = file.load(), network.load()
    for count in (1, 2, 300):
        images = np.random.default_rng(count).integers(0, 256, (count, 8, 8, 1), np.uint8)
        np.testing.assert_allclose(ours.answer(images), theirs.answer(images), atol=1e-5)
    for name in ("classes", "shape", "target"):
        assert getattr(file, name) == getattr(network, name)
    for name in ("batch_size", "at_once"):
        assert getattr(ours, name) == getattr(theirs, name)


def run_code(code: str, folder: Path) -> str:
    """What a program prints that runs in a folder."""
    return subprocess.run(
        [sys.executable, "-c", code],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    ).stdout


def test_torch_is_not_imported(file: Path) -> None:
    shades = np.random.default_rng(0).integers(0, 256, (8, 8), np.uint8)
    Image.fromarray(shades).save(file.parent / "1.png")
    code = (
        "import sys; from stages.app import app\n"
        "app(['predict', '1.png', '-o', 'out.parquet', '--models', 'predictor.onnx'], standalone_mode=False)\n"
        "print(sorted({'torch', 'pandas', 'scipy', 'onnx'} & set(sys.modules)))"
    )
    said = run_code(code, file.parent)
    assert said == "out.parquet: 1 images\n[]\n"
    found = pl.read_parquet(file.parent / "out.parquet")
    (expected,) = load_onnx(file).load().answer(shades[None, :, :, None])
    assert found["label"][0] == CLASSES[expected.argmax()]
    assert found["probability"][0] == expected.max()


@pytest.mark.parametrize(
    ("option", "value"), [("--device", "cuda"), ("--device", "mps"), ("--precision", "bf16")]
)
def test_what_the_file_cannot_do_is_said(option: str, value: str, file: Path) -> None:
    Image.new("L", (8, 8)).save(file.parent / "1.png")
    arguments = ("predict", "1.png", "-o", "out.parquet", "--models", file.name, option, value)
    done = run_app(file.parent, *arguments)
    assert (done.returncode, done.stderr) == (
        1,
        f"{option} {value}: predictor.onnx is computed on the processor, in fp32; leave it out, or give --models a folder\n",
    )
    assert not (file.parent / "out.parquet").exists()


def test_what_export_wrote_besides_is_no_model_for_predict(file: Path) -> None:
    Image.new("L", (8, 8)).save(file.parent / "1.png")
    other = file.rename(file.with_suffix(".pt2"))
    done = run_app(file.parent, "predict", "1.png", "-o", "out.parquet", "--models", other.name)
    words = "give the folder of predictor.json, or a predictor.onnx that export wrote"
    assert (done.returncode, done.stderr) == (1, f"--models predictor.pt2: {words}\n")


def without_metadata(path: Path) -> None:
    model = onnx.load(path)
    del model.metadata_props[:]
    onnx.save(model, path)


def saying(**said: str) -> Callable[[Path], None]:
    def change(path: Path) -> None:
        model = onnx.load(path)
        for entry in model.metadata_props:
            entry.value = said.get(entry.key, entry.value)
        onnx.save(model, path)

    return change


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-200])


def other_ends(path: Path) -> None:
    """An ONNX file that says the same of itself, and takes something else."""
    said = onnx.load(path).metadata_props
    ends = [
        helper.make_tensor_value_info(name, TensorProto.UINT8, ["b", 3, 8, 8])
        for name in ("images", "probabilities")
    ]
    node = helper.make_node("Identity", ["images"], ["probabilities"])
    model = helper.make_model(
        helper.make_graph([node], "g", ends[:1], ends[1:]),
        opset_imports=[helper.make_opsetid("", 18)],
        ir_version=9,
    )
    model.metadata_props.extend(said)
    onnx.save(model, path)


MISTAKES = {
    "(metadata schema_version: Field required": without_metadata,
    "(metadata: schema_version 2, this version reads 3)": saying(schema_version="2"),
    "(metadata classes: Invalid JSON": saying(classes="ant, bee"),
    "(metadata image_height: Input should be less than": saying(image_height="100000"),
    "probabilities of shape": saying(classes='["ant", "bee"]'),
    "images of shape": other_ends,
    "rotobuf parsing failed": cut,
}


@pytest.mark.parametrize("words", MISTAKES)
def test_a_file_that_export_did_not_write_is_refused(words: str, file: Path) -> None:
    MISTAKES[words](file)
    with pytest.raises(UserError) as caught:
        load_onnx(file)
    said = str(caught.value)
    assert said.startswith(f"{file}: not usable (")
    assert said.endswith("); write it again with `export`")
    assert words in said
    assert "\n" not in said


def test_a_damaged_file_is_told_by_the_sha256_beside_it(
    exported: dict[str, tuple[Path, Path]],
) -> None:
    path = exported["projected_softmax"][1]
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(
        UserError,
        match=r"predictor\.onnx: not usable \(it is not what its sha256 says\); write it again",
    ):
        load_onnx(path)
    path.write_bytes(content)
    load_onnx(path)


def test_a_missing_file_or_package_is_named(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UserError, match=r"no\.onnx: not found; python -m stages\.app export"):
        load_onnx(tmp_path / "no.onnx")
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(UserError, match="needs onnxruntime: pip install onnxruntime"):
        load_onnx(file)


def test_too_many_images_at_a_time_are_told_from_a_broken_file(file: Path) -> None:
    code = (
        "import psutil, resource, sys, numpy as np\n"
        "from pathlib import Path\n"
        "from pipeline_lib.apply.onnx_file import load_onnx\n"
        "from pipeline_lib.errors import UserError\n"
        "model, images = load_onnx(Path('predictor.onnx')).load(), np.zeros((2_000_000, 8, 8, 1), np.uint8)\n"
        "most = psutil.Process().memory_info().vms + (300 << 20)\n"
        "resource.setrlimit(resource.RLIMIT_AS, (most, most))\n"
        "try:\n    model.answer(images)\n"
        "except UserError as error:\n    print(error)"
    )
    said = run_code(code, file.parent)
    assert said == ("--batch-size: 2000000 images do not fit on the processor; lower it\n")
