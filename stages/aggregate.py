"""Comparison, stage 4: from the cells to tables, statistics, pictures and the page."""

from __future__ import annotations

from pathlib import Path

from pipeline_lib.cells.cell import COMPARISON
from pipeline_lib.compare.build import build_comparison
from pipeline_lib.compare.leaderboard import of_groups
from pipeline_lib.compare.read import read_results
from pipeline_lib.params.load import load
from stages.cli import print_table, run


def main() -> None:
    """Write reports/compare/index.html, tables/, figures/ and summary.json."""
    found = build_comparison(read_results(load().compare, Path("data/classes.json")), COMPARISON)
    print_table(of_groups(found.groups))
    print(f"open {COMPARISON / 'index.html'}")


if __name__ == "__main__":
    run(main)
