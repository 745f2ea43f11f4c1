"""Time and memory of training against the sizes of the problem, one size at a time; results as JSON.

    python -m benchmarks.scaling -o benchmarks/results/scaling.json

Noise of 32x32x3, read from the files of the split stage as the train stage reads them, `small_cnn` of 8 channels (with
several threads WRN-28-2 too), float32, the processor's own instructions. One process per point, so that a peak is that point's. `seconds to start`
is from the split to the first step, without the import of torch; a step is one of the loop, without the first ones,
the median over blocks of steps that share their views. What ingest and split take is in ingest_sizes.json.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from benchmarks.ingest import ROOT
from benchmarks.pool import SHAPE, write_images
from benchmarks.record import environment, write
from pipeline_lib.artifacts import publish_json
from pipeline_lib.parquet import publish_table

Point = dict[str, Any]

BASE: Point = {
    "method": "cr_dpll",
    "images": 100_000,
    "classes": 10,
    "batch size": 64,
    "threads": 1,
    "network": "small_cnn",
}
CANDIDATES, LABELED_PER_CLASS, WIDTH, SEED = 4, 5, 8, 1
BUDGET = 8.0  # GiB: all images are in memory
BLOCKS = 3  # of steps, at least
# More classes mean more support images in a step of PAWS.
PAWS: Point = {"method": "paws", "small views": 2, "images per class": 2}


def points(largest: int) -> list[Point]:
    """What is measured: one size at a time, the others as in `BASE`."""
    trained = ({"batch size": 64}, {"batch size": 1024}, {"batch size": 16, "network": "wrn_28_2"})
    images = [n for n in (10_000, 100_000, 300_000, 1_000_000) if n <= largest]
    varied: dict[str, list[Point]] = {
        "images": [{"images": n} | way for way in ({}, PAWS) for n in images],
        "batch size": [{"batch size": size} for size in (16, 64, 256, 1024)],
        "small views": [PAWS | {"small views": number} for number in (0, 2, 4, 6)],
        "classes": [{"classes": k} | way for way in ({}, PAWS) for k in (10, 100, 300, 1000)],
        "threads": [what | {"threads": count} for what in trained for count in (1, 2)],
    }
    return [{"varied": axis} | BASE | point for axis, all_of in varied.items() for point in all_of]


def main() -> None:
    """Measure every point, print what came out and write it down."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--largest", type=int, default=1_000_000, help="number of images")
    parser.add_argument("--vary", help="one size alone, such as threads")
    parser.add_argument("--seconds", type=float, default=2.0, help="of steps, for each point")
    parser.add_argument("--folder", type=Path, help="where images go: 3 GiB")
    parser.add_argument("-o", "--output", type=Path)
    options = parser.parse_args()
    started = time.monotonic()
    wanted = [p for p in points(options.largest) if options.vary in (None, p["varied"])]
    found: dict[int, Point] = {}
    for count in sorted({point["images"] for point in wanted}):
        with tempfile.TemporaryDirectory(dir=options.folder) as folder:
            write_images(Path(folder) / "data/images.parquet", count)
            for number, point in enumerate(wanted):
                if point["images"] == count:
                    found[number] = measured(Path(folder), point, options.seconds)
                    print(*(f"{name} {value}" for name, value in found[number].items()), flush=True)
    if options.output:
        said = (
            f"python -m benchmarks.scaling --largest {options.largest} --seconds {options.seconds}"
        )
        content = {
            "command": said + (f" --vary {options.vary}" if options.vary else ""),
            **environment(),
            "torch": version("torch"),
            "seed": SEED,
            "minutes": round((time.monotonic() - started) / 60, 1),
            "runs": [found[number] for number in range(len(wanted))],
        }
        write(options.output, content)


def measured(workspace: Path, point: Point, seconds: float) -> Point:
    """A point in a process of its own."""
    write_split(workspace / "data", point)
    child = [sys.executable, "-m", "benchmarks.scaling", "one", json.dumps(point), str(seconds)]
    surroundings = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        child, cwd=workspace, env=surroundings, stdout=subprocess.PIPE, text=True, check=True
    )
    result: Point = json.loads(done.stdout)
    return result


def write_split(data: Path, point: Point) -> None:
    """What the train stage reads beside the images: candidate sets, or few labels."""
    count, classes = point["images"], point["classes"]
    label_N = np.arange(count) % classes
    labeled = LABELED_PER_CLASS * classes if point["method"] == "paws" else count
    each = 1 if point["method"] == "paws" else CANDIDATES
    chosen = (label_N[:labeled, None] + np.arange(each)) % classes
    everything = np.tile(np.arange(classes, dtype=np.int16), count - labeled)
    flat = np.concatenate([np.sort(chosen).ravel().astype(np.int16), everything])
    sizes_N = np.where(np.arange(count) < labeled, each, classes)
    offsets = np.concatenate([[0], sizes_N.cumsum()])
    role = "labeled_and_unlabeled" if point["method"] == "paws" else "partial"
    table = pa.table(
        {
            "id": pa.array(np.arange(count), pa.int32()),
            "candidates": pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), pa.array(flat)),
            "role": [role] * labeled + ["unlabeled"] * (count - labeled),
        }
    )
    height, width, channels = SHAPE
    about = {"height": height, "width": width, "channels": channels, "policy": "natural"}
    names = [str(k) for k in range(classes)]
    publish_json(
        data / "classes.json", {"classes": names, "store": "pixels", "resize": "stretch"} | about
    )
    publish_table(data / "split/train.parquet", table)
    publish_table(data / "split/val.parquet", table.slice(0, 0))


def one(point: Point, seconds: float) -> Point:
    """Start a training in the current folder, and take some steps."""
    from pipeline_lib.params.load import check, read_yaml
    from pipeline_lib.training.determinism import deterministic_torch, pin_processor

    pin_processor("this_machine", point["threads"])
    deterministic_torch(point["threads"])
    from pipeline_lib.training.loop import Trainer
    from pipeline_lib.training.prepare import prepare
    from pipeline_lib.training.resume import Slot

    content: Any = read_yaml(ROOT / "params.yaml")
    content |= {"seed": SEED, "method": point["method"]}
    content["model"] |= {"name": point["network"], "width": WIDTH}
    content["train"] |= {
        "device": "cpu",
        "batch_size": point["batch size"],
        "threads": point["threads"],
        "memory_budget": BUDGET,
    }
    content["methods"]["paws"] |= {
        "small_views": point.get("small views", 0),
        "images_per_class": point.get("images per class", 1),
        "finetune": "none",
    }
    params = check(content, ROOT / "params.yaml")
    before, started = peak_mib(), time.perf_counter()
    ready = prepare(params, lambda line: print(line, file=sys.stderr))
    per_epoch = max(point["images"] // point["batch size"], 1)
    slot = Slot(Path(), {"params": {}})
    training = Trainer(
        ready.method.train(),
        ready.pool,
        ready.validation,
        params.train,
        "last",
        per_epoch,
        slot,
    )
    to_start, at_start = time.perf_counter() - started, peak_mib()
    together = ready.pool.steps_at_once(ready.method.streams)
    blocks = [block_seconds(training, together)]  # warms up
    while len(blocks) <= BLOCKS or sum(blocks[1:]) < seconds:
        blocks.append(block_seconds(training, together))
    return point | {
        "seconds to start": round(to_start, 2),
        "ms per step": round(1000 * statistics.median(blocks[1:]) / together, 2),
        "steps": together * (len(blocks) - 1),
        "MiB of the program": before,
        "MiB at the start": at_start,
        "MiB at the most": peak_mib(),
    }


def block_seconds(training: Any, steps: int) -> float:  # noqa: ANN401 - a Trainer, which imports torch
    """Seconds of so many steps."""
    started = time.perf_counter()
    for _ in range(steps):
        training.step()
    return time.perf_counter() - started


def peak_mib() -> int:
    """The most memory that this process has had so far; not its parent's, as `getrusage` may give."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    found = re.search(r"VmHWM:\s+(\d+)", status)
    return int(found[1]) >> 10 if found else 0


if __name__ == "__main__":
    if len(sys.argv) == 4 and sys.argv[1] == "one":
        print(json.dumps(one(json.loads(sys.argv[2]), float(sys.argv[3]))))
    else:
        main()
