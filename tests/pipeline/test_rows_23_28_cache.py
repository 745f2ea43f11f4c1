"""Rows 23 and 28 of the faults, as DVC meets them: a cache that rots, and one without room."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from tests.pipeline.conftest import Project

OUTPUTS = ("data", "models", "reports/train", "reports/evaluate")


def cached(project: Project, stage: str, out: str) -> Path:
    """The object of an output in DVC's cache."""
    outs = YAML(typ="safe").load(project.root / "dvc.lock")["stages"][stage]["outs"]
    md5 = next(found["md5"] for found in outs if found["path"] == out)
    return project.root / ".dvc/cache/files/md5" / md5[:2] / md5[2:]


def test_row_23_what_dvc_restores_damaged_is_named_before_it_is_used(project: Project) -> None:
    """DVC trusts a cache object that is write-protected, whatever is in it."""
    name = "data/classes.json"
    file, stored = project.root / name, cached(project, "ingest", name)
    before = stored.read_bytes()
    assert before == file.read_bytes()
    try:
        for path in (stored, file):
            path.unlink()
        stored.write_bytes(before.replace(b"digits", b"digitS"))
        stored.chmod(0o444)
        assert project.run("dvc", "checkout", name).returncode == 0
        assert file.read_bytes() != before, "DVC noticed by itself: this test is not needed"
        done = project.stage("split")
        assert (done.returncode, len(done.stdout.splitlines())) == (1, 1), done.stdout
        assert done.stdout.startswith(f"{name}: damaged: sha256 is ")
        assert "delete the file and its object in .dvc/cache, then `dvc pull` or" in done.stdout
    finally:
        for path in (stored, file):
            path.unlink(missing_ok=True)
            path.write_bytes(before)
        stored.chmod(0o444)
    assert "Data and pipelines are up to date." in project.dvc("repro")


@pytest.fixture(params=["size=8k", "ro"])
def bad_cache(project: Project, request: pytest.FixtureRequest) -> Iterator[Path]:
    """A cache of 8 KiB over that of the project, or one that may only be read."""
    place = project.root / ".dvc/cache"
    mount = ["mount", "-t", "tmpfs", "-o", request.param, "tmpfs", str(place)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("mounting a small disk is not permitted here")
    try:
        yield place
    finally:
        if place.is_mount():
            subprocess.run(["umount", "--lazy", str(place)], check=True)


def test_row_28_a_cache_without_room_is_said_and_costs_nothing(
    project: Project, bad_cache: Path, request: pytest.FixtureRequest
) -> None:
    """After a full one DVC starts the next stage all the same, which finds whole inputs or says that there are none."""
    before = project.bytes_of(*OUTPUTS)
    done = project.run("dvc", "repro", "--force", "ingest")
    assert done.returncode != 0
    full = "size=8k" in request.node.name
    assert ("No space left on device" if full else "Read-only file system") in done.stdout
    assert ("Running stage 'ingest'" in done.stdout) == full
    assert "Traceback" not in done.stdout
    subprocess.run(["umount", "--lazy", str(bad_cache)], check=True)
    project.run("git", "checkout", "-q", "dvc.lock")
    project.dvc("repro")
    assert project.bytes_of(*OUTPUTS) == before
    assert project.run("git", "status", "--porcelain").stdout == ""
