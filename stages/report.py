"""Stage 7: put the run on one page, with every figure as a file and its data as a table."""

from __future__ import annotations

from pathlib import Path

from pipeline_lib.params.load import load
from pipeline_lib.report.build import build_report
from stages.cli import run

DATA, REPORTS = Path("data"), Path("reports")


def main() -> None:
    """Write reports/index.html, reports/figures/ and reports/tables/."""
    for sentence in build_report(DATA, REPORTS, load().report):
        print(sentence)
    print(f"open {REPORTS / 'index.html'}")


if __name__ == "__main__":
    run(main)
