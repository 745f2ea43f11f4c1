"""The same bytes on a processor of another maker and generation, which an emulator stands for."""

from __future__ import annotations

import random
import shutil
from typing import TYPE_CHECKING

import pytest

from pipeline_lib.cells.workspace import as_yaml
from pipeline_lib.params.load import read_yaml
from pipeline_lib.params.methods import KINDS
from tests.kill_harness import ROOT, Attacked, Server, made_by, server

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

QEMU = shutil.which("qemu-x86_64")
HASWELL = "Haswell-v4"  # AVX2, and nothing newer
STAGES = ("configure", "download", "ingest", "split", "train", "evaluate", "report")
SHORT = {"epochs": 1, "steps_per_epoch": 4}
PHASES = {
    "paws": {"finetune_steps": 2},
    "pawsb": {"finetune_steps": 2},
    "two_phase": {
        "warmup_steps": 1,
        "supervised_steps": 2,
        "semi_supervised_steps": 2,
        "batch_size": 64,
        "learning_rate": 0.01,
    },
}

pytestmark = [
    pytest.mark.soak,
    pytest.mark.timeout(4 * 3600),
    pytest.mark.skipif(QEMU is None, reason="needs qemu-x86_64 (Debian: qemu-user)"),
]


@pytest.fixture(scope="module")
def native() -> Iterator[Server]:
    with server() as running:
        yield running


@pytest.fixture(scope="module")
def haswell() -> Iterator[Server]:
    with server(str(QEMU), "-cpu", HASWELL) as running:
        yield running


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("workspace")


def choose(workspace: Path, method: str) -> None:
    content = read_yaml(ROOT / "params.yaml")
    content["method"] = method
    content["train"].update(SHORT)
    content["methods"][method].update(PHASES.get(method, {}))
    (workspace / "params.yaml").write_text(as_yaml(content))


def outcome(running: Server, stage: str, workspace: Path) -> dict[str, bytes]:
    attacked = Attacked(running, stage, workspace, made_by(stage), random.Random(0))
    done = attacked.in_peace()
    print(f"{stage}: {done['seconds']:.1f} s")
    return attacked.outcome()


def assert_same(native: Server, haswell: Server, stage: str, workspace: Path) -> None:
    there, here = outcome(haswell, stage, workspace), outcome(native, stage, workspace)
    assert here.keys() == there.keys()
    assert [name for name in here if here[name] != there[name]] == [], stage


@pytest.mark.parametrize("stage", STAGES)
def test_every_stage_of_the_default_pipeline(
    native: Server, haswell: Server, workspace: Path, stage: str
) -> None:
    choose(workspace, "cr_dpll")
    assert_same(native, haswell, stage, workspace)


@pytest.mark.parametrize("method", KINDS)
def test_a_short_training_of_every_method(
    native: Server, haswell: Server, workspace: Path, method: str
) -> None:
    choose(workspace, method)
    for stage in ("configure", "download", "ingest", "split"):
        outcome(native, stage, workspace)
    assert_same(native, haswell, "train", workspace)
