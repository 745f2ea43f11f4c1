"""A cell of a comparison: one training, its name, its folder and its params."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline_lib.errors import UserError, listed
from pipeline_lib.overlay import overlay

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping

    from pipeline_lib.params.compare import Compare
    from pipeline_lib.params.load import Params

COMPARISON = Path("reports/compare")
PLAN, CELLS, PAGES = COMPARISON / "plan", COMPARISON / "cells", COMPARISON / "pages"
TIMES = (
    COMPARISON / "times"
)  # how long cells took on this machine: no output, since it differs each time
SHARED = ("split", "model", "train", "evaluate")  # what the stages of a cell depend on


@dataclass(frozen=True)
class Cell:
    """One training of the comparison."""

    method: str
    variant: str
    budget: str
    seed: int

    @property
    def contender(self) -> str:
        """What is compared with others: method and variant."""
        return f"{self.method}-{self.variant}"

    @property
    def planned(self) -> str:
        """Name of its plan, which all seeds share."""
        return f"{self.contender}-{self.budget}"

    @property
    def key(self) -> str:
        """Its name: that of its folder and of its stage."""
        return f"{self.planned}-{self.seed}"


def cells(compare: Compare) -> Iterator[Cell]:
    """Every cell, in the order of params.yaml."""
    for names in itertools.product(
        compare.methods, compare.variants, compare.budgets, compare.seeds
    ):
        yield Cell(*names)


def refuse_strays(folder: Path, keys: Collection[str]) -> None:
    """Refuse cells that params.yaml does not list; what is left of one that failed is none.

    Args:
        folder: of the cells.
        keys: of those that it lists.

    Raises:
        UserError: There are such.
    """
    done = (path.parents[1].name for path in folder.glob("*/reports/metrics.json"))
    if strays := sorted(set(done).difference(keys)):
        msg = (
            f"{folder}: {listed(strays)} is not in the section compare of params.yaml; delete it, or list "
            f"its method, variant, budget and seed there"
        )
        raise UserError(msg)


def concerning(params: Params) -> dict[str, Any]:
    """The part of params.yaml that a training depends on, but for its seed."""
    values = params.model_dump()
    shared = {name: values[name] for name in SHARED} | {"data": {"limit": params.data.limit}}
    method = params.method
    return shared | {"method": method, "methods": {method: values["methods"][method]}}


def completed(plan: Mapping[str, Any], content: Mapping[str, Any], cell: Cell) -> dict[str, Any]:
    """The whole params.yaml of a cell.

    What its plan leaves out plays no part in it; the file names every knob, so it is that of `content`.
    """
    alone = {
        "methods": {cell.method: {"tried": 0, "params": {}}},
        "variants": {cell.variant: {}},
        "budgets": {cell.budget: {}},
        "seeds": [cell.seed],
        "pairs": "all",
        "equal": "steps",
        "amount": None,
        "ms_per_step": {},
    }
    return {**overlay(content, plan["params"]), "seed": cell.seed, "compare": alone}


def too_short(amount: float, unit: str, epochs: int, where: str) -> UserError:
    """What to say of a training whose epochs would have no step."""
    return UserError(
        f"{where}: compare.amount: {amount:,.6g} {unit} are less than one step in each of the {epochs} epochs; "
        f"raise it, or lower train.epochs"
    )
