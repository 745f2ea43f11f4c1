"""What can go wrong on the way to an S3 server and back."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import time

import pytest
from ruamel.yaml import YAML

from pipeline_lib.doctor import cache
from tests.pipeline.conftest import Project
from tests.pipeline.sharing.conftest import APP, BUCKET, PREFIX, Team, flipped, named, ok

pytestmark = [pytest.mark.timeout(600), pytest.mark.usefixtures("well_behaved")]

IMAGES = "data/images.parquet"


def recorded(project: Project, name: str) -> str:
    """The md5 that dvc.lock says for an output."""
    stages = YAML(typ="safe").load(project.root / "dvc.lock")["stages"].values()
    (digest,) = {o["md5"] for stage in stages for o in stage["outs"] if o["path"] == name}
    return digest


def object_of(project: Project, name: str) -> str:
    digest = recorded(project, name)
    return f"files/md5/{digest[:2]}/{digest[2:]}"


def nothing_half_written(project: Project) -> None:
    assert cache.check(project.root).findings == ()
    for name in ("data", "models", "reports"):
        for path in (project.root / name).rglob("*.sha256"):
            file = path.with_suffix("")
            assert not file.exists() or path.read_text().startswith(
                hashlib.sha256(file.read_bytes()).hexdigest()
            )


def test_a_push_that_is_killed_leaves_whole_objects_and_is_completed(team: Team) -> None:
    origin, prefix = team.origin, "killed"
    local = origin.root / ".dvc/config.local"
    before = local.read_bytes() if local.exists() else None
    ok(origin, "dvc", "remote", "modify", "--local", "store", "url", f"s3://{BUCKET}/{prefix}")
    team.proxy.delay = 0.2
    sent = len(team.proxy.seen)
    with (team.folder / "killed.log").open("wb") as log:
        push = subprocess.Popen(
            [*APP, "push"],
            cwd=origin.root,
            env=origin.environment,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    while sum(method == "PUT" for method, _ in team.proxy.seen[sent:]) < 12:
        assert push.poll() is None, (team.folder / "killed.log").read_text()
        time.sleep(0.01)
    os.killpg(push.pid, signal.SIGKILL)
    push.wait()
    team.proxy.behave()
    time.sleep(0.3)  # what was on the way arrives
    some = team.bucket.names(f"{prefix}/files/")
    assert some
    assert team.bucket.damaged(prefix) == []
    ok(origin, *APP, "push")
    every = team.bucket.names(f"{prefix}/files/")
    assert len(every) > len(some)
    assert team.bucket.damaged(prefix) == []
    objects = {named(name) for name in team.bucket.names(f"{PREFIX}/files/")}
    assert {recorded(origin, IMAGES), *map(named, every)} <= objects
    local.unlink() if before is None else local.write_bytes(before)


@pytest.mark.slow
def test_a_flipped_bit_on_the_remote_is_found_on_arrival(team: Team) -> None:
    name = f"{PREFIX}/{object_of(team.origin, IMAGES)}"
    team.bucket.flip(name)
    clone = team.clone()
    done = clone.run(*APP, "pull")
    assert done.returncode == 1
    digest = recorded(team.origin, IMAGES)
    assert (
        f"{IMAGES}: damaged on the remote (files/md5/{digest[:2]}/{digest[2:]}); delete what"
        in done.stdout
    )
    assert "Traceback" not in done.stdout
    assert not (clone.root / IMAGES).exists()
    nothing_half_written(clone)
    # As the message says: until the object is deleted, a push takes it for good.
    team.bucket.delete(name)
    ok(team.origin, *APP, "push")
    ok(clone, *APP, "pull")
    assert (clone.root / IMAGES).read_bytes() == (team.origin.root / IMAGES).read_bytes()


def test_a_flipped_bit_in_the_cache_is_found_before_training_and_by_the_doctor(
    pulled: Project,
) -> None:
    name = "data/split/train.parquet"
    stored = pulled.root / ".dvc/cache" / object_of(pulled, name)
    before, rights = stored.read_bytes(), stored.stat().st_mode
    stored.chmod(0o644)
    stored.write_bytes(flipped(before))
    stored.chmod(rights)
    (pulled.root / name).unlink()
    ok(pulled, "dvc", "checkout", "-q", "dvc.yaml")
    assert (pulled.root / name).read_bytes() != before, "DVC hands it out without a word"
    trained = pulled.stage("train")
    assert trained.returncode == 1
    assert f"{name}: damaged: sha256 is" in trained.stdout
    push = pulled.run(*APP, "push")
    assert push.returncode == 1
    assert f"nothing was pushed: damaged in the cache of DVC: {name};" in push.stdout
    doctor = ok(pulled, *APP, "doctor", "--fix")
    assert f"fixed: {stored}: the object does not have the content" in doctor
    assert f"fixed: {name}: damaged" in doctor
    ok(pulled, *APP, "pull")
    assert (pulled.root / name).read_bytes() == before


def test_a_few_errors_silences_and_broken_downloads_are_overcome(team: Team) -> None:
    clone = team.clone()
    section = "['remote \"store\"']\n    read_timeout = 1\n"
    (clone.root / ".dvc/config.local").write_text(section)
    team.proxy.errors = team.proxy.cut = team.proxy.silent = 2
    ok(clone, *APP, "pull")
    assert (team.proxy.errors, team.proxy.cut, team.proxy.silent) == (0, 0, 0)
    nothing_half_written(clone)


def test_a_server_that_fails_is_named_and_nothing_is_half_written(team: Team) -> None:
    """Not its objects: nobody shall delete those for that."""
    clone = team.clone()
    team.proxy.errors = 10**6
    done = clone.run(*APP, "pull", AWS_MAX_ATTEMPTS="1")
    assert done.returncode == 1
    last = done.stdout.splitlines()[-1]
    assert "outputs did not come, and the remote does not answer as it should" in last
    assert "run `make pull` again" in last
    assert "Traceback" not in done.stdout
    nothing_half_written(clone)
    team.proxy.behave()
    ok(clone, *APP, "pull")
    nothing_half_written(clone)


@pytest.mark.slow
def test_a_push_to_a_server_that_fails_or_is_silent_says_so_and_is_completed(team: Team) -> None:
    origin, prefix = team.origin, "fails"
    local = origin.root / ".dvc/config.local"
    before = local.read_bytes() if local.exists() else None
    local.write_text(
        f"['remote \"store\"']\n    url = s3://{BUCKET}/{prefix}\n    read_timeout = 1\n"
    )
    for trouble, much, message in [
        ("errors", 10**6, "reached max retries: 0"),
        ("delay", 2.0, "Read timeout on endpoint URL"),
    ]:
        setattr(team.proxy, trouble, much)
        done = origin.run(*APP, "push", AWS_MAX_ATTEMPTS="1")
        assert done.returncode == 1
        assert message in done.stdout
        assert "Traceback" not in done.stdout
        team.proxy.behave()
    ok(origin, *APP, "push")
    assert team.bucket.damaged(prefix) == []
    assert recorded(origin, IMAGES) in map(named, team.bucket.names(f"{prefix}/files/"))
    local.unlink() if before is None else local.write_bytes(before)
