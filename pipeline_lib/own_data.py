"""The user's own images and labels, of which the pipeline reads a snapshot: where they are, and how to go on once they are corrected."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline_lib.artifacts import recorded_sha256, sha256, sidecar_of
from pipeline_lib.errors import UserError
from pipeline_lib.params.sections import OWN_IMAGES

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pipeline_lib.params.sections import Data

OF_A_COLLEAGUE = "of a colleague's: make pull, then dvc commit --force download"
"""DVC empties data/raw before `download` looks for images that are elsewhere, when its code has changed."""
AGAIN = "once corrected: dvc repro --force download && dvc repro"


@contextlib.contextmanager
def reading_snapshot(data: Data, mistakes: type[UserError] = UserError) -> Iterator[None]:
    """Add to what is wrong with the user's own images or table how to go on once that is corrected.

    The file that the message names may be correct by now.

    Args:
        data: of params.yaml.
        mistakes: those that the images and labels may be the cause of.

    Raises:
        UserError: As one within, with that sentence unless it says by itself what to do with DVC.
    """
    try:
        yield
    except mistakes as error:
        if data.name not in OWN_IMAGES or "dvc repro" in str(error):
            raise
        between = "\n" if "\n" in str(error) else "; "  # no part of the last of several lines
        msg = f"{error}{between}{AGAIN}"
        raise UserError(msg) from error


def resolve(path: str) -> Path:
    """Find a path of params.yaml from the repository's root.

    DVC runs some experiments in a copy of the repository elsewhere; it then sets DVC_ROOT to the
    original, where the user's relative paths point.

    Raises:
        UserError: It begins with `~` and the name of nobody.
    """
    try:
        return Path(os.environ.get("DVC_ROOT") or Path.cwd()) / Path(path).expanduser()
    except RuntimeError as error:
        msg = f"{path}: there is no such user; correct the path in params.yaml"
        raise UserError(msg) from error


def changed_table(data: Data, held: Path) -> str | None:
    """`data.table`, where it is no longer what the snapshot `held` of it is; None too where one of them is not here."""
    if not data.table or not sidecar_of(held).is_file():
        return None
    table = resolve(data.table)
    changed = table.is_file() and sha256(table) != recorded_sha256(held)
    return data.table if changed else None
