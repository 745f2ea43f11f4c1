"""What all contenders had the same amount of, and what not: computed, not promised."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import polars as pl

from pipeline_lib.compare import settings
from pipeline_lib.compare.read import OTHER_LABELS
from pipeline_lib.compare.words import joined
from pipeline_lib.report.labels import Note

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pipeline_lib.compare.read import Results
    from pipeline_lib.params.compare import Compare

ALIKE = 0.02
MEASURES = {
    "steps": "optimizer steps of a training",
    "views": "views of images that a training looks at",
    "seconds": "seconds of training, on the machine whose times are in params.yaml",
}
MEASURED = {"steps": "steps", "images": "views", "seconds": "seconds"}
"""The measure of each value of compare.equal."""


def notes(results: Results, groups: pl.DataFrame) -> list[Note]:
    """Labels, network, settings, steps, views, seconds and tuning, each in a few words.

    Args:
        results: of the cells.
        groups: of `verdicts.groups`, rounded.
    """
    return [
        _labels(results.cells),
        _validation(results),
        *settings.notes(results),
        *settings.unfinished(results),
        settings.made_with(results),
        *(_length(groups, measure) for measure in MEASURES),
        _tuning(results.compare),
    ]


def chosen(compare: Compare) -> str:
    """What was chosen by which images."""
    tuned = any(method.tried for method in compare.methods.values())
    settings_too = ", and settings were tried on them" if tuned else ""
    return (
        f"The pipeline lets no test image choose anything: validation images may choose whose weights are kept and when a phase ends"
        f"{settings_too}; test images were looked at once, when all was done."
    )


def asked(results: Results) -> str:
    """What params.yaml says about the lengths, and what came of it."""
    compare = results.compare
    measure = MEASURED[compare.equal]
    if compare.amount is None:
        return (
            f"compare.amount is not set, so every training is as long as its own parameters say; "
            f"compare.equal, {compare.equal}, changes nothing."
        )
    lengths = results.cells[measure]
    wanted = f"{compare.amount:,.6g} {measure} (compare.equal: {compare.equal})"
    if lengths.null_count():
        return f"Every training was to be stretched to {wanted}; how long they were is not known."
    if ((lengths / compare.amount - 1).abs() <= ALIKE).all():
        return f"Every training was stretched to {wanted}, within 2 %."
    return (
        f"Every training was to be stretched to {wanted}, and trainings had {_range(lengths)}: an epoch has whole steps, "
        f"and a phase may end before its last one."
    )


def of_time(results: Results, groups: pl.DataFrame, *, read: bool) -> str:
    """Which comparison is missing: of trainings of the same time, or of the same number of steps.

    Args:
        results: of the cells.
        groups: of `verdicts.groups`, rounded.
        read: whether the page reads all trainings when the fastest has ended.
    """
    if len(results.names) == 1:
        return ""
    trained = not groups["seconds"].null_count() and _alike(groups, "seconds")
    if not read and not trained:
        return (
            "No comparison at equal time was made: how long a step takes is not known. Run python -m stages.app "
            "compare-times where the cells ran, then make compare."
        )
    asked_for = results.compare.equal == "steps" and results.compare.amount is not None
    if not asked_for and not _alike(groups, "steps"):
        return (
            "No comparison at equal steps was made: set compare.equal to steps and compare.amount to how many, then "
            "run make compare."
        )
    return ""


def costs(results: Results) -> list[dict[str, Any]]:
    """What each contender took: contender, tried, and the text of every measure."""
    tried = {
        name: results.compare.methods[contender.rsplit("-", 1)[0]].tried
        for contender, name in results.names.items()
    }
    return [
        {"contender": name, "tried": tried[name], **{m: _range(own[m]) for m in MEASURES}}
        for name in results.names.values()
        if len(own := results.cells.filter(pl.col("contender") == name))
    ]


def _labels(cells: pl.DataFrame) -> Note:
    bound = OTHER_LABELS in set(cells["method"])
    return Note(
        "images and labels",
        "equal",
        "training, validation and test files of a budget and seed are the same bytes for all contenders"
        + (f"; {OTHER_LABELS} has every true label" if bound else ""),
    )


def _validation(results: Results) -> Note:
    """What the validation images tell, which is beside the budget."""
    told: dict[str, list[int]] = {}
    for row in results.cells.rows(named=True):
        labels = results.params[row["key"]]["split"]["val_labels"]
        if row["method"] != OTHER_LABELS:
            words = "labels as weak as those of training"
            if labels == "clean" or row["val_tells_more"]:
                label = "its true label" if labels == "clean" else "one label"
                words = f"each with {label}, beside those of the budget"
            told.setdefault(words, []).append(row["val_images"])
    each = [f"{_range(pl.Series(images))} images, {words}" for words, images in told.items()]
    return Note("validation images", "equal", "; ".join(each) or "each with its true label")


def _length(groups: pl.DataFrame, measure: str) -> Note:
    values = groups[measure]
    if values.null_count():
        return Note(
            measure,
            "not known",
            "times differ between machines, so cells hold none; python -m stages.app compare-times notes those "
            "of this one",
        )
    return Note(
        measure, "equal" if _alike(groups, measure) else "not equal", _told(groups, measure)
    )


def _alike(groups: pl.DataFrame, measure: str) -> bool:
    """Whether the means of contenders differ by 2 % at most, with every budget."""
    spans = groups.group_by("budget").agg(least=pl.col(measure).min(), most=pl.col(measure).max())
    return bool((spans["most"] <= spans["least"] * (1 + ALIKE)).all())


def _told(groups: pl.DataFrame, measure: str) -> str:
    """The amounts, by budget where they depend on it; and who had the least and the most."""
    lowest: dict[str, str] = {}
    for row in groups.sort(measure, maintain_order=True).rows(named=True):
        lowest.setdefault(row["budget"], _number(row[measure]))
    if _alike(groups, measure):
        if len(set(lowest.values())) == 1:
            return f"{lowest.popitem()[1]} {MEASURES[measure]}, within 2 %"
        each = joined(f"{amount} with {budget}" for budget, amount in lowest.items())
        return f"{each}: {MEASURES[measure]}, within 2 %"
    ordered = groups.sort(measure, maintain_order=True).rows(named=True)
    own: dict[str, set[str]] = {}
    for row in ordered:
        own.setdefault(row["contender"], set()).add(_number(row[measure]))
    low, high = (
        f"{_number(row[measure])} ({row['contender']}"
        + (f" with {row['budget']})" if len(own[row["contender"]]) > 1 else ")")
        for row in (ordered[0], ordered[-1])
    )
    return f"{low} to {high} {MEASURES[measure]}"


def _range(values: pl.Series) -> str:
    """Lowest and highest of the trainings, or what all have."""
    known = values.drop_nulls()
    if known.is_empty():
        return "\N{EN DASH}"
    low, high = _number(known.min()), _number(known.max())
    return low if low == high else f"{low} to {high}"


def _number(value: Any) -> str:  # noqa: ANN401 - of a column of any kind
    return f"{value:,.0f}" if value >= 100 or value == int(value) else f"{value:.1f}"


def _tuning(compare: Compare) -> Note:
    tried: Sequence[int] = [method.tried for method in compare.methods.values()]
    told = "settings of a method that were tried on validation images, as params.yaml declares"
    if len(set(tried)) == 1:
        return Note("tuning", f"{tried[0]} each", told)
    return Note("tuning", f"{min(tried)} to {max(tried)}", told)
