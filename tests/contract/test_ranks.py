"""A step by two processes is the step by one, for every method. A new one is tested here without a new test."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline_lib.params.methods import KINDS

ROOT = Path(__file__).parents[2]
RANKS = 2
MOST = 1e-6  # of a gradient, a weight, a table or a loss, or of that share of it
STEPS = 6  # two epochs of three; methods with phases take more


def free_port() -> int:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        port: int = held.getsockname()[1]
    return port


@pytest.fixture(scope="module")
def differences(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, float]]:
    """By method, what differs most between the two; every step of a short training was taken both ways."""
    folder = tmp_path_factory.mktemp("ranks")
    shared = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port()), "OMP_NUM_THREADS": "1"}
    processes = [
        subprocess.Popen(
            [sys.executable, "-m", "tests.two_ranks", str(folder / f"{rank}.json")],
            cwd=ROOT,
            env=os.environ | shared | {"RANK": str(rank), "WORLD_SIZE": str(RANKS)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank in range(RANKS)
    ]
    said = [process.communicate(timeout=240)[0] for process in processes]
    assert [process.returncode for process in processes] == [0] * RANKS, "\n".join(said)
    first, *others = (json.loads((folder / f"{rank}.json").read_text()) for rank in range(RANKS))
    assert all(other == first for other in others), "the ranks agree to the bit"
    return first


@pytest.mark.parametrize("name", KINDS)
def test_two_processes_take_the_step_of_one(name: str, differences) -> None:
    found = differences[name]
    assert found["steps"] >= STEPS
    assert set(found) == {"steps", "gradient", "method", "meter"}
    assert max(found[what] for what in ("gradient", "method", "meter")) < MOST
