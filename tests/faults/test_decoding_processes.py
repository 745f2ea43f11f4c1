"""Processes that decode images: killed, interrupted, orphaned; and a disk that fills up."""

from __future__ import annotations

import contextlib
import itertools
import multiprocessing
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pipeline_lib.datasets import decoding
from pipeline_lib.errors import UserError
from pipeline_lib.records import Row
from tests.faults.conftest import png
from tests.signals import as_at_a_terminal

ROOT = Path(__file__).resolve().parents[2]
TARGET = decoding.Target("rgb", None, "stretch", "pixels")
FOR_EVER = """
from pipeline_lib.datasets import decoding
from pipeline_lib.records import Row

def rows():
    while True:
        yield Row("x", b"P5 1 1 255 x")

if __name__ == "__main__":
    decoding.CHUNK_IMAGES = 8
    target = decoding.Target("rgb", None, "stretch", "pixels")
    with decoding.decoding(rows(), target, 2) as chunks:
        for number, _ in enumerate(chunks):
            if number == 40:
                print("go", flush=True)
"""
SLOW_TO_START = """
import os
import time

if __name__ != "__main__":
    os.write(1, b"go\\n")  # at once: two processes write here
    time.sleep(2)
"""


def test_a_killed_process_is_one_line_and_the_others_are_gone(monkeypatch):
    monkeypatch.setattr(decoding, "CHUNK_IMAGES", 4)
    image = png(3)

    def rows():
        for number in range(100_000):
            yield Row("x", image)
            if number == 1000:
                children = multiprocessing.active_children()
                assert children
                os.kill(children[0].pid, signal.SIGKILL)

    def work():
        with decoding.decoding(rows(), TARGET, 2) as chunks:
            for _ in chunks:
                pass

    with pytest.raises(UserError, match="a process that decodes images was killed") as caught:
        work()
    assert "\n" not in str(caught.value)
    assert multiprocessing.active_children() == []


def test_a_mistake_in_the_rows_ends_the_processes(monkeypatch):
    monkeypatch.setattr(decoding, "CHUNK_IMAGES", 4)

    message = "damaged archive"

    def rows():
        for _ in range(200):
            yield Row("x", png(3))
        raise UserError(message)

    def work():
        with decoding.decoding(rows(), TARGET, 2) as chunks:
            for _ in chunks:
                pass

    with pytest.raises(UserError, match=message):
        work()
    assert multiprocessing.active_children() == []


@pytest.mark.parametrize(("size", "most"), [(100, 20_000), (1 << 20, 60)])
def test_processes_begin_before_the_first_image_is_asked_for_and_not_with_all(size, most):
    image, given = png(3) + bytes(size), 0

    def rows():
        nonlocal given
        while given < 100_000:
            given += 1
            yield Row("x", image)

    with decoding.decoding(rows(), decoding.Target("rgb", 32, "stretch", "pixels"), 2) as chunks:
        assert multiprocessing.active_children()
        assert most / 2 < given < most
        before, taken = given, 0
        for chunk, _ in itertools.islice(chunks, 40):
            taken += len(chunk)
            assert given - taken < most
        assert given > before


def of_session(session: int) -> list[int]:
    """Processes of a session, that of one that was started in a session of its own."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            fields = path.read_text().rpartition(")")[2].split()
            if int(fields[3]) == session and fields[0] != "Z":
                found.append(int(path.parent.name))
    return found


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc")
@pytest.mark.parametrize("how", ["Ctrl-C", "terminated", "killed"])
@pytest.mark.parametrize("when", ["at work", "at the start"])
def test_no_process_is_left_over(tmp_path, how: str, when: str):
    program = tmp_path / "for_ever.py"
    program.write_text((SLOW_TO_START if when == "at the start" else "") + FOR_EVER)
    with subprocess.Popen(
        [sys.executable, program],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=as_at_a_terminal,
    ) as process:
        assert process.stdout.readline() == "go\n"
        assert len(of_session(process.pid)) >= 3
        if how == "Ctrl-C":  # a terminal sends it to all of them
            os.killpg(process.pid, signal.SIGINT)
        else:
            process.send_signal(signal.SIGTERM if how == "terminated" else signal.SIGKILL)
        _, complaints = process.communicate(timeout=60)
    until = time.monotonic() + 20
    while (left := of_session(process.pid)) and time.monotonic() < until:
        time.sleep(0.05)
    assert left == []
    assert complaints.count("Traceback") == (how == "Ctrl-C"), complaints


def test_row_28_a_disk_that_fills_up_leaves_the_tables_of_the_last_run(workspace):
    """Files may grow to 50 kB only, as on a full disk: images.parquet is larger, the others are not."""
    workspace.two_classes()
    workspace.run("download", "ingest")
    for number in range(16):
        workspace.write(f"cat/{number:02d}.ppm", b"P6 40 40 255 " + os.urandom(3 * 40 * 40))
    workspace.set(data={"image_size": 40})
    workspace.run("download")
    before = workspace.files()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, hard))
    try:
        with pytest.raises(UserError, match=r"^data/images\.parquet: cannot be written \("):
            workspace.run("ingest")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert workspace.files() == before
