"""One training over two machines: torchrun's launcher on each, and between them a network, if we may make one."""

from __future__ import annotations

import contextlib
import json
import os
import platform
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import torch

from pipeline_lib.artifacts import publish_json
from pipeline_lib.cells.workspace import as_yaml
from pipeline_lib.errors import UserError
from pipeline_lib.training import launch
from tests import toy_training
from tests.signals import as_at_a_terminal

ROOT = Path(__file__).parents[2]
SECONDS = 120
COMMAND = (sys.executable, "-m", "stages.train")
ENVIRONMENT = {k: v for k, v in os.environ.items() if k != "DVC_STAGE"} | {"PYTHONPATH": str(ROOT)}
TOOLS = ("ip", "unshare", "mount", "hostname")

MEETING = {"PET_NNODES": "2", "PET_RDZV_BACKEND": "static", "PET_NODE_RANK": "0"}
MEETING |= {"PET_MASTER_PORT": "29400"}

pytestmark = pytest.mark.timeout(300)


@dataclass
class Machine:
    """A folder, what comes before a command that is to run there, and environment variables of its own."""

    folder: Path
    number: int
    first: str
    port: int
    prefix: tuple[str, ...] = ()
    own: dict[str, str] = field(default_factory=dict)

    def start(
        self, devices: int | str = 1, first: str | None = None, **train: object
    ) -> subprocess.Popen[str]:
        params = toy_training.params("cr_dpll", devices=devices, epochs=2, **train)
        (self.folder / "params.yaml").write_text(as_yaml(params.model_dump()))
        meeting = {"PET_NNODES": "2", "PET_RDZV_BACKEND": "static"} if devices != 2 else {}
        meeting |= {"PET_MASTER_ADDR": first or self.first, "PET_MASTER_PORT": str(self.port)}
        started = subprocess.Popen(
            (*self.prefix, *COMMAND),
            cwd=self.folder,
            env=ENVIRONMENT | self.own | meeting | {"PET_NODE_RANK": str(self.number)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            preexec_fn=as_at_a_terminal,
        )
        STARTED.append(started)
        return started


STARTED: list[subprocess.Popen[str]] = []


@pytest.fixture(autouse=True)
def _nothing_is_left() -> Iterator[None]:
    yield
    for process in STARTED:
        process.terminate()  # the launcher ends what it has started
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
    STARTED.clear()


@pytest.fixture
def folders(tmp_path: Path) -> list[Path]:
    """Three of the same inputs."""
    found = [tmp_path / name for name in "abc"]
    for folder in found:
        folder.mkdir()
        with contextlib.chdir(folder):
            toy_training.write_inputs()
    return found


@pytest.fixture
def port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


@pytest.fixture
def one_machine(folders: list[Path], port: int) -> list[Machine]:
    return [Machine(folder, number, "127.0.0.1", port) for number, folder in enumerate(folders[:2])]


@pytest.fixture
def two_machines(folders: list[Path], port: int, tmp_path: Path) -> Iterator[list[Machine]]:
    """They know each other by IPv4 addresses."""
    with connected(folders, port, tmp_path, "192.168.77.{}/24") as machines:
        yield machines


@pytest.fixture
def two_machines_of_ipv6(folders: list[Path], port: int, tmp_path: Path) -> Iterator[list[Machine]]:
    """And have no others."""
    with connected(folders, port, tmp_path, "fd00:77::{}/64", "nodad") as machines:
        yield machines


@contextlib.contextmanager
def connected(
    folders: list[Path], port: int, tmp_path: Path, address: str, *flags: str
) -> Iterator[list[Machine]]:
    """With a cable between them, and a host name that leads to 127.0.1.1, as Debian and Ubuntu set it up."""
    if os.getuid() or not all(map(shutil.which, TOOLS)):
        pytest.skip("networks of our own take root, `ip` and `unshare`")
    names = [f"weak{os.getpid()}{letter}" for letter in "ab"]
    hosts = tmp_path / "hosts"
    hosts.write_text("127.0.0.1 localhost\n127.0.1.1 here\n")
    # In a file system and with a host name of its own as well.
    inside = f'mount --bind {hosts} /etc/hosts && hostname here && exec "$@"'
    machines = []
    try:
        for number, (name, folder) in enumerate(zip(names, folders, strict=False)):
            added = subprocess.run(["ip", "netns", "add", name], capture_output=True, text=True)
            if added.returncode:
                pytest.skip(f"no network of our own can be made here: {added.stderr}")
            ip("-n", name, "link", "set", "lo", "up")
            prefix = ("ip", "netns", "exec", name, "unshare", "-mu", "sh", "-c", inside, "-")
            first = address.format(1).partition("/")[0]
            machines.append(Machine(folder, number, first, port, prefix))
        ip("link", "add", "w0", "netns", names[0], "type", "veth", "peer", "w1", "netns", names[1])
        for number, name in enumerate(names):
            own = address.format(number + 1)
            ip("-n", name, "address", "add", own, "dev", f"w{number}", *flags)
            ip("-n", name, "link", "set", f"w{number}", "up")
        yield machines
    finally:
        for name in names:
            subprocess.run(["ip", "netns", "delete", name], check=False, capture_output=True)


def ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True)


@pytest.mark.slow
@pytest.mark.parametrize("machines", ["one_machine", "two_machines", "two_machines_of_ipv6"])
def test_two_machines_train_as_two_processes_of_one(
    machines: str, folders: list[Path], port: int, request: pytest.FixtureRequest
) -> None:
    first, second = request.getfixturevalue(machines)
    # The second one is there before the first.
    late = second.start()
    assert late.stdout is not None
    assert late.stdout.readline() == f"waiting for the first machine at {first.first}:{port}\n"
    early = first.start("auto", checkpoint_seconds=1, checkpoint_steps=2, memory_budget=1)
    said = [each.communicate(timeout=SECONDS)[0] for each in (early, late)]
    assert [early.returncode, late.returncode] == [0, 0], said
    assert "cr_dpll: kept epoch" in said[0]
    assert "cr_dpll" not in said[1], "the first one speaks for both"
    assert not (second.folder / "models").exists(), "and writes"
    alone = Machine(folders[2], 0, "", 0).start(devices=2)
    words = alone.communicate(timeout=SECONDS)[0]
    assert alone.returncode == 0, words
    weights = [f / "models/predictor.safetensors" for f in (first.folder, folders[2])]
    assert weights[0].read_bytes() == weights[1].read_bytes()


def test_machines_that_would_train_something_else_are_refused(one_machine: list[Machine]) -> None:
    first, second = one_machine
    about = second.folder / "data/classes.json"
    publish_json(about, json.loads(about.read_text()) | {"dataset": "another"})
    shutil.copytree(ROOT / "pipeline_lib", second.folder / "pipeline_lib")
    with (second.folder / "pipeline_lib/models/small_cnn.py").open("a") as code:
        code.write("# of another commit\n")
    second.own["ATEN_CPU_CAPABILITY"] = "default"
    started = [
        first.start(reproducible="this_machine", batch_size=8),
        second.start(reproducible="this_machine", batch_size=4),
    ]
    said = [each.communicate(timeout=SECONDS)[0] for each in started]
    assert [each.returncode for each in started] == [1, 1], said
    line = (
        f"train: rank 1 ({platform.node()}) has other environment instructions, inputs data/classes.json, "
        "params train.batch_size, code pipeline_lib.models.small_cnn than rank 0; take the same commit, params.yaml, "
        "data and packages on each machine, and devices of one kind"
    )
    assert said[0].splitlines()[-2:] == [
        line,
        "train: rank 0 has failed (exit code 1), and all were stopped; see above",
    ]
    assert f"rank 1: {line}\n" in said[1]
    assert "Traceback" not in "".join(said)
    assert not (first.folder / ".dvc").exists(), "nothing is begun"


def test_who_waits_for_the_first_machine_can_be_interrupted(one_machine: list[Machine]) -> None:
    waiting = one_machine[1].start()
    assert waiting.stdout is not None
    assert waiting.stdout.readline().startswith("waiting for the first machine at 127.0.0.1:")
    time.sleep(0.5)
    waiting.send_signal(signal.SIGINT)
    said = waiting.communicate(timeout=20)[0]
    assert waiting.returncode == 128 + signal.SIGINT, said
    assert "Traceback" not in said


def test_the_first_machine_that_waits_for_others_can_be_interrupted(
    one_machine: list[Machine],
) -> None:
    waiting = one_machine[0].start()
    assert waiting.stdout is not None
    assert waiting.stdout.readline() == "waiting for the other machines\n"
    time.sleep(2)
    waiting.send_signal(signal.SIGINT)
    said = waiting.communicate(timeout=20)[0]
    assert waiting.returncode == -signal.SIGINT, said
    assert "Traceback" not in said


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"PET_MASTER_ADDR": ""}, "PET_MASTER_ADDR: name the first machine"),
        ({"PET_MASTER_PORT": ""}, "PET_MASTER_PORT: not set; choose a port"),
        ({"PET_MASTER_PORT": "70000"}, "PET_MASTER_PORT: 70000; choose a port"),
        ({"PET_NODE_RANK": "first"}, "PET_NODE_RANK: first; number the machines from 0"),
        ({"PET_NODE_RANK": ""}, "PET_NODE_RANK: not set; number the machines from 0"),
        ({}, "PET_MASTER_ADDR: node0 is 127.0.1.1 on this machine itself; give its address"),
    ],
)
def test_variables_that_lead_nowhere_are_told(
    change: dict[str, str], words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {**MEETING, "PET_MASTER_ADDR": "node0", **change}.items():
        monkeypatch.setenv(name, value)
    as_on_debian = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.1.1", 0))]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: as_on_debian)
    with pytest.raises(UserError, match=words):
        launch._meet()


def test_a_port_that_is_taken_is_told(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    here = {"PET_MASTER_ADDR": "127.0.0.1", "PET_MASTER_PORT": str(port)}
    for name, value in (MEETING | here).items():
        monkeypatch.setenv(name, value)
    launch._meet()
    with socket.create_server(("127.0.0.1", port)):
        with pytest.raises(UserError, match=f"^PET_MASTER_PORT: {port}: Address already in use"):
            launch._meet()
        monkeypatch.setenv("PET_NODE_RANK", "1")
        launch._meet()


@pytest.mark.parametrize(("gpus", "alone", "of_several"), [(0, 0, 1), (1, 0, 1), (2, 2, 2)])
def test_every_one_of_several_machines_starts_what_it_has(
    gpus: int, alone: int, of_several: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    train = toy_training.params("cr_dpll", devices="auto").train
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    monkeypatch.delenv("PET_NNODES", raising=False)
    assert launch.wanted(train) == alone
    monkeypatch.setenv("PET_NNODES", "2")
    assert launch.wanted(train) == of_several


@pytest.mark.parametrize("change", [{"PET_RDZV_BACKEND": "c10d"}, {"PET_NNODES": "1"}])
def test_other_ways_to_meet_are_left_to_torch(
    change: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {**MEETING, "PET_MASTER_ADDR": "", **change}.items():
        monkeypatch.setenv(name, value)
    launch._meet()


def test_an_unknown_name_of_the_first_machine_is_told(one_machine: list[Machine]) -> None:
    done = one_machine[1].start(first="nowhere.invalid")
    said = done.communicate(timeout=SECONDS)[0]
    assert done.returncode == 1
    assert said.startswith("PET_MASTER_ADDR: the first machine at nowhere.invalid:")
    assert said.endswith("start the training there too, and look at the address\n")
    assert said.count("\n") == 1
