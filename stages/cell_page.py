"""Comparison, stage 3: the report of one cell, as the report stage makes it."""

from __future__ import annotations

import shutil
from typing import Annotated

import typer

from pipeline_lib.artifacts import TEMPORARY_PREFIX
from pipeline_lib.cells.cell import CELLS, PAGES, Cell
from pipeline_lib.cells.workspace import emptied, linked
from pipeline_lib.params.load import load
from pipeline_lib.report.build import build_report
from pipeline_lib.report.inputs import read_inputs
from stages.cli import run

Seed = Annotated[int, typer.Argument()]


def main(method: str, variant: str, budget: str, seed: Seed) -> None:
    """Write reports/compare/pages/METHOD-VARIANT-BUDGET-SEED: page, figures and tables."""
    key = Cell(method, variant, budget, seed).key
    out = emptied(PAGES / key)
    work = emptied(
        PAGES / f"{TEMPORARY_PREFIX}{key}"
    )  # of a run that was killed, the next one empties it
    try:
        for part in ("data", "reports"):
            shutil.copytree(CELLS / key / part, work / part)
        with linked(work / "data"):
            build_report(
                read_inputs(work / "data", work / "reports"), work / "reports", load().report
            )
        for made in ("index.html", "figures", "tables"):
            (work / "reports" / made).replace(out / made)
    finally:
        shutil.rmtree(work)
    print(f"open {out / 'index.html'}")


if __name__ == "__main__":
    run(main)
