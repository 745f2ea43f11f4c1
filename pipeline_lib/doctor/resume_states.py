"""The saved states of trainings that have not finished: which there are, and removing them."""

from __future__ import annotations

import contextlib
import fcntl
import json
import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline_lib.artifacts import SIDECAR, verify
from pipeline_lib.doctor.finding import Checked, Finding, counted, human
from pipeline_lib.errors import UserError
from pipeline_lib.training.resume import DESCRIPTION, resume_root

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

DAY = 24 * 60 * 60
LOCK = "lock"
STEPS = "step-*.safetensors"


@dataclass(frozen=True)
class State:
    """The folder of one configuration.

    Attributes:
        folder: it.
        what: the training, in words.
        step: the last one saved, if any.
        saved: when that was, or when the folder was made, in seconds since 1970.
        size: of all its files, in bytes.
        user: the process that trains it now.
    """

    folder: Path
    what: str
    step: int | None
    saved: float
    size: int
    user: str | None

    @property
    def days(self) -> float:
        """How long ago it was saved."""
        return max(time.time() - self.saved, 0) / DAY


def states(root: Path) -> list[State]:
    """All resume states below `root` (see `resume_root`), the newest first."""
    folders = {
        path.parent for name in (DESCRIPTION, LOCK, STEPS) for path in root.glob(f"*/{name}")
    }
    return sorted((_state(folder) for folder in folders), key=lambda state: -state.saved)


def remove(state: State) -> bool:
    """Delete a state, unless a training has come to use it."""
    with _claimed(state.folder) as user:
        if user is None:
            shutil.rmtree(state.folder)
    return user is None


def check(root: Path) -> Checked:
    """Find saved states whose bytes have changed."""
    del root  # they may live elsewhere
    found = states(resume_root())
    damaged = [finding for state in found if state.user is None for finding in _damaged(state)]
    size = human(sum(state.size for state in found))
    return Checked("resume", f"{counted(len(found), 'resume state')}, {size}", tuple(damaged))


def _state(folder: Path) -> State:
    saved = sorted(folder.glob(STEPS))
    files = [path.stat() for path in folder.iterdir() if path.is_file()]
    with _claimed(folder) as user:
        pass
    return State(
        folder=folder,
        what=_described(folder / DESCRIPTION),
        step=int(saved[-1].name.removeprefix("step-").partition(".")[0]) if saved else None,
        saved=(saved[-1] if saved else folder).stat().st_mtime,
        size=sum(stat.st_size for stat in files),
        user=user,
    )


@contextlib.contextmanager
def _claimed(folder: Path) -> Iterator[str | None]:
    """Hold the lock of a training, as `Slot.held` does, or yield the number of the process that has it."""
    try:
        lock = (folder / LOCK).open()
    except FileNotFoundError:
        yield None
        return
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield lock.read().strip() or "unknown"
        else:
            yield None


def _described(path: Path) -> str:
    try:
        identity: dict[str, dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))
        params, inputs = identity["params"], identity["inputs"]
    except (OSError, ValueError, KeyError):
        return "unknown"
    method, seed = params.get("method."), params.get("seed.")
    split = "this split" if _here(inputs.items()) else "another split"
    return f"{method}, {params.get('model.name')}, seed {seed}, {split}"


def _here(inputs: Iterable[tuple[str, str]]) -> bool:
    """Whether the data that it learns from are those in this workspace."""
    for name, digest in inputs:
        sidecar = Path(name + SIDECAR)
        if not sidecar.is_file() or sidecar.read_text().split()[:1] != [digest]:
            return False
    return True


def _damaged(state: State) -> Iterator[Finding]:
    for path in sorted(state.folder.glob(STEPS)):
        try:
            verify(path)
        except UserError:

            def drop(path: Path = path) -> str:
                path.unlink(missing_ok=True)
                path.with_name(path.name + SIDECAR).unlink(missing_ok=True)
                return f"removed {path}"

            yield Finding(
                str(path),
                "the saved state is damaged",
                "delete it: training goes on from the one before, or from the start",
                drop,
            )
