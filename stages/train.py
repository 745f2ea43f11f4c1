"""Stage 5: train the chosen method on the stored split."""

from __future__ import annotations

from pipeline_lib.params.load import load
from pipeline_lib.training.determinism import deterministic_torch, pin_processor
from stages.cli import run, say


def main() -> None:
    """Train, and write the predictor, the label state and the history."""
    params = load()
    pin_processor(params.train.reproducible, params.train.threads)
    # torch reads the processor's settings once, when it is imported.
    from pipeline_lib.training.train import train

    deterministic_torch(params.train.threads)
    record = train(params, say)
    print(f"{params.method}: kept epoch {record.best_epoch} of {int(record.rows[-1]['epoch'])}")


if __name__ == "__main__":
    run(main)
