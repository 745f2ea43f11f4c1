"""The folder of a cell: laid out like the project, so that the stages work in it as they do there."""

from __future__ import annotations

import contextlib
import io
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ruamel.yaml import YAML

from pipeline_lib.artifacts import SIDECAR, publish_text

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

DATA = Path("data")
INGESTED = ("images.parquet", "labels.parquet", "classes.json", "rejected.parquet")


@contextlib.contextmanager
def inside(folder: Path, params: Mapping[str, Any]) -> Iterator[None]:
    """Work in `folder`, with these params and the project's images; both are gone afterwards.

    Args:
        folder: of the cell.
        params: the content of its params.yaml.
    """
    root = Path.cwd()
    os.environ.setdefault("DVC_ROOT", str(root))  # resume states stay those of the project
    with linked(folder / DATA), contextlib.chdir(folder):
        publish_text(Path("params.yaml"), as_yaml(params), sidecar=False)
        try:
            yield
        finally:
            Path("params.yaml").unlink()


@contextlib.contextmanager
def linked(data: Path) -> Iterator[None]:
    """What ingest wrote, as links in the folder `data`."""
    names = [f"{name}{end}" for name in INGESTED for end in ("", SIDECAR)]
    data.mkdir(parents=True, exist_ok=True)
    for name in names:
        (data / name).symlink_to((DATA / name).absolute())
    try:
        yield
    finally:
        for name in names:
            (data / name).unlink()


def emptied(folder: Path) -> Path:
    """The folder without what a run before it left there."""
    if folder.is_dir():
        shutil.rmtree(folder)
    folder.mkdir(parents=True)
    return folder


def as_yaml(content: Mapping[str, Any]) -> str:
    """YAML text of plain values."""
    stream = io.StringIO()
    YAML(typ="safe", pure=True).dump(dict(content), stream)
    return stream.getvalue()
