"""Where the time of a training step goes, and how little of it the arithmetic needs."""

from __future__ import annotations

import itertools
import statistics
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch.nn.functional import conv2d
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode, flop_registry

from pipeline_lib.augment.policies import policy
from pipeline_lib.methods.phases import Found
from pipeline_lib.records import Clock
from pipeline_lib.training.ema import Ema
from pipeline_lib.training.optimizer import build_optimizer
from pipeline_lib.training.pool import Pool
from pipeline_lib.training.prepare import prepare
from pipeline_lib.training.steps import backward, draw, forward, move

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from torch import Tensor
    from torch._ops import OpOverload

    from pipeline_lib.params.load import Params
    from pipeline_lib.params.sections import Train
    from pipeline_lib.training.prepare import Prepared

WARM_UP = 3
# Sides of the matrices whose product shows what the device can do.
SIDES = {"cpu": 1024, "cuda": 8192}
OTHER_SIDE = 2048


@dataclass(frozen=True)
class Profile:
    """What a step costs.

    Attributes:
        milliseconds: of each part, the median over the steps, in their order.
        images: training images per step, each counted once however many its views.
        views: images that a step makes.
        flop: of convolutions and matrix products, forward and backward.
        bytes: that these read and write.
        flop_per_second: of a large matrix product or a convolution in the precision of training.
        bytes_per_second: of a copy, read and written.
    """

    milliseconds: dict[str, float]
    images: int
    views: int
    flop: int
    bytes: int
    flop_per_second: float
    bytes_per_second: float

    @property
    def total(self) -> float:
        """Milliseconds per step."""
        return sum(self.milliseconds.values())

    @property
    def floor(self) -> float:
        """Milliseconds that a step takes at least: the arithmetic, or its traffic if that is slower.

        As if everything but convolutions and products cost nothing, and these ran at the device's best.
        """
        return 1000 * max(self.flop / self.flop_per_second, self.bytes / self.bytes_per_second)

    def lines(self) -> list[str]:
        """The table that people read."""
        parts = [
            f"{name:<10} {value:10.2f} ms {value / self.total:6.1%}"
            for name, value in self.milliseconds.items()
        ]
        seconds = self.total / 1000
        ratio = self.total / self.floor
        # The device's best is measured too, a moment before.
        disturbed = (
            "; below 1: other work disturbed the measurement, run it again" if ratio < 1 else ""
        )
        return [
            *parts,
            f"{'step':<10} {self.total:10.2f} ms: {self.images / seconds:,.0f} images and "
            f"{self.views / seconds:,.0f} views a second",
            f"{'floor':<10} {self.floor:10.2f} ms: {self.flop / 1e9:,.2f} GFLOP at "
            f"{self.flop_per_second / 1e9:,.0f} GFLOP/s, {self.bytes / 1e6:,.0f} MB at "
            f"{self.bytes_per_second / 1e9:,.1f} GB/s",
            f"{'ratio':<10} {ratio:10.1f}{disturbed}",
        ]

    def as_json(self) -> dict[str, Any]:
        """The same, for programs."""
        return {**self.__dict__, "total": self.total, "floor": self.floor}


def profile(params: Params, steps: int, say: Callable[[str], None]) -> Profile:
    """Take some steps of the first phase of the current training, and time their parts.

    Nothing is written or kept. Settings that a method would find by itself are those of `train`.

    Args:
        params: all of them.
        steps: how many.
        say: see `training.prepare.prepare`.

    Raises:
        UserError: See `training.prepare.prepare`.
    """
    ready = prepare(params, say)
    method, pool, device = ready.method.train(), ready.pool, ready.device
    train = params.train
    if search := method.search():
        method.use(
            Found(
                search.batch_size or train.batch_size, search.learning_rate or train.learning_rate
            )
        )
    phase = method.phases(train, steps)[0]
    method.enter(phase)
    together = pool.steps_at_once(method.streams)
    taken = range(WARM_UP + steps)
    parts = {"data": _data(ready, together), "augment": _making(pool, ready, together)}
    # Views cannot be made without data.
    parts["augment"] = max(parts["augment"] - parts["data"], 0.0)
    optimizer, ema = build_optimizer(phase.train, method.parameters()), Ema(method, train.ema_decay)
    clock = Clock(0, max(phase.steps, 1), steps)
    batches = [pool.batch(method.streams, step) for step in taken[:4]]
    rows: list[list[float]] = []
    for step in taken:
        batch = batches[step % len(batches)]
        started = _now(device)
        drawn = draw(method, clock, pool, step)
        output = forward(method, batch, drawn, phase.train)
        times = [started, _now(device)]
        backward(output, optimizer)
        times.append(_now(device))
        move(method, optimizer, phase.train)
        ema.update()
        times.append(_now(device))
        rows.append([1000 * (end - start) for start, end in itertools.pairwise(times)])
    medians = map(statistics.median, zip(*rows[WARM_UP:], strict=True))
    parts |= dict(zip(("forward", "backward", "optimizer"), medians, strict=True))
    with FlopCounterMode(display=False) as flop, _Traffic() as traffic:
        backward(forward(method, batches[0], drawn, phase.train), optimizer)
    streams = method.streams.values()
    return Profile(
        milliseconds=parts,
        images=sum(stream.batch_size for stream in streams),
        views=sum(stream.batch_size * len(stream.views) for stream in streams),
        flop=flop.get_total_flops(),
        bytes=traffic.bytes,
        flop_per_second=_arithmetic(device, phase.train),
        bytes_per_second=_copies(device),
    )


class _Traffic(TorchDispatchMode):
    """Counts the bytes that convolutions and matrix products read and write."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.bytes = 0

    def __torch_dispatch__(
        self,
        func: OpOverload,
        types: Iterable[type],
        args: tuple[object, ...] = (),
        kwargs: Mapping[str, object] | None = None,
    ) -> object:
        """Run the operation, and look at what goes in and out."""
        del types
        result = func(*args, **(kwargs or {}))
        if func.overloadpacket in flop_registry:
            leaves = tree_leaves((args, kwargs, result))
            self.bytes += sum(
                leaf.numel() * leaf.element_size() for leaf in leaves if torch.is_tensor(leaf)
            )
        return result


def _data(ready: Prepared, together: int) -> float:
    """Milliseconds per step to choose images and gather them, without a view of them."""
    pool = ready.pool
    shape = (ready.architecture.channels, *pool.images_NCHW.shape[2:])
    plain = Pool(
        pool.images_NCHW,
        pool.candidates_NK,
        lambda _: policy("none", shape),
        pool.seed,
        pool.device,
    )
    return _making(plain, ready, together)


def _making(pool: Pool, ready: Prepared, together: int) -> float:
    streams = ready.method.streams
    milliseconds = _timed(lambda: pool.batches(streams, range(together)), ready.device)
    return milliseconds / together


def _arithmetic(device: torch.device, train: Train) -> float:
    """FLOP per second at the device's best: of a large matrix product, or of a convolution.

    On a processor `reproducible: any_cpu` slows products by MKL, and leaves convolutions (oneDNN's) as they are.
    """
    side = SIDES.get(device.type, OTHER_SIDE)
    dtype = torch.bfloat16 if train.precision == "bf16" else torch.float32

    def numbers(*shape: int) -> Tensor:
        return torch.randn(*shape, device=device).to(dtype)

    left, right = numbers(side, side), numbers(side, side)
    images, channels, rows = 64, 64, 32
    maps = numbers(images, channels, rows, rows).to(memory_format=torch.channels_last)
    kernel = numbers(channels, channels, 3, 3).to(memory_format=torch.channels_last)
    flop = 2 * images * (rows * channels * 3) ** 2
    return 1000 * max(
        2 * side**3 / _timed(lambda: left @ right, device, min),
        flop / _timed(lambda: conv2d(maps, kernel, padding=1), device, min),
    )


def _copies(device: torch.device) -> float:
    """Bytes per second, read and written, of a copy that no cache holds."""
    values = torch.zeros(
        1 << (30 if device.type == "cuda" else 28), dtype=torch.uint8, device=device
    )
    other = torch.empty_like(values)
    return 2 * values.numel() / _timed(lambda: other.copy_(values), device, min) * 1000


def _timed(
    function: Callable[[], object],
    device: torch.device,
    of: Callable[[list[float]], float] = statistics.median,
) -> float:
    """Milliseconds, the median (or `of`) after a first time."""
    function()
    times = []
    for _ in range(5):
        started = _now(device)
        function()
        times.append(1000 * (_now(device) - started))
    return of(times)


def _now(device: torch.device) -> float:
    """Seconds, once the device has done all it was asked to."""
    if device.type != "cpu":
        torch.accelerator.synchronize()
    return time.perf_counter()
