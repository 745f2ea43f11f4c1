"""The other remotes of docs/how-to/share.md: a server with SSH and SFTP on the loopback interface, and a folder."""

from __future__ import annotations

import contextlib
import getpass
import os
import re
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.pipeline.conftest import Project
from tests.pipeline.sharing.conftest import APP, PAGE, flipped, ok, settings

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

SSHD = shutil.which("sshd", path="/usr/sbin:/usr/local/sbin:/usr/bin")


@contextlib.contextmanager
def ssh_server(folder: Path) -> Iterator[tuple[int, Path]]:
    """A server for this user alone; its port, and the key that it takes."""
    for name in ("host", "user"):
        subprocess.run(
            ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / name)], check=True
        )
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    configuration = {
        "ListenAddress": "127.0.0.1",
        "Port": port,
        "HostKey": folder / "host",
        "AuthorizedKeysFile": folder / "user.pub",
        "PidFile": "none",
        "StrictModes": "no",
        "PasswordAuthentication": "no",
        "Subsystem": "sftp internal-sftp",
    }
    text = "".join(f"{name} {value}\n" for name, value in configuration.items())
    (folder / "sshd").write_text(text)
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(exist_ok=True)  # where its children are locked up
    log = (folder / "log").open("wb")
    command = [str(SSHD), "-D", "-e", "-f", str(folder / "sshd")]
    with log, subprocess.Popen(command, stdout=log, stderr=log) as process:
        try:
            end = time.monotonic() + 20
            while "Server listening" not in (folder / "log").read_text():
                assert process.poll() is None, (folder / "log").read_text()
                assert time.monotonic() < end
                time.sleep(0.05)
            yield port, folder / "user"
        finally:
            process.terminate()


def origin_of(project: Project, folder: Path, commands: str, keyfile: Path | None) -> Project:
    """A copy of the project that has pushed to a hub and to a remote which `commands` set up."""
    shutil.copytree(project.root, folder / "origin")
    origin = Project(folder / "origin")
    origin.environment = settings(folder)
    subprocess.run(["git", "init", "-q", "--bare", str(folder / "hub.git")], check=True)
    for command in (commands, "git remote add origin ../hub.git", "git push -q origin HEAD"):
        ok(origin, "sh", "-euc", command)
    with_key(origin, keyfile)
    ok(origin, *APP, "push")
    return origin


def with_key(project: Project, keyfile: Path | None) -> None:
    if keyfile:
        assert "dvc remote modify --local store keyfile" in PAGE
        ok(project, "dvc", "remote", "modify", "--local", "store", "keyfile", str(keyfile))


def clone_of(origin: Project, name: str, keyfile: Path | None) -> Project:
    clone = Project(origin.root.parent / name)
    clone.environment = origin.environment
    subprocess.run(
        ["git", "clone", "-q", str(origin.root.parent / "hub.git"), str(clone.root)], check=True
    )
    with_key(clone, keyfile)
    return clone


def colleagues_have_the_bytes(
    origin: Project, store: Path, damaged: str, keyfile: Path | None = None
) -> None:
    """One who pulls computes nothing, and hears of a file that is damaged on the remote."""
    assert "go the images of digits (terms: CC BY 4.0)" in ok(origin, *APP, "push")
    clone = clone_of(origin, "clone", keyfile)
    ok(clone, *APP, "pull")
    assert "Running stage" not in ok(clone, "dvc", "repro")
    made = origin.bytes_of("data", "models")
    assert clone.bytes_of("data", "models") == made

    image = max(
        (path for path in store.rglob("*") if path.is_file()), key=lambda p: p.stat().st_size
    )
    content = image.read_bytes()
    image.chmod(0o644)
    image.write_bytes(flipped(content))
    other = clone_of(origin, "other", keyfile)
    done = other.run(*APP, "pull")
    assert done.returncode == 1
    assert f"{damaged} on the remote" in done.stdout
    assert "Traceback" not in done.stdout
    image.unlink(missing_ok=True)
    ok(origin, *APP, "push")
    ok(other, *APP, "pull")
    assert other.bytes_of("data", "models") == made


@pytest.mark.skipif(SSHD is None, reason="there is no sshd to start")
def test_a_server_with_ssh(project: Project, tmp_path: Path) -> None:
    script = re.search(r"```sh\n(dvc remote add --default store ssh.*?)```", PAGE, re.DOTALL)
    assert script is not None
    store = tmp_path / "srv"
    with ssh_server(tmp_path) as (port, keyfile):
        where = f"ssh://{getpass.getuser()}@127.0.0.1:{port}{store}"
        commands = script[1].replace("ssh://server.example.org/srv/weak-labels", where)
        origin = origin_of(project, tmp_path, commands, keyfile)
        colleagues_have_the_bytes(origin, store, "damaged", keyfile)


def test_a_folder(project: Project, tmp_path: Path) -> None:
    script = re.search(r"```sh\n(dvc remote add --default store /mnt.*?)```", PAGE, re.DOTALL)
    assert script is not None
    store = tmp_path / "mounted"
    store.mkdir()
    commands = script[1].replace("/mnt/team/weak-labels", str(store))
    origin = origin_of(project, tmp_path, commands, None)
    # DVC takes a damaged file out of a folder itself.
    colleagues_have_the_bytes(origin, store, "missing")
    moved = tmp_path / "archived"
    store.rename(moved)
    late = clone_of(origin, "late", None)
    done = late.run(*APP, "pull")
    assert done.returncode == 1
    assert f"the remote's folder {store} is not there" in done.stdout
    assert "missing on the remote" not in done.stdout
    ok(late, "dvc", "remote", "modify", "--local", "store", "url", str(moved))
    ok(late, *APP, "pull")
    assert late.bytes_of("data", "models") == origin.bytes_of("data", "models")
