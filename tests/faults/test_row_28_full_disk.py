"""Row 28 of the faults: a disk that is full, has a limit, or may not be written to, at every stage."""

from __future__ import annotations

import itertools
import json
import os
import resource
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline_lib.artifacts import SIDECAR, verify
from tests.faults.conftest import Workspace
from tests.kill_harness import Server, made_by, server

STAGES = ("configure", "download", "ingest", "split", "train", "evaluate", "report")
MIB = 1 << 20
# Bytes that are left: for nothing, or for some files of a stage before one that finds no room.
LEFT = (0, 4096, 20_480)
LIMIT = 1000  # bytes of a file: configure writes none that is larger
TRAINING = {"epochs": 1, "batch_size": 4, "keep_last": 1}


@pytest.fixture(scope="module")
def stages() -> Iterator[Server]:
    with server() as running:
        yield running


@pytest.fixture(scope="module")
def whole(stages: Server, tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """A workspace after all stages; the images are noise enough to take some room."""
    workspace = Workspace(tmp_path_factory.mktemp("whole"))
    workspace.two_classes(each=12)
    workspace.set(train=TRAINING, model={"width": 2}, report={"grid_images": 0})
    write_params(workspace)
    for stage in STAGES:
        done = stages.run(stage, workspace.root)
        assert done["code"] == 0, done["said"]
    return workspace


def write_params(workspace: Workspace, **changes: object) -> None:
    content = json.dumps(workspace.params | changes)
    (workspace.root / "params.yaml").write_text(content)


def contents(root: Path) -> dict[str, bytes]:
    """Every file of the workspace but resume states and how long things took."""
    files = (path for path in root.rglob("*") if path.is_file() and ".dvc" not in path.parts)
    found = {path.relative_to(root).as_posix(): path.read_bytes() for path in files}
    found.pop("reports/environment.json", None)
    return found


def mounted(*arguments: str) -> bool:
    done = subprocess.run(["mount", *arguments], capture_output=True, check=False)
    return done.returncode == 0


@pytest.fixture
def disk(tmp_path: Path, whole: Workspace) -> Iterator[Path]:
    """A copy of the workspace on a small disk of its own."""
    place = tmp_path / "disk"
    place.mkdir()
    if not mounted("-t", "tmpfs", "-o", f"size={4 * MIB}", "tmpfs", str(place)):
        pytest.skip("mounting a small disk is not permitted here")
    try:
        shutil.copytree(whole.root, place, dirs_exist_ok=True)
        yield place
    finally:
        subprocess.run(["umount", "--lazy", str(place)], check=True)


def fill(disk: Path, left: int) -> Path:
    """Leave so many bytes of the disk, in pages of 4096."""
    filler = disk / "params.yaml.filler"
    with filler.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, shutil.disk_usage(disk).free - left or 1)
    return filler


def check_refusal(done: dict[str, object]) -> str:
    """The stage ended in one line that says what to do."""
    said = str(done["said"])
    assert (done["code"], "Traceback" in said) == (1, False), said
    *before, complaint = said.splitlines()
    assert ("free space" in complaint) != ("set PIPELINE_RESUME_DIR" in complaint)
    assert "free space" not in "".join(before)
    return complaint


@pytest.mark.parametrize("stage", STAGES)
def test_row_28_a_full_disk_leaves_what_was_there(
    stages: Server, disk: Path, whole: Workspace, stage: str
) -> None:
    before, failed = contents(disk), 0
    for left in LEFT[-1:] if stage == "report" else LEFT:  # it takes seconds to draw
        filler = fill(disk, left)
        done = stages.run(stage, disk)
        filler.unlink()
        if done["code"] == 0:  # what it writes fits
            continue
        failed += 1
        assert "No space left on device" in check_refusal(done)
        assert contents(disk) == before
        assert not list(disk.rglob(".tmp-*"))
    assert failed
    assert stages.run(stage, disk)["code"] == 0, "it goes on where there is room again"
    assert contents(disk) == before


def test_row_28_a_split_is_replaced_whole_or_not_at_all(
    stages: Server, disk: Path, whole: Workspace
) -> None:
    before = contents(disk)
    disk_params = json.dumps(whole.params | {"seed": 77})
    (disk / "params.yaml").write_text(disk_params)
    failed = 0
    for left in range(0, 98_304, 12_288):
        filler = fill(disk, left)
        done = stages.run("split", disk)
        filler.unlink()
        if done["code"] == 0:
            break
        failed += 1
        now = contents(disk) | {"params.yaml": before["params.yaml"]}
        assert now == before, "some files of the split are new and others old"
    assert failed > 2
    assert contents(disk)["data/split/train.parquet"] != before["data/split/train.parquet"]


@pytest.mark.parametrize("stage", STAGES)
def test_row_28_a_disk_that_may_only_be_read(stages: Server, disk: Path, stage: str) -> None:
    before = contents(disk)
    assert mounted("-o", "remount,ro", str(disk))
    said = check_refusal(stages.run(stage, disk))
    assert "Read-only file system" in said
    assert contents(disk) == before


@pytest.mark.parametrize("stage", STAGES[1:-1])
def test_row_28_a_limit_of_the_size_of_files(
    stages: Server, whole: Workspace, tmp_path: Path, stage: str
) -> None:
    """Works without the right to mount, unlike the disks above."""
    shutil.copytree(whole.root, tmp_path, dirs_exist_ok=True)
    before = contents(tmp_path)
    pid, unlimited = stages.process.pid, resource.RLIM_INFINITY
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (LIMIT, unlimited))
    try:
        done = stages.run(stage, tmp_path)
    finally:
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (unlimited, unlimited))
    assert "File too large" in check_refusal(done)
    assert contents(tmp_path) == before
    assert not list(tmp_path.rglob(".tmp-*"))


def test_row_28_a_limit_of_the_size_of_files_at_configure(
    whole: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(whole.root, tmp_path, dirs_exist_ok=True)
    limited = Workspace(tmp_path)
    limited.params = whole.params

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (10, resource.RLIM_INFINITY))

    said = limited.refused_as_a_user("configure", limit)
    assert said == (
        "data/supervision.json: cannot be written (File too large); free space or fix the rights, "
        "then run again"
    )


@pytest.mark.parametrize(("stage", "following"), list(itertools.pairwise(STAGES)))
def test_row_28_no_stage_starts_on_nothing(
    stages: Server, whole: Workspace, tmp_path: Path, stage: str, following: str
) -> None:
    """DVC goes on after a stage whose outputs it could not keep: the next one finds out."""
    shutil.copytree(whole.root, tmp_path, dirs_exist_ok=True)
    for name in made_by(stage):
        path = tmp_path / name
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
    before = contents(tmp_path)
    if (stage, following) == ("configure", "download"):
        following = "split"  # the first to read what configure wrote
    done = stages.run(following, tmp_path)
    assert (done["code"], "Traceback" in done["said"]) == (1, False), done["said"]
    assert "missing" in done["said"].splitlines()[-1]
    assert contents(tmp_path) == before


def test_row_28_everything_that_was_there_fits_its_sidecar(whole: Workspace) -> None:
    sidecars = list(whole.root.rglob(f"*{SIDECAR}"))
    assert len(sidecars) > 20
    for sidecar in sidecars:
        verify(sidecar.with_name(sidecar.name.removesuffix(SIDECAR)))
