"""Trainings of equal length, in steps, in views looked at, or in seconds."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pipeline_lib.cells.cell import too_short
from pipeline_lib.errors import UserError
from pipeline_lib.methods.phases import SEARCH

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pipeline_lib.methods.phases import Phase
    from pipeline_lib.params.load import Params


def stretched(
    params: Params, course: Sequence[tuple[Phase, int]], length: Mapping[str, Any]
) -> dict[str, Any]:
    """The params of a training whose phases are all longer, or shorter, by the same factor.

    The number of epochs, and so of evaluations, stays; an epoch has more steps or fewer.

    Args:
        params: of the training as it would be.
        course: its phases, each with the views that one of its steps looks at.
        length: `unit` (steps, images or seconds), `amount`, and for seconds `ms_per_step`, by phase.

    Raises:
        UserError: A phase would be left without a step, or an epoch; the time of a phase is not known.
    """
    course = [(phase, views) for phase, views in course if phase.steps]
    total = sum(phase.steps * _cost(phase, views, length) for phase, views in course)
    if not total:
        msg = f"{params.method} has no steps, which no compare.amount can stretch; see train and methods"
        raise UserError(msg)
    amount = length["amount"] - length.get("ms_per_step", {}).get(SEARCH, 0) / 1000
    factor = max(amount, 0) / total
    content = params.model_dump()
    method = params.method_params
    own = method.PHASE_STEPS
    section = content["methods"][params.method]
    for name in own:
        section[name] = round(section[name] * factor)
    if method.IN_EPOCHS:
        (main, views), *later = course
        epochs = params.train.epochs
        if round(main.steps * factor / epochs, 6) < 1:
            raise too_short(length["amount"], length["unit"], epochs, params.method)
        steps = round(main.steps * factor / epochs)
        content["train"]["steps_per_epoch"] = steps
        if ramp := method.RAMP_STEPS:  # one in epochs is stretched with them
            section[ramp] = round(section[ramp] * epochs * steps / main.steps)
        if own and later:  # what epochs of whole steps leave over
            left = amount - epochs * steps * _cost(main, views, length)
            section[own[0]] = max(round(left / _cost(*later[0], length)), 0)
    _refuse_lost(params, section, length)
    return content


def _refuse_lost(params: Params, section: Mapping[str, Any], length: Mapping[str, Any]) -> None:
    """Refuse a length that takes all steps from a phase that had some."""
    for name in params.method_params.PHASE_STEPS:
        if getattr(params.method_params, name) and not section[name]:
            msg = (
                f"compare.amount: {length['amount']:,.6g} {length['unit']} leave nothing for "
                f"methods.{params.method}.{name}; raise it, or set that to 0 for all that are compared"
            )
            raise UserError(msg)


def _cost(phase: Phase, views: int, length: Mapping[str, Any]) -> float:
    """What one step costs, in the unit of the length."""
    if length["unit"] == "seconds":
        if phase.name not in length["ms_per_step"]:
            msg = (
                f"compare.ms_per_step: does not say how long a step of the phase {phase.name} takes; run the "
                f"comparison with equal: steps first, then `python -m stages.app compare-times`"
            )
            raise UserError(msg)
        return float(length["ms_per_step"][phase.name]) / 1000
    return float(views) if length["unit"] == "images" else 1.0
