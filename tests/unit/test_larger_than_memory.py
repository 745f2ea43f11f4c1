"""Images that do not fit in memory: the same values, batches and results from a file."""

from __future__ import annotations

import errno
import os
import resource
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pipeline_lib import control_groups, free_memory, memory, progress
from pipeline_lib.errors import UserError
from pipeline_lib.free_memory import GIB, free_bytes
from pipeline_lib.memory import ImageMemory
from pipeline_lib.parquet import publish_rows
from pipeline_lib.pixels import Stored, read_pixels
from pipeline_lib.training.resume import Slot
from tests import toy_training

CPU = torch.device("cpu")
COUNT, SHAPE = 45, (5, 4, 3)
PIXELS_NHWC = np.random.default_rng(0).integers(0, 256, (COUNT, *SHAPE), dtype=np.uint8)
STORED = Stored(SHAPE, "pixels", "stretch")
ONE = STORED.image_bytes


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """images.parquet of three row groups."""
    path = tmp_path_factory.mktemp("data") / "images.parquet"
    table = pa.table({"image": [image.tobytes() for image in PIXELS_NHWC]})
    with publish_rows(path, table.schema, row_group_size=20) as write:
        write(table)
    return path


def is_mapped(images_NCHW: torch.Tensor) -> bool:
    """Whether a mapping of a nameless file holds the address of the first pixel."""
    address = images_NCHW.data_ptr()
    for line in Path("/proc/self/maps").read_text().splitlines():
        low, _, high = line.split()[0].partition("-")
        if int(low, 16) <= address < int(high, 16):
            return "(deleted)" in line
    return False


@given(st.lists(st.integers(0, COUNT - 1), max_size=60), st.sampled_from([0, 1e-12, 1.0]))
def test_images_come_in_the_order_of_the_ids_from_memory_and_from_a_file(
    images: Path, tmp_path_factory: pytest.TempPathFactory, ids: list[int], budget: float
) -> None:
    ids_N = np.array(ids, np.int32)
    folder = tmp_path_factory.getbasetemp() / "scratch"
    said: list[str] = []
    images_NCHW = ImageMemory(budget, CPU, folder, said.append).load(images, ids_N, STORED, "toy")
    assert images_NCHW.dtype == torch.uint8
    assert np.array_equal(images_NCHW.numpy(), PIXELS_NHWC[ids_N].transpose(0, 3, 1, 2))
    assert np.array_equal(read_pixels(images, ids_N, STORED), PIXELS_NHWC[ids_N])
    mapped = bool(ids) and budget < 1
    assert len(said) == mapped
    assert is_mapped(images_NCHW) == mapped
    assert not folder.exists() or list(folder.iterdir()) == []


def test_a_file_takes_what_the_budget_does_not_hold(images: Path, tmp_path: Path) -> None:
    said: list[str] = []
    room = ImageMemory(10 * ONE / GIB, CPU, tmp_path, said.append)
    first, second, third = (room.load(images, np.arange(n), STORED, "toy") for n in (6, 5, 4))
    assert [is_mapped(part) for part in (first, second, third)] == [False, True, False]
    assert said == [
        f"{5 * ONE / GIB:.3g} GiB of toy images are read from a temporary file in {tmp_path}: "
        f"train.memory_budget leaves {4 * ONE / GIB:.3g} GiB"
    ]


def test_one_process_of_several_tells_how_far_it_is(
    images: Path, tmp_path: Path, monkeypatch, capsys
) -> None:
    monkeypatch.setattr(progress, "SECONDS_BETWEEN_LINES", 0.0)
    ids_N = np.arange(COUNT)
    for say in (None, print):
        assert capsys.readouterr().out == ""
        ImageMemory(1.0, CPU, tmp_path, say).load(images, ids_N, STORED, "toy")
    assert f"reading toy: {COUNT} of {COUNT} images, 0 s" in capsys.readouterr().out


def test_without_a_budget_half_of_what_is_free_is_taken(monkeypatch, tmp_path: Path) -> None:
    free = {"cpu": 10 * GIB, "cuda": 1000}
    monkeypatch.setattr(memory, "free_bytes", lambda device: free[device.type])
    assert ImageMemory(None, CPU, tmp_path, print).room == 4 * GIB, (
        "the training itself needs some, too"
    )
    assert ImageMemory(None, torch.device("cuda"), tmp_path, print).room == 500
    free["cpu"] = 2 * GIB
    assert ImageMemory(None, CPU, tmp_path, print).room == GIB / 4, "small datasets stay in memory"


@pytest.mark.parametrize(
    ("own", "files", "expected"),
    [
        ("", {}, 9000),
        ("0::/job", {"job/memory.max": "max\n", "job/memory.current": "5\n"}, 9000),
        ("0::/a/b", {"a/memory.max": "8000\n", "a/memory.current": "7000\n"}, 1300),
        ("0::/elsewhere", {"memory.max": "8000\n", "memory.current": "7000\n"}, 1300),
        ("0::/a", {"a/memory.max": "8000\n", "a/memory.current": "9999\n"}, 0),
        (
            "4:memory:/x\n0::/",
            {
                "memory/x/memory.limit_in_bytes": "4000\n",
                "memory/x/memory.usage_in_bytes": "1000\n",
            },
            3300,
        ),
    ],
    ids=["no group", "no limit", "limit above", "container", "overdrawn", "version 1"],
)
def test_a_container_may_have_less_than_the_machine(
    monkeypatch, tmp_path: Path, own: str, files: dict[str, str], expected: int
) -> None:
    for name, content in files.items():
        (tmp_path / "fs" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "fs" / name).write_text(content)
        (tmp_path / "fs" / name).with_name("memory.stat").write_text("anon 9\ninactive_file 300\n")
    (tmp_path / "own").write_text(own)
    monkeypatch.setattr(control_groups, "ROOT", tmp_path / "fs")
    monkeypatch.setattr(control_groups, "OWN", tmp_path / "own")
    available = type("Memory", (), {"available": 9000})
    monkeypatch.setattr(free_memory.psutil, "virtual_memory", available)
    assert free_bytes(CPU) == expected


def test_too_little_disk_is_told_before_anything_is_written(
    monkeypatch, images: Path, tmp_path: Path
) -> None:
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(memory.shutil, "disk_usage", lambda _: usage._replace(free=COUNT * ONE - 1))
    with pytest.raises(UserError) as error:
        ImageMemory(1e-12, CPU, tmp_path, print).load(images, np.arange(COUNT), STORED, "toy")
    message = str(error.value)
    assert message.startswith(f"{tmp_path}: no room for {COUNT * ONE / GIB:.3g} GiB of toy images")
    assert f"({os.strerror(errno.ENOSPC)}: {(COUNT * ONE - 1) / GIB:.3g} GiB free)" in message
    assert "PIPELINE_RESUME_DIR" in message
    assert "\n" not in message


def test_space_that_is_refused_after_all_is_told_too(images: Path, tmp_path: Path) -> None:
    """By the system itself: a limit on the size of files stands for a quota or a full disk."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (COUNT * ONE - 1, limits[1]))
    try:
        with pytest.raises(UserError, match=r"no room for .*File too large"):
            ImageMemory(1e-12, CPU, tmp_path, print).load(images, np.arange(COUNT), STORED, "toy")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_is_told(images: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    folder = tmp_path / "file/resume"
    with pytest.raises(UserError, match=r"no room for .*Not a directory.*PIPELINE_RESUME_DIR"):
        ImageMemory(1e-12, CPU, folder, print).load(images, np.arange(COUNT), STORED, "toy")
    with pytest.raises(UserError, match="Not a directory; set PIPELINE_RESUME_DIR"):
        Slot(folder, {}).held().__enter__()


def test_a_budget_of_more_than_there_is_is_told(images: Path, tmp_path: Path) -> None:
    huge = Stored((1 << 28, 1 << 28, 3), "pixels", "stretch")
    with pytest.raises(UserError, match=r"GiB of toy images do not fit on cpu; lower it"):
        ImageMemory(1e12, CPU, tmp_path, print).load(images, np.arange(COUNT), huge, "toy")


@pytest.mark.parametrize("method", ["cr_dpll", "mixmatch", "paws", "two_phase"])
def test_training_from_a_file_gives_the_same_bytes(monkeypatch, tmp_path: Path, method) -> None:
    """And where candidates are read in several blocks."""
    results = {}
    for budget in (None, 1e-9):
        folder = tmp_path / str(budget)
        folder.mkdir()
        monkeypatch.chdir(folder)
        monkeypatch.setattr("pipeline_lib.training.prepare.BLOCK", 8192 if budget is None else 20)
        toy_training.write_inputs()
        results[budget], said = toy_training.outcome(
            toy_training.params(method, memory_budget=budget)
        )
        kinds = [line.split(" of ")[1].split()[0] for line in said]
        assert kinds == ([] if budget is None else ["training", "validation"])
    assert "models/predictor.safetensors" in results[None]
    assert results[1e-9] == results[None]
