"""Which jobs there are: one per point of a grid of `-S`, or one per cell of the comparison."""

from __future__ import annotations

import hashlib
import re
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline_lib.cells.cell import COMPARISON
from pipeline_lib.cells.pipeline import FILE, NEEDED, stages_of
from pipeline_lib.errors import UserError, in_one_line
from pipeline_lib.sweep.job import ALLOW_MISSING, Job
from pipeline_lib.sweep.project import LOGS, refuse_relative
from pipeline_lib.training.resume import resume_root

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pipeline_lib.sweep.project import Project

# What the project has, and a commit of it may not.
BROUGHT = ("dvc.lock", FILE, f"{COMPARISON.as_posix()}/dvc.lock")
LONGEST = 40  # characters of the values in a name


def grid(settings: Sequence[str], params: Path) -> list[tuple[str, ...]]:
    """Every combination of values, in the order of the settings.

    Args:
        settings: as for `dvc exp run -S`, `key=value` or `key=value,value`.
        params: params.yaml, in which each combination is tried.

    Raises:
        UserError: A setting cannot be read, or params.yaml would be wrong with it.
    """
    from dvc.exceptions import DvcException
    from dvc.utils.hydra import get_hydra_sweeps
    from hydra.errors import HydraException

    keys = [each.partition("=")[0] for each in settings]
    if twice := {key for key in keys if keys.count(key) > 1}:
        msg = f"-S {min(twice)}: given twice; write its values as one list: {min(twice)}=1,2"
        raise UserError(msg)
    try:
        found = [tuple(each["params"]) for each in get_hydra_sweeps({"params": list(settings)})]
    except (DvcException, HydraException) as error:
        why = in_one_line(str(error).partition("See https")[0])
        msg = f"-S {' '.join(settings)}: {why}; write key=value or key=value,value"
        raise UserError(msg) from error
    if len(set(found)) < len(found):
        msg = f"-S {' '.join(settings)}: a value is there twice"
        raise UserError(msg)
    for point in found:
        _check(point, params)
    return found


def _check(point: Sequence[str], params: Path) -> None:
    """Refuse a combination with which params.yaml would be wrong, before anything is started."""
    from dvc.exceptions import DvcException
    from dvc.utils.hydra import apply_overrides

    from pipeline_lib.params.load import load

    with tempfile.TemporaryDirectory() as folder:
        copy = Path(shutil.copy(params, folder))
        try:
            apply_overrides(copy, list(point))
        except DvcException as error:
            msg = f"-S {' '.join(point)}: {in_one_line(error.__cause__ or error)}"
            raise UserError(msg) from error
        try:
            refuse_relative(params.parent, load(copy).data)
        except UserError as error:
            msg = str(error).replace(str(copy), f"{params.name} with -S {' '.join(point)}")
            raise UserError(msg) from error


def name_of(point: Sequence[str], params: bytes) -> str:
    """Of an experiment: its values, to be read, and a digest of them and of params.yaml, to be told apart."""
    values = "-".join(each.partition("=")[2] for each in point)
    digest = hashlib.sha256(b"\0".join([*(each.encode() for each in point), params])).hexdigest()
    words = re.sub(r"[^a-z0-9_.-]+|\.{2,}", "_", values.lower()).strip("._-")[:LONGEST]
    return f"{words.rstrip('._-') or 'x'}-{digest[:8]}"


def experiments(project: Project, points: Sequence[Sequence[str]]) -> Iterator[Job]:
    """A job per point: `dvc exp run`, then `dvc exp push` to the hub."""
    params = (project.root / "params.yaml").read_bytes()
    pulling = ("--pull", ALLOW_MISSING) if project.remote else ()
    pushing = ("--no-cache",) if project.at_home else ("--run-cache",)
    for point in points:
        name = name_of(point, params)
        settings = tuple(word for each in point for word in ("-S", each))
        steps = (
            ("exp", "run", *pulling, "-n", name, *settings),
            ("exp", "push", *pushing, "origin", name),
        )
        yield _job(project, name, steps)._replace(ref=_ref(project, name))


def cells(project: Project, keys: Sequence[str]) -> Iterator[Job]:
    """A job per cell of the comparison, which leaves the cell in a cache, with DVC's record of the run.

    What the cells depend on is that of the project, by its dvc.lock, whether or not that is committed.
    """
    brought = tuple((name, (project.root / name).read_text(encoding="utf-8")) for name in BROUGHT)
    fetch = ("pull",) if project.remote else ("checkout",)
    pulling = ("--pull",) if project.remote else ()
    for key in keys:
        steps = [(*fetch, *NEEDED), ("repro", *pulling, "-s", *stages_of(key))]
        if not project.at_home:
            steps.append(("push", "--run-cache", *stages_of(key)))
        yield _job(project, key, tuple(steps))._replace(files=brought)


def _ref(project: Project, name: str) -> str:
    return f"refs/exps/{project.commit[:2]}/{project.commit[2:]}/{name}"


def _job(project: Project, name: str, steps: tuple[tuple[str, ...], ...]) -> Job:
    logs = project.root / LOGS
    return Job(
        name=name,
        hub=project.hub,
        commit=project.commit,
        steps=steps,
        author=project.author,
        cache=project.cache,
        remote=project.remote,
        settings=str(project.root / ".dvc/config.local"),
        logs=str(logs),
        resume=str((project.root / resume_root()).absolute()),
    )
