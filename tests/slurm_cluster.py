"""A real SLURM cluster on this machine, of its own: daemons of munge, MariaDB and SLURM in a folder of a test."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import socket
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

NEEDED = ("munged", "mariadbd", "slurmdbd", "slurmctld", "slurmd", "sbatch", "sacct")
PATH = os.pathsep.join((os.environ.get("PATH", ""), "/usr/sbin", "/usr/bin"))
SECONDS = 60
LOST_SECONDS = 10  # without a word from a node


def missing() -> list[str]:
    """Programs that a cluster takes and this machine has not."""
    return [name for name in NEEDED if shutil.which(name, path=PATH) is None]


@contextlib.contextmanager
def cluster(folder: Path, nodes: Sequence[str]) -> Iterator[dict[str, str]]:
    """Run one of nodes with a core each.

    Yields:
        What the environment needs for `sbatch` and its like to find it.
    """
    folder.chmod(0o755)
    ports = dict(zip(("mariadb", "dbd", "ctld", *nodes), _free_ports(3 + len(nodes)), strict=True))
    environment = {**os.environ, "PATH": PATH, "SLURM_CONF": str(folder / "slurm.conf")}
    with contextlib.ExitStack() as stack:

        def start(name: str, *arguments: object) -> None:
            number = len(list(folder.glob("*.said")))
            log = folder / f"{number}-{name}.said"
            stack.enter_context(_running(log, environment, name, *arguments))

        _write(folder / "munge.key", secrets.token_hex(32))
        munge = folder / "munge.socket"
        start(
            *("munged", "--foreground", "--force", f"--key-file={folder / 'munge.key'}"),
            *(f"--socket={munge}", f"--pid-file={folder / 'munge.pid'}"),
            *(f"--seed-file={folder / 'munge.seed'}", f"--log-file={folder / 'munge.log'}"),
        )
        password = _database(folder, ports["mariadb"], start)
        _configure(folder, ports, nodes, password)
        start("slurmdbd", "-D")
        _until(lambda: _answers(ports["dbd"]), "slurmdbd")
        start("slurmctld", "-D", "-c")
        for node in nodes:
            start("slurmd", "-D", "-N", node)
        _until(lambda: len(_idle(environment)) == len(nodes), "the nodes")
        yield {"SLURM_CONF": environment["SLURM_CONF"]}
        _said(environment, "scancel", "--me")


def _database(folder: Path, port: int, start: Callable[..., None]) -> str:
    """A server of MariaDB for the accounts, without which `sacct` tells nothing."""
    data, password = folder / "mariadb", secrets.token_hex(8)
    at = folder / "mariadb.socket"
    subprocess.run(
        [
            "mariadb-install-db",
            "--no-defaults",
            f"--datadir={data}",
            "--user=root",
            "--skip-test-db",
        ],
        check=True,
        capture_output=True,
    )
    start(
        *("mariadbd", "--no-defaults", "--user=root", f"--datadir={data}", f"--socket={at}"),
        *(f"--port={port}", "--bind-address=127.0.0.1", f"--pid-file={folder / 'mariadb.pid'}"),
    )
    _until(lambda: _answers(port), "MariaDB")
    sql = (
        "create database slurm_acct_db;"
        f"create user 'slurm'@'localhost' identified by '{password}';"
        f"create user 'slurm'@'127.0.0.1' identified by '{password}';"
        "grant all on slurm_acct_db.* to 'slurm'@'localhost', 'slurm'@'127.0.0.1'"
    )
    subprocess.run(
        ["mariadb", "--no-defaults", f"--socket={at}", "--user=root", "-e", sql],
        check=True,
        capture_output=True,
    )
    return password


def _configure(folder: Path, ports: dict[str, int], nodes: Sequence[str], password: str) -> None:
    host = socket.gethostname()
    common = f"""
        AuthType=auth/munge
        AuthInfo=socket={folder / "munge.socket"}
        SlurmUser=root
        """
    _write(
        folder / "slurmdbd.conf",
        f"""{common}
        DbdHost=localhost
        DbdPort={ports["dbd"]}
        StorageType=accounting_storage/mysql
        StorageHost=127.0.0.1
        StoragePort={ports["mariadb"]}
        StorageUser=slurm
        StoragePass={password}
        PidFile={folder / "slurmdbd.pid"}
        """,
    )
    _write(
        folder / "slurm.conf",
        f"""{common}
        ClusterName=here
        SlurmctldHost={host}(127.0.0.1)
        SlurmctldPort={ports["ctld"]}
        SlurmctldPidFile={folder / "slurmctld.pid"}
        SlurmdPidFile={folder / "%n.pid"}
        StateSaveLocation={folder / "state"}
        SlurmdSpoolDir={folder / "%n.spool"}
        AccountingStorageType=accounting_storage/slurmdbd
        AccountingStorageHost=localhost
        AccountingStoragePort={ports["dbd"]}
        AccountingStoragePass={folder / "munge.socket"}
        ProctrackType=proctrack/linuxproc
        TaskPlugin=task/none
        JobAcctGatherType=jobacct_gather/none
        SelectType=select/cons_tres
        SelectTypeParameters=CR_CPU
        SlurmdParameters=config_overrides
        ReturnToService=2
        MinJobAge=3600
        MailProg=/bin/true
        SlurmdTimeout={LOST_SECONDS}
        PreemptType=preempt/partition_prio
        PreemptMode=REQUEUE
        PartitionName=all Nodes=ALL Default=YES State=UP
        PartitionName=grace Nodes=ALL State=UP GraceTime=300
        PartitionName=cancel Nodes=ALL State=UP PreemptMode=CANCEL
        PartitionName=urgent Nodes=ALL State=UP PriorityTier=2
        """
        + "\n".join(
            f"NodeName={node} NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[node]} CPUs=1"
            for node in nodes
        ),
    )


def _write(path: Path, text: str) -> None:
    path.touch(mode=0o600)
    path.write_text("".join(f"{line.strip()}\n" for line in text.splitlines() if line.strip()))


@contextlib.contextmanager
def _running(
    log: Path, environment: dict[str, str], name: str, *arguments: object
) -> Iterator[None]:
    with log.open("wb") as said:
        process = subprocess.Popen(
            [name, *map(str, arguments)], env=environment, stdout=said, stderr=subprocess.STDOUT
        )
        try:
            yield
        finally:
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


def _answers(port: int) -> bool:
    with socket.socket() as one:
        return one.connect_ex(("127.0.0.1", port)) == 0


def _idle(environment: dict[str, str]) -> set[str]:
    return set(_said(environment, "sinfo", "-h", "-N", "-t", "idle", "-o", "%N").split())


def _said(environment: dict[str, str], *command: str) -> str:
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    return done.stdout


def _until(ready: Callable[[], bool], what: str) -> None:
    end = time.monotonic() + SECONDS
    while not ready():
        if time.monotonic() > end:
            msg = f"{what} did not start within {SECONDS} s"
            raise TimeoutError(msg)
        time.sleep(0.2)
