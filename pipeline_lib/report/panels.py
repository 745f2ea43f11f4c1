"""Which figures the report has, in order: their data, their words, and what to say without them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from pipeline_lib.figures import (
    accuracy,
    annotators,
    candidates,
    co_occurrence,
    confusion,
    disambiguation,
    embedding,
    lines,
    loss,
    mistakes,
    per_class,
    pseudo_labels,
    range_test,
    reliability,
    tiles,
    training_images,
)
from pipeline_lib.figures.style import KINDS, label, labels, percent, told_apart

if TYPE_CHECKING:
    from collections.abc import Callable

    import polars as pl
    from matplotlib.figure import Figure

    from pipeline_lib.figures.style import Theme
    from pipeline_lib.params.sections import Report
    from pipeline_lib.report.inputs import Inputs


@dataclass(frozen=True)
class Panel:
    """A figure of the report.

    Attributes:
        name: of its files, and its anchor on the page.
        frame: its data; without rows the figure is left out.
        draw: frame, theme -> figure.
        missing: the sentence that stands in its place.
        says: what it shows, in words, for those who cannot see it.
    """

    name: str
    frame: pl.DataFrame
    draw: Callable[[pl.DataFrame, Theme], Figure]
    missing: str
    says: str = ""

    @property
    def shown(self) -> bool:
        """There is something to draw."""
        return not self.frame.is_empty()


def panels(inputs: Inputs, report: Report) -> dict[str, Panel]:
    """Every figure of the report by name."""
    found = [
        *_curves(inputs),
        *_guesses(inputs),
        *_search(inputs),
        *_test_charts(inputs),
        *_embedding(inputs),
        *_label_charts(inputs),
        _training_images(inputs, report.grid_images),
        _mistakes(inputs, report.worst_mistakes),
    ]
    return {panel.name: panel for panel in found}


def _curves(inputs: Inputs) -> list[Panel]:
    losses = _in_phases(inputs, loss.data(inputs.history))
    accuracies = _in_phases(inputs, accuracy.data(inputs.history, inputs.label_curve))
    recovered = _in_phases(inputs, disambiguation.data(inputs.label_curve))
    no_labels = (
        f"No disambiguation curve: {inputs.metrics['method']} keeps no labels of its own for the "
        f"training images, or none with several candidates has a known true label."
    )
    return [
        Panel(
            "loss", losses, loss.draw, "No loss curves: no epoch was trained.", _in_words(losses)
        ),
        Panel(
            "accuracy",
            accuracies,
            accuracy.draw,
            "No accuracy curves: there are no validation images.",
            _in_words(accuracies),
        ),
        Panel("disambiguation", recovered, disambiguation.draw, no_labels, _in_words(recovered)),
    ]


def _guesses(inputs: Inputs) -> list[Panel]:
    """The quality of pseudo-labels, only of a method that makes some."""
    quality = _in_phases(inputs, pseudo_labels.data(inputs.history, inputs.label_curve))
    if quality.is_empty():
        return []
    none = "No pseudo-labels: no label was guessed."
    return [Panel("pseudo_labels", quality, pseudo_labels.draw, none, _in_words(quality))]


def _in_phases(inputs: Inputs, frame: pl.DataFrame) -> pl.DataFrame:
    names = [phase["phase"] for phase in inputs.phases["phases"]]
    return lines.with_phases(frame, inputs.history, names)


def _search(inputs: Inputs) -> list[Panel]:
    """The range test, only of a method that has its learning rate sought."""
    if "found" not in inputs.phases:
        return []
    found = inputs.phases["found"]
    curve = range_test.data(inputs.range_test, found["learning_rate"])
    none = f"No range test: the learning rate, {found['learning_rate']:g}, was given."
    return [Panel("range_test", curve, range_test.draw, none, _range_words(curve))]


def _test_charts(inputs: Inputs) -> list[Panel]:
    cells = confusion.data(inputs.predictions, inputs.classes)
    bins = reliability.data(inputs.calibration)
    scores = per_class.data(inputs.per_class)
    none = "left out: there are no test images."
    return [
        Panel(
            "confusion",
            cells,
            partial(confusion.draw, classes=inputs.classes),
            f"Confusion matrix {none}",
            _confusion_words(cells),
        ),
        Panel(
            "reliability", bins, reliability.draw, f"Reliability diagram {none}", _bin_words(bins)
        ),
        Panel("per_class", scores, per_class.draw, f"Per-class bars {none}", _class_words(scores)),
    ]


def _embedding(inputs: Inputs) -> list[Panel]:
    """The picture of the embeddings, only of a predictor that has some."""
    points = embedding.data(inputs.embedding)
    if points.is_empty():
        return []
    none = "No picture of the embeddings: there are none."
    return [Panel("embedding", points, embedding.draw, none, point_words(points))]


def _label_charts(inputs: Inputs) -> list[Panel]:
    """The charts of the training labels; that of the annotators only where there are any."""
    sizes = candidates.data(inputs.labels, len(inputs.classes))
    cells = co_occurrence.data(inputs.labels, inputs.truth, inputs.classes)
    found = [
        Panel(
            "candidates",
            sizes,
            candidates.draw,
            "No candidates: there are no training images.",
            _size_words(sizes),
        ),
        Panel(
            "co_occurrence",
            cells,
            co_occurrence.draw,
            "No co-occurrence of candidates: every set holds one class or all of them.",
            _pair_words(cells),
        ),
    ]
    if "annotators" in inputs.summary:
        people = annotators.data(inputs.summary["annotators"])
        none = "No annotators: none labelled an image."
        found.append(Panel("annotators", people, annotators.draw, none, _people_words(people)))
    return found


def _training_images(inputs: Inputs, count: int) -> Panel:
    chosen = training_images.choose(
        inputs.labels, inputs.truth, inputs.classes, count, inputs.metrics["seed"]
    )
    missing = (
        "Left out: report.grid_images is 0."
        if count == 0
        else "Left out: there are no training images."
    )
    frame = tiles.with_pixels(chosen, inputs.pixels(chosen["id"]))
    return Panel("training_images", frame, training_images.draw, missing)


def _mistakes(inputs: Inputs, count: int) -> Panel:
    chosen = mistakes.choose(inputs.predictions, inputs.classes, count)
    missing = (
        "Left out: report.worst_mistakes is 0."
        if count == 0
        else "No mistakes: every test image was recognised."
    )
    frame = tiles.with_pixels(chosen, inputs.pixels(chosen["id"]))
    return Panel("mistakes", frame, mistakes.draw, missing)


def _in_words(frame: pl.DataFrame) -> str:
    """Where every line starts and ends, and where a phase begins."""
    parts = []
    for name in frame["series"].unique(maintain_order=True):
        line = frame.filter(frame["series"] == name).sort("epoch").select("epoch", "value")
        (first, start), (last, end) = line.row(0), line.row(-1)
        parts.append(f"{name} goes from {start:.3g} in epoch {first} to {end:.3g} in epoch {last}")
    parts += [f"{label(name)} begins after epoch {end}" for end, name in lines.switches(frame)]
    return "Line chart: " + "; ".join(parts) + "."


def _range_words(curve: pl.DataFrame) -> str:
    if curve.is_empty():
        return ""
    rate, _, there = curve.row(-1)
    smoothed = curve.filter(curve["series"] == range_test.SMOOTHED)
    lowest, _, least = smoothed.sort("value", maintain_order=True).row(0)
    return (
        f"Line chart of the loss while the learning rate rises: smoothed, it starts at "
        f"{smoothed['value'][0]:.3g}, is lowest, {least:.3g}, at a rate of {lowest:.2g}, and was {there:.3g} at the "
        f"rate that was chosen, {rate:g}."
    )


def _confusion_words(cells: pl.DataFrame) -> str:
    wrong = cells.filter(cells["actual"] != cells["predicted"])
    most = wrong.sort("images", descending=True, maintain_order=True).head(3)
    shown = told_apart([*most["actual"], *most["predicted"]])
    parts = [
        f"{shown[actual]} as {shown[predicted]}, {images}"
        for actual, predicted, images, _ in most.rows()
    ]
    listed = "; ".join(parts) or "none"
    return f"Confusion matrix of the test images. The most frequent mistakes: {listed}."


def _bin_words(bins: pl.DataFrame) -> str:
    if bins.is_empty():
        return ""
    error = reliability.calibration_error(bins)
    return (
        f"Reliability diagram: accuracy against confidence in {len(bins)} bins. Expected "
        f"calibration error {percent(error, 1)}. The table holds every bin."
    )


def _class_words(scores: pl.DataFrame) -> str:
    ranked = scores.drop_nulls("accuracy").sort("accuracy", maintain_order=True)
    if ranked.is_empty():
        return ""
    (low, _, worst, *_), (high, _, best, *_) = ranked.row(0), ranked.row(-1)
    return f"Bars: accuracy from {worst:.3f} for {low} to {best:.3f} for {high}; all in the table below."


def point_words(points: pl.DataFrame) -> str:
    """How many points of which kind; also of the page of a comparison."""
    count = {kind: int((points["kind"] == kind).sum()) for kind in embedding.WORDS}
    tested = count["right"] + count["wrong"]
    support = f", and {count['support']:,} labeled images" if count["support"] else ""
    return (
        f"Scatter plot of {tested:,} test images, {count['right']:,} of them recognised{support}, in the plane of "
        f"the two largest principal components of their embeddings. The table holds every point."
    )


def _size_words(sizes: pl.DataFrame) -> str:
    if sizes.is_empty():
        return ""
    kinds = [
        f"{int(sizes.filter(sizes['kind'] == kind)['images'].sum()):,} with {kind}"
        for kind in KINDS
    ]
    most, _, images, _ = sizes.sort("images", descending=True, maintain_order=True).row(0)
    return (
        f"Histogram of candidates per training image: {', '.join(kinds)}. The most frequent number is "
        f"{most}, of {images:,} images."
    )


def _pair_words(cells: pl.DataFrame) -> str:
    pairs = co_occurrence.strongest(cells, 3)
    shown = told_apart([name for pair in pairs for name in pair[:2]])
    listed = "; ".join(
        f"{shown[other]} in {sets:,} of the sets of {shown[name]} ({percent(share)})"
        for name, other, sets, share in pairs
    )
    return f"Heat map of the classes that stand in one candidate set. The most frequent: {listed}."


def _people_words(people: pl.DataFrame) -> str:
    known = people.drop_nulls("estimated_accuracy")
    if known.is_empty():
        return "Bars: no accuracy of an annotator could be estimated."
    (best, _, high, _), (worst, _, low, _) = known.row(0), known.row(-1)
    best, worst = labels([best, worst])
    return (
        f"Bars: the estimated accuracy of {len(known)} annotators, from {percent(high)} for "
        f"{best} to {percent(low)} for {worst}. The table holds all of these."
    )
