"""Where the training labels come from and what was noticed about them, in words and numbers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pipeline_lib.errors import listed
from pipeline_lib.figures.cells import NAMES_UP_TO
from pipeline_lib.figures.co_occurrence import KNOWN
from pipeline_lib.figures.style import labels
from pipeline_lib.records import validation_tells_more
from pipeline_lib.report.numbers import percent

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import polars as pl

    from pipeline_lib.report.inputs import Inputs

RULES = {
    "union": "Everything that an annotator named is a candidate.",
    "at_least": "What at least {at_least} annotators named is a candidate; else what most of them named.",
    "weighted": "The fewest classes that are right with probability {mass:g}, by the annotators' estimated "
    "reliability, are candidates.",
}
PARTS = {"train": "training", "val": "validation", "test": "test"}


@dataclass(frozen=True)
class Note:
    """A number about the labels, and what it means."""

    name: str
    value: str
    explanation: str


def protocol_words(summary: Mapping[str, Any]) -> str:
    """Say how the labels were made as weak as they are; summary.json."""
    name, options = summary["protocol"], summary["parameters"]
    sayings: dict[str, Callable[[Mapping[str, Any]], str]] = {
        "clean": _clean,
        "given": _given,
        "uniform_candidates": _uniform,
        "class_dependent": _class_dependent,
        "instance_candidates": _instance,
        "annotators": _annotators,
        "few_shot": lambda options: _few_shot(options, summary["balance"]["labeled"]),
        "mixed": _mixed,
    }
    said = [sayings[name](options) if name in sayings else _by_parameters(name, options)]
    if "annotators" in summary:
        people = summary["annotators"]
        said.append(RULES[people["rule"]].format_map(people))
    return " ".join(said)


def validation_words(summary: Mapping[str, Any]) -> str:
    """Say that validation images tell more than training images; empty where they do not."""
    # True labels are more than given ones also where each image has one: some of the given ones may be wrong.
    if summary["val_labels"] == "clean" != summary["protocol"] and summary["roles"]["val"]:
        return "Validation images tell their true labels."
    return (
        "Every validation image has one label." if validation_tells_more(summary["roles"]) else ""
    )


def _by_parameters(name: str, options: Mapping[str, Any]) -> str:
    listed = ", ".join(f"{key} {value}" for key, value in options.items())
    return f"Protocol {name}" + (f" with {listed}." if listed else ".")


def _clean(_: Mapping[str, Any]) -> str:
    return "Every image has its true label."


def _given(_: Mapping[str, Any]) -> str:
    return "Labels are those of the data."


def _uniform(options: Mapping[str, Any]) -> str:
    least = "; every image got at least one of them" if options["force_ambiguous"] else ""
    return f"Each wrong label joined the candidates with probability {options['rate']:g}{least}."


def _class_dependent(options: Mapping[str, Any]) -> str:
    least = (
        "; every image that could got at least one of them" if options["force_ambiguous"] else ""
    )
    if options["similar"] == "matrix":
        return f"Wrong labels joined the candidates with probabilities by true class{least}."
    return (
        f"Each wrong label in the superclass of the true one joined the candidates with probability "
        f"{options['rate']:g}{least}."
    )


def _instance(options: Mapping[str, Any]) -> str:
    return (
        f"Wrong labels joined the candidates where a small model, trained on true labels, finds the "
        f"image ambiguous: with a mean probability of {options['rate']:g}."
    )


def _annotators(options: Mapping[str, Any]) -> str:
    people = "annotator labels" if options["count"] == 1 else "annotators label"
    right = (
        f"each right with probability {options['accuracy']:g}"
        if options["confusion"] is None
        else "each with errors by true class"
    )
    return f"{options['count']} simulated {people} every image, {right}."


def _few_shot(options: Mapping[str, Any], labeled_K: Sequence[int]) -> str:
    number = options["labels"] or options["labels_per_class"]
    count = f"{number:,} image{'s' * (number > 1)}"
    if options["labels_per_class"]:
        count += {
            "balanced": " of each class",
            "stratified": " per class on average",
            "long_tailed": " of the first class",
        }[options["balance"]]
    shared = {
        "balanced": "",
        "stratified": ", in proportion to the classes, at least one of each",
        "long_tailed": f", falling from {labeled_K[0]:,} of the first class to {labeled_K[-1]:,} of the last",
    }[options["balance"]]
    rest = "the others" if options["unlabeled"] is None else f"{options['unlabeled']:,} others"
    return f"{count} kept {'their' if number > 1 else 'its'} label{shared}; {rest} are unlabeled."


def _mixed(options: Mapping[str, Any]) -> str:
    return (
        f"{100 * options['labeled']:g} % of the images kept their label, {100 * options['partial']:g} % "
        f"got candidates (each wrong label with probability {options['rate']:g}), the rest is unlabeled."
    )


def notes(inputs: Inputs) -> list[Note]:
    """What a reader should know of the labels before believing the result."""
    return [*_truth(inputs.summary), *_untold(inputs.summary), *_images(inputs)]


def _truth(summary: Mapping[str, Any]) -> list[Note]:
    holds = summary["candidates"]["train"]["holds_truth"]
    missed = summary["noisy"]["train"]
    if holds is None:
        unknown = "no true label is known, so nobody can count them"
        return [Note("Sets without the true label", "unknown", unknown)]
    share = f"{percent(holds)} of the training sets of known class hold it"
    return [Note("Sets without the true label", f"{missed:,}", share)]


def _untold(summary: Mapping[str, Any]) -> list[Note]:
    if not (untold := summary["untold_classes"]):
        return []
    words = f"{listed(labels(untold))}: no label or candidate set of a training image names them, and hardly ever will the model"
    return [Note("Classes that nothing names", f"{len(untold):,}", words)]


def _images(inputs: Inputs) -> list[Note]:
    summary, found = inputs.summary, []
    twins = summary["duplicates"]
    found.append(Note("Images with the same pixels", f"{twins['images']:,}", _twins(twins)))
    if twins["dropped"]:
        dropped = "one image of each group was kept"
        found.append(Note("Duplicates dropped", f"{twins['dropped']:,}", dropped))
    if groups := summary["groups"]:
        parts = f"{groups['train']:,} in training, {groups['val']:,} in validation, {groups['test']:,} in the test, none in two"
        if groups["alone"]:
            parts += f"; {groups['alone']:,} images in whose paths nothing is found are groups of their own"
        found.append(
            Note("Groups of images", f"{sum(groups[p] for p in ('train', 'val', 'test')):,}", parts)
        )
    left_out = summary["left_out"]["train"]
    if left_out:
        found.append(Note("Left out of training", f"{left_out:,}", "by the protocol"))
    unread = (
        "unreadable; data/rejected.parquet says why" if inputs.rejected else "all were readable"
    )
    found.append(Note("Images rejected", f"{inputs.rejected:,}", unread))
    return found


def _twins(twins: Mapping[str, Any]) -> str:
    if not twins["groups"]:
        return "no two images are equal"
    across = [
        f"{count:,} across {' and '.join(PARTS[part] for part in pair.split('_'))}"
        for pair, count in twins["across"].items()
        if count
    ]
    differ = [f"{twins['differ']:,} with different labels"] if twins["differ"] else []
    groups = f"{twins['groups']:,} group" + ("s" if twins["groups"] != 1 else "")
    return ", ".join([groups, *(across or ["none across two parts"]), *differ])


def annotator_notes(summary: Mapping[str, Any]) -> list[Note]:
    """How far the annotators agree, and how wrong their majority is; nothing without any."""
    if "annotators" not in summary:
        return []
    annotators = summary["annotators"]
    wrong = annotators["majority_wrong"]
    actual = wrong["actual"]
    truth = (
        "no true labels to compare with"
        if actual is None
        else f"by the true labels {percent(actual)}"
    )
    per_image = annotators["votes"] / annotators["images"] if annotators["images"] else 0
    votes = (
        f"{annotators['votes']:,} labels of {annotators['images']:,} images, {per_image:.1f} each"
    )
    alpha = "Krippendorff\N{RIGHT SINGLE QUOTATION MARK}s alpha"
    chance = f"of the pairs of labels; {alpha} {_number(annotators['krippendorff_alpha'])}"
    return [
        Note("Annotators", f"{annotators['count']:,}", votes),
        Note("Agreement", percent(annotators["agreement"]), chance),
        Note("Majority wrong, estimated", percent(wrong["expected"]), truth),
    ]


def co_occurrence_words(frame: pl.DataFrame, num_classes: int) -> str:
    """What the rows of the chart are, and which of many classes it shows in which order."""
    if frame.is_empty():
        return ""
    shown = round(len(frame) ** 0.5)
    said = [
        "Percent of a true class\N{RIGHT SINGLE QUOTATION MARK}s sets that hold each candidate."
        if frame.columns[0] == KNOWN
        else "Percent of the sets with one class that hold another, too.",
        "Sets of all classes do not count.",
    ]
    if shown < num_classes:
        said.append(f"Shown are the {shown} of {num_classes:,} classes that share most sets.")
    if shown > NAMES_UP_TO:
        said.append("Those that go together are side by side.")
    return " ".join(said)


def _number(value: float | None) -> str:
    return "\N{EN DASH}" if value is None else f"{value:.2f}"
