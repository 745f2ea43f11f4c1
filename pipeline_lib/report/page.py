"""The report as one HTML file that needs nothing else: no network, no fonts, no scripts."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import TYPE_CHECKING

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from pipeline_lib.figures import style
from pipeline_lib.figures.co_occurrence import strongest
from pipeline_lib.records import CONFIDENT
from pipeline_lib.report.captions import accuracy_words, confusion_words, loss_words
from pipeline_lib.report.cards import mistake_cards, training_cards
from pipeline_lib.report.facts import facts, made_with, measures, supervision
from pipeline_lib.report.labels import (
    annotator_notes,
    co_occurrence_words,
    notes,
    protocol_words,
    validation_words,
)
from pipeline_lib.report.numbers import number, percent

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from jinja2 import BaseLoader

    from pipeline_lib.report.inputs import Inputs
    from pipeline_lib.report.panels import Panel

TEMPLATES = Path(__file__).parent
PAIRS = 2  # of candidates, named beside their chart
ROWS_OPEN = 20  # a per-class table of more rows starts folded


def render(
    inputs: Inputs, panels: Mapping[str, Panel], charts: Mapping[str, Mapping[str, bytes]]
) -> str:
    """The page.

    Args:
        inputs: what the earlier stages found out.
        panels: every figure, also those without data.
        charts: the SVG of every drawn figure, by theme.
    """
    template = environment(FileSystemLoader(TEMPLATES)).get_template("page.html.j2")
    return template.render(
        metrics=inputs.metrics,
        facts=facts(inputs),
        made_with=made_with(inputs),
        supervision=supervision(inputs),
        groups=inputs.summary["groups"],
        protocol=f"{protocol_words(inputs.summary)} {validation_words(inputs.summary)}".rstrip(),
        notes=notes(inputs),
        annotator_notes=annotator_notes(inputs.summary),
        estimated=_estimated(panels),
        num_annotators=inputs.summary.get("annotators", {}).get("count", 0),
        co_occurrence=co_occurrence_words(panels["co_occurrence"].frame, len(inputs.classes)),
        pairs=strongest(panels["co_occurrence"].frame, PAIRS),
        measures=measures(inputs.metrics, panels["per_class"].frame),
        num_classes=len(inputs.classes),
        confident=CONFIDENT,
        weighed="pseudo_label_rate" in inputs.history.columns,
        num_phases=len(inputs.phases["phases"]),
        unfinished=inputs.phases["unfinished"],
        found=inputs.phases.get("found"),
        commonest=inputs.predictions["label"].value_counts(normalize=True)["proportion"].max(),
        captions={
            "loss": loss_words(panels["loss"].frame),
            "accuracy": accuracy_words(panels["accuracy"].frame),
            "confusion": confusion_words(len(inputs.classes)),
        },
        panels=panels,
        charts=charts,
        pixelated=max(inputs.shape[:2]) <= 64,
        training_cards=training_cards(panels["training_images"].frame, len(inputs.classes)),
        ambiguous_shown=(panels["training_images"].frame["candidates"].list.len() > 1).any(),
        mistake_cards=mistake_cards(panels["mistakes"].frame),
        per_class=panels["per_class"].frame.rows(named=True),
        untested=panels["per_class"].frame["accuracy"].null_count(),
        rows_open=ROWS_OPEN,
    )


def environment(loader: BaseLoader) -> Environment:
    """What every page is made with: all values are escaped, and a missing one is an error."""
    made = Environment(
        loader=loader,
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {
        "class_name": class_name,
        "class_names": class_names,
        "percent": percent,
        "number": number,
        "data_uri": data_uri,
    }
    return made


def class_name(name: str, limit: int) -> Markup:
    """A class name: escaped, cut to a length that fits, and apart from the direction of its text."""
    return class_names([name], limit)[name]


def class_names(names: Iterable[str], limit: int) -> dict[str, Markup]:
    """What is shown of names that stand side by side: each a `class_name`, and no two of them alike."""
    shown = style.told_apart(names, limit)
    return {name: _marked_up(style.printable(name), short) for name, short in shown.items()}


def _marked_up(whole: str, short: str) -> Markup:
    tooltip = Markup(' title="{}"').format(whole) if short != whole else Markup("")
    return Markup("<bdi{}>{}</bdi>").format(tooltip, short)


def data_uri(content: bytes, kind: str) -> str:
    """A `data:` address that holds `content`."""
    return f"data:image/{kind};base64,{base64.b64encode(content).decode('ascii')}"


def _estimated(panels: Mapping[str, Panel]) -> bool:
    """Whether annotators' accuracy could be estimated."""
    return "annotators" in panels and bool(panels["annotators"].frame["estimated_accuracy"].count())
