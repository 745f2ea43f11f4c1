"""The outputs that dvc.lock records, and their objects in the cache of DVC."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from pipeline_lib.cells.pipeline import FILE
from pipeline_lib.doctor.cache import LISTING, OBJECTS, cache_folder, is_intact
from pipeline_lib.doctor.commands import git_lines
from pipeline_lib.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Iterator

PIPELINES = ("dvc.yaml", FILE)


def stages(root: Path, file: str) -> set[str]:
    """Names of the stages of the pipeline in `file` that have run."""
    return set(_lock(root / file))


def damaged(root: Path) -> list[str]:
    """Recorded outputs whose object is in the cache with other bytes than were recorded."""
    return [what for what, path in _objects(root) if path.is_file() and not is_intact(path)]


def missing(root: Path) -> list[tuple[str, str]]:
    """Path and md5 of recorded outputs whose object is not in the cache."""
    return [
        (what, path.parent.name + path.name) for what, path in _objects(root) if not path.is_file()
    ]


def kept_by_git(root: Path) -> list[str]:
    """The md5 of recorded outputs that Git keeps, where the cache has them too, for runs to come."""
    return [
        path.parent.name + path.name for _, path in _objects(root, in_git=True) if path.is_file()
    ]


def outputs(root: Path) -> set[Path]:
    """Files and folders that DVC has recorded as made by a stage, as paths from the root."""
    return {
        Path(output["path"])
        for file in PIPELINES
        for stage in _lock(root / file).values()
        for output in stage.get("outs", [])
    }


def params(root: Path, file: str, stage: str) -> dict[str, Any]:
    """Values of params.yaml that a stage of the pipeline in `file` ran with; none if it has not run."""
    found: dict[str, Any] = (
        _lock(root / file).get(stage, {}).get("params", {}).get("params.yaml", {})
    )
    return found


def _objects(root: Path, *, in_git: bool = False) -> Iterator[tuple[str, Path]]:
    """Path of each recorded output, and of its object in the cache: of those that Git keeps, or of the others."""
    folder = cache_folder(root) / OBJECTS
    kept = set(git_lines(root, "ls-files", "reports"))
    for file in PIPELINES:
        for stage in _lock(root / file).values():
            for output in stage.get("outs", []):
                if (output["path"] in kept) == in_git:
                    yield from _objects_of(output["path"], output["md5"], folder, root)


def _objects_of(name: str, md5: str, folder: Path, root: Path) -> Iterator[tuple[str, Path]]:
    path = folder / md5[:2] / md5[2:]
    yield name, path
    if md5.endswith(LISTING) and path.is_file() and is_intact(path):
        for entry in json.loads(path.read_text(encoding="utf-8")):
            yield from _objects_of(f"{name}/{entry['relpath']}", entry["md5"], folder, root)


def _lock(pipeline: Path) -> dict[str, Any]:
    """Stages of the dvc.lock beside a dvc.yaml; none without one."""
    path = pipeline.with_suffix(".lock")
    if not path.is_file():
        return {}
    try:
        content: dict[str, Any] = YAML(typ="safe").load(path) or {}
        found: dict[str, Any] = content.get("stages") or {}
    except (AttributeError, ValueError, YAMLError) as error:
        mark = getattr(error, "problem_mark", None)
        where = f":{mark.line + 1}" if mark else ""
        msg = (
            f"{path}{where}: no lock file of DVC (a merge that was not finished?); take one of the two versions "
            f"whole, `git checkout --ours` or `--theirs`, then `dvc repro`"
        )
        raise UserError(msg) from error
    return found
