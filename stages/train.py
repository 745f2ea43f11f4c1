"""Stage 5: train the chosen method on the stored split."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

from pipeline_lib.errors import UserError
from pipeline_lib.overlay import flatten
from pipeline_lib.own_data import changed_table
from pipeline_lib.params.load import Params, in_yaml, load
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
    # torch reads the settings of the processor once: as it is imported, or first computes.
    from pipeline_lib.training.train import train

    deterministic_torch(params.train.threads)
    with one_voice():
        record = train(params, say, partial(refuse_changes, params))
    if rank_here() == 0:
        print(f"{params.method}: kept epoch {record.kept.epoch} of {int(record.rows[-1]['epoch'])}")


def refuse_changes(params: Params) -> None:
    """DVC records params.yaml as it is when a stage ends: with other values than were trained with, for good.

    Raises:
        UserError: It has others by now.
    """
    used, now = _used(params), _used(load())
    for key in (*used, *now):
        if used.get(key) != now.get(key):
            msg = (
                f"params.yaml: {key}: changed from {in_yaml(used.get(key))} to {in_yaml(now.get(key))} during training, and DVC "
                "would record that as trained with; put it back, and dvc repro goes on from the last saved state, or run "
                "dvc repro for the new value"
            )
            raise UserError(msg)


def _used(params: Params) -> dict[str, Any]:
    """What dvc.yaml names for this stage."""
    sections = params.model_dump(include={"seed", "method", "model", "train"})
    return dict(flatten(sections | {"methods": {params.method: params.method_params.model_dump()}}))


if __name__ == "__main__":
    with leaving_at_once():
        run(main)
