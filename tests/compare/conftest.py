"""Made-up comparisons with their pages built, to be read only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from pipeline_lib.compare.build import Tables, build_comparison
from tests.browser import browser, visit  # noqa: F401 - fixtures
from tests.compare.made_up import compare_section, results
from tests.report.conftest import HOSTILE

if TYPE_CHECKING:
    from pathlib import Path

    from pipeline_lib.compare.read import Results

LONG = "a_name_as_long_as_they_can_be_0123456789"


@dataclass
class Built:
    folder: Path
    results: Results
    tables: Tables

    @property
    def page(self) -> Path:
        return self.folder / "index.html"

    @property
    def html(self) -> str:
        return self.page.read_text(encoding="utf-8")


def build(made: Results, folder: Path) -> Built:
    """The page, beside stand-ins for the reports of the cells."""
    found = build_comparison(made, folder)
    for key in made.predictions:
        page = folder / "pages" / key / "index.html"
        page.parent.mkdir(parents=True, exist_ok=True)
        page.write_text("<!DOCTYPE html><title>a cell</title>")
    return Built(folder, made, found)


@pytest.fixture(scope="session")
def usual(tmp_path_factory: pytest.TempPathFactory) -> Built:
    """Five methods, two budgets, three seeds, and the times of their steps."""
    times = {"supervised": 2.0, "mixmatch": 5.0, "fixmatch": 6.0, "paws": 20.0, "two_phase": 4.0}
    section = compare_section(
        ms_per_step={f"{name}-standard": {"train": ms} for name, ms in times.items()}
    )
    return build(results(section), tmp_path_factory.mktemp("usual"))


@pytest.fixture(scope="session")
def crowded(tmp_path_factory: pytest.TempPathFactory) -> Built:
    """Twelve contenders of one seed, with names that mean to break the page."""
    section = compare_section(
        methods=("supervised", "mixmatch", "fixmatch", "paws", "two_phase", "cr_dpll"),
        variants=("standard", LONG),
        budgets=(LONG,),
        seeds=(7,),
    )
    return build(results(section, classes=HOSTILE), tmp_path_factory.mktemp("crowded"))
