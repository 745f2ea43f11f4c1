"""Which figures the page of a comparison has: their data, their words, and what to say without them."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import polars as pl

from pipeline_lib.compare import budgets
from pipeline_lib.compare.figures import (
    accuracy,
    agreement,
    amounts,
    classes,
    curves,
    logs,
    phases,
    range_tests,
)
from pipeline_lib.compare.figures.accuracy import p_words
from pipeline_lib.figures import embedding, range_test
from pipeline_lib.figures.style import label, percent
from pipeline_lib.report.panels import Panel, point_words

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pipeline_lib.compare.build import Tables
    from pipeline_lib.compare.read import Results

NO_VALIDATION = "Left out: there are no validation images."
NO_TIMES = (
    "Left out: how long a step takes is not known. python -m stages.app compare-times notes it in params.yaml, "
    "from the trainings that ran on this machine; then run make compare again."
)
EMBEDDING = "embedding_"
LABELS = {
    "disambiguation": "disambiguation_accuracy",
    "coverage": "coverage",
    "precision": "precision",
}


def panels(results: Results, found: Tables) -> dict[str, Panel]:
    """Every figure by name; those of things that no contender has are not among them."""
    names = list(results.names.values())
    made = [
        *_accuracies(found, names),
        *_by_budget(found, names),
        *_validation(found, names),
        *_by_class(found, names),
        *_agreements(found, names),
        *_training_labels(found, names),
        *_phases(results, found),
        *_searches(results, found, names),
        *_embeddings(results, found),
        *_logs(found, names),
    ]
    return {panel.name: panel for panel in made}


def _budgets(found: Tables) -> list[str]:
    return found.groups["budget"].unique(maintain_order=True).to_list()


def _accuracies(found: Tables, names: Sequence[str]) -> list[Panel]:
    between = accuracy.limits(found.groups, found.cells)
    made = []
    for budget in _budgets(found):
        frame = accuracy.data(found.cells, found.groups, found.comparisons, budget)
        draw = partial(accuracy.draw, contenders=names, between=between)
        made.append(Panel(f"accuracy_{budget}", frame, draw, "", _accuracy_words(frame)))
    return made


def _by_budget(found: Tables, names: Sequence[str]) -> list[Panel]:
    of = {
        "labels": (budgets.labels(found.cells), amounts.LABELS),
        "candidates": (budgets.candidate_rates(found.cells), amounts.CANDIDATES),
    }
    made = []
    for name, (of_budgets, axis) in of.items():
        frame = amounts.data(found.cells, of_budgets)
        draw = partial(amounts.draw, axis=axis, contenders=names)
        made.append(Panel(name, frame, draw, "", _line_words(frame, axis.x)))
    return _present(made)


def _validation(found: Tables, names: Sequence[str]) -> list[Panel]:
    made = []
    for cost, words in curves.COSTS.items():
        frame = curves.data(found.curves, cost, "val_accuracy")
        draw = partial(curves.draw, cost=cost, measure="val_accuracy", contenders=names)
        unmeasured = found.curves["val_accuracy"].null_count() == len(found.curves)
        missing = NO_VALIDATION if unmeasured else NO_TIMES
        made.append(Panel(f"over_{cost}", frame, draw, missing, _line_words(frame, words)))
    return made


def _training_labels(found: Tables, names: Sequence[str]) -> list[Panel]:
    made = []
    for name, measure in LABELS.items():
        frame = curves.data(found.curves, "steps", measure)
        draw = partial(curves.draw, cost="steps", measure=measure, contenders=names)
        made.append(Panel(name, frame, draw, "", _line_words(frame, "steps")))
    return _present(made)


def _by_class(found: Tables, names: Sequence[str]) -> list[Panel]:
    made = []
    for budget in _budgets(found):
        frame = classes.data(found.per_class, budget)
        draw = partial(classes.draw, contenders=names)
        made.append(Panel(f"classes_{budget}", frame, draw, "", _class_words(frame)))
    return _present(made)


def _agreements(found: Tables, names: Sequence[str]) -> list[Panel]:
    made = []
    for budget in _budgets(found):
        frame = agreement.data(found.agreements, budget)
        draw = partial(agreement.draw, contenders=names)
        made.append(Panel(f"agreement_{budget}", frame, draw, "", _pair_words(frame)))
    return _present(made)


def _phases(results: Results, found: Tables) -> list[Panel]:
    frame = phases.data(found.cells, results.phases)
    return _present([Panel("phases", frame, phases.draw, "", _phase_words(frame))])


def _searches(results: Results, found: Tables, names: Sequence[str]) -> list[Panel]:
    frame = range_tests.data(found.cells, results.range_tests, results.phases)
    draw = partial(range_tests.draw, contenders=names)
    return _present([Panel("range_tests", frame, draw, "", _range_words(frame))])


def _embeddings(results: Results, found: Tables) -> list[Panel]:
    """Of one training of each contender with each budget: that of the first seed."""
    made = []
    for row in found.cells.filter(pl.col("seed") == results.compare.seeds[0]).rows(named=True):
        if row["key"] in results.embeddings:
            frame = embedding.data(results.embeddings[row["key"]])
            name = f"{EMBEDDING}{row['key']}"
            made.append(Panel(name, frame, embedding.draw, "", point_words(frame)))
    return made


def _logs(found: Tables, names: Sequence[str]) -> list[Panel]:
    made = []
    for budget in _budgets(found):
        for measure, words in logs.MEASURES.items():
            frame = logs.data(found.curves, measure, budget)
            draw = partial(logs.draw, measure=measure, contenders=names)
            says = f"Small line charts: {words} over steps, one chart per contender, one line per seed."
            made.append(Panel(f"{measure}_{budget}", frame, draw, "", says))
    return _present(made)


def _present(made: Sequence[Panel]) -> list[Panel]:
    return [panel for panel in made if panel.shown]


def _accuracy_words(frame: pl.DataFrame) -> str:
    means = [
        f"{row['contender']} {percent(row['value'])}"
        + (
            ""
            if row["low"] is None
            else f" ({percent(max(row['low'], 0))} to {percent(min(row['high'], 1))})"
        )
        for row in frame.filter(pl.col("what") == "mean").rows(named=True)
    ]
    pairs = [
        f"{row['contender']} and {row['other']}, {p_words(row['value'])}"
        for row in frame.filter(pl.col("what") == "bracket").rows(named=True)
    ]
    brackets = f" Brackets join {'; '.join(pairs)}." if pairs else ""
    return f"Dots with 95 % intervals over seeds: {'; '.join(means)}.{brackets}"


def _line_words(frame: pl.DataFrame, over: str) -> str:
    """Where every line ends."""
    ends = (
        frame.sort("x", maintain_order=True)
        .group_by("budget", "contender", maintain_order=True)
        .last()
    )
    order = frame.select("budget", "contender").unique(maintain_order=True)
    parts = [
        f"{row['contender']}{' with ' * bool(row['budget'])}{row['budget']} {percent(row['value'])}"
        for row in order.join(ends, on=["budget", "contender"], maintain_order="left").rows(
            named=True
        )
    ]
    return f"Line chart over {over}. The lines end at: {'; '.join(parts)}."


def _class_words(frame: pl.DataFrame) -> str:
    if frame.is_empty():
        return ""
    far = frame.sort(pl.col("difference").abs(), descending=True, maintain_order=True).head(3)
    parts = [
        f"{row['contender']} {100 * row['difference']:+.0f} points for class {label(row['class'])}"
        for row in far.rows(named=True)
    ]
    return f"Heat map of classes and contenders. Farthest from the mean: {'; '.join(parts)}."


def _pair_words(frame: pl.DataFrame) -> str:
    if frame.is_empty():
        return ""
    ranked = frame.sort("same", maintain_order=True).rows(named=True)
    least, most = (
        f"{row['first']} and {row['second']}, {percent(row['same'])}"
        for row in (ranked[0], ranked[-1])
    )
    return f"Triangle of pairs. Least alike: {least}. Most alike: {most}."


def _phase_words(frame: pl.DataFrame) -> str:
    switches = frame.group_by("contender", "budget", "phase", maintain_order=True).agg(
        low=pl.col("end").min(), high=pl.col("end").max()
    )
    parts = [
        f"{row['contender']} with {row['budget']}, {row['phase']} until step {row['low']}"
        + ("" if row["low"] == row["high"] else f" to {row['high']}")
        for row in switches.rows(named=True)
    ]
    return f"Bars of steps: {'; '.join(parts)}."


def _range_words(frame: pl.DataFrame) -> str:
    chosen = frame.filter(pl.col("series") == range_test.CHOSEN)
    rates = chosen.group_by("contender", "budget", maintain_order=True).agg(
        low=pl.col("learning_rate").min(), high=pl.col("learning_rate").max()
    )
    parts = [
        f"{row['contender']} with {row['budget']} {row['low']:.2g} to {row['high']:.2g}"
        for row in rates.rows(named=True)
    ]
    return (
        f"Small line charts of the loss while the learning rate rises. Chosen: {'; '.join(parts)}."
    )
