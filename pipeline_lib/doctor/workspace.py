"""The files of the pipeline in the workspace, against the sha256 beside them."""

from __future__ import annotations

import os
import shutil
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline_lib.artifacts import SIDECAR, TEMPORARY_PREFIX, discard, verify
from pipeline_lib.control_groups import cores
from pipeline_lib.doctor import recorded
from pipeline_lib.doctor.commands import git_lines, ignored
from pipeline_lib.doctor.finding import Checked, Finding, counted
from pipeline_lib.doctor.processes import working_in
from pipeline_lib.errors import UserError, listed
from pipeline_lib.training.resume import NAME, resume_root

if TYPE_CHECKING:
    from collections.abc import Iterator

FOLDERS = ("data", "models", "reports")
SKIPPED = {
    ".git",
    ".venv",
    "cache",
    "exps",
}  # exps: of experiments, which are looked at by themselves
SETTLED = 60  # s; a file this old is not just being written


def check(root: Path) -> Checked:
    """Find damaged files, and what killed runs have left half-written."""
    made, uncached = _recorded(root)
    ours = made | {Path(name) for name in git_lines(root, "ls-files", *FOLDERS)}
    files = [
        path
        for folder in FOLDERS
        for path in _with_sidecar(root / folder)
        if not ours.isdisjoint(_and_parents(path, root))
    ]
    with ThreadPoolExecutor(cores()) as pool:
        said = list(pool.map(_said, files))
    damaged = [
        _damage(root, path, why, not made.isdisjoint(_and_parents(path, root)))
        for path, why in zip(files, said, strict=True)
        if why
    ]
    summary = f"{counted(len(files), 'file')} compared with the sha256 beside them"
    absent = _absent(root, made.difference(path.relative_to(root) for path in files))
    found = (*uncached, *absent, *damaged, *_half_written(root), *_untracked(root))
    return Checked(summary, found)


def _recorded(root: Path) -> tuple[set[Path], list[Finding]]:
    """What DVC has recorded, and what of that the cache lacks or why that cannot be told."""
    made: set[Path] = set()
    try:
        made = recorded.outputs(root)
        return made, list(_uncached(root)) if made else []
    except UserError as error:
        what, _, to_do = str(error).partition("; ")
        return made, [Finding("workspace" if made else "dvc.lock", what, to_do)]


def _absent(root: Path, made: set[Path]) -> Iterator[Finding]:
    """What is recorded and not there, as in a fresh clone, where nothing is wrong with that."""
    names = sorted(str(name) for name in made if not (root / name).exists())
    if names:
        what = f"{listed(names)}: recorded in dvc.lock, and not here"
        yield Finding(
            counted(len(names), "output"),
            what,
            "`make pull` fetches, `dvc repro` makes",
            problem=False,
        )


def _uncached(root: Path) -> Iterator[Finding]:
    """What is here and not in the cache, as where that was deleted, or `dvc gc` ran in a clone that shares it."""
    outs = recorded.only_here(root)
    if outs:

        def repair() -> str:
            # `dvc commit` would stop at an output that was never made, and record code and params as they are now.
            for out in outs:
                out.commit(relink=False)
            # DVC tells what it could not write, and goes on.
            if left := recorded.only_here(root):
                msg = f"{listed(out.def_path for out in left)} did not get into the cache; free space or fix its rights"
                raise UserError(msg)
            return "put back into it"

        yield Finding(
            listed(out.def_path for out in outs),
            "in the workspace, but not in the cache of DVC: `dvc repro` would make it again, and a copy of the cache lacks it",
            "`doctor --fix` puts it back",
            repair,
        )


def _with_sidecar(folder: Path) -> list[Path]:
    sidecars = sorted(folder.rglob(f"*{SIDECAR}"))
    return [path.with_name(path.name.removesuffix(SIDECAR)) for path in sidecars]


def _and_parents(path: Path, root: Path) -> set[Path]:
    """What DVC or Git may know a file by. Whatever neither of them knows is not ours."""
    name = path.relative_to(root)
    return {name, *name.parents}


def _said(path: Path) -> str | None:
    try:
        verify(path)
    except UserError as error:
        return str(error)
    return None


def _damage(root: Path, path: Path, why: str, made: bool) -> Finding:
    name = path.relative_to(root)
    if path.is_file():
        what, to_delete = why.split(": ", 1)[1].partition(";")[0], "it"
    else:
        what, to_delete = "missing, though its sha256 is there", f"{name}{SIDECAR}"

    def repair() -> str:
        discard(path)
        return f"removed {name}: `dvc repro` makes or fetches it"

    # Git keeps what DVC does not, and a person what neither does: such a file may be the only one.
    allowed = repair if made and ignored(root, name) else None
    return Finding(str(name), what, f"delete {to_delete}, then `make pull` or `dvc repro`", allowed)


def _half_written(root: Path) -> Iterator[Finding]:
    quiet = not working_in(root)
    for path in _temporaries(root) if quiet else ():
        if _settled(path):

            def repair(path: Path = path) -> str:
                if path.is_dir() and not path.is_symlink():
                    shutil.rmtree(path, ignore_errors=True)
                else:
                    path.unlink(missing_ok=True)
                return f"removed {path}"

            what = "half-written by a run that was killed"
            yield Finding(str(path), what, "delete it", repair, problem=False)


def _settled(path: Path) -> bool:
    """Whether it has not changed for a while; what is gone meanwhile has not."""
    try:
        return time.time() - path.stat().st_mtime > SETTLED
    except FileNotFoundError:
        return False


def _temporaries(root: Path) -> Iterator[Path]:
    """Files and folders that are written under a name for the time being, where the pipeline writes."""
    states = [folder for folder in resume_root().glob("*") if NAME.fullmatch(folder.name)]
    known = {(root / name).resolve() for name in git_lines(root, "ls-files", *FOLDERS)}
    kept = known.union(*(path.parents for path in known))
    for start in {path.resolve() for path in (*(root / name for name in FOLDERS), *states)}:
        for folder, inner, names in os.walk(start):
            found = sorted(n for n in {*inner, *names} if n.startswith(TEMPORARY_PREFIX))
            inner[:] = sorted(set(inner) - SKIPPED - set(found))
            yield from (path for name in found if (path := Path(folder, name)) not in kept)


def _untracked(root: Path) -> Iterator[Finding]:
    """Files that an experiment in a folder of its own would not find there."""
    if not git_lines(root, "rev-parse", "--verify", "HEAD"):
        return  # without a commit Git knows nothing yet
    names = git_lines(root, "ls-files", "--others", "--exclude-standard")
    names = [n for n in names if not any(p.startswith(TEMPORARY_PREFIX) for p in Path(n).parts)]
    code = [n for n in names if n.endswith(".py") and n.startswith(("pipeline_lib/", "stages/"))]
    if code:
        yield Finding(
            listed(code, 5),
            "not known to Git, but part of the code that stages depend on, as modules of another version are that "
            "`dvc exp apply` of an older experiment leaves",
            "`git clean -i pipeline_lib stages` deletes; `git add` what is yours",
            problem=False,
        )
    names = [n for n in names if n not in code]
    if names:
        yield Finding(
            listed(names, 5),
            "not known to Git, so that `dvc exp run --queue` and `--temp` run without",
            "`git add`, or add to .gitignore what no run needs",
            problem=False,
        )
