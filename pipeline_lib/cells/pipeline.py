"""The pipeline of a comparison, which DVC sees from the first comparison on."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from pipeline_lib.artifacts import publish_bytes
from pipeline_lib.cells.cell import COMPARISON
from pipeline_lib.errors import UserError
from pipeline_lib.progress import say

if TYPE_CHECKING:
    from pathlib import Path

WRITTEN = COMPARISON / "pipeline.yaml"
SEEN = COMPARISON / "dvc.yaml"
LOCK = COMPARISON / "dvc.lock"
FILE = SEEN.as_posix()  # what DVC calls it
NEEDED = ("dvc.yaml:ingest", f"{FILE}:plan")  # what a cell depends on, made before any of them
WRITING_SECONDS = 1.0  # in which DVC has written a lock file


def stages_of(key: str) -> tuple[str, str]:
    """The stages of DVC of a cell."""
    return f"{FILE}:cell@{key}", f"{FILE}:cell_page@{key}"


def show_to_dvc() -> None:
    """Copy the pipeline to where DVC looks for one.

    It is not there from the start: DVC reads every dvc.yaml of a repository at every command, and each
    experiment warns of each output that was never made.

    Raises:
        UserError: There is none.
    """
    try:
        text = WRITTEN.read_bytes()
    except FileNotFoundError as error:
        msg = f"{WRITTEN}: not found; run from the root of the repository"
        raise UserError(msg) from error
    if not SEEN.is_file() or SEEN.read_bytes() != text:
        publish_bytes(SEEN, text, sidecar=False)


def drop_cut_lock() -> None:
    """Remove a lock file that DVC was writing when it was ended: with it no command of DVC works.

    The cells come back from DVC's records of runs. What Git has marked as a conflict is left to people.
    """
    for _ in range(2):  # another DVC may be writing it just now
        if not _is_cut(LOCK):
            return
        time.sleep(WRITING_SECONDS)
    say(f"{LOCK}: was cut off by an interruption; what ran is in DVC's cache")
    LOCK.unlink()


def _is_cut(lock: Path) -> bool:
    if not lock.is_file():
        return False
    from dvc.dvcfile import Lockfile
    from dvc.exceptions import DvcException
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    from pipeline_lib.params.load import CONFLICT

    text = lock.read_text(encoding="utf-8", errors="replace")
    try:
        Lockfile.validate(YAML(typ="safe").load(text))
    except (DvcException, YAMLError, ValueError):
        return CONFLICT not in text
    return False
