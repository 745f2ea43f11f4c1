"""What more images, classes and GPUs would cost, on paper: pure functions of sizes and of the measured results.

    python -m benchmarks.scale_model

rewrites the tables in docs/explanation/scale.md, and its picture. Every measured constant is read from
benchmarks/results; what is taken from elsewhere is named below, with its source. Shape letters: N images, K classes.
"""

from __future__ import annotations

import functools
import json
import statistics
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.gpu_steps import BATCH, FLOP, PASSES, TRAFFIC
from pipeline_lib.models.build import Architecture, build

if TYPE_CHECKING:
    from collections.abc import Sequence

RESULTS = Path(__file__).resolve().parent / "results"

# Of NVIDIA's data sheet of the H200: memory, and bytes per second that a GPU sends to others of its machine; then
# those of a network card of 400 Gbit/s beside each GPU. None of the three is measured here.
DEVICE_BYTES, LINK, NETWORK_LINK = 141e9, 450e9, 50e9
GPUS_PER_MACHINE = 8
# Assumed, for a size at which something does not fit any more.
HOST_BYTES, DISK_BYTES, CORES = 128 * 2**30, 8e12, 16
PHOTO_SIDE, SMALL_SIDE, PHOTO_BATCH = 224, 96, 1024
"""Of photos: pixels a side, those of PAWS's small views, and images in a step."""
SUPPORTS = 960 * 7 / 4096
"""Support views per image of PAWS on ImageNet: 7 images of 960 classes beside 4,096 images (Assran et al., 2021)."""

FLOAT, MASK = 4, 1  # bytes per image and class: of a table, of the candidates
CURVE = 200  # evaluations whose labels are kept at most (training/record.py)

# Float32 tables of N x K that a method keeps, and whether the best evaluation's copy of one is kept too. A test
# builds every method and counts.
TABLES = {
    **dict.fromkeys(("average", "cc", "oracle", "supervised", "snn", "paws", "pawsb"), (0, False)),
    "two_phase": (1, False),
    **dict.fromkeys(
        ("cr_dpll", "proden", "pico", "mixmatch", "fixmatch", "freematch", "softmatch"), (1, True)
    ),
    "lws": (2, True),
}
# Views that a step makes of 32 and of 18 pixels a side; MixMatch guesses and trains on the same ones.
VIEWS = {"cr_dpll": (192, 0), "mixmatch": (192, 0), "fixmatch": (960, 0), "paws": (1792, 1536)}
# Images of which a step takes all views: an epoch has N of them.
SEEN = {"cr_dpll": 64, "mixmatch": 64, "fixmatch": 448, "paws": 256}
# What gpu_network.py calls the ways of gpu_steps.py.
NETWORK_WAYS = {"replayed": "nhwc bf16", "compiled": "nhwc bf16 compiled"}


def read(name: str) -> dict[str, Any]:
    """A file of results."""
    content: dict[str, Any] = json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))
    return content


def line(points: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """Fixed cost and cost per unit, from sizes and costs: the line with the least relative errors."""
    weights = [1 / cost**2 for _, cost in points]
    total = sum(weights)
    x = sum(w * size for w, (size, _) in zip(weights, points, strict=True)) / total
    y = sum(w * cost for w, (_, cost) in zip(weights, points, strict=True)) / total
    each = sum(w * (s - x) * (c - y) for w, (s, c) in zip(weights, points, strict=True))
    each /= sum(w * (s - x) ** 2 for w, (s, _) in zip(weights, points, strict=True))
    return y - each * x, each


def sized(name: str, stage: str, cost: str) -> list[tuple[float, float]]:
    """Sizes and costs of a stage, of a file of benchmarks/ingest.py."""
    return [(run["images"], run["stages"][stage][cost]) for run in read(name)["runs"]]


def started(method: str, cost: str, axis: str = "images") -> list[tuple[float, float]]:
    """Sizes and costs of a training's start, of benchmarks/scaling.py."""
    runs = [r for r in read("scaling")["runs"] if r["varied"] == axis and r["method"] == method]
    return [(r[axis], r["MiB at the start"] if cost == "MiB" else r[cost]) for r in runs]


@dataclass(frozen=True)
class Kind:
    """Images as they are stored: bytes in the Parquet file, decoded bytes, and processor seconds per image.

    `ingest` is all of that stage. To start, a training decodes files with all cores, and does the rest with one.
    """

    name: str
    stored: float
    decoded: int
    ingest: float
    decoding: float
    rest: float

    def start(self, cores: int) -> float:
        """Seconds of an image at the start of a training."""
        return self.decoding / cores + self.rest


@functools.cache
def kinds() -> tuple[Kind, Kind]:
    """Small images, stored as pixels; and photos, stored as files and decoded by `ingest` and at each start."""
    ingest = line(sized("ingest_sizes", "ingest", "processor_seconds"))[1]
    stored = read("ingest_sizes")["runs"][-1]["bytes_per_image"]
    rest = line(started("cr_dpll", "seconds to start"))[1]
    photos = read("decode")["runs"]
    decoding = statistics.mean(run["processor ms"] for run in photos) / 1000
    size = statistics.mean(run["bytes"] for run in photos)
    larger = PHOTO_SIDE**2 / 32**2  # copies and statistics go by the byte
    return (
        Kind("32x32, pixels", stored, 3 * 32**2, ingest, 0.0, rest),
        Kind(
            f"500x333 files of {size / 1000:.0f} kB, decoded to {PHOTO_SIDE}",
            size,
            3 * PHOTO_SIDE**2,
            ingest + decoding,
            decoding,
            larger * rest,
        ),
    )


def decoding_of_large() -> float:
    """How many times as long as one of 500x333 a photo of 12 megapixels takes to decode."""
    large, small = (
        statistics.mean(
            run["processor ms"] for run in read("decode_large")["runs"] if run["size"] == size
        )
        for size in ("4000x3000", "500x333")
    )
    return large / small


def table_bytes(tables: int, images: float, classes: float, *, best: bool) -> float:
    """What labels take on the device: candidates, the method's tables, the copy of the best evaluation's."""
    return (MASK + FLOAT * (tables + best)) * images * classes


def state_bytes(tables: int, images: float, classes: float, *, best: bool) -> float:
    """Of one resume state, whatever the weights: tables, and the label curves at their longest."""
    return FLOAT * (tables + best) * images * classes + 2 * CURVE * images


def sparse_bytes(images: float, kept: int) -> float:
    """Of a table of `kept` classes per image: a float32 and an int16 each."""
    return (FLOAT + 2) * kept * images


@dataclass(frozen=True)
class Network:
    """Per image: forward FLOP, elements that convolutions read and write; and what it has of layers and weights."""

    flop: float
    elements: float
    weights: int
    features: int
    norms: int
    convolutions: int


@functools.cache
def network(name: str, side: int) -> Network:
    """Count on the meta device: nothing is computed."""
    shape = (3, side, side, 10, (0.5,) * 3, (0.3,) * 3)
    with torch.device("meta"):
        model = build(Architecture(name, 16, 1.0, 0.0, "auto", 0.1, *shape)).train()
    moved: list[int] = []
    convolutions = [m for m in model.modules() if isinstance(m, nn.Conv2d)]
    for layer in convolutions:
        layer.register_forward_hook(lambda _, i, o: moved.append(i[0].numel() + o.numel()))
    images = torch.empty(2, 3, side, side, device="meta", dtype=torch.uint8)
    with FlopCounterMode(display=False) as counter:
        model(images)
    return Network(
        counter.get_total_flops() / 2,
        sum(moved) / 2,
        sum(p.numel() for p in model.encoder.parameters()),
        model.head.in_features,
        sum(isinstance(m, nn.BatchNorm2d) for m in model.modules()),
        len(convolutions),
    )


def pass_cost(name: str, side: int, *, gradient: bool) -> tuple[float, float]:
    """FLOP and bytes of an image's pass: those of WRN-28-2 as in gpu_steps, others by their convolutions."""
    known, here = network("wrn_28_2", 32), network(name, side)
    share = 1.0 if gradient else 1 / 3
    flop = FLOP[0] * 1e9 * here.flop / known.flop
    traffic = TRAFFIC[0] * 1e6 * here.elements / known.elements
    return share * flop, share * traffic


def roofline(passes: Sequence[tuple[float, str, int, bool]]) -> float:
    """Seconds that so many passes (number, network, side, with gradient) take at least on an H200."""
    ceilings = read("gpu/steps")["ceilings"][0]
    flop = traffic = 0.0
    for number, name, side, gradient in passes:
        one = pass_cost(name, side, gradient=gradient)
        flop, traffic = flop + number * one[0], traffic + number * one[1]
    return max(
        flop / ceilings["TFLOP/s"] / 1e12, traffic / ceilings["TB/s, read and written"] / 1e12
    )


def small_passes(method: str) -> list[tuple[float, str, int, bool]]:
    """Of one training image of 32 pixels a side in an epoch, through WRN-28-2."""
    with_gradient, smaller, without = (number / SEEN[method] for number in PASSES[method])
    name = "wrn_28_2"
    return [(with_gradient, name, 32, True), (smaller, name, 18, True), (without, name, 32, False)]


def photo_passes(method: str) -> list[tuple[float, str, int, bool]]:
    """Of one photo in an epoch, through ResNet-50."""
    name = "resnet50"
    if method == "paws":
        return [(2 + SUPPORTS, name, PHOTO_SIDE, True), (6, name, SMALL_SIDE, True)]
    with_gradient, _, without = (number / SEEN[method] for number in PASSES[method])
    return [(with_gradient, name, PHOTO_SIDE, True), (without, name, PHOTO_SIDE, False)]


@functools.cache
def steps(method: str) -> dict[str, dict[str, Any]]:
    """The measured steps of a method, by their way."""
    files = ("gpu/steps", "gpu/steps_compiled", "gpu/steps_paws")
    runs = [run for name in files for run in read(name)["runs"] if run["method"] == method]
    assert all(run["batch size"] == BATCH[method] for run in runs)  # noqa: S101
    return {run["way"]: run for run in runs}


def fastest(method: str) -> dict[str, Any]:
    """The measured step that takes least."""
    return min(steps(method).values(), key=lambda run: run["ms"])


def measured_networks(way: str) -> dict[int, dict[str, float]]:
    """Passes of WRN-28-2 without the work around them, by the number of images."""
    runs = read("gpu/network")["runs"]
    return {r["batch"]: r for r in runs if (r["network"], r["way"]) == ("wrn_28_2", way)}


@functools.cache
def network_ratio() -> float:
    """How many times its roofline a network takes that is bound by memory, as ResNet-50 is: WRN-28-2, 960 images."""
    taken = measured_networks("nhwc bf16 compiled")[960]["graph_ms"] / 1000
    return taken / roofline([(960, "wrn_28_2", 32, True)])


def network_ms(method: str) -> float:
    """Milliseconds of a step's passes, from the time per image of the largest measured batch that is no larger.

    Small images count by their pixels, passes without a gradient by a third.
    """
    images, small, without = PASSES[method]
    runs = measured_networks(NETWORK_WAYS[fastest(method)["way"]])
    known = runs[max(batch for batch in runs if batch <= images)]
    return known["graph_ms"] / known["batch"] * (images + small * 18**2 / 32**2 + without / 3)


def views_ms(method: str) -> float:
    """Milliseconds of a step that its views take, without what is drawn meanwhile on the processor.

    Timed alone they may take more than the network leaves of the step: then what it leaves.
    """
    run = fastest(method)
    return float(min(run["views ms"] - run["of it drawn ahead ms"], run["ms"] - network_ms(method)))


def photo_views_seconds(method: str) -> float:
    """Of one photo: the time per pixel of the small images' views."""
    large, small = VIEWS[method]
    per_pixel = views_ms(method) / 1000 / (large * 32**2 + small * 18**2)
    if method == "paws":
        return per_pixel * ((2 + SUPPORTS) * PHOTO_SIDE**2 + 6 * SMALL_SIDE**2)
    return per_pixel * PHOTO_SIDE**2 * large / SEEN[method]


def photo_seconds(method: str) -> tuple[float, float]:
    """GPU seconds of one photo in an epoch: through the network, and making its views."""
    return network_ratio() * roofline(photo_passes(method)), photo_views_seconds(method)


def head_seconds(rows: float, features: int, classes: float) -> float:
    """Of a head and a loss, forward and backward: its arithmetic, and ten passes over float32 logits."""
    ceilings = read("gpu/steps")["ceilings"][0]
    flop = 6 * rows * features * classes / ceilings["TFLOP/s"] / 1e12
    return flop + 10 * FLOAT * rows * classes / ceilings["TB/s, read and written"] / 1e12


def launching(name: str, side: int) -> float:
    """Seconds of launching a network's kernels one by one, as several processes do: by its convolutions."""
    known = measured_networks("nhwc bf16")[64]
    layers = network(name, side).convolutions / network("wrn_28_2", 32).convolutions
    return known["ms"] / 1000 * layers


def speed_up(divided: float, repeated: float, launches: float, gpus: int) -> float:
    """How many times faster `gpus` are than one: the network is divided, the rest repeated; launches have a floor."""
    alone = divided + repeated
    return alone / (max(divided / gpus, launches) + repeated) if gpus > 1 else 1.0


def exchanged(net: Network, rows: float, gpus: int) -> float:
    """Bytes that each GPU sends in a step: features in bfloat16, gradients in float32, batch statistics."""
    share = (gpus - 1) / gpus
    sums = 4 * FLOAT * net.features * net.norms  # at most: two of them, forward and backward
    return share * (2 * rows * net.features + 2 * FLOAT * net.weights + 2 * sums)


def main() -> None:
    """Rewrite the page's tables and its picture."""
    from benchmarks import scale_page

    scale_page.write()


if __name__ == "__main__":
    main()
