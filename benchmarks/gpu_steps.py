"""What a GPU does at most, and steps of the papers' sizes: as straightforward code takes them, and as the pipeline does.

    python -m benchmarks.gpu_steps --archive cifar10-jpeg.tar.gz -o benchmarks/results/gpu/steps.json --seconds 300

One table: ceilings; per method milliseconds of a step in every way, with all that lies between two steps; views per
step; how long the published recipe would take, and how long the arithmetic or its traffic would (`floor`). The
straightforward loop is `plain.py` with `--workers` loader processes, in torch's default precision (TF32) and in
bfloat16. WRN-28-2 on images of 32x32 decoded beforehand.
"""

from __future__ import annotations

import argparse
import hashlib
import itertools
import statistics
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from PIL import Image

from benchmarks import training_step
from benchmarks.accuracy import environment
from benchmarks.images import cifar_images
from benchmarks.plain import loaders, steps
from benchmarks.record import command, write
from benchmarks.training_step import build_method, plain_model, problem, trainer
from pipeline_lib.training.determinism import deterministic_torch
from pipeline_lib.training.device import own_stream
from pipeline_lib.training.lars import Lars

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

    from pipeline_lib.training.loop import Trainer

LABELED = 4000
# The papers' batch sizes, optimizers, and lengths in steps.
BATCH = {"cr_dpll": 64, "mixmatch": 64, "fixmatch": 64, "paws": 256}
OPTIMIZER = {"cr_dpll": "sgd", "mixmatch": "adam", "fixmatch": "sgd", "paws": "lars"}
STEPS = {"cr_dpll": 200 * 781, "mixmatch": 2**20, "fixmatch": 2**20, "paws": 600 * 195}
CHANGES: dict[str, dict[str, Any]] = {
    "paws": {
        "images_per_class": 64,
        "support_views": 2,
        "small_views": 6,
        "prediction_head": False,
        "finetune": "none",
    }
}
# Images through WRN-28-2 per step with a gradient at 32 and at 18 pixels a side, and without one at 32. FixMatch's weak
# views share a pass and its batch statistics with the others, so the gradient goes through them too.
PASSES = {
    "cr_dpll": (192, 0, 0),
    "mixmatch": (192, 0, 128),
    "fixmatch": (960, 0, 0),
    "paws": (1792, 1536, 0),
}
# Bytes of activations per image, forward and backward in bfloat16, were all pointwise work fused (MB); GFLOP.
TRAFFIC, FLOP = (11.2, 3.6, 11.2 / 3), (1.285, 0.438, 1.285 / 3)
WAYS = ("straightforward", "straightforward bf16", "plain", "replayed", "compiled")
WARM_UP = 40  # steps of the straightforward loop, until loaders' stocks are used up
SAME = 12  # steps after which weights are compared


def ceilings() -> dict[str, float]:
    """FLOP per second of a large product in bfloat16, and bytes per second of a copy, read and written."""
    side, count = 8192, 2**31
    a = torch.randn(side, side, device="cuda", dtype=torch.bfloat16)
    values = torch.zeros(count, device="cuda", dtype=torch.uint8)
    other = torch.empty_like(values)
    return {
        "flop_per_second": 2 * side**3 / timed(lambda: torch.mm(a, a), 10),
        "bytes_per_second": 2 * count / timed(lambda: other.copy_(values), 10),
    }


def timed(work: Callable[[], object], times: int) -> float:
    """Seconds per call, the median of three windows."""
    windows = []
    for _ in range(4):
        torch.cuda.synchronize()
        started = time.perf_counter()
        for _ in range(times):
            work()
        torch.cuda.synchronize()
        windows.append((time.perf_counter() - started) / times)
    return statistics.median(windows[1:])


def floor(name: str, most: dict[str, float]) -> float:
    """Milliseconds that the arithmetic of a step takes, or its traffic if that is slower."""
    traffic = sum(n * mb for n, mb in zip(PASSES[name], TRAFFIC, strict=True)) * 1e6
    flop = sum(n * gflop for n, gflop in zip(PASSES[name], FLOP, strict=True)) * 1e9
    return 1000 * max(traffic / most["bytes_per_second"], flop / most["flop_per_second"])


def straightforward(
    name: str, images_NHWC: NDArray[Any], workers: int, *, half: bool
) -> dict[str, Any]:
    """The loop as one writes it first, with torch's own settings."""
    torch.set_deterministic_debug_mode("default")
    torch.backends.cudnn.allow_tf32 = True
    task = problem(name, images_NHWC, BATCH[name], LABELED)
    own, section = build_method(name, task, torch.device("cuda"), **CHANGES.get(name, {}))
    model = plain_model(own, section)
    kinds: dict[str, Any] = {
        "sgd": lambda p: torch.optim.SGD(p, lr=0.03, momentum=0.9, nesterov=True, foreach=False),
        "adam": lambda p: torch.optim.Adam(p, lr=0.002, foreach=False),
        "lars": lambda p: Lars([{"params": list(p)}], lr=0.8, momentum=0.9),
    }
    optimizer = kinds[OPTIMIZER[name]](model.parameters())
    images = [Image.fromarray(image) for image in images_NHWC]
    training = steps(model, loaders(images, own.streams, workers), optimizer, half=half)
    for _ in itertools.islice(training, WARM_UP):
        pass
    return {"ms": round(1000 * timed(lambda: next(training), 10), 2)}


def ours(name: str, images_NHWC: NDArray[Any], way: str) -> dict[str, Any]:
    """The pipeline's loop."""
    deterministic_torch(1)
    cuda = torch.device("cuda")
    task = problem(name, images_NHWC, BATCH[name], LABELED)
    method, _ = build_method(name, task, cuda, **CHANGES.get(name, {}))
    training = trainer(
        method, cuda, precision="bf16", optimizer=OPTIMIZER[name], gpu_steps=way, learning_rate=0.01
    )
    said: list[str] = []
    training.say = said.append
    torch.cuda.reset_peak_memory_stats()
    started = time.perf_counter()
    with own_stream(cuda):
        for _ in range(SAME):
            training.step()
        torch.cuda.synchronize()
        row: dict[str, Any] = {"first steps s": round(time.perf_counter() - started, 1)}
        row["weights"] = digest(training)
        together = training.feed.together
        times = together * max(1, 40 // together)
        row["ms"] = round(1000 * timed(training.step, times), 3)
        making = timed(lambda: training.pool.batches(method.streams, range(together)), 1)
        row["views ms"] = round(1000 * making / together, 3)
        drawing = timed(lambda: training.pool.draws(method.streams, range(together)), 1)
        row["of it drawn ahead ms"] = round(1000 * drawing / together, 3)
    row["steps at once"] = together
    row["peak GiB"] = round(torch.cuda.max_memory_allocated() / 2**30, 2)
    return row | ({"not recorded": said[0]} if said else {})


def digest(training: Trainer) -> str:
    """Of all weights and tables."""
    state = training.method.state_dict().values()
    blob = b"".join(t.detach().cpu().contiguous().numpy().tobytes() for t in state)
    return hashlib.sha256(blob).hexdigest()[:16]


def measured(name: str, images_NHWC: NDArray[Any], way: str, workers: int) -> dict[str, Any]:
    """One row; an error is one too, for the others are worth having."""
    started = time.perf_counter()
    try:
        if way.startswith("straightforward"):
            row = straightforward(name, images_NHWC, workers, half=way.endswith("bf16"))
        else:
            row = ours(name, images_NHWC, way)
    except Exception as error:  # noqa: BLE001
        row = {"error": f"{type(error).__name__}: {error}".splitlines()[0][:300]}
        print(f"{type(error).__name__}: {error}"[:1500], file=sys.stderr)
    return row | {"took s": round(time.perf_counter() - started, 1)}


def rows(options: argparse.Namespace, most: dict[str, float]) -> Iterator[dict[str, Any]]:
    """Method by method, way by way."""
    images_NHWC = cifar_images(options.archive, options.images)
    began = time.monotonic()
    for name in options.methods.split(","):
        least, base = floor(name, most), None
        for way in options.ways.split(","):
            if time.monotonic() - began > options.seconds:
                return
            row = {"method": name, "batch size": BATCH[name], "way": way}
            row |= measured(name, images_NHWC, way, options.workers)
            if "ms" in row:
                base = row["ms"] if way == WAYS[0] else base
                if base:
                    row["times faster"] = round(base / row["ms"], 1)
                row["recipe min"] = round(row["ms"] * STEPS[name] / 60_000, 1)
                row["floor ms"] = round(least, 2)
                row["times the floor"] = round(row["ms"] / least, 1)
            torch._dynamo.reset() if way == "compiled" else None
            torch.cuda.empty_cache()
            yield row


def main() -> None:
    """Measure, and write down what there is so far."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--archive", type=Path, help="of CIFAR-10 as image files")
    parser.add_argument("--images", type=int, default=20_000)
    parser.add_argument("--methods", default=",".join(BATCH))
    parser.add_argument("--ways", default=",".join(WAYS))
    parser.add_argument("--workers", type=int, default=16)
    parser.add_argument("--seconds", type=float, default=500)
    parser.add_argument("--commit", help="of the code, where Git cannot tell")
    parser.add_argument("-o", "--output", type=Path, required=True)
    options = parser.parse_args()
    deterministic_torch(1)
    started, most = time.monotonic(), ceilings()
    content: dict[str, Any] = {
        "command": command("gpu_steps"),
        **environment(),
        "seed": training_step.SEED,
        "ceilings": [
            {
                "TFLOP/s": round(most["flop_per_second"] / 1e12, 1),
                "TB/s, read and written": round(most["bytes_per_second"] / 1e12, 3),
            }
        ],
        "runs": [],
    }
    if options.commit:
        content["commit"] = options.commit
    print(content["ceilings"], flush=True)
    options.output.parent.mkdir(parents=True, exist_ok=True)
    for row in rows(options, most):
        content["runs"].append(row)
        content["seconds"] = round(time.monotonic() - started, 1)
        print(*(f"{key} {value}" for key, value in row.items()), flush=True)
        write(options.output, content)


if __name__ == "__main__":
    main()
