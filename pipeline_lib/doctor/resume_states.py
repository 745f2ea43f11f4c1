"""The saved states of trainings that have not finished: which there are, and removing them."""

from __future__ import annotations

import contextlib
import fcntl
import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline_lib.artifacts import discard, recorded_sha256, verify
from pipeline_lib.doctor.finding import Checked, Finding, counted, human
from pipeline_lib.errors import UserError
from pipeline_lib.training.resume import (
    DESCRIPTION,
    LOCK,
    NAME,
    USER_BYTES,
    claimed,
    files_of,
    identity_in,
    resume_root,
    steps_in,
    user_of,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

DAY = 24 * 60 * 60
OUT_OF_MEMORY = (
    "`dvc repro` goes on from what is saved (`python -m stages.app resume clean` forgets it); where it said `exited with "
    "-9`, memory ran out: first lower train.memory_budget (same result), or train.batch_size or data.image_size"
)


@dataclass(frozen=True)
class State:
    """The folder of one configuration.

    Attributes:
        folder: it.
        what: the training, in words.
        step: the last one saved, if any.
        saved: when that was, or when the training began, in seconds since 1970.
        size: of all its files, in bytes.
        user: the process that trains it now.
        killed: the last process that trained it ended neither by itself nor when it was asked to.
    """

    folder: Path
    what: str
    step: int | None
    saved: float
    size: int
    user: str | None
    killed: bool

    @property
    def days(self) -> float:
        """How long ago it was saved."""
        return max(time.time() - self.saved, 0) / DAY


def states(root: Path) -> list[State]:
    """All resume states below `root` (see `resume_root`), the newest first."""
    folders = [folder for folder in sorted(root.glob("*")) if NAME.fullmatch(folder.name)]
    found = [state for folder in folders if (state := _state(folder))]
    return sorted(found, key=lambda state: -state.saved)


def remove(state: State) -> bool:
    """Delete a state, unless a training has come to use it."""
    with claimed(state.folder) as user:
        if user is None:
            with contextlib.suppress(FileNotFoundError):  # its training has ended
                shutil.rmtree(state.folder)
    return user is None


def check(root: Path) -> Checked:
    """Find saved states whose bytes have changed, and trainings that were killed."""
    del root  # they may live elsewhere
    found = states(resume_root())
    damaged = [finding for state in found if state.user is None for finding in _damaged(state)]
    killed = [_killed(state) for state in found if state.killed]
    size = human(sum(state.size for state in found))
    counts = f"{counted(len(found), 'resume state')}, {size}"
    return Checked(counts, (*damaged, *killed))


def _state(folder: Path) -> State | None:
    """None if it is none, or gone meanwhile, as that of a training that has ended."""
    with claimed(folder, fcntl.LOCK_SH) as user:
        files = files_of(folder)
    steps = steps_in(files)
    if not steps and files.keys().isdisjoint((DESCRIPTION, LOCK)):
        return None
    return State(
        folder=folder,
        what=_described(folder / DESCRIPTION),
        step=int(steps[-1].removeprefix("step-").partition(".")[0]) if steps else None,
        saved=max(files[name].st_mtime for name in steps[-1:] or files),
        size=sum(stat.st_size for stat in files.values()),
        user=user,
        killed=user is None and LOCK in files and files[LOCK].st_size == USER_BYTES,
    )


def _described(path: Path) -> str:
    identity = identity_in(path)
    if not identity.keys() >= {"params", "inputs"}:
        return "unknown"
    params, inputs = identity["params"], identity["inputs"]
    method, seed = params.get("method."), params.get("seed.")
    split = "this split" if _here(inputs.items()) else "another split"
    return f"{method}, {params.get('model.name')}, seed {seed}, {split}"


def _here(inputs: Iterable[tuple[str, str]]) -> bool:
    """Whether the data that it learns from are those in this workspace."""
    for name, digest in inputs:
        try:
            if recorded_sha256(Path(name)) != digest:
                return False
        except UserError:
            return False
    return True


def _killed(state: State) -> Finding:
    when = "before its first save" if state.step is None else f"after step {state.step} was saved"
    what = f"a training ({state.what}) did not end by itself, but was killed {when}"
    return Finding(str(state.folder), what, OUT_OF_MEMORY, problem=False)


def _damaged(state: State) -> Iterator[Finding]:
    for path in (state.folder / name for name in steps_in(files_of(state.folder))):
        try:
            verify(path)
        except UserError:
            if user_of(state.folder) or not path.exists():
                continue  # a training has gone on from it meanwhile

            def drop(path: Path = path) -> str:
                discard(path)
                return f"removed {path}"

            yield Finding(
                str(path),
                "the saved state is damaged",
                "delete it: training goes on from the one before, or from the start",
                drop,
            )
