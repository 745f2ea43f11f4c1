"""Find batch size and learning rate before training, and leave no trace of the search.

The range test is Smith's (WACV 2017), with the stopping rule and the point of steepest descent that are
customary now; the bound on the batch size by the number of labels is this project's.
"""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from pipeline_lib.errors import InterruptedRunError, UserError
from pipeline_lib.methods.phases import GIVEN, Found
from pipeline_lib.records import Clock
from pipeline_lib.rng import seeded_layers
from pipeline_lib.training.optimizer import build_optimizer, set_learning_rate
from pipeline_lib.training.pool import Feed
from pipeline_lib.training.steps import draw, take_step

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pipeline_lib.methods.base import Method
    from pipeline_lib.methods.phases import Phase, Search
    from pipeline_lib.models.ranks import Ranks
    from pipeline_lib.params.sections import Train
    from pipeline_lib.training.interruption import Interruption
    from pipeline_lib.training.pool import Pool

STEPS_PER_EPOCH = 20  # that the labeled images should give, at least roughly
STEP_SHARE = 0.8  # of the memory of a GPU, that a step may take
LOWEST_RATE, HIGHEST_RATE, RATES = 1e-6, 10.0, 100
SMOOTHING = 0.9
DIVERGED = 4.0  # times the best smoothed loss: the test ends
SETTLING = 10  # first steps, whose mean is the loss that others are compared with
SMALLEST_FALL = 0.05  # of that loss; less may be the noise of the batches


@dataclass(frozen=True)
class Findings:
    """What was found, and the curve of the range test: rows of step, learning_rate, loss, smoothed_loss."""

    found: Found
    curve: list[dict[str, float]]

    @classmethod
    def restored(cls, notes: Mapping[str, Any] | None) -> Findings | None:
        """Undo `dataclasses.asdict`; None stays None."""
        return cls(Found(**notes["found"]), notes["curve"]) if notes else None


def find(
    method: Method,
    pool: Pool,
    train: Train,
    ranks: Ranks | None = None,
    interruption: Interruption | None = None,
) -> Findings | None:
    """Settings that the method asks for; None where it asks for none.

    All steps are taken by copies: the method, its phase, and torch's generator stay as they are.

    Raises:
        UserError: Not even the smallest batch fits in the GPU's memory.
        InterruptedRunError: See `range_test`.
    """
    search = method.search()
    if search is None:
        return None
    batch_size, why_batch = search.batch_size, GIVEN
    if batch_size is None:
        batch_size, why_batch = _find_batch_size(method, search, pool, train, ranks)
    rate, why_rate, curve = search.learning_rate, GIVEN, []
    if rate is None:
        curve = range_test(method, batch_size, pool, train, ranks, interruption)
        rate, why_rate = choose_rate(curve, train.learning_rate)
    reasons = {"batch_size": why_batch, "learning_rate": why_rate}
    return Findings(Found(batch_size, rate, reasons), curve)


def _find_batch_size(
    method: Method, search: Search, pool: Pool, train: Train, ranks: Ranks | None
) -> tuple[int, str]:
    """Double the batch while a step fits in memory and an epoch of the stream keeps enough steps.

    Memory is probed on one CUDA device only: a processor has no limit that could be tried without harm, and of
    several processes all would have to fail alike.
    """
    images = len(method.streams[search.stream].pool_N)
    enough = batch_for(images, search)
    batch_size = search.smallest_batch
    probed = pool.device.type == "cuda" and ranks is None
    if probed and not _fits(method, batch_size, pool, train):
        msg = (
            f"train: a step of {batch_size} labeled images does not fit in the memory of the GPU; set "
            f"methods.two_phase.batch_size lower, or take a smaller model or data.image_size"
        )
        raise UserError(msg)
    while 2 * batch_size <= enough:
        if probed and not _fits(method, 2 * batch_size, pool, train):
            return batch_size, f"{batch_size}: twice as many do not fit in the memory of the GPU"
        batch_size *= 2
    bound = {
        search.smallest_batch: ", the smallest tried",
        search.largest_batch: ", the largest allowed",
    }
    steps = max(images // batch_size, 1)
    return batch_size, (
        f"{batch_size}{bound.get(batch_size, '')}: {images} labeled images give about {steps} steps per epoch, "
        f"and {STEPS_PER_EPOCH} are sought"
    )


def batch_for(images: int, search: Search) -> int:
    """The power of two nearest to a twentieth of the images (in ratio), within the bounds of the search."""
    nearest: int = 2 ** max(round(math.log2(images / STEPS_PER_EPOCH)), 0)
    return min(max(nearest, search.smallest_batch), search.largest_batch)


def _fits(method: Method, batch_size: int, pool: Pool, train: Train) -> bool:
    """Whether a step of the phase that sees most images fits in the memory of the GPU, and leaves some of it.

    Evaluations need memory too, while that of a recorded step stays taken.
    """
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    most = STEP_SHARE * (torch.cuda.mem_get_info()[0] + torch.cuda.memory_allocated())
    try:
        _try_largest_step(method, batch_size, pool, train)
    except torch.OutOfMemoryError:
        return False
    finally:
        torch.cuda.empty_cache()
    return torch.cuda.max_memory_allocated() <= most


def _try_largest_step(method: Method, batch_size: int, pool: Pool, train: Train) -> None:
    trial = _copy(method, Found(batch_size, train.learning_rate))
    phase = max(trial.phases(train, 1), key=lambda phase: _views(trial, phase))
    trial.enter(phase)
    optimizer = build_optimizer(phase.train, trial.parameters())
    batch = pool.batch(trial.streams, 0)
    drawn = draw(trial, Clock(0, 1, 1), pool, 0)
    with seeded_layers(pool.seed, "layers", 0):
        take_step(trial, batch, drawn, optimizer, train)


def _views(trial: Method, phase: Phase) -> int:
    """Images that a step of a phase looks at; leaves `trial` in it."""
    trial.enter(phase)
    return trial.views_per_step


def _copy(method: Method, found: Found) -> Method:
    """A method to try settings on; it shares the task, which nobody changes."""
    problem = method.problem
    trial = copy.deepcopy(method, {id(problem): problem}).train()
    trial.use(found)
    return trial


def range_test(
    method: Method,
    batch_size: int,
    pool: Pool,
    train: Train,
    ranks: Ranks | None = None,
    interruption: Interruption | None = None,
) -> list[dict[str, float]]:
    """Train a copy at a rate that rises exponentially, until its loss is lost.

    Returns:
        Rows of step, learning_rate, loss and smoothed_loss: an average whose weights fall by `SMOOTHING`
        per step, divided by their sum. A loss that is not finite ends the test and has no row.

    Raises:
        InterruptedRunError: SIGINT or SIGTERM came. Of several processes, which must stop after the same
            step, none looks: the test is short.
    """
    trial = _copy(method, Found(batch_size, train.learning_rate))
    phase = trial.phases(train, 1)[0]
    trial.enter(phase)
    optimizer = build_optimizer(phase.train, trial.parameters())
    feed = Feed(pool, trial.streams)
    rows: list[dict[str, float]] = []
    average, best = 0.0, math.inf
    for step, rate in enumerate(np.geomspace(LOWEST_RATE, HIGHEST_RATE, RATES).tolist()):
        if interruption and interruption.by and ranks is None:
            msg = f"train: {interruption.by.name} while the learning rate was sought; run the same command again"
            raise InterruptedRunError(msg, interruption.by)
        set_learning_rate(optimizer, rate)
        clock = Clock(step, RATES, RATES)
        drawn = draw(trial, clock, pool, step)
        with seeded_layers(pool.seed, "layers", step):
            output = take_step(trial, feed.batch(step), drawn, optimizer, train, ranks)
        loss = float(output.loss.detach())
        if not math.isfinite(loss):
            break
        average = SMOOTHING * average + (1 - SMOOTHING) * loss
        smoothed = average / (1 - SMOOTHING ** (step + 1))
        rows.append({"step": step, "learning_rate": rate, "loss": loss, "smoothed_loss": smoothed})
        best = min(best, smoothed)
        if smoothed > DIVERGED * best:
            break
    return rows


def choose_rate(curve: Sequence[dict[str, float]], otherwise: float) -> tuple[float, str]:
    """The rate at which the smoothed loss falls most per factor of the rate, to two digits, and why.

    Args:
        curve: of the range test.
        otherwise: the rate, where the loss hardly falls.
    """
    rates = np.array([row["learning_rate"] for row in curve])
    losses = np.array([row["smoothed_loss"] for row in curve])
    first = losses[:SETTLING][-1] if len(losses) else math.nan
    after = losses[SETTLING:]
    if len(after) == 0 or not after.min() < (1 - SMALLEST_FALL) * first:
        return otherwise, (
            f"{otherwise:g}: that of train.learning_rate, since the loss fell by less than "
            f"{SMALLEST_FALL:.0%} in the range test from {LOWEST_RATE:g} to {HIGHEST_RATE:g}"
        )
    lowest = SETTLING + int(after.argmin())
    slopes = np.gradient(losses, np.log(rates))[SETTLING:lowest]
    if len(slopes) == 0 or slopes.min() >= 0:
        rate = float(f"{rates[lowest] / 10:.1e}")
        return rate, f"{rate:g}: a tenth of the rate of the lowest loss in the range test"
    rate = float(f"{rates[SETTLING + int(slopes.argmin())]:.1e}")
    return rate, (
        f"{rate:g}: where the loss fell fastest in the range test; it was lowest, {losses[lowest]:.3g}, at "
        f"{rates[lowest]:.2g}, and {losses[-1]:.3g} at {rates[-1]:.2g}"
    )
