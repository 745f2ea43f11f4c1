"""On a GPU: a step that is recorded and launched as one is the step that is taken kernel by kernel."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from pipeline_lib.params.load import check
from pipeline_lib.params.methods import KINDS
from tests import toy_training

LONGER = {
    "two_phase": {"warmup_steps": 6, "supervised_steps": 6, "semi_supervised_steps": 6},
    "paws": {"finetune_steps": 6},
}


def trained(
    method: str, device: str, way: str, dropout: float = 0.0, **changes: object
) -> dict[str, bytes]:
    """Every output of a short training, in the working directory."""
    toy_training.write_inputs()
    changes |= {
        "device": device,
        "gpu_steps": way,
        "precision": "bf16" if device == "cuda" else "fp32",
    }
    content = toy_training.params(method, steps_per_epoch=6, **changes).model_dump()
    content["model"]["dropout"] = dropout
    content["methods"][method] |= LONGER.get(method, {})
    return toy_training.outcome(check(content, Path("params.yaml")))[0]


def trained_both_ways(method, tmp_path, monkeypatch, **settings: object) -> list[dict[str, bytes]]:
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    monkeypatch.delenv("DVC_ROOT", raising=False)
    outputs = []
    for way in ("plain", "replayed"):
        folder = tmp_path / way
        folder.mkdir()
        monkeypatch.chdir(folder)
        outputs.append(trained(method, "cuda", way, **settings))
    return outputs


@pytest.mark.gpu
@pytest.mark.parametrize("method", KINDS)
def test_a_recorded_step_is_the_plain_one(method, tmp_path, monkeypatch, capsys) -> None:
    plain, replayed = trained_both_ways(method, tmp_path, monkeypatch)
    assert plain == replayed
    assert "kernel by kernel" not in "".join(capsys.readouterr()), "it was not recorded"


@pytest.mark.gpu
@pytest.mark.parametrize("optimizer", ["sgd", "adam", "adamw", "lars"])
def test_dropout_clipping_and_every_optimizer_can_be_recorded(
    optimizer, tmp_path, monkeypatch, capsys
) -> None:
    settings = {"optimizer": optimizer, "dropout": 0.2, "clip_gradient": 1.0}
    plain, replayed = trained_both_ways("fixmatch", tmp_path, monkeypatch, **settings)
    assert plain == replayed
    assert "kernel by kernel" not in "".join(capsys.readouterr()), "it was not recorded"
