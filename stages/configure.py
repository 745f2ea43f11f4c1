"""Stage 1: check params.yaml, and resolve which kind of labels the chosen method learns from.

It runs before any other stage, so that a mistake is reported before DVC removes an output. Its output
has the same bytes for all methods of one kind, so that switching between them splits nothing anew.
"""

from __future__ import annotations

from pathlib import Path

from pipeline_lib.artifacts import publish_json, refuse_strangers
from pipeline_lib.params.load import load
from pipeline_lib.params.methods import KINDS
from pipeline_lib.params.sections import OWN_IMAGES
from stages.cli import run

SUPERVISION = Path("data/supervision.json")
RAW = Path("data/raw")


def main() -> None:
    """Check params.yaml and write data/supervision.json."""
    params = load()
    refuse_strangers(
        RAW
    )  # now: before `download` runs, DVC removes the folder (a cached `download` it lays out itself)
    if params.data.path and params.data.name not in OWN_IMAGES:
        print(
            f"data.path plays no part: {params.data.name} is not read from there (data.mirror names a folder of its files)"
        )
    kind = KINDS[params.method]
    publish_json(SUPERVISION, {"kind": kind})
    print(f"{params.method} on {params.data.name}, seed {params.seed}: for {kind} labels")


if __name__ == "__main__":
    run(main)
