"""Memory and time of training images that are kept in memory, or in a mapped file; results as JSON.

    python -m benchmarks.pool --images 20000,200000 -o benchmarks/results/pool.json

Synthetic images of 32x32x3 from a Parquet file, in a process of its own each way. A peak is looked for
every 10 ms: `anonymous` is memory that the process holds, `file` what the system has read of files into
memory on its behalf, and takes back when somebody needs it. A step is one of `average` with `small_cnn`.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from benchmarks.record import environment, write
from pipeline_lib.parquet import publish_rows

SHAPE, CLASSES, BATCH, STEPS, WARM_UP = (32, 32, 3), 10, 128, 150, 10
WAYS = {"memory": 1024.0, "file": 1e-9}  # GiB of budget
KINDS = {"anonymous": "RssAnon", "file": "RssFile"}


def main() -> None:
    """Measure every size both ways, print what came out and write it down."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", default="20000,200000")
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--folder", type=Path, help="where images and files go")
    parser.add_argument("-o", "--output", type=Path)
    options = parser.parse_args()
    runs = []
    for count in map(int, options.images.split(",")):
        with tempfile.TemporaryDirectory(dir=options.folder) as folder:
            write_images(Path(folder) / "images.parquet", count)
            for way in [*WAYS] * options.repeat:
                child = [sys.executable, "-m", "benchmarks.pool", folder, way, str(count)]
                done = subprocess.run(child, capture_output=True, text=True, check=True)
                runs.append(json.loads(done.stdout))
                print(*(f"{name} {value}" for name, value in runs[-1].items()), flush=True)
    if options.output:
        said = f"python -m benchmarks.pool --images {options.images} --repeat {options.repeat}"
        content = {"command": said, **environment(), "runs": runs}
        write(options.output, content)


def write_images(path: Path, count: int) -> None:
    """Noise, as ingest stores it."""
    rng = np.random.default_rng(1)
    schema = pa.schema({"image": pa.binary()})
    with publish_rows(path, schema) as write:
        for start in range(0, count, 1000):
            noise = rng.integers(0, 256, (min(1000, count - start), *SHAPE), np.uint8)
            write(pa.table({"image": [image.tobytes() for image in noise]}, schema=schema))


class Peaks:
    """The most memory of this process since `restart`, in MiB, looked at by a thread."""

    def __init__(self) -> None:
        self.restart()
        threading.Thread(target=self._look, daemon=True).start()

    def restart(self) -> None:
        """Forget what was."""
        self.most = dict.fromkeys(KINDS, 0)

    def _look(self) -> None:
        while True:
            status = Path("/proc/self/status").read_text(encoding="ascii")
            for kind, name in KINDS.items():
                found = re.search(rf"{name}:\s+(\d+)", status)
                self.most[kind] = max(self.most[kind], int(found[1]) >> 10 if found else 0)
            time.sleep(0.01)


def one(folder: Path, way: str, count: int) -> dict[str, Any]:
    """Read the images and take some steps."""
    from pipeline_lib.params.load import load
    from pipeline_lib.training.determinism import deterministic_torch, pin_processor

    train = load().train.model_copy(update={"threads": 1})
    pin_processor("this_machine", 1)
    deterministic_torch(1)
    import torch

    from pipeline_lib.augment.policies import policy
    from pipeline_lib.memory import ImageMemory
    from pipeline_lib.methods.average import Average
    from pipeline_lib.models.build import Architecture, build
    from pipeline_lib.params.methods import Average as AverageParams
    from pipeline_lib.pixels import Stored
    from pipeline_lib.records import Problem
    from pipeline_lib.training.optimizer import build_optimizer
    from pipeline_lib.training.pool import Feed, Pool
    from pipeline_lib.training.steps import take_step

    cpu, peaks = torch.device("cpu"), Peaks()
    time.sleep(0.1)
    before = dict(peaks.most)
    started = time.monotonic()
    memory = ImageMemory(WAYS[way], cpu, folder, lambda _: None)
    stored = Stored(SHAPE, "pixels", "stretch")
    images_NCHW = memory.load(folder / "images.parquet", np.arange(count), stored, "training")
    loaded, most = time.monotonic() - started, dict(peaks.most)
    candidates_NK = torch.rand(count, CLASSES) < 0.3
    candidates_NK[:, 0] = True
    problem = Problem(candidates_NK, ("partial",) * count, tuple("abcdefghij"), BATCH, images_NCHW)
    about = Architecture(
        "small_cnn", 16, 1.0, 0.0, "auto", 0.1, 3, 32, 32, CLASSES, (0.5,) * 3, (0.3,) * 3
    )
    method = Average(AverageParams(view="weak"), problem, build(about)).train()
    pool = Pool(images_NCHW, candidates_NK, lambda _: policy("crop_flip", (3, 32, 32)), 1, cpu)
    feed = Feed(pool, method.streams)
    optimizer = build_optimizer(train, method.parameters())
    peaks.restart()
    gathering = 0.0
    for step in range(WARM_UP + STEPS):
        if step == WARM_UP:
            stepping, gathering = time.monotonic(), 0.0
        at = time.monotonic()
        batch = feed.batch(step)
        gathering += time.monotonic() - at
        take_step(method, batch, {}, optimizer, train)
    total = time.monotonic() - stepping
    return {
        "images": count,
        "mib": round(count * stored.image_bytes / 2**20),
        "images in": way,
        "seconds to read": round(loaded, 2),
        "ms per batch": round(1000 * gathering / STEPS, 2),
        "ms per step": round(1000 * (total - gathering) / STEPS, 2),
        **{f"{kind} before": before[kind] for kind in KINDS},
        **{f"{kind} while reading": most[kind] for kind in KINDS},
        **{f"{kind} while training": peaks.most[kind] for kind in KINDS},
    }


if __name__ == "__main__":
    if len(sys.argv) == 4 and sys.argv[2] in WAYS:
        print(json.dumps(one(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]))))
    else:
        main()
