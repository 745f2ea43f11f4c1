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


def trained(method: str, device: str, way: str) -> dict[str, bytes]:
    """Every output of a short training, in the working directory."""
    toy_training.write_inputs()
    changes = {
        "device": device,
        "gpu_steps": way,
        "precision": "bf16" if device == "cuda" else "fp32",
    }
    content = toy_training.params(method, steps_per_epoch=6, **changes).model_dump()
    content["methods"][method] |= LONGER.get(method, {})
    return toy_training.outcome(check(content, Path("params.yaml")))[0]


@pytest.mark.gpu
@pytest.mark.parametrize("method", KINDS)
def test_a_recorded_step_is_the_plain_one(method, tmp_path, monkeypatch, capsys) -> None:
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    monkeypatch.delenv("DVC_ROOT", raising=False)
    outputs = []
    for way in ("plain", "replayed"):
        folder = tmp_path / way
        folder.mkdir()
        monkeypatch.chdir(folder)
        outputs.append(trained(method, "cuda", way))
    assert outputs[0] == outputs[1]
    assert "kernel by kernel" not in "".join(capsys.readouterr()), "it was not recorded"
