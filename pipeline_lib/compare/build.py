"""Put a comparison together: tables as CSV and Parquet, its numbers for DVC, figures and the page."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import polars as pl

from pipeline_lib.artifacts import publish_json, publish_text
from pipeline_lib.compare import verdicts
from pipeline_lib.compare.equal_time import at_equal_time
from pipeline_lib.compare.page import render
from pipeline_lib.compare.panels import panels
from pipeline_lib.parquet import publish_table
from pipeline_lib.report.build import as_csv, publish_figure

if TYPE_CHECKING:
    from pathlib import Path

    from pipeline_lib.compare.read import Results

DIGITS = 6  # beyond them, sums of floats differ between processors


@dataclass(frozen=True)
class Tables:
    """What a comparison found, rounded as it is published; see the functions of `verdicts` and `Results`."""

    cells: pl.DataFrame
    groups: pl.DataFrame
    comparisons: pl.DataFrame
    agreements: pl.DataFrame
    at_equal_time: pl.DataFrame
    curves: pl.DataFrame
    per_class: pl.DataFrame


def tables(results: Results) -> Tables:
    """Every table of a comparison."""
    return Tables(
        cells=rounded(results.cells),
        groups=rounded(verdicts.groups(results)),
        comparisons=rounded(verdicts.comparisons(results)),
        agreements=rounded(verdicts.agreements(results)),
        at_equal_time=rounded(at_equal_time(results)),
        curves=rounded(results.curves),
        per_class=rounded(results.per_class),
    )


def rounded(table: pl.DataFrame) -> pl.DataFrame:
    """The same with floats of `DIGITS` decimals; p-values keep as many significant digits instead."""
    floats = [name for name, kind in table.schema.items() if kind.is_float()]
    small = [name for name in floats if name.startswith("p_") or name == "p"]
    return table.with_columns(
        pl.col(small).round_sig_figs(DIGITS),
        pl.col([name for name in floats if name not in small]).round(DIGITS),
    )


def build_comparison(results: Results, folder: Path) -> Tables:
    """Write tables, summary.json, figures and index.html into `folder`.

    Args:
        results: of the cells.
        folder: reports/compare.
    """
    found = tables(results)
    for made in ("tables", "figures"):
        shutil.rmtree(folder / made, ignore_errors=True)
    for name, table in vars(found).items():
        publish_text(folder / "tables" / f"{name}.csv", table.write_csv())
        publish_table(folder / "tables" / f"{name}.parquet", table.to_arrow())
    publish_json(folder / "summary.json", summary(found), sidecar=False)
    figures = panels(results, found)
    shown = {name: panel for name, panel in figures.items() if panel.shown}
    charts = {name: publish_figure(folder / "figures", panel) for name, panel in shown.items()}
    for name, panel in shown.items():
        publish_text(folder / "tables" / f"{name}.csv", as_csv(panel.frame))
    page = render(results, found, figures, charts)
    publish_text(folder / "index.html", page, sidecar=False)
    return found


def summary(found: Tables) -> dict[str, Any]:
    """The means for `dvc metrics` and `dvc exp show`: by budget and contender."""
    by_budget: dict[str, Any] = {}
    for row in found.groups.rows(named=True):
        shown = {name: row[name] for name in ("mean", "low", "high", "sd", "seeds")}
        by_budget.setdefault(row["budget"], {})[row["contender"]] = shown
    return by_budget
