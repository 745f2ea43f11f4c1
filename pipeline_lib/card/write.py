"""The model card as two files, for people and for programs."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jinja2 import FileSystemLoader
from markupsafe import Markup, escape

from pipeline_lib.artifacts import publish_json, publish_text
from pipeline_lib.card.content import content
from pipeline_lib.figures.style import labels, printable, shortened, told_apart
from pipeline_lib.report.page import environment

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pipeline_lib.report.inputs import Inputs

TEMPLATES = Path(__file__).parent
NAMED = 12  # classes
NAME_LIMIT = 48  # characters of a name in a sentence or a cell
MEASURED = (
    ("median_accuracy", "median accuracy of the last evaluations"),
    ("top5_accuracy", "truth among the five likeliest"),
    ("balanced_accuracy", "balanced accuracy"),
    ("macro_f1", "macro F1"),
    ("ece", "calibration error (ECE)"),
    ("nll", "negative log-likelihood"),
    ("brier", "Brier score"),
)


def write_card(inputs: Inputs, data: Path, models: Path, reports: Path) -> None:
    """Write reports/model_card.md and reports/model_card.json.

    Raises:
        UserError: See `content`.
    """
    card = content(inputs, data, models)
    publish_text(reports / "model_card.md", as_markdown(card), sidecar=False)
    publish_json(reports / "model_card.json", card, sidecar=False)


def as_markdown(card: dict[str, Any]) -> str:
    """The card for people."""
    made = environment(FileSystemLoader(TEMPLATES))
    made.filters["plain"] = plain
    made.globals["names"] = names
    weakest = told_apart((row["name"] for row in card["weakest_classes"]), NAME_LIMIT)
    return made.get_template("card.md.j2").render(**card, measured=MEASURED, weakest=weakest)


def names(classes: Sequence[str]) -> Markup:
    """The first classes, and how many more there are."""
    shown = Markup(", ").join(map(plain, labels(classes[:NAMED], NAME_LIMIT)))
    more = len(classes) - NAMED
    return Markup("{} and {:,} more").format(shown, more) if more > 0 else shown


def plain(text: str, limit: int = 1000) -> Markup:
    """A text that is no Markdown and no HTML, whatever is in it, in one line."""
    line = shortened(printable(str(text)), limit)
    return escape(re.sub(r"([\\`*_{}\[\]|~$]|^[#+-])", r"\\\1", line))
