"""What every cell of a comparison is: the params of its training, resolved and checked before any of them runs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline_lib.cells.cell import Cell, cells, concerning, too_short
from pipeline_lib.errors import UserError
from pipeline_lib.overlay import overlay
from pipeline_lib.params.load import PARAMS, check
from pipeline_lib.params.methods import KINDS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pipeline_lib.params.compare import Compare
    from pipeline_lib.params.load import Params


def plans(content: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """For every method, variant and budget the params of its trainings, and how long they are to be.

    A plan holds nothing that does not concern its cells, so that a change elsewhere in params.yaml leaves its
    bytes, and so the cells, as they are.

    Args:
        content: of params.yaml.

    Returns:
        By `Cell.planned`: `params`, to be laid over params.yaml, and `length`: unit and amount, or none.

    Raises:
        UserError: params.yaml is wrong, or would be with an overlay; or methods would get different labels.
    """
    params = check(content, PARAMS)
    found: dict[str, dict[str, Any]] = {}
    for cell in cells(params.compare):
        if cell.planned not in found:
            found[cell.planned] = _planned(content, params.compare, cell)
    _refuse_different_labels(params)
    return found


def _planned(content: Mapping[str, Any], compare: Compare, cell: Cell) -> dict[str, Any]:
    resolved: dict[str, Any] = dict(content)
    for changes in (
        compare.methods[cell.method].params,
        compare.variants[cell.variant],
        compare.budgets[cell.budget],
        {"method": cell.method},
    ):
        resolved = overlay(resolved, changes)
    where = f"{PARAMS} with compare: {cell.method}, {cell.variant}, {cell.budget}"
    params = check(resolved, Path(where))
    return {"params": concerning(params), "length": _length(compare, cell, params, where)}


def _length(compare: Compare, cell: Cell, params: Params, where: str) -> dict[str, Any] | None:
    """What the training is stretched to; None: it stays as it is.

    Raises:
        UserError: It would have no steps; what only the images can tell is left to `stretched`.
    """
    if compare.amount is None:
        return None
    epochs = params.train.epochs
    if not epochs:
        msg = f"{where}: train.epochs: 0 trains nothing, which no compare.amount can stretch; set it, or amount: null"
        raise UserError(msg)
    if params.method_params.IN_EPOCHS and compare.equal == "steps" and compare.amount < epochs:
        raise too_short(compare.amount, "steps", epochs, where)
    seconds = compare.equal == "seconds"
    per_step = {"ms_per_step": compare.ms_per_step[cell.contender]} if seconds else {}
    return {"unit": compare.equal, "amount": compare.amount, **per_step}


def _refuse_different_labels(params: Params) -> None:
    """All methods of a budget must learn from the same labels; `oracle`, the upper bound, has them all."""
    kinds = {KINDS[method]: method for method in params.compare.methods if KINDS[method] != "clean"}
    if len(kinds) < 2 or params.data.table:
        return
    for name, changes in params.compare.budgets.items():
        protocol = overlay(params.model_dump(), changes)["split"]["protocol"]
        if protocol == "auto":
            msg = (
                f"{PARAMS}: compare.budgets.{name}: split.protocol auto gives {' and '.join(kinds.values())} "
                f"different labels; name a protocol, such as few_shot or mixed"
            )
            raise UserError(msg)
