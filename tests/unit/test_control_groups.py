"""How many cores a process has, where a container or a job has fewer than the machine."""

from __future__ import annotations

import os
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest

from pipeline_lib import control_groups
from pipeline_lib.control_groups import cores
from pipeline_lib.datasets import decoding
from pipeline_lib.datasets.decoding import Target

if TYPE_CHECKING:
    from pathlib import Path

OLD = "cpu,cpuacct"


@pytest.mark.parametrize(
    ("own", "files", "expected"),
    [
        ("", {}, 8),
        ("0::/job", {"job/cpu.max": "max 100000\n"}, 8),
        ("0::/job", {"job/cpu.max": "150000 100000\n"}, 2),
        ("0::/job", {"job/cpu.max": "20000 100000\n"}, 1),
        ("0::/job", {"job/cpu.max": "6400000 100000\n"}, 8),
        ("0::/a/b", {"a/b/cpu.max": "max 100000\n", "a/cpu.max": "300000 100000\n"}, 3),
        ("0::/elsewhere", {"cpu.max": "400000 100000\n"}, 4),
        (
            f"4:{OLD}:/x\n3:memory:/x\n0::/",
            {f"{OLD}/x/cpu.cfs_quota_us": "200000\n", f"{OLD}/x/cpu.cfs_period_us": "100000\n"},
            2,
        ),
        (
            f"4:{OLD}:/\n0::/",
            {f"{OLD}/cpu.cfs_quota_us": "-1\n", f"{OLD}/cpu.cfs_period_us": "100000\n"},
            8,
        ),
    ],
    ids=[
        "no group",
        "no limit",
        "rounded up",
        "a fifth",
        "more than there are",
        "limit above",
        "container",
        "version 1",
        "version 1 without a limit",
    ],
)
def test_a_container_may_have_fewer_cores_than_the_machine(
    monkeypatch, tmp_path: Path, own: str, files: dict[str, str], expected: int
) -> None:
    for name, content in files.items():
        (tmp_path / "fs" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "fs" / name).write_text(content)
    (tmp_path / "own").write_text(own)
    monkeypatch.setattr(control_groups, "ROOT", tmp_path / "fs")
    monkeypatch.setattr(control_groups, "OWN", tmp_path / "own")
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: range(8))
    assert cores() == expected


def test_as_many_processes_decode_as_there_are_cores(monkeypatch) -> None:
    asked: list[int] = []
    monkeypatch.setattr(decoding, "cores", lambda: 5)
    monkeypatch.setattr(decoding, "_pool", asked.append)
    monkeypatch.setattr(decoding, "FEW_CHUNKS", 2)
    monkeypatch.setattr(decoding, "CHUNK_IMAGES", 1)
    rows = [SimpleNamespace(image=b"")] * 3
    with decoding.decoding(iter(rows), Target("rgb", 8, "stretch", "pixels")):
        pass
    assert asked == [5]
