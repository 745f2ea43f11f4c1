"""Build the report: figures as files, their data as tables, and the page that holds it all."""

from __future__ import annotations

from typing import TYPE_CHECKING

import polars as pl

from pipeline_lib.artifacts import SIDECAR, publish_bytes, publish_text
from pipeline_lib.figures import style
from pipeline_lib.report.page import render
from pipeline_lib.report.panels import Panel, panels
from pipeline_lib.spreadsheet import joined

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from pipeline_lib.params.sections import Report
    from pipeline_lib.report.inputs import Inputs

PNG = "png"  # the folder that DVC shows: it takes every file in it for a plot
IMAGE_GRIDS = frozenset({"training_images", "mistakes"})  # on the page these are HTML, not figures


def build_report(inputs: Inputs, reports: Path, report: Report) -> list[str]:
    """Write reports/index.html, reports/figures/ and reports/tables/.

    Args:
        inputs: what the earlier stages found out.
        reports: gets the page.
        report: the section `report` of the params.

    Returns:
        For every figure that is left out, the sentence that says why.

    Raises:
        UserError: The images are missing or damaged.
    """
    found = panels(inputs, report)
    shown = {name: panel for name, panel in found.items() if panel.shown}
    charts = {name: publish_figure(reports / "figures", panel) for name, panel in shown.items()}
    for name, panel in shown.items():
        publish_text(reports / "tables" / f"{name}.csv", as_csv(panel.frame))
    remove_others(reports / "figures", {f"{name}.svg" for name in shown} | {PNG})
    remove_others(reports / "figures" / PNG, {f"{name}.png" for name in shown})
    tables = {f"{name}.csv" for name in shown}
    remove_others(reports / "tables", tables | {f"{name}{SIDECAR}" for name in tables})
    publish_text(reports / "index.html", render(inputs, found, charts), sidecar=False)
    return [panel.missing for panel in found.values() if not panel.shown]


def publish_figure(folder: Path, panel: Panel) -> dict[str, bytes]:
    """Write the figure as SVG and PNG in the light theme; return the SVG of the chart per theme."""
    svg: dict[str, bytes] = {}
    for theme in style.THEMES[:1] if panel.name in IMAGE_GRIDS else style.THEMES:
        figure = panel.draw(panel.frame, theme)
        svg[theme.name] = style.as_svg(figure, theme)
        if theme is style.LIGHT:
            publish_bytes(folder / f"{panel.name}.svg", svg[theme.name], sidecar=False)
            png = style.as_png(figure, theme)
            publish_bytes(folder / PNG / f"{panel.name}.png", png, sidecar=False)
    return svg


def as_csv(frame: pl.DataFrame) -> str:
    """The frame without its pixels; a list becomes a cell (see `spreadsheet`)."""
    table = frame.drop("pixels", "shape", strict=False)
    lists = [name for name, kind in table.schema.items() if kind == pl.List]
    floats = [name for name, kind in table.schema.items() if kind.is_float()]
    return table.with_columns(*map(joined, lists), *map(_written, floats)).write_csv()


def _written(name: str) -> pl.Expr:
    """A column of floats with six decimals; with six digits where its axis is logarithmic."""
    column = pl.col(name).cast(pl.Float64)
    return column.round_sig_figs(6) if name == "learning_rate" else column.round(6)


def remove_others(folder: Path, wanted: Iterable[str]) -> None:
    """Remove figures and tables of an earlier run that this one does not have."""
    names = set(wanted)
    for path in folder.iterdir() if folder.is_dir() else ():
        if path.name not in names:
            path.unlink()
