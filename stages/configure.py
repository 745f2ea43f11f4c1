"""Stage 1: check params.yaml, and resolve which kind of labels the chosen method learns from.

It runs before any other stage, so that a mistake is reported before DVC removes an output. Its output
has the same bytes for all methods of one kind, so that switching between them splits nothing anew.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from pipeline_lib.artifacts import publish_json, refuse_strangers
from pipeline_lib.errors import UserError
from pipeline_lib.params.load import load
from pipeline_lib.params.methods import KINDS
from pipeline_lib.params.sections import OWN_IMAGES
from stages.cli import run

SUPERVISION = Path("data/supervision.json")
RAW = Path("data/raw")


def main() -> None:
    """Check params.yaml and write data/supervision.json.

    Raises:
        UserError: It has a mistake, the method's file is missing (DVC's copies have what Git knows), or `data/raw` holds files of the user's.
    """
    params = load()
    # Now: before `download` runs, DVC removes the folder.
    refuse_strangers(RAW)
    if find_spec(f"pipeline_lib.methods.{params.method}") is None:
        msg = (
            f"pipeline_lib/methods/{params.method}.py: not found; `git add` it where it was written"
        )
        raise UserError(msg)
    if params.data.path and params.data.name not in OWN_IMAGES:
        unread = f"data.path plays no part: {params.data.name} is not read from there"
        print(f"{unread} (data.mirror names a folder of its files)")
    kind = KINDS[params.method]
    publish_json(SUPERVISION, {"kind": kind})
    print(f"{params.method} on {params.data.name}, seed {params.seed}: for {kind} labels")


if __name__ == "__main__":
    run(main)
