"""What one job does, on whatever machine: a clone of its own, some commands of DVC, and nothing left behind.

Engines send this module along by value, so it imports the standard library alone: a worker needs Python, Git and the
packages of the project, but no checkout.
"""

from __future__ import annotations

import configparser
import contextlib
import fcntl
import hashlib
import os
import platform
import re
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import IO, TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

LOOK_SECONDS = 0.2
COMMAND = "$ dvc "  # begins a line of the log
ALLOW_MISSING = "--allow-missing"  # of DVC: outputs that no later stage asks for are not fetched
_NOT_THERE = "missing-files"  # in DVC's words about one that is asked for
KILLED = (
    "killed, often for want of memory: give a job more (--slurm mem=, --ray memory=), or run fewer beside each other "
    "(--jobs)"
)
ENDING_SECONDS = 120.0  # for a training to finish its step and save its state
OTHERS_SECONDS = 300.0  # for another process that does the same job
COPIES = "copy"  # out of a shared cache: DVC may empty links when another job commits the same (docs/how-to/share.md)
# Started through this, a command ends with us, however we end; and what tells a scheduler's job that its
# time is up (SIGUSR1, SIGUSR2) is for us alone, who then end the command by SIGTERM.
_GUARD = """
import ctypes, os, signal, sys
if sys.platform == "linux":
    ctypes.CDLL(None).prctl(1, signal.SIGTERM)
for each in (signal.SIGUSR1, signal.SIGUSR2):
    signal.signal(each, signal.SIG_IGN)
os.execv(sys.argv[1], sys.argv[1:])
"""
_OURS = (
    "DVC_",
    "GIT_DIR",
    "GIT_WORK_TREE",
    "GIT_INDEX_FILE",
)  # of whoever started us, not of the clone


class Job(NamedTuple):
    """One training with what belongs to it, for any machine that reaches the hub."""

    name: str
    hub: str
    """URL or folder of the Git repository that is cloned."""
    commit: str
    steps: tuple[tuple[str, ...], ...]
    """Arguments of DVC, one command each; the first that fails ends the job."""
    ref: str = ""
    """On the hub once the job is done, if the job pushes one."""
    files: tuple[tuple[str, str], ...] = ()
    """Paths in the clone, and their text, in place of what the commit has."""
    author: tuple[str, str] = ("sweep", "sweep@localhost")
    cache: str = ""
    """A cache of DVC that all jobs share; empty: one per clone."""
    mark: str = ""
    """A file in it, by which a machine knows that it is this one."""
    remote: tuple[str, str] | None = None
    """Name and URL of the remote of DVC."""
    settings: str = ""
    """.dvc/config.local of the project: keys and passwords, which are read where the job runs, and not sent."""
    logs: str = ""
    resume: str = ""


class Outcome(NamedTuple):
    """How a job ended."""

    done: bool
    node: str
    why: str = ""
    """Of a failure: what was said last, and where the log is."""


def run(job: Job) -> Outcome:
    """Do the job.

    Whatever stops this process, the training ends with it and keeps its resume state. The clone is removed, or,
    after a SIGKILL, is by the next attempt on this machine.
    """
    node, where = platform.node(), ""
    try:
        folder = _folder_of(job)
        folder.mkdir(mode=0o700, exist_ok=True)
        logs = _shared(job.logs, folder)
        path = logs / f"{job.name}.log"
        where = f" (log: {node}:{path})" if logs == folder else f" (log: {path})"
        with path.open("a+b", buffering=0) as log:
            log.write(f"== {job.name} on {node}, {time.strftime('%Y-%m-%d %H:%M:%S')}\n".encode())
            with _alone(folder) as held:
                _work(job, folder / "clone", log, held)
    except (OSError, RuntimeError, configparser.Error) as error:
        return Outcome(done=False, node=node, why=f"{error}{where}")
    return Outcome(done=True, node=node)


def _folder_of(job: Job) -> Path:
    """The place of a job on this machine: other projects, and other clones of this one, have jobs of the same name."""
    project = hashlib.sha256(f"{job.hub}\0{job.logs}".encode()).hexdigest()
    return own_folder() / f"{job.name}-{project[:8]}"


def own_folder() -> Path:
    """A folder of this machine in which nobody else can put anything: all may write beside it, and know its name.

    Raises:
        RuntimeError: Somebody else has made it.
    """
    folder = Path(tempfile.gettempdir()) / f"weak-label-sweep-{os.getuid()}"
    with contextlib.suppress(FileExistsError):
        folder.mkdir(mode=0o700)
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid():
        msg = f"{folder}: is not of this user, who could not trust what is in it; set TMPDIR to another folder"
        raise RuntimeError(msg)
    folder.chmod(0o700)  # an earlier version left it to the umask
    return folder


def _work(job: Job, clone: Path, log: IO[bytes], held: IO[str]) -> None:
    if job.cache and not Path(job.mark or job.cache).exists():
        msg = f"{job.cache}: the cache of the jobs is not on this machine"
        raise RuntimeError(msg)
    if job.ref and job.ref in _git("ls-remote", job.hub, job.ref):
        log.write(b"done before\n")
        return
    shutil.rmtree(clone, ignore_errors=True)
    try:
        _clone(job, clone)
        for step in job.steps:
            _dvc(step, job, clone, log, held)
    finally:
        shutil.rmtree(clone, ignore_errors=True)


def _clone(job: Job, folder: Path) -> None:
    name, email = job.author
    who = ("-c", f"user.name={name}", "-c", f"user.email={email}")
    _git("clone", "-q", "--no-checkout", *who, job.hub, str(folder))
    _git("-C", str(folder), "checkout", "-q", "--detach", job.commit)
    for path, text in job.files:
        (folder / path).write_text(text, encoding="utf-8")
    settings = folder / ".dvc/config.local"
    config = configparser.ConfigParser(interpolation=None)
    with contextlib.suppress(OSError):
        config.read_string(Path(job.settings).read_text(encoding="utf-8"))
    wanted = {}
    if job.cache:
        wanted["cache"] = {"dir": job.cache, "type": COPIES}
    elif config.has_section("cache"):
        config.remove_option("cache", "dir")
    if job.remote:
        remote, url = job.remote
        wanted |= {"core": {"remote": remote}, f"'remote \"{remote}\"'": {"url": url}}
    for section, values in wanted.items():
        if not config.has_section(section):
            config.add_section(section)
        for key, value in values.items():
            config.set(section, key, value)
    with settings.open("w", encoding="utf-8") as file:
        config.write(file)
    settings.chmod(0o600)


def _git(*arguments: str) -> str:
    """What Git says.

    Raises:
        RuntimeError: It failed, for the reason that is told.
    """
    done = subprocess.run(["git", *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        msg = f"git {arguments[0]}: {' '.join(done.stderr.split())[-300:]}"
        raise RuntimeError(msg)
    return done.stdout


def _dvc(step: Sequence[str], job: Job, clone: Path, log: IO[bytes], held: IO[str]) -> None:
    """Run DVC in the clone; in `held` the next attempt reads which processes it may have left.

    Raises:
        RuntimeError: DVC failed.
    """
    environment = {k: v for k, v in os.environ.items() if not k.startswith(_OURS)}
    environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment["PIPELINE_RESUME_DIR"] = str(_shared(job.resume, clone.parent / "resume"))
    log.write(f"{COMMAND}{' '.join(step)}\n".encode())
    process = subprocess.Popen(
        [sys.executable, "-c", _GUARD, sys.executable, "-m", "dvc", *step],
        cwd=clone,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=log,
        start_new_session=True,
    )
    held.truncate(0)
    held.write(str(process.pid))
    held.flush()
    try:
        while (
            process.poll() is None
        ):  # rather than wait(): an engine's wish to end must get through
            time.sleep(LOOK_SECONDS)
    finally:
        if process.poll() is None:
            process.terminate()  # DVC alone: the training is told once, when DVC is gone
            process.wait()
        _await(process.pid)
    if process.returncode and ALLOW_MISSING in step and _NOT_THERE in _said(log)[-1]:
        # What HEAD has made, and no remote gives, because nobody has pushed it or for an outage, is then made again.
        _dvc(tuple(word for word in step if word != ALLOW_MISSING), job, clone, log, held)
    elif process.returncode:
        killed = f"; {KILLED}" if _was_killed(process.returncode, log) else ""
        msg = f"`dvc {' '.join(step[:2])}` failed (exit code {process.returncode}): {last_words(log)}{killed}"
        raise RuntimeError(msg)


def _said(log: IO[bytes]) -> list[str]:
    """The last lines of the log that say something, of its last command; one at least."""
    log.seek(max(log.seek(0, os.SEEK_END) - 4000, 0))
    said = [line.strip() for line in log.read().decode("utf-8", "replace").splitlines()]
    starts = [number for number, line in enumerate(said) if line.startswith(COMMAND)]
    return [line for line in said[starts[-1] + 1 if starts else 0 :] if line] or [""]


def _was_killed(code: int, log: IO[bytes]) -> bool:
    """By SIGKILL: DVC, or the stage that it ran, or in a shell which it ran it."""
    return code == -signal.SIGKILL or bool(re.search("exited with (-9|137)$", _said(log)[-1]))


def last_words(log: IO[bytes]) -> str:
    """What the log says last: DVC's error, or of a command that failed what that one said before it."""
    *before, last = lines = _said(log)
    if before and re.fullmatch("ERROR: .* exited with -?[0-9]+", last):
        return f"{before[-1][:200]} ({last[:100]})"
    starts = [number for number, line in enumerate(lines) if line.startswith("ERROR: ")]
    return " ".join(lines[starts[-1] if starts else -1 :])[:300]


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[IO[str]]:
    """On this machine nothing else does the job, and what an attempt before it left running has ended.

    Raises:
        RuntimeError: Another process does it, for long.
    """
    with (folder / "lock").open("a+") as lock:
        _take(lock)
        lock.seek(0)
        if (before := lock.read().strip()).isdecimal():
            _await(int(before))
        yield lock
        lock.truncate(0)


def _take(lock: IO[str]) -> None:
    """Lock it, or wait: whoever has it may be about to end, and all attempts would be spent in seconds.

    Raises:
        RuntimeError: Another process has had it all the time.
    """
    end = time.monotonic() + OTHERS_SECONDS
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            if time.monotonic() > end:
                msg = "another process on this machine does this job; wait for it"
                raise RuntimeError(msg) from error
            time.sleep(LOOK_SECONDS)
        else:
            return


def _await(group: int) -> None:
    """Wait for the processes that a command has left: a training that saves its state."""
    end = time.monotonic() + ENDING_SECONDS
    with contextlib.suppress(ProcessLookupError, PermissionError):
        while time.monotonic() < end:
            os.killpg(group, 0)
            time.sleep(LOOK_SECONDS)


def _shared(folder: str, otherwise: Path) -> Path:
    """A folder of the project where this machine sees it, else one of the machine's own."""
    chosen = Path(folder) if folder and Path(folder).parent.is_dir() else otherwise
    chosen.mkdir(parents=True, exist_ok=True)
    return chosen
