"""The command that tells where the time of a training step goes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Steps = Annotated[int, typer.Option(min=1, help="How many steps to take.")]
Output = Annotated[Path | None, typer.Option("-o", "--output", help="The same as JSON.")]


def profile(steps: Steps = 20, output: Output = None) -> None:
    """Time the parts of a training step with the current params, on the current split.

    Prints milliseconds of data, augmentation, forward pass, backward pass and optimizer, images per second, and
    the floor: what the convolutions and matrix products of the step take at the device's measured best.
    On a GPU the kernels are launched one by one; a training that records its steps (train.gpu_steps) is faster.
    """
    from pipeline_lib.params.load import load
    from pipeline_lib.training.determinism import deterministic_torch, pin_processor

    params = load()
    train = params.train
    pin_processor(train.reproducible, train.threads)
    from pipeline_lib.artifacts import publish_json
    from pipeline_lib.profile import profile as measure

    deterministic_torch(train.threads)
    print(
        f"{params.method} on {params.data.name}, {params.model.name}, batch size {train.batch_size}, "
        f"{train.precision}, {train.threads} threads"
    )
    result = measure(params, steps, print)
    print(*result.lines(), sep="\n")
    if output is not None:
        publish_json(output, result.as_json(), sidecar=False)
