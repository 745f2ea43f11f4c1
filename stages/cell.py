"""Comparison, stage 2: one cell, from its own split to its metrics, by the stages of the pipeline."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Annotated

import typer

from pipeline_lib.artifacts import publish_json, read_json
from pipeline_lib.cells.cell import CELLS, PLAN, TIMES, Cell, completed, concerning
from pipeline_lib.cells.workspace import emptied, inside
from pipeline_lib.errors import InterruptedRunError, UserError
from pipeline_lib.params.load import PARAMS, load, read_yaml
from pipeline_lib.training.determinism import deterministic_torch, pin_processor
from stages import configure, evaluate, split, train
from stages.cli import run

Seed = Annotated[int, typer.Argument()]


def main(method: str, variant: str, budget: str, seed: Seed) -> None:
    """Split, train and evaluate with one seed, in reports/compare/cells/METHOD-VARIANT-BUDGET-SEED."""
    cell = Cell(method, variant, budget, seed)
    plan = read_json(PLAN / f"{cell.planned}.json")
    params = completed(plan, read_yaml(PARAMS), cell)
    folder = emptied(CELLS / cell.key)
    try:
        with inside(folder, params):
            configure.main()
            split.main()
            if plan["length"]:
                stretch(plan["length"])
            trained = concerning(load())
            train.main()
            evaluate.main()
    except InterruptedRunError:
        raise
    except UserError as error:
        msg = f"{cell.key}: {error}"
        raise UserError(msg) from error
    publish_json(folder / "cell.json", {"params": trained})
    TIMES.mkdir(parents=True, exist_ok=True)
    shutil.move(folder / "reports/environment.json", TIMES / f"{cell.key}.json")


def stretch(length: dict[str, float | str]) -> None:
    """Rewrite the cell's params.yaml for a training of that length."""
    params = load()
    pin_processor(params.train.reproducible, params.train.threads)
    from pipeline_lib.cells.length import stretched
    from pipeline_lib.cells.workspace import as_yaml
    from pipeline_lib.training.train import course

    deterministic_torch(params.train.threads)
    content = stretched(params, course(params, print), length)
    Path(PARAMS).write_text(as_yaml(content), encoding="utf-8")


if __name__ == "__main__":
    run(main)
