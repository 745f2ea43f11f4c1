"""Stage 7: put the run on one page, with every figure as a file and its data as a table; and the model card."""

from __future__ import annotations

from pathlib import Path

from pipeline_lib.card.write import write_card
from pipeline_lib.errors import listed
from pipeline_lib.figures import style
from pipeline_lib.params.load import load
from pipeline_lib.report.build import build_report
from pipeline_lib.report.inputs import read_inputs
from stages.cli import run

DATA, MODELS, REPORTS = Path("data"), Path("models"), Path("reports")


def main() -> None:
    """Write reports/index.html, reports/figures/, reports/tables/ and reports/model_card.*."""
    inputs = read_inputs(DATA, REPORTS)
    for sentence in build_report(inputs, REPORTS, load().report):
        print(sentence)
    if lacking := style.lacking(inputs.classes):
        names = listed(map(style.printable, lacking), 3)
        print(
            f"the PNG figures lack letters of {len(lacking)} class names ({names}); the SVG ones have them"
        )
    write_card(inputs, DATA, MODELS, REPORTS)
    print(f"open {REPORTS / 'index.html'}")


if __name__ == "__main__":
    run(main)
