"""Comparison, stage 1: check every cell's params before one of them runs, and write them down."""

from __future__ import annotations

import shutil

from pipeline_lib.artifacts import publish_json
from pipeline_lib.cells.cell import PLAN, cells
from pipeline_lib.cells.plan import plans
from pipeline_lib.params.load import PARAMS, load, read_yaml
from stages.cli import run


def main() -> None:
    """Write reports/compare/plan: one file per method, variant and budget."""
    compare = load().compare
    found = plans(read_yaml(PARAMS))
    shutil.rmtree(PLAN, ignore_errors=True)
    for name, plan in found.items():
        publish_json(PLAN / f"{name}.json", plan)
    print(
        f"{len(list(cells(compare)))} cells: {', '.join(compare.contenders())} with {', '.join(compare.budgets)}, "
        f"seeds {', '.join(map(str, compare.seeds))}"
    )


if __name__ == "__main__":
    run(main)
