"""Labeled, partially labeled and unlabeled images at once, from a table, through the stages."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image
from ruamel.yaml import YAML

from pipeline_lib.errors import UserError
from pipeline_lib.params.methods import KINDS as KINDS_OF_LABELS
from stages import evaluate, train

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Path(__file__).resolve().parents[2]
CLASSES = ("disc", "ring", "cross")
EACH = 30
PARTIAL = tuple(name for name, kind in KINDS_OF_LABELS.items() if kind == "partial")
FEW_SHOT = ("fixmatch", "mixmatch", "paws", "supervised")
KINDS = ("labeled", "partial", "unlabeled")
ROLES = {
    "labeled_and_unlabeled": 1,
    "partial": 2,
    "unlabeled": 3,
}  # and how many candidates they have here


def drawing(name: str, number: int) -> np.ndarray:
    """A shape of eight pixels a side, in a place and brightness of its own."""
    y_HW, x_HW = (
        np.mgrid[:8, :8] - 3.5 + np.random.default_rng(number).uniform(-0.7, 0.7, (2, 1, 1))
    )
    radius_HW = np.hypot(y_HW, x_HW)
    shape_HW = {
        "disc": radius_HW < 2.8,
        "ring": (radius_HW > 2) & (radius_HW < 3.6),
        "cross": np.minimum(abs(y_HW), abs(x_HW)) < 0.9,
    }[name]
    return (shape_HW * (150 + number)).astype(np.uint8)


def said(name: str, number: int, kinds: tuple[str, ...]) -> tuple[str, ...]:
    """The candidates of an image; none if nothing is known."""
    other = CLASSES[(CLASSES.index(name) + 1 + number % 2) % len(CLASSES)]
    kind = kinds[number % len(kinds)]
    return {"labeled": (name,), "partial": (other, name), "unlabeled": ()}[kind]


def as_candidates(said: tuple[str, ...]) -> str:
    """One column: all classes where nothing is known."""
    return "|".join(said or CLASSES)


def as_annotators(said: tuple[str, ...]) -> str:
    """Two columns: blanks where nothing is known."""
    return ",".join((*said, "", "")[:2])


class Workspace:
    """Folders of drawings, a table of what is known of them, and params for a short training."""

    def __init__(self, root: Path, kinds: tuple[str, ...]) -> None:
        self.params = YAML(typ="safe").load((ROOT / "params.yaml").read_text(encoding="utf-8"))
        self.params["data"] |= {"name": "image_folder", "path": "photos", "table": "labels.csv"}
        self.params["split"]["val_labels"] = "clean"
        self.params["model"]["width"] = 8
        self.params["train"] |= {"epochs": 4, "batch_size": 8, "steps_per_epoch": 8}
        self.params["methods"]["pico"]["queue"] = 20
        self.params["methods"]["paws"] |= {"finetune_steps": 30, "images_per_class": 3}
        self.kinds = kinds
        for name in CLASSES:
            (root / "photos" / name).mkdir(parents=True)
            for number in range(EACH):
                file = root / "photos" / name / f"{number:02d}.png"
                Image.fromarray(drawing(name, number)).save(file)
        self.tabulate("candidates", as_candidates)

    def tabulate(self, columns: str, form: Callable[[tuple[str, ...]], str]) -> None:
        rows = [f"file,{columns}"]
        for name in CLASSES:
            for number in range(EACH):
                cells = form(said(name, number, self.kinds))
                rows.append(f"{name}/{number:02d}.png,{cells}")
        Path("labels.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")

    def run(self, method: str, *stages: str) -> None:
        self.params["method"] = method
        Path("params.yaml").write_text(json.dumps(self.params), encoding="utf-8")
        for stage in stages:
            importlib.import_module(f"stages.{stage}").main()


@pytest.fixture
def workspace(request, tmp_path, monkeypatch) -> Workspace:
    """After the split; the kinds of images are all three, or those of the parameter."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DVC_ROOT", raising=False)
    for stage in (train, evaluate):  # which set up a process of their own, and this one is shared
        monkeypatch.setattr(stage, "pin_processor", lambda *_: None)
        monkeypatch.setattr(stage, "deterministic_torch", lambda *_: None)
    workspace = Workspace(tmp_path, getattr(request, "param", KINDS))
    workspace.run("cr_dpll", "configure", "download", "ingest", "split")
    return workspace


def roles() -> dict[str, int]:
    role_N = pq.read_table("data/split/train.parquet")["role"].to_pylist()
    return {role: role_N.count(role) for role in sorted(set(role_N))}


def test_the_table_makes_all_three_kinds(workspace) -> None:
    counts = roles()
    assert set(counts) == set(ROLES)
    assert min(counts.values()) >= 10
    rows = pq.read_table("data/split/train.parquet").to_pylist()
    for row in rows:
        size = ROLES[row["role"]]
        assert len(row["candidates"]) == size
    workspace.tabulate("ann,bob", as_annotators)
    workspace.run("cr_dpll", "configure", "download", "ingest", "split")
    assert pq.read_table("data/split/train.parquet").to_pylist() == rows


@pytest.mark.parametrize("method", [*PARTIAL, *FEW_SHOT])
def test_a_method_trains_on_all_three_kinds_at_once(workspace, method) -> None:
    workspace.run(method, "configure", "split", "train", "evaluate")
    assert set(roles()) == set(ROLES)
    metrics = json.loads(Path("reports/metrics.json").read_text(encoding="utf-8"))
    assert metrics["method"] == method
    assert metrics["test"]["images"] > 0
    assert metrics["test"]["accuracy"] > 0.5  # three classes
    history = Path("reports/train/history.csv").read_text(encoding="utf-8")
    assert "nan" not in history
    assert "inf" not in history


@pytest.mark.parametrize(
    ("workspace", "method", "message"),
    [
        (
            ("partial", "unlabeled"),
            "supervised",
            r"supervised learns from labeled images, and none",
        ),
        (("partial", "unlabeled"), "snn", r"snn learns from labeled images, and none"),
        (("partial", "unlabeled"), "paws", r"paws learns from labeled images, and none"),
        (
            ("labeled",),
            "fixmatch",
            r"fixmatch .* \d+ are labeled or partial and 0 unlabeled or partial",
        ),
        (
            ("labeled",),
            "mixmatch",
            r"mixmatch .* \d+ are labeled or partial and 0 unlabeled or partial",
        ),
        (("labeled",), "paws", r"paws learns from unlabeled images, and none"),
    ],
    indirect=["workspace"],
)
def test_what_a_method_cannot_use_is_refused_in_a_sentence(workspace, method, message) -> None:
    workspace.run(method, "configure", "split")
    with pytest.raises(UserError, match=message) as caught:
        workspace.run(method, "train")
    assert "\n" not in str(caught.value)
    assert not Path("models").exists()


@pytest.mark.parametrize("method", ["fixmatch", "freematch", "softmatch", "mixmatch", "two_phase"])
@pytest.mark.parametrize("workspace", [("partial",)], indirect=True)
def test_methods_for_few_labels_learn_from_candidate_sets_alone(workspace, method) -> None:
    """Every image has two candidates of three: what is guessed of it is one of them."""
    lengths = {"warmup_steps": 8, "supervised_steps": 16, "semi_supervised_steps": 16}
    workspace.params["methods"]["two_phase"] |= lengths | {"learning_rate": 0.01, "batch_size": 8}
    workspace.run(method, "configure", "split", "train", "evaluate")
    assert set(roles()) == {"partial"}
    metrics = json.loads(Path("reports/metrics.json").read_text(encoding="utf-8"))
    assert metrics["test"]["accuracy"] > 0.5  # three classes
    train = pq.read_table("data/split/train.parquet").sort_by("id").to_pylist()
    states = pq.read_table("data/label_state.parquet").sort_by("id").to_pylist()
    for row, state in zip(train, states, strict=True):
        outside = set(range(3)) - set(row["candidates"])
        assert all(state["probabilities"][k] == 0 for k in outside)


def test_images_of_which_nothing_is_known_are_refused_altogether(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DVC_ROOT", raising=False)
    with pytest.raises(UserError, match="no training image says anything of its class"):
        Workspace(tmp_path, ("unlabeled",)).run("cc", "configure", "download", "ingest", "split")
