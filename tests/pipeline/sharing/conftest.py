"""A team that shares over S3 as docs/how-to/share.md says: a server, a hub of Git, and clones.

The server (moto) and a proxy in front of it, which fails when it is told to, listen on the loopback interface.
"""

from __future__ import annotations

import contextlib
import hashlib
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import boto3
import pytest

from tests.as_user import ENVIRONMENT
from tests.flaky_proxy import FlakyProxy, flaky_proxy
from tests.pipeline.conftest import ROOT, Project

BUCKET = "team"
PREFIX = "weak-labels"
PAGE = (ROOT / "docs/how-to/share.md").read_text(encoding="utf-8")
IMAGES = "data/images.parquet"
APP = (sys.executable, "-m", "stages.app")


def settings(folder: Path) -> dict[str, str]:
    """The environment of a user with dummy keys, and without anything of the real one."""
    return {k: v for k, v in ENVIRONMENT.items() if not k.startswith("AWS_")} | {
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
        assert "note: remote" not in ok(team.origin, *APP, "push"), "the remote is verified"
        yield team
        bucket.client.close()


@pytest.fixture
def well_behaved(team: Team) -> Iterator[None]:
    yield
    team.proxy.behave()


def ok(project: Project, *command: str, **environment: str) -> str:
    done = project.run(*command, **environment)
    assert done.returncode == 0, done.stdout
    return done.stdout


@pytest.fixture(scope="module")
def pulled(team: Team) -> Project:
    """A fresh clone after `make pull`."""
    clone = team.clone()
    ok(clone, *APP, "pull")
    return clone
