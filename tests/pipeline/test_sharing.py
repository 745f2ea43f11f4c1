"""Sharing over S3 as docs/how-to/share.md says, with a real server, and with all that can go wrong on the way.

The server (moto) and a proxy in front of it, which fails when it is told to, listen on the loopback interface.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import boto3
import pytest
from ruamel.yaml import YAML

from pipeline_lib.doctor import cache
from tests.flaky_proxy import FlakyProxy, flaky_proxy
from tests.pipeline.conftest import ROOT, Project

pytestmark = pytest.mark.timeout(600)

BUCKET = "team"
PREFIX = "weak-labels"
PAGE = (ROOT / "docs/how-to/share.md").read_text(encoding="utf-8")
IMAGES = "data/images.parquet"
APP = (sys.executable, "-m", "stages.app")


def settings(folder: Path) -> dict[str, str]:
    """The environment of a user with dummy keys, and without anything of the real one."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("AWS_", "DVC_"))}
    return kept | {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "DVC_NO_ANALYTICS": "1",
        "HOME": str(folder),
        "AWS_ACCESS_KEY_ID": "dummy",
        "AWS_SECRET_ACCESS_KEY": "dummy",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
        "NO_PROXY": "127.0.0.1",
    }


class Bucket:
    """The objects on the server."""

    def __init__(self, url: str) -> None:
        self.client = boto3.client(
            "s3",
            endpoint_url=url,
            region_name="us-east-1",
            aws_access_key_id="dummy",
            aws_secret_access_key="dummy",  # noqa: S106
        )
        self.client.create_bucket(Bucket=BUCKET)

    def names(self, prefix: str) -> list[str]:
        pages = self.client.get_paginator("list_objects_v2").paginate(Bucket=BUCKET, Prefix=prefix)
        return [entry["Key"] for page in pages for entry in page.get("Contents", [])]

    def read(self, name: str) -> bytes:
        with contextlib.closing(self.client.get_object(Bucket=BUCKET, Key=name)["Body"]) as body:
            content: bytes = body.read()
        return content

    def flip(self, name: str) -> None:
        """Change one bit of an object."""
        self.client.put_object(Bucket=BUCKET, Key=name, Body=flipped(self.read(name)))

    def delete(self, name: str) -> None:
        self.client.delete_object(Bucket=BUCKET, Key=name)

    def damaged(self, prefix: str) -> list[str]:
        """Objects whose bytes are not those that they are named by."""
        return [n for n in self.names(f"{prefix}/files/") if md5(self.read(n)) != named(n)]


def flipped(content: bytes) -> bytes:
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]


def md5(content: bytes) -> str:
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


def named(path: str) -> str:
    """The md5 that an object is named by."""
    return "".join(path.split("/")[-2:]).removesuffix(".dir")


class Team:
    """A server, a hub of Git, and the clone of whoever has run the pipeline."""

    def __init__(self, folder: Path, proxy: FlakyProxy, bucket: Bucket) -> None:
        self.folder, self.proxy, self.bucket = folder, proxy, bucket
        self.origin = self.project("origin")
        self.clones = 0

    def project(self, name: str) -> Project:
        project = Project(self.folder / name)
        project.environment = settings(self.folder)
        return project

    def clone(self) -> Project:
        self.clones += 1
        project = self.project(f"clone-{self.clones}")
        git = ["git", "clone", "-q", str(self.folder / "hub.git"), str(project.root)]
        subprocess.run(git, check=True)
        for name in ("email", "name"):
            project.run("git", "config", f"user.{name}", "colleague@localhost")
        return project


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A process with the S3 of moto; it says on which port."""
    log = tmp_path_factory.mktemp("server") / "log"
    program = [str(Path(sys.executable).parent / "moto_server"), "-H", "127.0.0.1", "-p", "0"]
    with log.open("wb") as out:
        process = subprocess.Popen(program, stdout=out, stderr=out, env=settings(log.parent))
    try:
        end = time.monotonic() + 60
        while not (said := re.search(r"http://127\.0\.0\.1:\d+", log.read_text())):
            assert time.monotonic() < end, log.read_text()
            time.sleep(0.05)
        yield said[0]
    finally:
        process.kill()
        process.wait()


@pytest.fixture(scope="module")
def team(project: Project, server: str, tmp_path_factory) -> Iterator[Team]:
    """The project with a remote, set up by the commands of the page, pushed."""
    folder = tmp_path_factory.mktemp("team")
    shutil.copytree(project.root, folder / "origin")
    with flaky_proxy(server) as proxy:
        bucket = Bucket(server)
        team = Team(folder, proxy, bucket)
        script = re.search(r"```sh\n(dvc remote add --default store s3.*?)```", PAGE, re.DOTALL)
        assert script is not None
        commands = script[1].replace("BUCKET", BUCKET)
        commands = commands.replace("https://objects.example.org", proxy.url)
        subprocess.run(["git", "init", "-q", "--bare", str(folder / "hub.git")], check=True)
        for command in (commands, "git remote add origin ../hub.git", "git push -q origin HEAD"):
            ok(team.origin, "sh", "-euc", command)
        assert "note:" not in ok(team.origin, *APP, "push"), "the remote is verified"
        yield team
        bucket.client.close()


@pytest.fixture(autouse=True)
def well_behaved(team: Team) -> Iterator[None]:
    yield
    team.proxy.behave()


def ok(project: Project, *command: str, **environment: str) -> str:
    done = project.run(*command, **environment)
    assert done.returncode == 0, done.stdout
    return done.stdout


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


@pytest.fixture(scope="module")
def pulled(team: Team) -> Project:
    """A fresh clone after `make pull`."""
    clone = team.clone()
    ok(clone, *APP, "pull")
    return clone


def test_a_fresh_clone_pulls_and_computes_nothing(team: Team, pulled: Project) -> None:
    out = ok(pulled, "dvc", "repro")
    assert "Running stage" not in out
    assert "Data and pipelines are up to date." in out
    folders = ("data", "models", "reports")
    made = team.origin.bytes_of(*folders)
    del made["reports/environment.json"]  # of the machine
    assert pulled.bytes_of(*folders) == made
    assert pulled.run("git", "status", "--porcelain").stdout == ""


@pytest.mark.slow
def test_an_experiment_that_pushes_itself_is_not_run_again_elsewhere(team: Team) -> None:
    for setting in (("exp.auto_push", "true"), ("exp.git_remote", "origin")):
        assert f"dvc config --local {' '.join(setting)}" in PAGE
        ok(team.origin, "dvc", "config", "--local", *setting)
    run = ("dvc", "exp", "run", "-S", "method=supervised")
    assert "Running stage 'train'" in ok(team.origin, *run, "--name", "supervised-1")
    ok(team.origin, *APP, "push")
    clone = team.clone()
    again = ok(clone, *run[:3], "--pull", *run[3:])
    assert "Running stage" not in again
    assert again.count("is cached - skipping run") >= 3
    metrics = "reports/metrics.json"
    assert (clone.root / metrics).read_bytes() == (team.origin.root / metrics).read_bytes()
    assert "supervised-1" in ok(clone, "dvc", "exp", "list", "origin")
    ok(team.origin, "sh", "-euc", "git restore --staged --worktree . && dvc checkout -q dvc.yaml")


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


def test_two_clones_work_at_once_through_one_cache(team: Team) -> None:
    """The harder case: both fetch, and then make, the same objects. Set up by the commands of the page."""
    clones = [team.clone(), team.clone()]
    script = re.search(r"```sh\n(dvc cache dir --local.*?)```", PAGE, re.DOTALL)
    assert script is not None
    shared = team.folder / "shared-cache"
    for clone in clones:
        ok(clone, "sh", "-ec", script[1].replace("/srv/dvc-cache", str(shared)))
    at_once(clones, *APP, "pull")
    for clone in clones:
        clone.set(method="average")
    for out in at_once(clones, "dvc", "repro", "train"):
        assert "Data and pipelines are up to date." not in out
    first, second = (clone.bytes_of("data", "models", "reports/train") for clone in clones)
    assert first == second
    assert (clones[0].root / "dvc.lock").read_bytes() == (clones[1].root / "dvc.lock").read_bytes()
    for clone in clones:
        assert cache.check(clone.root).findings == ()
    assert "Running stage" not in ok(clones[0], "dvc", "repro", "train")


def at_once(projects: list[Project], *command: str) -> list[str]:
    started = [
        subprocess.Popen(
            command,
            cwd=project.root,
            env=project.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for project in projects
    ]
    said = [process.communicate()[0] for process in started]
    for process, out in zip(started, said, strict=True):
        assert process.returncode == 0, out
    return said


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
