"""What saving the resume state costs: all of CIFAR-10, WRN-28-2, one thread; results as JSON.

    python -m benchmarks.checkpoint_cost --archive cifar10-jpeg.tar.gz -o benchmarks/results/checkpoint_cost.json

The state is written to the disk (fsync) in the folder of --folder. The share is that of a save in the seconds between
two of them, `train.checkpoint_seconds` of params.yaml.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.training_step import BATCH, CHANGES, build_method, problem, timed, trainer

import torch  # isort: skip - the line above sets its environment

from benchmarks.images import cifar_images
from benchmarks.record import environment, write
from pipeline_lib.params.load import load
from pipeline_lib.training.progress import TrainingProgress
from pipeline_lib.training.resume import Slot

IMAGES, LABELED = 50_000, 4000


def main() -> None:
    """Measure every method, print what came out and write it down."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--archive", type=Path, required=True)
    parser.add_argument("--repeat", type=int, default=7)
    parser.add_argument("--folder", type=Path, help="of the state")
    parser.add_argument("-o", "--output", type=Path)
    options = parser.parse_args()
    images_NHWC = cifar_images(options.archive, IMAGES)
    runs = []
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        for name in BATCH:
            runs.append(measured(name, images_NHWC, Path(folder) / name, options.repeat))
            print(*(f"{key} {value}" for key, value in runs[-1].items()), flush=True)
    if options.output:
        archive = f"--archive {options.archive.name}"
        said = f"python -m benchmarks.checkpoint_cost {archive} --repeat {options.repeat}"
        content = {"command": said, **environment(), "runs": runs}
        write(options.output, content)


def measured(name: str, images_NHWC: Any, folder: Path, repeat: int) -> dict[str, Any]:  # noqa: ANN401
    """Median seconds of a step and of a save, and what a save takes of the time."""
    task, cpu = problem(name, images_NHWC, BATCH[name], LABELED), torch.device("cpu")
    method, _ = build_method(name, task, cpu, **CHANGES.get(name, {}))
    training = trainer(method, cpu, optimizer="sgd")
    training.slot = Slot(folder, {"params": {}})
    training._evaluate(TrainingProgress(1, 0, 1))  # what is kept of it is part of the state
    steps, saves = [], []
    for _ in range(repeat):
        steps.append(timed(training.step))
        saves.append(timed(training.save))
    (state, *_) = training.slot._states()
    between = load().train.checkpoint_seconds
    save = statistics.median(saves)
    return {
        "method": name,
        "images": len(images_NHWC),
        "step_seconds": round(statistics.median(steps), 4),
        "save_seconds": round(save, 4),
        "save_seconds_largest": round(max(saves), 4),
        "state_bytes": state.stat().st_size,
        "checkpoint_seconds": between,
        "share": round(save / (between + save), 6),
    }


if __name__ == "__main__":
    main()
