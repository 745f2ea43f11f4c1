"""Where the time of a step goes: counted arithmetic, parts that add up, and nothing left behind."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from pipeline_lib import profile as module
from pipeline_lib.params.load import check
from pipeline_lib.profile import Profile, profile
from tests import toy_training

ROOT = Path(__file__).resolve().parents[2]


def test_traffic_is_what_convolutions_and_products_read_and_write() -> None:
    images_BCHW = torch.zeros(2, 3, 8, 8)
    convolution = torch.nn.Conv2d(3, 5, 3, padding=1, bias=False)
    with module._Traffic() as traffic, torch.no_grad():
        maps_BCHW = convolution(images_BCHW)
        torch.relu(maps_BCHW)
        torch.zeros(4, 6) @ torch.zeros(6, 7)
    read = images_BCHW.numel() + convolution.weight.numel() + 4 * 6 + 6 * 7
    assert traffic.bytes == 4 * (read + maps_BCHW.numel() + 4 * 7)


def test_the_floor_is_the_slower_of_arithmetic_and_traffic() -> None:
    known = {"milliseconds": {"data": 1.0, "forward": 3.0}, "images": 8, "views": 16}
    known |= {"flop": 2_000_000, "bytes": 500_000}
    slow_memory = Profile(**known, flop_per_second=1e9, bytes_per_second=1e8)
    assert (slow_memory.total, slow_memory.floor) == (4.0, 5.0)
    fast_memory = Profile(**known, flop_per_second=1e9, bytes_per_second=1e9)
    assert fast_memory.floor == 2.0
    text = "\n".join(fast_memory.lines())
    assert "2,000 images and 4,000 views a second" in text
    assert text.splitlines()[0].split() == ["data", "1.00", "ms", "25.0%"]
    assert text.splitlines()[-1].split() == ["ratio", "2.0"]
    assert slow_memory.lines()[-1].startswith(
        "ratio             0.8; below 1: other work disturbed"
    )


@pytest.mark.parametrize("method", ["mixmatch", "paws", "two_phase"])
def test_any_method_is_profiled_and_nothing_is_kept(monkeypatch, tmp_path: Path, method) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(module.SIDES, "cpu", 64)
    toy_training.write_inputs()
    before = sorted(tmp_path.rglob("*"))
    result = profile(toy_training.params(method), 2, print)
    assert sorted(tmp_path.rglob("*")) == before
    assert list(result.milliseconds) == ["data", "augment", "forward", "backward", "optimizer"]
    assert result.total > result.floor > 0
    assert result.views >= result.images > 0


def test_what_is_profiled_is_what_would_be_trained(monkeypatch, tmp_path: Path) -> None:
    """Its own average, its own batch size; and a training of no epochs is no reason to fail."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(module.SIDES, "cpu", 64)
    toy_training.write_inputs()
    decays = []
    ema = module.Ema
    monkeypatch.setattr(module, "Ema", lambda m, decay: (decays.append(decay), ema(m, decay))[1])
    content = toy_training.params("two_phase", ema_decay=0.0).model_dump()
    content["methods"]["two_phase"] |= {"batch_size": 3}
    result = profile(check(content, Path("params.yaml")), 2, print)
    assert decays == [0.0]
    assert result.images == 3
    assert profile(toy_training.params("pico", epochs=0), 2, print).images > 0


def test_the_command_prints_a_table_and_writes_json(monkeypatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    toy_training.write_inputs()
    content = toy_training.params("mixmatch").model_dump()
    (tmp_path / "params.yaml").write_text(json.dumps(content))
    command = [sys.executable, "-m", "stages.app", "profile", "--steps", "1", "-o", "profile.json"]
    done = subprocess.run(
        command,
        env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    names = [line.split()[0] for line in done.stdout.splitlines()]
    assert names[:2] == ["mixmatch", "data"]
    assert names[-3:] == ["step", "floor", "ratio"]
    assert json.loads((tmp_path / "profile.json").read_text())["flop"] > 0
