"""The pipeline of a comparison, which DVC sees from the first comparison on."""

from __future__ import annotations

from pipeline_lib.artifacts import publish_bytes
from pipeline_lib.cells.cell import COMPARISON
from pipeline_lib.errors import UserError

WRITTEN = COMPARISON / "pipeline.yaml"
SEEN = COMPARISON / "dvc.yaml"
FILE = SEEN.as_posix()  # what DVC calls it
NEEDED = ("dvc.yaml:ingest", f"{FILE}:plan")  # what a cell depends on, made before any of them


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
