"""Stage 5: train the chosen method on the stored split."""

from __future__ import annotations

from pathlib import Path

from pipeline_lib.own_data import changed_table
from pipeline_lib.params.load import load
from pipeline_lib.training.determinism import deterministic_torch, pin_processor
from pipeline_lib.training.launch import (
    launch,
    leaving_at_once,
    one_voice,
    rank_here,
    wanted,
)
from stages.cli import run, say

TABLE = Path("data/raw/table")
AGAIN = "run dvc repro --force download && dvc repro"


def main() -> None:
    """Train, and write the predictor, the label state and the history."""
    params = load()
    pin_processor(params.train.reproducible, params.train.threads)
    if processes := wanted(params.train):
        launch(processes)
        return
    if rank_here() == 0 and (table := changed_table(params.data, TABLE)):
        say(f"warning: {table}: changed since its snapshot was taken; to train on it, {AGAIN}")
    # torch reads the processor's settings once, when it is imported.
    from pipeline_lib.training.train import train

    deterministic_torch(params.train.threads)
    with one_voice():
        record = train(params, say)
    if rank_here() == 0:
        print(f"{params.method}: kept epoch {record.kept.epoch} of {int(record.rows[-1]['epoch'])}")


if __name__ == "__main__":
    with leaving_at_once():
        run(main)
