"""A step of training, here and in the straightforward way; results as JSON.

    python -m benchmarks.training_step --archive cifar10-jpeg.tar.gz -o benchmarks/results/training_step.json

From decoded images in memory to moved weights and averages: WRN-28-2, CIFAR-10's size, one thread, the processor's
own instructions (those of an older one with `ATEN_CPU_CAPABILITY=avx2 ONEDNN_MAX_CPU_ISA=AVX2` before the command). The
other side is `plain.py`: float32, loader in the same process (no worker: there is one core), a forward pass per view; also with the
two lines that everybody may add, weights in channels_last and (where the processor has it) autocast to bfloat16. All take
turns; a ratio is that of two steps next to each other.
"""

from __future__ import annotations

import argparse
import importlib
import statistics
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline_lib.training.determinism import deterministic_torch, pin_processor

pin_processor("this_machine", 1)

import torch  # noqa: E402 - the line above comes before it
from PIL import Image  # noqa: E402

from benchmarks.images import cifar_images  # noqa: E402
from benchmarks.plain import EMA_DECAY, PLAIN, Plain, loaders, steps  # noqa: E402
from benchmarks.record import environment, write  # noqa: E402
from pipeline_lib.augment.policies import AUTO, policy  # noqa: E402
from pipeline_lib.models.build import Architecture, build  # noqa: E402
from pipeline_lib.params.load import load  # noqa: E402
from pipeline_lib.records import Problem  # noqa: E402
from pipeline_lib.training.loop import Trainer  # noqa: E402
from pipeline_lib.training.pool import Pool  # noqa: E402
from pipeline_lib.training.resume import Slot  # noqa: E402
from pipeline_lib.training.selection import Validation  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import numpy as np
    from numpy.typing import NDArray

    from pipeline_lib.methods.base import Method

# A step in bf16 takes a minute on a processor that has no instructions for it.
CAPABILITY = torch.backends.cpu.get_cpu_capability()
HALF = CAPABILITY.startswith("AVX512") and torch.cpu._is_avx512_bf16_supported()
PLAIN_WAY = "plain"
PRECISIONS = ("fp32", "bf16") if HALF else ("fp32",)
CLASSES, LABELED, SEED = 10, 500, 1
# Smaller than the papers' where a step of one core would take too long.
BATCH = {"cr_dpll": 64, "mixmatch": 64, "fixmatch": 16, "paws": 16}
CHANGES: dict[str, dict[str, Any]] = {
    "paws": {"images_per_class": 4, "prediction_head": False, "finetune": "none"},
}


def problem(method: str, images_NHWC: NDArray[np.uint8], batch_size: int, labeled: int) -> Problem:
    """Random labels will do: they cost the same."""
    count = len(images_NHWC)
    generator = torch.Generator().manual_seed(SEED)
    labels_N = torch.arange(count) % CLASSES
    candidates_NK = torch.nn.functional.one_hot(labels_N, CLASSES).bool()
    roles: tuple[Any, ...] = ("partial",) * count
    if method == "cr_dpll":
        candidates_NK |= torch.rand(count, CLASSES, generator=generator) < 0.3
    else:
        candidates_NK[labeled:] = True
        roles = ("labeled_and_unlabeled",) * labeled + ("unlabeled",) * (count - labeled)
    images_NCHW = torch.from_numpy(images_NHWC).permute(0, 3, 1, 2).contiguous()
    return Problem(candidates_NK, roles, tuple("abcdefghij"), batch_size, images_NCHW)


def trainer(method: Method, device: torch.device, **changes: object) -> Trainer:
    """A training of the pipeline, without validation images."""
    task = method.problem
    train = load().train.model_copy(update={"epochs": 1000, "ema_decay": EMA_DECAY, **changes})
    shape: Any = tuple(task.images_NCHW.shape[1:])

    def view(name: str) -> Any:  # noqa: ANN401 - of the pool's own type
        chosen = dict(AUTO["natural"])
        chosen["strong"] = "autoaugment" if "train" in method.streams else "randaugment"
        return policy(chosen.get(name, name), shape)

    views = {name: view(name) for name in ("weak", "strong", "global", "small")}
    images_NCHW = task.images_NCHW.to(device)
    pool = Pool(images_NCHW, task.candidates_NK, views.__getitem__, SEED, device)
    none = Validation(images_NCHW[:0], task.candidates_NK[:0].float().to(device))
    slot = Slot(Path(tempfile.gettempdir()), {"params": {}})
    return Trainer(method.train(), pool, none, train, "last", 1000, slot)


def build_method(
    name: str, task: Problem, device: torch.device, **changes: object
) -> tuple[Method, Any]:
    """The method in WRN-28-2, with the same weights each time, and its section of params.yaml."""
    section = getattr(load().methods, name).model_copy(update=changes)
    kind = getattr(importlib.import_module(f"pipeline_lib.methods.{name}"), type(section).__name__)
    architecture = Architecture(
        "wrn_28_2", 16, 1.0, 0.0, "auto", 0.1, 3, 32, 32, CLASSES, (0.5,) * 3, (0.3,) * 3
    )
    torch.manual_seed(SEED)
    built: Method = kind(section, task, build(architecture)).to(device)
    return built, section


def plain_model(method: Method, section: Any) -> Plain:  # noqa: ANN401 - the method's own type
    """The same maths in the straightforward way."""
    device = next(method.parameters()).device
    head = getattr(method, "projection", torch.nn.Linear(128, CLASSES))
    name = type(method).__module__.rpartition(".")[2]
    return PLAIN[name](method.problem.candidates_NK, section, head).to(device).train()


def endless(training: Trainer) -> Iterator[None]:
    """A step of our training at a time."""
    while True:
        training.step()
        yield


def sides(name: str, images_NHWC: NDArray[np.uint8]) -> dict[str, Iterator[object]]:
    """The straightforward way, that in channels_last and half precision, and ours."""
    task, cpu = problem(name, images_NHWC, BATCH[name], LABELED), torch.device("cpu")
    changes = CHANGES.get(name, {})
    images = [Image.fromarray(image) for image in images_NHWC]

    def plain(*, channels_last: bool, half: bool) -> Iterator[object]:
        own, section = build_method(name, task, cpu, **changes)
        model = plain_model(own, section)
        if channels_last:
            model.to(memory_format=torch.channels_last)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.03, momentum=0.9, foreach=False)
        return steps(model, loaders(images, own.streams, workers=0), optimizer, half=half)

    ways = {
        PLAIN_WAY: plain(channels_last=False, half=False),
        "plain channels_last": plain(channels_last=True, half=False),
    }
    if HALF:
        ways["plain channels_last bf16"] = plain(channels_last=True, half=True)
    for precision in PRECISIONS:
        method, _ = build_method(name, task, cpu, **changes)
        ways[precision] = endless(trainer(method, cpu, precision=precision, optimizer="sgd"))
    return ways


def timed(step: Callable[[], object]) -> float:
    """Seconds."""
    started = time.perf_counter()
    step()
    return time.perf_counter() - started


def compared(name: str, images_NHWC: NDArray[np.uint8], rounds: int) -> dict[str, Any]:
    """One row: milliseconds per step each way, and how many times faster than the straightforward one it is."""
    ways = sides(name, images_NHWC)
    seconds: dict[str, list[float]] = {way: [] for way in ways}
    for number in range(rounds + 1):
        for way, training in ways.items():
            taken = timed(lambda training=training: next(training))
            if number:  # the first one warms up
                seconds[way].append(taken)
    row: dict[str, Any] = {"method": name, "batch size": BATCH[name]}
    row |= {f"{way} ms": round(1000 * statistics.median(taken)) for way, taken in seconds.items()}
    for way in list(ways)[1:]:
        ratios = [a / b for a, b in zip(seconds[PLAIN_WAY], seconds[way], strict=True)]
        row[f"{way} times faster"] = round(statistics.median(ratios), 2)
        row[f"{way} least"], row[f"{way} most"] = round(min(ratios), 2), round(max(ratios), 2)
    return row


def main() -> None:
    """Measure every method, print what came out and write it down."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--archive", type=Path, help="of CIFAR-10 as image files")
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--methods", default=",".join(BATCH))
    parser.add_argument("-o", "--output", type=Path)
    options = parser.parse_args()
    deterministic_torch(1)
    images_NHWC = cifar_images(options.archive, options.images)
    runs = []
    for name in options.methods.split(","):
        runs.append(compared(name, images_NHWC, options.rounds))
        print(*(f"{key} {value}" for key, value in runs[-1].items()), flush=True)
    if options.output:
        archive = f" --archive {options.archive.name}" if options.archive else ""
        said = f"python -m benchmarks.training_step{archive} --images {options.images} --rounds {options.rounds}"
        made = {**environment(), "torch": torch.__version__, "instructions": CAPABILITY}
        content = {"command": said, **made, "seed": SEED, "runs": runs}
        write(options.output, content)


if __name__ == "__main__":
    main()
