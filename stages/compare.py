"""The command that runs a comparison; the library is imported within it, so that --help answers at once."""

from __future__ import annotations

import concurrent.futures
import json
import signal
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pipeline_lib.cells.children import Children, ended_by_signals
from pipeline_lib.cells.pipeline import FILE, NEEDED, drop_cut_lock, show_to_dvc, stages_of
from pipeline_lib.errors import InterruptedRunError, UserError, listed
from stages.dvc_command import DVC, environment

if TYPE_CHECKING:
    from collections.abc import Iterable

LOGS = Path(".dvc/tmp/compare")
WAITING = ("--wait-for-lock",)  # another DVC in the repository ends sooner or later
SHOWN_LINES = 12  # of the log of a cell that failed

Jobs = Annotated[int, typer.Option("-j", "--jobs", min=1, help="Cells at a time.")]


def compare(jobs: Jobs = 1) -> None:
    """Run what is missing of the comparison in params.yaml, several cells at a time, then make its page.

    A cell that fails does not stop the others. After an interruption run the same command again: what is done
    is not done twice, and a training that was under way goes on from its resume state.
    """
    show_to_dvc()
    drop_cut_lock()
    children, left = Children(), Left()
    with ended_by_signals() as came:
        try:
            _dvc(children, "repro", *NEEDED)
            left.keys = changed()
            if left.keys:
                _run_cells(children, left, jobs)
            _dvc(children, "repro", FILE)
        except KeyboardInterrupt:
            print("ending: trainings under way save their state first", flush=True)
            children.end()
            raise InterruptedRunError(left.told(), came[0] if came else signal.SIGINT) from None
        except BaseException:  # of ours: what still runs would be left alone
            children.end()
            raise


class Left:
    """The keys of the cells that are still to be run; None where that is not known yet."""

    def __init__(self) -> None:
        self.keys: list[str] | None = None

    def told(self) -> str:
        """What to do after an interruption."""
        if self.keys is None:
            return "interrupted before any cell; run the same command again"
        if not self.keys:
            return "interrupted, and every cell is done; run the same command again for the page"
        return f"interrupted; {len(self.keys)} cells are left: {listed(self.keys)}; run the same command again"


def _dvc(children: Children, *arguments: str) -> None:
    """Run DVC in the foreground.

    Raises:
        UserError: It failed, and has said why.
    """
    code = children.run([*DVC, *WAITING, *arguments], env=environment())
    if code:
        raise _failed(arguments, code)


def _failed(arguments: Iterable[str], code: int) -> UserError:
    return UserError(f"`dvc {' '.join(arguments)}` failed (exit code {code}); see above")


def changed() -> list[str]:
    """Keys of the cells that are missing or out of date, in the order of params.yaml.

    Raises:
        UserError: There are cells that params.yaml does not list; or DVC failed, and has said why.
    """
    from pipeline_lib.cells.cell import CELLS, cells, refuse_strays
    from pipeline_lib.params.load import load

    keys = [cell.key for cell in cells(load().compare)]
    refuse_strays(CELLS, keys)  # else the page would, after hours
    asked = ("status", "--json", FILE)
    done = subprocess.run(
        [*DVC, *WAITING, *asked], env=environment(), stdout=subprocess.PIPE, check=False
    )
    if done.returncode:
        raise _failed(asked, done.returncode)
    changed = {name.partition("@")[2] for name in json.loads(done.stdout) if "@" in name}
    return [key for key in keys if key in changed]


def _run_cells(children: Children, left: Left, jobs: int) -> None:
    """Run cells and their pages, `jobs` at a time, each by a DVC of its own; what is done leaves `left`.

    Raises:
        UserError: Some failed; the message names them.
    """
    LOGS.mkdir(parents=True, exist_ok=True)
    keys = list(left.keys or ())
    failed: list[str] = []
    reasons: dict[tuple[str, ...], str] = {}
    print(f"{len(keys)} cells to run, {jobs} at a time; what they say: {LOGS}/*.log", flush=True)
    pool = concurrent.futures.ThreadPoolExecutor(jobs)
    futures = {pool.submit(_run_cell, children, key): key for key in keys}
    try:
        for number, future in enumerate(concurrent.futures.as_completed(futures), 1):
            key = futures[future]
            code, seconds = future.result()
            how = "restored from the cache" if _from_cache(key) else "done"
            said = f"{how} in {seconds:.0f} s" if code == 0 else f"failed (exit code {code}):"
            print(f"{number}/{len(keys)} {key} {said}", flush=True)
            if code:
                failed.append(key)
                lines = _last_lines(LOGS / f"{key}.log")
                # of a mistake that it knows, a cell tells in a line that begins with its key
                told = [line.split(": ", 1)[1] for line in lines if line.startswith(f"  {key}: ")]
                first = reasons.setdefault(tuple(told or lines), key)
                print(*(lines if first == key else [f"  as {first}"]), sep="\n", flush=True)
            elif left.keys:
                left.keys.remove(key)
    finally:  # without waiting: Ctrl-C is answered at once, and `children` are told and waited for
        pool.shutdown(wait=False, cancel_futures=True)
    if failed:
        msg = f"{len(failed)} of {len(keys)} cells failed: {listed(failed)}; correct what they say, then run the same command again"
        raise UserError(msg)


def _run_cell(children: Children, key: str) -> tuple[int, float]:
    """Exit code and seconds of one cell with its page.

    Without its dependencies (`-s`): they are up to date, and shared ones would be locked. The lock of the
    repository is held for moments, and waited for.
    """
    started = time.monotonic()
    with (LOGS / f"{key}.log").open("wb") as log:
        code = children.run(
            [*DVC, *WAITING, "repro", "-s", *stages_of(key)],
            env=environment(),
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    return code, time.monotonic() - started


def _from_cache(key: str) -> bool:
    """Whether DVC had the cell already: after a kill in the middle of its writing dvc.lock, which it then cuts."""
    said = (LOGS / f"{key}.log").read_text(encoding="utf-8", errors="replace")
    return f"cell@{key}' is cached" in said


def _last_lines(path: Path) -> list[str]:
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    return [f"  {line}" for line in lines[-SHOWN_LINES:]]
