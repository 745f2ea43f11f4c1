"""What stops a training that has gone wrong."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch

from pipeline_lib.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from torch import Tensor

    from pipeline_lib.training.record import Record

ENTROPY = (
    "prediction_entropy"  # of the mean prediction, in nats: the scalar of methods that guess labels
)
PATIENCE = 2  # evaluations; a single one may be low early on


def stop_if_broken(
    bad_step: int,
    done: int,
    parameters: Iterable[Tensor],
    measures: Iterable[float],
    rate_at: Callable[[int], float],
) -> None:
    """Stop when a number is not finite.

    Args:
        bad_step: of a loss that is not finite, -1 where all are.
        done: steps taken.
        parameters: the weights.
        measures: of the evaluation, if there was one.
        rate_at: the learning rate of a step.

    Raises:
        UserError: A loss, a weight or a measure is not; the message says when, and what to change.
    """
    if (what := _broken(bad_step, parameters, measures)) is None:
        return
    step = bad_step if bad_step >= 0 else done - 1
    when = f"of step {step}" if bad_step >= 0 else f"after step {step}"
    if bad_step == 0:
        msg = "train: the loss of the first step is not finite, before anything was learned: the method's loss divides by 0 or overflows on these labels"
        raise UserError(msg)
    msg = (
        f"train: {what} {when} is not finite (learning rate {rate_at(step):.3g}); lower it "
        f"(train.learning_rate, or the method's own) or set train.clip_gradient"
    )
    raise UserError(msg)


def _broken(bad_step: int, parameters: Iterable[Tensor], measures: Iterable[float]) -> str | None:
    if bad_step >= 0:
        return "the loss"
    norms = torch._foreach_norm([p.detach() for p in parameters])
    if not bool(torch.stack(norms).isfinite().all()):
        return "a weight"
    return None if all(map(math.isfinite, measures)) else "a prediction"


def stop_if_collapsed(
    record: Record, row: Mapping[str, float], share: float, num_classes: int
) -> None:
    """Stop when the predictions have almost all become one class, twice in a row.

    Args:
        record: whose count is kept up.
        row: the newest row of the history.
        share: of the largest entropy, below which the predictions have collapsed; 0 = never.
        num_classes: among which a step predicts.

    Raises:
        UserError: They have.
    """
    if ENTROPY not in row:
        return
    largest = math.log(num_classes)
    record.collapsed = record.collapsed + 1 if row[ENTROPY] < share * largest else 0
    if record.collapsed >= PATIENCE:
        msg = (
            f"train: the predictions have collapsed: at epoch {int(row['epoch'])} their mean has an entropy "
            f"of {row[ENTROPY]:.3f} of {largest:.3f} nats, below the share of train.collapse; lower "
            f"the learning rate (train.learning_rate, or the method's own), weaken the augmentation, give more labels, with PAWS raise me_max, or "
            f"lower train.collapse if the classes are that unequal"
        )
        raise UserError(msg)
