"""How fast the convolutions of a network run by themselves: what no training or prediction on a processor can beat.

    python -m benchmarks.convolutions -o benchmarks/results/convolutions.json

One thread, float32, the processor's own instructions: billions of operations per second (a multiplication and an
addition are two) of the forward pass, of the gradient of the images and of that of the weights, in both layouts.
Beside them a product of two matrices by the library that torch comes with. Images per second are those of the forward
passes of all convolutions of the network, and of nothing else.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline_lib.training.determinism import pin_processor

pin_processor("this_machine", 1)

import torch  # noqa: E402 - the line above comes before it

from benchmarks.record import environment, write  # noqa: E402
from pipeline_lib.models.build import Architecture, build  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor, nn

BATCH = {"wrn_28_2": 192, "small_cnn": 128}  # three views of 64 images in training; of predict
SIDE, CLASSES, MATRIX = 32, 10, 1024
LAYOUTS = {"channels first": torch.contiguous_format, "channels last": torch.channels_last}
PASSES = ("forward", "images", "weights")


def main() -> None:
    """Measure both networks, print what came out and write it down."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("-o", "--output", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    matrix = torch.randn(MATRIX, MATRIX)
    product = 2 * MATRIX**3 / least(lambda: matrix @ matrix, options.rounds) / 1e9
    runs = [
        {"network": name, **row, "matrix product": round(product, 1)}
        for name, batch in BATCH.items()
        for row in measured(name, batch, options.rounds)
    ]
    for row in runs:
        print(*(f"{key} {value}" for key, value in row.items()), flush=True)
    if options.output:
        said = f"python -m benchmarks.convolutions --rounds {options.rounds}"
        instructions = torch.backends.cpu.get_cpu_capability()
        made = {**environment(), "torch": torch.__version__, "instructions": instructions}
        content = {"command": said, **made, "runs": runs}
        write(options.output, content)


def measured(name: str, batch: int, rounds: int) -> list[dict[str, Any]]:
    """One row per layout, over all convolutions of a network."""
    found = convolutions(name, batch)
    rows = []
    for layout, kind in LAYOUTS.items():
        seconds, operations = dict.fromkeys(PASSES, 0.0), 0
        for layer, x_BCHW in found:
            taken, count = passes(layer, x_BCHW.contiguous(memory_format=kind), kind, rounds)
            operations += count
            seconds = {which: seconds[which] + taken[which] for which in PASSES}
        speeds = {f"{p} GFLOP/s": round(operations / seconds[p] / 1e9, 1) for p in PASSES}
        row = {
            "batch size": batch,
            "layout": layout,
            "MFLOP per image": round(operations / batch / 1e6, 1),
        }
        rows.append({**row, **speeds, "images per second": round(batch / seconds["forward"])})
    return rows


def convolutions(name: str, batch: int) -> list[tuple[nn.Conv2d, Tensor]]:
    """Every convolution with images of the shape that comes to it."""
    architecture = Architecture(
        name, 16, 1.0, 0.0, "auto", 0.1, 3, SIDE, SIDE, CLASSES, (0.5,) * 3, (0.3,) * 3
    )
    network, found = build(architecture).encoder, []

    def note(layer: nn.Module, given: tuple[Tensor, ...], _: Tensor) -> None:
        found.append((layer, torch.randn(batch, *given[0].shape[1:])))

    for layer in network.modules():
        if isinstance(layer, torch.nn.Conv2d):
            layer.register_forward_hook(note)
    with torch.no_grad():
        network.eval()(torch.zeros(1, 3, SIDE, SIDE))
    return found  # type: ignore[return-value]


def passes(
    layer: nn.Conv2d, x_BCHW: Tensor, kind: torch.memory_format, rounds: int
) -> tuple[dict[str, float], int]:
    """Seconds of each pass, and the operations of one."""
    weight = layer.weight.detach().contiguous(memory_format=kind)
    pads, strides = list(map(int, layer.padding)), list(layer.stride)
    out_BCHW = torch.conv2d(x_BCHW, weight, None, strides, pads)
    gradient_BCHW = torch.randn_like(out_BCHW)

    def backward(*wanted: bool) -> object:
        return torch.ops.aten.convolution_backward(
            *(gradient_BCHW, x_BCHW, weight, None, strides, pads, [1, 1], False, [0, 0], 1, wanted)
        )

    ways: dict[str, Callable[[], object]] = {
        "forward": lambda: torch.conv2d(x_BCHW, weight, None, strides, pads),
        "images": lambda: backward(True, False, False),
        "weights": lambda: backward(False, True, False),
    }
    count = 2 * out_BCHW.numel() * weight[0].numel()
    return {name: least(way, rounds) for name, way in ways.items()}, count


def least(work: Callable[[], object], rounds: int) -> float:
    """Seconds of the fastest of some rounds, after one that warms up."""
    work()
    taken = []
    for _ in range(rounds):
        started = time.perf_counter()
        work()
        taken.append(time.perf_counter() - started)
    return min(taken)


if __name__ == "__main__":
    main()
