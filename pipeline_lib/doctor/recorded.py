"""The outputs that dvc.lock records, and their objects in the cache of DVC."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from pipeline_lib.cells.pipeline import FILE
from pipeline_lib.doctor.cache import LISTING, OBJECTS, cache_folder, is_intact
from pipeline_lib.errors import UserError, in_one_line

if TYPE_CHECKING:
    from collections.abc import Iterator

    from dvc.output import Output
    from dvc.stage import PipelineStage

PIPELINES = ("dvc.yaml", FILE)


def targets(root: Path, file: str) -> list[str]:
    """What DVC has to fetch of the pipeline in `file`: all of it, or those of its stages that have run."""
    every = _stages(root, file)
    ran = [stage.name for stage in every if any(out.hash_info for out in stage.outs)]
    return [file] if ran and len(ran) == len(every) else [f"{file}:{name}" for name in ran]


def damaged(root: Path) -> list[str]:
    """Recorded outputs whose object is in the cache with other bytes than were recorded."""
    return [what for what, path in _objects(root) if path.is_file() and not is_intact(path)]


def missing(root: Path, *, pushed: bool = False) -> list[tuple[str, str]]:
    """Path and md5 of recorded outputs whose object is not in the cache; if `pushed`, of those for the default remote."""
    return [
        (what, path.parent.name + path.name)
        for what, path in _objects(root, pushed=pushed)
        if not path.is_file()
    ]


def complete(root: Path) -> list[str]:
    """Paths of the recorded outputs of which the cache has everything."""
    folder = cache_folder(root) / OBJECTS
    return [out.def_path for out in _outputs(root) if _is_whole(out, folder)]


def only_here(root: Path, *, pushed: bool = False) -> list[Output]:
    """Outputs in the workspace as they were recorded, of which the cache lacks something; if `pushed`, as in `missing`."""
    folder = cache_folder(root) / OBJECTS
    found = _outputs(root, pushed=pushed)
    return [out for out in found if not _is_whole(out, folder) and _is_as_recorded(out)]


def listings(root: Path) -> list[tuple[str, str]]:
    """Path and md5 of the recorded outputs that are folders."""
    return [
        (what, path.parent.name + path.name)
        for what, path in _objects(root)
        if path.name.endswith(LISTING)
    ]


def drop_damaged_listings(root: Path) -> None:
    """Remove listings of folders that are in the cache with other bytes than were recorded."""
    for _, path in _objects(root):
        if path.name.endswith(LISTING) and path.is_file() and not is_intact(path):
            path.unlink()


def files(root: Path) -> list[str]:
    """The md5 of all files for the default remote that the cache has, those of folders and those that Git keeps too."""
    objects = (*_objects(root, pushed=True), *_objects(root, in_git=True, pushed=True))
    paths = [path for _, path in objects if path.is_file() and not path.name.endswith(LISTING)]
    return sorted({path.parent.name + path.name for path in paths})


def outputs(root: Path) -> set[Path]:
    """Files and folders that DVC has recorded as made by a stage, as paths from the root."""
    return {
        Path(output["path"])
        for file in PIPELINES
        for stage in _lock(root / file).values()
        for output in stage.get("outs", [])
    }


def md5_of(folder: Path) -> str:
    """The md5 by which a dvc.lock names an output that is a folder: that of the listing of its files, as DVC writes it."""
    files = {p.relative_to(folder).as_posix(): p for p in folder.rglob("*") if p.is_file()}
    listing = [{"md5": _md5_of_file(files[name]), "relpath": name} for name in sorted(files)]
    text = json.dumps(listing).encode()
    return hashlib.md5(text, usedforsecurity=False).hexdigest() + LISTING


def params(root: Path, file: str, stage: str) -> dict[str, Any]:
    """Values of params.yaml that a stage of the pipeline in `file` ran with; none if it has not run."""
    found = _lock(root / file).get(stage, {}).get("params", {}).get("params.yaml", {})
    # as they are once loaded: `-S data.table=` leaves a blank
    return {key: None if value == "" else value for key, value in found.items()}


def _objects(
    root: Path, *, in_git: bool = False, pushed: bool = False
) -> Iterator[tuple[str, Path]]:
    """Path of each recorded output, and of its object in the cache, of those that `_outputs` gives."""
    folder = cache_folder(root) / OBJECTS
    for out in _outputs(root, in_git=in_git, pushed=pushed):
        yield from _objects_of(out.def_path, out.hash_info.value, folder)


def _outputs(root: Path, *, in_git: bool = False, pushed: bool = False) -> Iterator[Output]:
    """Each recorded output: of those that Git keeps, or of the others.

    If `pushed`, without those that dvc.yaml keeps off the default remote, by `push: false` or another `remote:`.
    """
    for file in PIPELINES:
        for stage in _stages(root, file):
            for out in stage.outs:
                if out.hash_info and out.use_cache != in_git and (not pushed or _is_pushed(out)):
                    yield out


def _is_pushed(out: Output) -> bool:
    """Whether an output belongs on the default remote."""
    return out.can_push and out.remote in (None, out.repo.config["core"].get("remote"))


def _stages(root: Path, file: str) -> list[PipelineStage]:
    """The stages of a pipeline that has run, as DVC reads them: without those that only its dvc.lock still has.

    Raises:
        UserError: DVC cannot read it.
    """
    from dvc.exceptions import DvcException
    from dvc.repo import Repo

    # A clone has the lock of a comparison, and its pipeline only once this is to run.
    if not _lock(root / file) or not (root / file).is_file():
        return []
    try:
        with Repo(str(root)) as repo:
            found: list[PipelineStage] = repo.stage.load_all(str(root / file))
    except DvcException as error:
        said = in_one_line(error)
        more = (
            "`python -m stages.configure` says where"
            if "params.yaml" in said
            else "`dvc status` says more"
        )
        msg = f"{file}: DVC cannot read it ({said}); {more}"
        raise UserError(msg) from error
    return found


def _is_whole(out: Output, folder: Path) -> bool:
    """Whether the cache has everything of an output."""
    objects = _objects_of(out.def_path, out.hash_info.value, folder)
    return all(path.is_file() for _, path in objects)


def _is_as_recorded(out: Output) -> bool:
    """Whether the workspace has the bytes of an output that were recorded, which DVC would tell by size and time."""
    path, md5 = Path(out.fs_path), str(out.hash_info.value)
    if path.is_dir():
        return md5_of(path) == md5
    return path.is_file() and _md5_of_file(path) == md5


def _md5_of_file(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "md5").hexdigest()


def _objects_of(name: str, md5: str, folder: Path) -> Iterator[tuple[str, Path]]:
    path = folder / md5[:2] / md5[2:]
    yield name, path
    if md5.endswith(LISTING) and path.is_file() and is_intact(path):
        for entry in json.loads(path.read_text(encoding="utf-8")):
            yield from _objects_of(f"{name}/{entry['relpath']}", entry["md5"], folder)


def _lock(pipeline: Path) -> dict[str, Any]:
    """Stages of the dvc.lock beside a dvc.yaml; none without one."""
    path = pipeline.with_suffix(".lock")
    if not path.is_file():
        return {}
    try:
        content = YAML(typ="safe").load(path)
    except (ValueError, YAMLError) as error:
        mark = getattr(error, "problem_mark", None)
        where = f":{mark.line + 1}" if mark else ""
        msg = (
            f"{path}{where}: no lock file of DVC (a merge that was not finished?); take one of the two versions "
            f"whole, `git checkout --ours` or `--theirs`, then `dvc repro`"
        )
        raise UserError(msg) from error
    found = content.get("stages") if isinstance(content, dict) and "schema" in content else None
    if not isinstance(found, dict):
        msg = f"{path}: no lock file of DVC; `git checkout {path}`, then `dvc repro`"
        raise UserError(msg)
    return found
