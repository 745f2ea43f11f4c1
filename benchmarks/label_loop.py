"""What it gives to label the images that label-next asks for: the digits, 20 labels, then 20 more; results as JSON.

    python -m benchmarks.label_loop -o benchmarks/results/label_loop.json

Per seed, two images of each class are labeled first, and a model is trained. Then 20 more are labeled, with their true
classes: those that `label-next` asks for, or others at random. Each way is trained anew. A quarter of the digits is the test.
"""

from __future__ import annotations

import argparse
import csv
import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from sklearn.datasets import load_digits

from benchmarks.accuracy import CELL_STAGES, DATA_STAGES, ROOT, changed, run_stages
from benchmarks.record import environment, write
from pipeline_lib.statistics.intervals import t_interval

FIRST_PER_CLASS, MORE = 2, 20
DATA = "images"
SETTINGS = [
    *("data.name=image_folder", f"data.path={DATA}", "data.table=labels.csv", "data.channels=gray"),
    *("split.val_fraction=0", "train.steps_per_epoch=30", "train.batch_size=32"),
    *("train.weak_augment=affine_small", "train.strong_augment=affine_strong"),
    *("train.global_augment=affine_small", "train.small_augment=small_affine"),
]


def main() -> None:
    """Run all seeds, print what came out and write it down."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--method", default="fixmatch")
    parser.add_argument("--seeds", default="1,2,3,4,5")
    parser.add_argument("-o", "--output", type=Path)
    options = parser.parse_args()
    runs = []
    for seed in map(int, options.seeds.split(",")):
        with tempfile.TemporaryDirectory() as folder:
            runs.append(looped(Path(folder), options.method, seed))
        print(*(f"{name} {value}" for name, value in runs[-1].items()), flush=True)
    gains = [run["gain"] for run in runs]
    interval = t_interval(gains)
    summary = {
        "mean_gain": round(float(np.mean(gains)), 4),
        "interval_95": [round(bound, 4) for bound in interval] if interval else None,
    }
    print(summary)
    if options.output:
        said = f"python -m benchmarks.label_loop --method {options.method} --seeds {options.seeds}"
        content = {"command": said, **environment(), **summary, "runs": runs}
        write(options.output, content)


def looped(workspace: Path, method: str, seed: int) -> dict[str, Any]:
    """Test accuracy with the first labels, and with more of them, of either choice."""
    truth = write_images(workspace / DATA)
    draw = np.random.default_rng(seed)
    files = draw.permutation(sorted(truth)).tolist()
    first = [
        file
        for k in sorted(set(truth.values()))
        for file in [f for f in files if truth[f] == k][:FIRST_PER_CLASS]
    ]
    params = changed(SETTINGS, method) | {"method": method, "seed": seed}
    start = accuracy(workspace, params, truth, first)
    asked = label_next(workspace)
    others = [file for file in files if file not in first][:MORE]
    chosen = accuracy(workspace, params, truth, [*first, *asked])
    random = accuracy(workspace, params, truth, [*first, *others])
    gain = round(chosen - random, 6)
    about = {"method": method, "seed": seed, "first_labels": len(first), "more": len(asked)}
    return about | {"first": start, "label_next": chosen, "random": random, "gain": gain}


def write_images(folder: Path) -> dict[str, str]:
    """The digits as files: a quarter of them by class, to test with; gives the classes of the others."""
    digits, truth = load_digits(), {}
    for number, (image_HW, k) in enumerate(zip(digits.images, digits.target, strict=True)):
        path = folder / (f"test/{k}/{number}.png" if number % 4 == 0 else f"train/{number}.png")
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.round(image_HW * 255 / 16).astype(np.uint8)).save(path)
        if path.parent.name == "train":
            truth[f"train/{number}.png"] = str(k)
    return truth


def accuracy(
    workspace: Path, params: dict[str, Any], truth: dict[str, str], labeled: list[str]
) -> float:
    """Of a training with these labels."""
    with (workspace / "labels.csv").open("w", encoding="utf-8", newline="") as file:
        rows = [(name, truth[name]) for name in labeled]
        csv.writer(file).writerows([("file", "label"), *rows])
    for made in ("data", "models", "reports"):
        shutil.rmtree(workspace / made, ignore_errors=True)
    run_stages(workspace, params, (*DATA_STAGES, *CELL_STAGES[1:]))
    metrics = json.loads((workspace / "reports/metrics.json").read_text(encoding="utf-8"))
    measured: float = metrics["test"]["accuracy"]
    return measured


def label_next(workspace: Path) -> list[str]:
    """The files that the command asks for."""
    command = [sys.executable, "-m", "stages.app", "label-next", "-n", str(MORE), "-o", "next"]
    environment = {"PYTHONPATH": str(ROOT)}
    subprocess.run(command, cwd=workspace, env=environment, check=True, capture_output=True)
    with (workspace / "next/next.csv").open(encoding="utf-8", newline="") as file:
        return [row["file"] for row in csv.DictReader(file)]


if __name__ == "__main__":
    main()
