"""What was run and how well it did, in rows of words and numbers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import polars as pl

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pipeline_lib.report.inputs import Inputs


@dataclass(frozen=True)
class Measure:
    """A row of the table of metrics; a share is shown in percent, and None as left out."""

    name: str
    value: float | None
    explanation: str
    share: bool = True


@dataclass(frozen=True)
class Supervision:
    """How many training images have the part of a labeled one, of a partial one, and of an unlabeled one.

    One that is in the labeled and in the unlabeled set counts as labeled.
    """

    labeled: int
    partial: int
    unlabeled: int
    mean_candidates: float | None

    @property
    def images(self) -> int:
        """All training images."""
        return self.labeled + self.partial + self.unlabeled


def supervision(inputs: Inputs) -> Supervision:
    """Count the training images by the part they play. `mean_candidates` is over all of them."""
    roles = inputs.summary["roles"]["train"]
    sizes = inputs.labels["candidates"].list.len().fill_null(len(inputs.classes)).cast(pl.Int64)
    return Supervision(
        labeled=roles.get("labeled", 0) + roles.get("labeled_and_unlabeled", 0),
        partial=roles.get("partial", 0),
        unlabeled=roles.get("unlabeled", 0),
        mean_candidates=int(sizes.sum()) / len(sizes) if len(sizes) else None,
    )


def facts(inputs: Inputs) -> list[tuple[str, str]]:
    """What was run: name and value, in the order of the page."""
    metrics = inputs.metrics
    height, width, channels = inputs.shape
    colour = "grey" if channels == 1 else "colour"
    return [
        ("Method", str(metrics["method"])),
        ("Variant", str(metrics["variant"])),
        ("Dataset", str(metrics["dataset"])),
        ("Labels", str(metrics["protocol"])),
        ("Classes", f"{len(inputs.classes):,}"),
        ("Images", f"{width} \N{MULTIPLICATION SIGN} {height} pixels, {colour}"),
        ("Seed", str(metrics["seed"])),
    ]


def made_with(inputs: Inputs) -> str:
    """What the training ran on, which its bits depend on."""
    run: dict[str, Any] = inputs.phases["made_with"]
    threads = f"{run['threads']} thread" + ("s" if run["threads"] > 1 else "")
    versions = ", ".join(f"{name} {run[name]}" for name in ("torch", "torchvision", "numpy"))
    return f"{run['device']}, {threads}, reproducible: {run['reproducible']}, {versions}"


def measures(metrics: Mapping[str, Any], per_class: pl.DataFrame) -> list[Measure]:
    """The metrics beside the headline; those that the method does not have are left out.

    Args:
        metrics: of metrics.json.
        per_class: of `figures.per_class.data`.
    """
    test, val, train = (metrics.get(part, {}) for part in ("test", "val", "train"))
    rows = [
        ("Median of the last evaluations", test.get("median_accuracy"), _median(test), True),
        *(
            (f"After the phase {name}", value, "accuracy on the test images", True)
            for name, value in test.get("phases", {}).items()
        ),
        (
            "Balanced accuracy",
            test.get("balanced_accuracy"),
            _over(per_class, "accuracy", "that test images show"),
            True,
        ),
        (
            "Macro F1",
            test.get("macro_f1"),
            f"{_over(per_class, 'f1', 'in test images or predictions')}; precision counts too",
            True,
        ),
        ("Calibration error", test.get("ece"), _calibration(test), True),
        ("Negative log-likelihood", test.get("nll"), "nats; lower is better", False),
        ("Brier score", test.get("brier"), "0 to 2; lower is better", False),
        ("Validation accuracy", val.get("accuracy"), _validation(val), True),
        *_labels_right(train),
    ]
    return [_top(test), *(Measure(*row) for row in rows if row[1] is not None)]


def _over(per_class: pl.DataFrame, measure: str, which: str) -> str:
    """What the mean of a measure is over: it is undefined in classes without test images."""
    count, known = per_class[measure].count(), len(per_class)
    of = "the classes" if count == known else f"the {count:,} of {known:,} classes {which}"
    return f"mean over {of}"


def _labels_right(train: Mapping[str, Any]) -> list[tuple[str, float | None, str, bool]]:
    """Nothing where no ambiguous image is of known class: a single candidate needs no recovering."""
    ambiguous = train.get("disambiguation_accuracy_ambiguous")
    if ambiguous is None:
        return []
    of_these = "\N{HORIZONTAL ELLIPSIS} of the ambiguous ones"
    return [
        ("Training labels recovered", train["disambiguation_accuracy"], _recovered(train), True),
        (of_these, ambiguous, _ambiguous(train), True),
    ]


def _top(test: Mapping[str, Any]) -> Measure:
    top = test.get("top5_accuracy")
    words = "truth among the five likeliest"
    return Measure(
        "Top-5 accuracy", top, words if top is not None else f"{words}; there are no more classes"
    )


def _calibration(test: Mapping[str, Any]) -> str:
    words, chance = "ECE: how far confidence is from accuracy", test.get("ece_by_chance")
    return words if chance is None else f"{words}; about {100 * chance:.1f} points by chance alone"


def _median(test: Mapping[str, Any]) -> str:
    count = test.get("median_of")
    return (
        "test accuracy of the last one: there was no other"
        if count == 1
        else f"test accuracy over the last {count} of them: no epoch is chosen"
    )


def _validation(val: Mapping[str, Any]) -> str:
    epoch = val.get("epoch")
    kept = f", weights of epoch {epoch}" if epoch is not None else ""
    return f"{val.get('images', 0):,} images{kept}"


def _recovered(train: Mapping[str, Any]) -> str:
    known, images = train.get("images_of_known_class"), train.get("images")
    of = "all" if known == images else f"the {known:,}"
    return f"chosen label is the true one: {of} training images" + (
        " of known class" if known != images else ""
    )


def _ambiguous(train: Mapping[str, Any]) -> str:
    known, images = train["images_ambiguous_of_known_class"], train["images_ambiguous"]
    of = f"{images:,} images" if known == images else f"the {known:,} images of known class"
    return f"more than one candidate: {of}"
