"""What a network's forward and backward pass costs on a GPU, by format, precision, compiler and CUDA graph.

    python -m benchmarks.gpu_network -o network.json --seconds 200

Random images, gradients of the mean logit. `ms` is with all launches, `graph_ms` replays a CUDA graph of the
same kernels, which is what the device itself takes; the kernels that took most are listed.
"""

from __future__ import annotations

import argparse
import statistics
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch.profiler import ProfilerActivity, profile

from benchmarks.accuracy import environment
from benchmarks.record import command, write
from pipeline_lib.models.build import Architecture, build
from pipeline_lib.training.determinism import deterministic_torch, pin_processor

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor, nn

WAYS = {  # channels last, precision, compiled, deterministic
    "nchw fp32": (False, False, False, True),
    "nhwc fp32": (True, False, False, True),
    "nhwc bf16": (True, True, False, True),
    "nhwc bf16, nondeterministic": (True, True, False, False),
    "nhwc bf16, algorithms by trial": (True, True, False, False),
    "nhwc bf16 compiled": (True, True, True, True),
    "nhwc bf16 compiled, nondeterministic": (True, True, True, False),
}
CASES = (
    ("wrn_28_2", 960, tuple(WAYS)),
    ("wrn_28_2", 192, ("nhwc bf16", "nhwc bf16, algorithms by trial", "nhwc bf16 compiled")),
    ("wrn_28_2", 64, ("nhwc fp32", "nhwc bf16", "nhwc bf16 compiled")),
    ("wrn_34_10", 192, ("nhwc bf16", "nhwc bf16 compiled")),
    ("resnet18", 192, ("nhwc bf16", "nhwc bf16 compiled")),
    ("wrn_28_2", 1792, ("nhwc bf16", "nhwc bf16 compiled")),
    ("mobilenet_v1", 192, ("nhwc bf16", "nhwc bf16 compiled")),
)
TOP = 14


def network(name: str) -> nn.Module:
    """Of ten classes, for CIFAR's images."""
    torch.manual_seed(0)
    shape = (3, 32, 32, 10, (0.5,) * 3, (0.3,) * 3)
    return build(Architecture(name, 16, 1.0, 0.0, "auto", 0.1, *shape)).cuda().train()


def step_of(name: str, batch: int, way: str) -> Callable[[], None]:
    """Forward and backward."""
    last, half, compiled, deterministic = WAYS[way]
    torch.set_deterministic_debug_mode("error" if deterministic else "default")
    torch.backends.cudnn.benchmark = way.endswith("by trial")
    model = network(name)
    encoder: Any = model.encoder
    if not last:
        encoder.to(memory_format=torch.contiguous_format)
    if compiled:
        encoder.compile(dynamic=False)
    images_BCHW: Tensor = torch.randint(0, 256, (batch, 3, 32, 32), device="cuda").byte()

    def step() -> None:
        for parameter in model.parameters():
            parameter.grad = None
        with torch.autocast("cuda", torch.bfloat16, enabled=half):
            loss = model(images_BCHW).mean()
        loss.backward()

    return step


def timed(step: Callable[[], None]) -> float:
    """Milliseconds."""
    windows = []
    for _ in range(3):
        torch.cuda.synchronize()
        started = time.perf_counter()
        for _ in range(10):
            step()
        torch.cuda.synchronize()
        windows.append(100 * (time.perf_counter() - started))
    return round(statistics.median(windows), 3)


def graph_of(step: Callable[[], None]) -> Callable[[], None]:
    """The same kernels without their launches."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):
            step()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        step()
    return graph.replay


def kernels(step: Callable[[], None]) -> list[dict[str, Any]]:
    """Those that took most."""
    with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as profiler:
        step()
        torch.cuda.synchronize()
    found: dict[str, list[float]] = {}
    for event in profiler.events() or []:
        if event.device_type.name == "CUDA":
            found.setdefault(event.name, []).append(event.self_device_time_total)
    ordered = sorted(found.items(), key=lambda item: -sum(item[1]))
    return [
        {"kernel": name[:110], "times": len(taken), "us": round(sum(taken), 1)}
        for name, taken in ordered[:TOP]
    ]


def measured(name: str, batch: int, way: str) -> dict[str, Any]:
    """One row."""
    row: dict[str, Any] = {"network": name, "batch": batch, "way": way}
    started = time.perf_counter()
    try:
        torch._dynamo.reset() if "compiled" in way else None
        step = step_of(name, batch, way)
        step()
        torch.cuda.synchronize()
        row["first_s"] = round(time.perf_counter() - started, 1)
        row["ms"] = timed(step)
        row["kernels"] = kernels(step)
        row["graph_ms"] = timed(graph_of(step))
        row["us_per_image"] = round(1000 * row["graph_ms"] / batch, 3)
    except Exception as error:  # noqa: BLE001 - the other rows are worth having
        row["error"] = f"{type(error).__name__}: {error}"[:1500]
    row["took_s"] = round(time.perf_counter() - started, 1)
    return row


def main() -> None:
    """Measure case by case, and write down what there is so far."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("-o", "--output", type=Path)
    parser.add_argument("--seconds", type=float, default=300)
    parser.add_argument("--ways", default=",,".join(WAYS), help="by two commas")
    parser.add_argument("--commit")
    options = parser.parse_args()
    pin_processor("this_machine", 1)
    deterministic_torch(1)
    started = time.monotonic()
    content: dict[str, Any] = {
        "command": command("gpu_network"),
        **environment(),
        "commit": options.commit,
        "torch": torch.__version__,
        "cudnn": torch.backends.cudnn.version(),
        "device": torch.cuda.get_device_name(),
        "seed": 0,
        "runs": [],
    }
    for name, batch, ways in CASES:
        for way in ways:
            if way not in options.ways.split(",,") or time.monotonic() - started > options.seconds:
                continue
            row = measured(name, batch, way)
            content["runs"].append(row)
            content["seconds"] = round(time.monotonic() - started, 1)
            print({key: value for key, value in row.items() if key != "kernels"}, flush=True)
            if options.output:
                options.output.parent.mkdir(parents=True, exist_ok=True)
                write(options.output, content)


if __name__ == "__main__":
    main()
