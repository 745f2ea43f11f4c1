"""A cell of a comparison: one training, its name, its folder and its params."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline_lib.overlay import overlay

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from pipeline_lib.params.compare import Compare

COMPARISON = Path("reports/compare")
PLAN, CELLS, PAGES = COMPARISON / "plan", COMPARISON / "cells", COMPARISON / "pages"
TIMES = (
    COMPARISON / "times"
)  # how long cells took on this machine: no output, since it differs each time


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
