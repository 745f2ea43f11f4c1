"""The user's own images and table, against the snapshot of them that the pipeline works on (ADR 14)."""

from __future__ import annotations

import os
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from pipeline_lib import own_data
from pipeline_lib.artifacts import recorded_sha256, sha256
from pipeline_lib.datasets import image_parquet
from pipeline_lib.datasets.files.layout import is_clutter, is_image
from pipeline_lib.datasets.files.user_table import TABLE
from pipeline_lib.datasets.image_folder import ARCHIVE
from pipeline_lib.doctor import recorded
from pipeline_lib.doctor.finding import Checked, Finding
from pipeline_lib.errors import UserError, in_one_line, listed
from pipeline_lib.own_data import OF_A_COLLEAGUE, resolve
from pipeline_lib.params.load import PARAMS, load
from pipeline_lib.params.sections import OWN_IMAGES

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pipeline_lib.params.sections import Data

RAW = Path("data/raw")
Marks: TypeAlias = Mapping[str, int | str]  # by name of a file: its size, or its sha256


def check(root: Path) -> Checked:
    """Compare `data.path` and `data.table`, where they are here, with what was taken of them.

    A folder of images by names and sizes, which does not take long; files by their sha256.
    """
    try:
        data = load(root / PARAMS).data
    except UserError:  # which `environment` tells
        return Checked("not compared, as params.yaml cannot be used")
    if data.name not in OWN_IMAGES:
        return Checked(f"none needed of {data.name}")
    if not _is_of(data, root):
        return Checked(f"none of what params.yaml names so far; {_to_take(data)}")
    compared = list(_compared(data, root / RAW))
    findings = tuple(
        Finding(
            shown,
            f"changed since its snapshot was taken{_difference(held, found)}",
            "take a new one: `dvc repro --force download && dvc repro`",
        )
        for shown, held, found in compared
        if held != found
    )
    names = listed(shown for shown, _, _ in compared)
    how = (
        f"{names} (a folder of images by names and sizes)"
        if compared
        else "nothing, as its source is not here"
    )
    return Checked(f"compared with {how}", findings)


def changed_table(root: Path) -> str | None:
    """The user's table, where it is no longer what its snapshot holds; images are not looked at."""
    data = load(root / PARAMS).data
    return own_data.changed_table(data, root / RAW / TABLE) if _is_of(data, root) else None


def _to_take(data: Data) -> str:
    shown = data.path or ""
    here = shown.startswith("https://") or resolve(shown).exists()
    return "`dvc repro` takes it" if here else f"{shown} is not here; {OF_A_COLLEAGUE}"


def _is_of(data: Data, root: Path) -> bool:
    """Whether there is a snapshot of what the params name: one of anything else DVC replaces by itself."""
    taken = recorded.params(root, "dvc.yaml", "download")
    named = {f"data.{key}": getattr(data, key) for key in ("name", "path", "table")}
    same = all(taken.get(key, value) == value for key, value in named.items())
    return same and (root / RAW).is_dir()


def _compared(data: Data, raw: Path) -> Iterator[tuple[str, Marks, Marks]]:
    """Give `data.path` and `data.table`, what the snapshot holds of each, and what is there now."""
    shown = data.path or ""
    if not shown.startswith("https://") and (place := resolve(shown)).exists():
        if data.name == "image_parquet":
            shards = raw.rglob(f"*{image_parquet.ENDING}")
            held = {path.relative_to(raw).as_posix(): recorded_sha256(path) for path in shards}
            found = {name: sha256(Path(path)) for name, path in image_parquet.sources(data).items()}
            yield shown, held, found
        elif (
            raw / ARCHIVE
        ).is_file():  # not so of ImageNet's official archives, which `ingest` compares
            if place.is_dir():
                yield shown, _packed(raw / ARCHIVE), _lying(place)
            else:
                yield shown, {"": recorded_sha256(raw / ARCHIVE)}, {"": sha256(place)}
    if data.table and (raw / TABLE).is_file() and (table := resolve(data.table)).is_file():
        yield data.table, {"": recorded_sha256(raw / TABLE)}, {"": sha256(table)}


def _packed(archive: Path) -> Marks:
    """Sizes of the images in a snapshot; of the folders, which end in a slash, 0."""
    with tarfile.open(archive) as members:
        return {f"{m.name}/" if m.isdir() else m.name: m.size for m in members}


def _lying(folder: Path) -> Marks:
    """The same of a folder, as it would be packed."""
    found: dict[str, int] = {}
    for place, folders, names in os.walk(folder):
        relative = Path(place).relative_to(folder)
        folders[:] = [name for name in folders if not is_clutter(name)]
        found |= {f"{(relative / name).as_posix()}/": 0 for name in folders}
        for name in names:
            path = Path(place) / name
            if is_image(name) and not is_clutter(name) and path.is_file():
                found[(relative / name).as_posix()] = path.stat().st_size
    return found


def _difference(held: Marks, found: Marks) -> str:
    """Count what is new, gone and another one, and name the first; nothing to name where it is one file."""
    changed = {name for name in held.keys() & found.keys() if held[name] != found[name]}
    kinds = {"new": found.keys() - held, "gone": held.keys() - found, "changed": changed - {""}}
    parts = [
        f"{len(names)} {kind} ({listed(map(in_one_line, sorted(names)), 3)})"
        for kind, names in kinds.items()
        if names
    ]
    return f": {', '.join(parts)}" if parts else ""
