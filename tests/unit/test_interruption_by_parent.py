"""A training whose DVC is ended saves its state, though the kernel says so once for each thread of DVC."""

import os
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

ROOT = Path(__file__).parents[2]
# First the thread ends that has started the training, then the rest of the process: as when DVC is killed, but slower.
PARENT = """
import pathlib, subprocess, sys, threading, time
def start():
    subprocess.Popen([sys.executable, "-c", sys.argv[1], *sys.argv[2:]])
    while not pathlib.Path(sys.argv[2], "began").exists():
        time.sleep(0.01)
thread = threading.Thread(target=start)
thread.start()
thread.join()
time.sleep(0.2)
"""
TRAINING = """
import pathlib, sys, time
from pipeline_lib.parent import end_with_parent
from pipeline_lib.training.interruption import noticed
end_with_parent()
with noticed() as interruption:
    pathlib.Path(sys.argv[1], "began").touch()
    while interruption.by is None:
        time.sleep(0.01)
    time.sleep(0.6)
pathlib.Path(sys.argv[1], "saved").touch()
"""


@pytest.mark.skipif(
    sys.platform != "linux", reason="only Linux tells children of the end of parents"
)
def test_a_signal_per_thread_of_the_parent_counts_once(tmp_path: Path) -> None:
    command = [sys.executable, "-c", PARENT, TRAINING, str(tmp_path)]
    subprocess.run(command, cwd=ROOT, check=True)
    end = time.monotonic() + 10
    while not (tmp_path / "saved").exists():
        assert time.monotonic() < end
        time.sleep(0.01)


STAGE = """
import pathlib, sys, time
from stages.cli import run
def main() -> None:
    pathlib.Path("began").touch()
    time.sleep(60)
sys.argv = ["stage"]
run(main)
"""


@pytest.mark.skipif(
    sys.platform != "linux", reason="only Linux tells children of the end of parents"
)
@pytest.mark.parametrize("by_dvc", [True, False])
def test_a_stage_ends_with_the_dvc_that_started_it(tmp_path: Path, by_dvc: bool) -> None:
    environment = {k: v for k, v in os.environ.items() if k != "DVC_STAGE"}
    environment |= {"PYTHONPATH": str(ROOT)} | ({"DVC_STAGE": "make"} if by_dvc else {})
    parent = "import subprocess, sys; subprocess.run([sys.executable, '-c', sys.argv[1]])"
    with subprocess.Popen(
        [sys.executable, "-c", parent, STAGE], cwd=tmp_path, env=environment
    ) as started:
        end = time.monotonic() + 30
        while not (tmp_path / "began").exists():
            assert time.monotonic() < end
            time.sleep(0.01)
        (stage,) = psutil.Process(started.pid).children()
        started.kill()
    gone, alive = psutil.wait_procs([stage], timeout=10 if by_dvc else 1)
    for process in alive:
        process.kill()
    assert bool(gone) == by_dvc
