"""Locks of DVC and Git whose owner is gone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline_lib.artifacts import publish_text
from pipeline_lib.doctor.commands import git_lines
from pipeline_lib.doctor.finding import Checked, Finding, counted
from pipeline_lib.doctor.processes import alive, runs_dvc, working_in
from pipeline_lib.errors import listed

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator

FOLDERS = (Path(".dvc/tmp"), Path(".dvc/tmp/exps"))  # of runs in the workspace, of experiments
RWLOCK = "rwlock"
LOCK = "lock"


def check(root: Path) -> Checked:
    """Find locks of processes that are gone, and lock files that are damaged."""
    findings = [finding for folder in FOLDERS for finding in _of_paths(root, folder / RWLOCK)]
    findings += _of_checkout(root, FOLDERS[0] / LOCK)
    findings += _of_git(root)
    running = sum(runs_dvc(process) for process in working_in(root))
    summary = f"locks of DVC, {counted(running, 'DVC', 'DVC')} running here"
    return Checked(summary, tuple(findings))


def _of_paths(root: Path, name: Path) -> Iterator[Finding]:
    """Which process reads and writes which path, as DVC keeps it in one JSON file."""
    path = root / name
    if not path.is_file():
        return
    try:
        held = json.loads(path.read_text(encoding="utf-8"))
        gone = {pid for pid in _owners(held) if not alive(pid)}
    except (ValueError, AttributeError, KeyError, TypeError):
        yield Finding(
            str(name),
            "damaged, and every command of DVC stops at it",
            "`doctor --fix` deletes it when no DVC runs here",
            _when_quiet(root, path),
        )
        return
    if gone:
        yield Finding(
            str(name),
            f"paths locked by processes that are gone ({listed(sorted(gone))})",
            "they hinder nobody; `doctor --fix` removes their entries when no DVC runs here",
            _when_quiet(root, path, gone),
            problem=False,
        )


def _of_git(root: Path) -> Iterator[Finding]:
    """The lock of Git's index, which DVC needs too: to stage what it has written."""
    for name in git_lines(root, "rev-parse", "--git-path", "index.lock"):
        if (root / name).exists():
            what = (
                "Git and DVC stop at it; left by a Git that was killed, unless one runs right now"
            )
            yield Finding(name, what, "delete it when no Git runs here")


def _owners(held: dict[str, Any]) -> set[int]:
    writers = [info["pid"] for info in held.get("write", {}).values()]
    return {*writers, *(info["pid"] for infos in held.get("read", {}).values() for info in infos)}


def _when_quiet(root: Path, path: Path, gone: Collection[int] = ()) -> Callable[[], str] | None:
    """Remove the file, or the entries of processes from it; nothing may be removed under a DVC that runs."""
    if any(runs_dvc(process) for process in working_in(root)):
        return None

    def repair() -> str:
        if not gone:
            path.unlink(missing_ok=True)
            return f"removed {path}"
        held = json.loads(path.read_text(encoding="utf-8"))
        held["write"] = {k: v for k, v in held.get("write", {}).items() if v["pid"] not in gone}
        readers = {
            k: [info for info in v if info["pid"] not in gone]
            for k, v in held.get("read", {}).items()
        }
        held["read"] = {k: v for k, v in readers.items() if v}
        publish_text(path, json.dumps(held), sidecar=False)
        return f"removed the entries of {listed(sorted(gone))} from {path}"

    return repair


def _of_checkout(root: Path, name: Path) -> Iterator[Finding]:
    """The lock of the whole checkout.

    As a rule DVC asks the system for it, which lets go of it when the process ends, and leaves the file, which
    begins with a blank. With core.hardlink_lock the file itself is the lock.
    """
    path = root / name
    if path.is_file() and (text := path.read_text(errors="replace")) and not text[:1].isspace():
        if any(runs_dvc(process) for process in working_in(root)):
            return
        yield Finding(
            str(name),
            "locks the checkout (core.hardlink_lock), and no DVC runs in it on this machine",
            "delete it if none runs on another machine either",
        )
