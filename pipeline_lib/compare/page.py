"""The page of a comparison: one HTML file that needs no network; one script, which sorts and filters tables."""

from __future__ import annotations

import base64
import hashlib
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jinja2 import FileSystemLoader, PrefixLoader
from markupsafe import Markup

from pipeline_lib.compare import budgets, fairness, settings, verdicts, words
from pipeline_lib.compare.figures.accuracy import MOST_BRACKETS, limits, p_words
from pipeline_lib.compare.figures.bands import MOST_BANDS
from pipeline_lib.compare.figures.classes import SHOWN
from pipeline_lib.compare.panels import EMBEDDING
from pipeline_lib.report import page as report_page
from pipeline_lib.statistics.intervals import RESAMPLES
from pipeline_lib.statistics.paired import ALPHA, FEWEST_SEEDS

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import polars as pl

    from pipeline_lib.compare.build import Tables
    from pipeline_lib.compare.read import Results
    from pipeline_lib.report.panels import Panel

HERE = Path(__file__).parent
DASH = "\N{EN DASH}"
APOSTROPHE = "\N{RIGHT SINGLE QUOTATION MARK}"
BESIDE = ("Wilcoxon", "McNemar")  # tests whose p-values stand beside those that count
INSIDE = {
    "disambiguation": (
        "Disambiguation",
        "How many training images have the right label chosen. No training sees this.",
    ),
    "coverage": (
        "Pseudo-labels: coverage",
        "How many unlabeled images a method guesses with confidence.",
    ),
    "precision": (
        "Pseudo-labels: precision",
        "How many of these confident guesses are right. No training sees this.",
    ),
    "range_tests": (
        "Learning rates sought",
        "Loss of a trial in which the rate rises from step to step, smoothed. A dot: the rate that was chosen.",
    ),
    "phases": ("Phases", "When each training went on to its next phase; one bar per seed."),
}
"""Titles and captions of the charts that only some methods have."""
EMBEDDING_TITLE = Markup('Embeddings, <a href="pages/{key}/index.html">{key}</a>')
EMBEDDED = (
    "Test images and the labeled ones that they are compared with, of the first seed, in the plane along which test "
    "images differ most. What meets here may be apart in other directions."
)


def render(
    results: Results,
    found: Tables,
    panels: Mapping[str, Panel],
    charts: Mapping[str, Mapping[str, bytes]],
) -> str:
    """The page.

    Args:
        results: of the cells.
        found: the tables.
        panels: every figure, also those without data.
        charts: the SVG of every drawn figure, by theme.
    """
    loader = PrefixLoader(
        {"compare": FileSystemLoader(HERE), "report": FileSystemLoader(report_page.TEMPLATES)}
    )
    environment = report_page.environment(loader)
    environment.filters["joined"] = words.joined
    script = (HERE / "page.js").read_text(encoding="utf-8")
    return environment.get_template("compare/page.html.j2").render(
        script=Markup(script),  # noqa: S704 - our own file, not a value
        script_hash=content_hash(script),
        dataset=found.cells["dataset"][0],
        contenders=list(results.names.values()),
        anchor=_anchor(results),
        reports=_reports(results),
        budgets=list(results.compare.budgets),
        facts=_facts(results, found),
        verdicts=words.verdicts(found.groups, found.comparisons, budgets.titles(found.cells)),
        starts=limits(found.groups, found.cells)[0],
        groups=_groups(found),
        **_equal(results, found),
        **_differences(found.comparisons),
        alpha=f"{ALPHA:g}".removeprefix("0"),
        fewest_seeds=FEWEST_SEEDS,
        resamples=RESAMPLES,
        at_equal_time=found.at_equal_time.rows(named=True),
        cells=found.cells.rows(named=True),
        tables=list(vars(found)),
        **_pictures(results, panels),
        charts=charts,
    )


def _equal(results: Results, found: Tables) -> dict[str, Any]:
    """What was equal, and what not."""
    read = not found.at_equal_time.is_empty()
    return {
        "fairness": fairness.notes(results, found.groups),
        "asked": fairness.asked(results),
        "chosen": fairness.chosen(results.compare),
        "stretched": results.compare.amount is not None,
        "of_time": fairness.of_time(results, found.groups, read=read),
        "changes": settings.changes(results),
        "costs": fairness.costs(results),
    }


def _differences(comparisons: pl.DataFrame) -> dict[str, Any]:
    """The table of differences, and what it is of."""
    rows = comparisons.rows(named=True)
    refusals = {row["refused"] for row in rows}
    given = [name for name in BESIDE if comparisons[f"p_{name.lower()}"].is_not_null().any()]
    return {
        "comparisons": [_comparison(row) for row in rows],
        "tested": verdicts.corrected(comparisons),
        "with_wilcoxon": "Wilcoxon" in given,
        "with_mcnemar": "McNemar" in given,
        "brackets": comparisons["significant"].any(),
        "uncorrected": words.joined(f"{name}{APOSTROPHE}s p" for name in given) if given else "",
        "only_reason": refusals.pop() if len(refusals) == 1 else None,
    }


def _pictures(results: Results, panels: Mapping[str, Panel]) -> dict[str, Any]:
    """Which charts there are, and what they leave out."""
    return {
        "several_seeds": len(results.compare.seeds) > 1,
        "several": len(results.names) > 2,
        "num_classes": len(results.classes),
        "most_brackets": MOST_BRACKETS,
        "most_classes": SHOWN,
        "most_bands": MOST_BANDS,
        "inside": _inside(panels),
        "untimed": _untimed(results, panels["over_seconds"].frame),
        "named": _by_budget(panels, list(results.compare.budgets)),
        "panels": panels,
    }


def _untimed(results: Results, frame: pl.DataFrame) -> list[str]:
    """Contenders that the chart over seconds lacks, where it shows any."""
    shown = set(frame["contender"])
    return [name for name in results.names.values() if name not in shown] if shown else []


def content_hash(script: str) -> str:
    """What the Content-Security-Policy knows the script by: no other one runs."""
    digest = hashlib.sha256(script.encode()).digest()
    return f"sha256-{base64.b64encode(digest).decode('ascii')}"


def _anchor(results: Results) -> Callable[[str, str], str]:
    """Where a contender stands in the table of means: its name on the page, and the budget."""
    own = {name: contender for contender, name in results.names.items()}
    return lambda name, budget: f"mean-{own[name]}-{budget}"


def _reports(results: Results) -> Callable[[str, str], list[tuple[int, str]]]:
    """The reports of a contender with a budget: seed and key of each training."""
    own = {name: contender for contender, name in results.names.items()}
    seeds = results.compare.seeds
    return lambda name, budget: list(zip(seeds, results.keys(own[name], budget), strict=True))


def _facts(results: Results, found: Tables) -> list[tuple[str, str]]:
    """What is compared, at a glance."""
    images = found.cells["test_images"].unique().sort().to_list()
    spread = f"{images[0]:,}" if len(images) == 1 else f"{images[0]:,} to {images[-1]:,}"
    # Each seed may draw its own from one pool.
    distinct = len(np.unique(np.concatenate([p.id_N for p in results.predictions.values()])))
    if distinct > images[-1]:
        spread += f" for each seed, {distinct:,} in all"
    return [
        ("Dataset", found.cells["dataset"][0]),
        ("Contenders", str(len(results.names))),
        ("Budgets", ", ".join(results.compare.budgets)),
        ("Seeds", ", ".join(map(str, results.compare.seeds))),
        ("Trainings", f"{len(found.cells):,}"),
        ("Test images", spread),
    ]


def _groups(found: Tables) -> list[tuple[str, list[dict[str, Any]]]]:
    """Rows of the table of means by budget, the best ones first."""
    rows = found.groups.sort("mean", descending=True, maintain_order=True).rows(named=True)
    order = found.groups["budget"].unique(maintain_order=True).to_list()
    rows.sort(key=lambda row: order.index(row["budget"]))
    best = {budget: max(row["mean"] for row in rows if row["budget"] == budget) for budget in order}
    return [
        (
            budget,
            [
                row
                | {
                    "top": row["mean"] == best[budget],
                    "interval": words.interval(row["low"], row["high"]) or DASH,
                    "image_interval": words.interval(row["image_low"], row["image_high"]) or DASH,
                }
                for row in own
            ],
        )
        for budget, own in groupby(rows, key=lambda row: str(row["budget"]))
    ]


def _comparison(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row of the table of differences, with its numbers as text."""
    return {
        **row,
        "points": words.points(row["difference"]),
        **_wider(row),
        "image_interval": _span(row["image_low"], row["image_high"]),
        "effect": _signed(row["effect_size"]),
        "seeds_text": words.seeds_words([row["seeds_for_a_point"]]) if row["sd"] else DASH,
        "seeds_range": words.seeds_words([row["fewest_seeds"], row["most_seeds"]]),
        "detectable_text": _detectable(row["detectable"]),
        "hidden_text": _detectable(row["hidden_by_images"]),
        **{
            f"{name}_text": DASH if row[name] is None else _only_number(row[name])
            for name in ("p", "p_holm", "p_t", "p_wilcoxon", "p_mcnemar")
        },
    }


def _wider(row: Mapping[str, Any]) -> dict[str, Any]:
    """The wider one of the two tests' intervals: as p is the larger one, it holds 0 where that is above .05."""
    lows, highs = (
        [row[name] for name in names if row[name] is not None]
        for names in (("low", "crossed_low"), ("high", "crossed_high"))
    )
    low, high = min(lows, default=None), max(highs, default=None)
    return {"wider_low": low, "interval": _span(low, high)}


def _span(low: float | None, high: float | None) -> str:
    """An interval of differences, cut where differences of accuracies end."""
    if low is None or high is None:
        return DASH
    return f"{words.points(max(low, -1))} to {words.points(min(high, 1))}"


def _signed(value: float | None) -> str:
    """With a minus sign as wide as a plus."""
    return DASH if value is None else f"{value:.2f}".replace("-", "\N{MINUS SIGN}")


def _detectable(difference: float | None) -> str:
    """In points; more than there are cannot be seen at all."""
    if difference is None:
        return DASH
    return "> 100" if difference > 1 else f"{100 * difference:.1f}"


def _only_number(p: float) -> str:
    """A p-value without its name."""
    return p_words(p).removeprefix("p = ").removeprefix("p ")


def _inside(panels: Mapping[str, Panel]) -> list[tuple[str, str, str]]:
    """Name, title and caption of the charts that only some methods have."""
    known = [(name, *told) for name, told in INSIDE.items() if name in panels]
    maps = [
        (name, EMBEDDING_TITLE.format(key=name.removeprefix(EMBEDDING)), EMBEDDED)
        for name in panels
        if name.startswith(EMBEDDING)
    ]
    return known + maps


def _by_budget(
    panels: Mapping[str, Panel], names: list[str]
) -> Callable[[str], list[tuple[str, str]]]:
    """Charts that there are one of per budget: prefix -> name and budget of each."""

    def named(prefix: str) -> list[tuple[str, str]]:
        return [(f"{prefix}{name}", name) for name in names if f"{prefix}{name}" in panels]

    return named
