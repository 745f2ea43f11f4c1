"""What the model card says, as plain values; no date, host or commit, so that the same run has the same card."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from pipeline_lib.artifacts import recorded_sha256
from pipeline_lib.card.references import to_cite
from pipeline_lib.errors import listed
from pipeline_lib.metrics import accuracy_95
from pipeline_lib.models.description import DESCRIPTION, WEIGHTS, read_description
from pipeline_lib.params.methods import Methods
from pipeline_lib.params.sections import OWN_IMAGES
from pipeline_lib.records import validation_tells_more
from pipeline_lib.report.facts import supervision
from pipeline_lib.report.labels import protocol_words

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from pipeline_lib.report.inputs import Inputs

SCHEMA_VERSION = 1
TABLES = (
    *("images.parquet", "labels.parquet", "classes.json"),
    *(f"split/{part}.parquet" for part in ("train", "val", "test")),
)
WEAKEST = 5  # classes that are named
FEW = 30  # test images of a class, fewer of which tell little


def content(inputs: Inputs, data: Path, models: Path) -> dict[str, Any]:
    """Everything on the card.

    Args:
        inputs: what the earlier stages found out.
        data: what ingest and split wrote.
        models: the predictor.

    Raises:
        UserError: An input is missing or damaged.
    """
    about = read_description(models)
    classes = _classes(inputs.per_class)
    return {
        "schema_version": SCHEMA_VERSION,
        "model": _model(about),
        "data": _data(inputs),
        "supervision": _supervision(inputs),
        "metrics": {part: inputs.metrics[part] for part in ("test", "val", "train")},
        "weakest_classes": weakest(classes, inputs.predictions),
        "limits": [
            *limits(inputs.metrics, inputs.summary, classes),
            *(
                f"Training was too short for a setting: {why}."
                for why in inputs.phases["unfinished"]
            ),
        ],
        "reproduce": {
            "made_with": inputs.phases["made_with"],
            "sha256": {
                **{f"data/{name}": recorded_sha256(data / name) for name in TABLES},
                **{
                    f"models/{name}": recorded_sha256(models / name)
                    for name in (DESCRIPTION, WEIGHTS)
                },
            },
        },
        "cite": to_cite(about["method"], inputs.metrics["dataset"]),
    }


def _model(about: Mapping[str, Any]) -> dict[str, Any]:
    network = about["architecture"]
    names = ("method", "variant", "dataset", "seed", "epochs", "steps", "select", "selected_epoch")
    return {
        **{name: about[name] for name in names},
        "what_the_method_is": _words_of(about["method"]),
        "predictor": about["predictor"]["kind"],
        "network": network["name"],
        "image": {
            "height": network["image_height"],
            "width": network["image_width"],
            "channels": network["channels"],
            "resize": about["resize"],
        },
        "classes": about["classes"],
    }


def _words_of(method: str) -> str:
    """What the section of a method in params.yaml says of it, with the paper to cite."""
    section = Methods.model_fields[method].annotation
    return (getattr(section, "__doc__", None) or "").partition("\n")[0]


def _data(inputs: Inputs) -> dict[str, Any]:
    return {
        "dataset": inputs.metrics["dataset"],
        "images": inputs.summary["images"],
        "rejected": inputs.rejected,
        "duplicates": inputs.summary["duplicates"],
    }


def _supervision(inputs: Inputs) -> dict[str, Any]:
    counted, summary = supervision(inputs), inputs.summary
    mean = counted.mean_candidates
    return {
        "protocol": summary["protocol"],
        "val_labels": summary["val_labels"],
        "validation_tells_more": validation_tells_more(summary["roles"]),
        "words": protocol_words(summary),
        "labeled": counted.labeled,
        "partial": counted.partial,
        "unlabeled": counted.unlabeled,
        "mean_candidates": None if mean is None else round(mean, 6),
        "sets_without_the_true_label": summary["noisy"]["train"],
        "share_that_holds_the_true_label": summary["candidates"]["train"]["holds_truth"],
    }


def _classes(per_class: pl.DataFrame) -> list[dict[str, Any]]:
    """Name, test images, and share of them that are classified rightly, where there are any."""
    table = per_class.select(
        name=pl.col("class"),
        images=pl.col("images").cast(pl.Int64),
        recall=pl.col("recall").cast(pl.Float64, strict=False),
    )
    return table.rows(named=True)


def weakest(classes: list[dict[str, Any]], predictions: pl.DataFrame) -> list[dict[str, Any]]:
    """The classes of which the smallest share is classified rightly; those without a mistake not.

    Their intervals hold for all classes together: the lowest of many shares are low by chance too, and an
    interval for one class would miss the truth of the worst of 100 equal ones nine times out of ten.

    Args:
        classes: name, images and recall of each, in their order.
        predictions: group, label and predicted of the test images.
    """
    tested = sum(bool(row["images"]) for row in classes)
    wrong = [(k, row) for k, row in enumerate(classes) if row["images"] and row["recall"] < 1]
    found = []
    for k, row in sorted(wrong, key=lambda numbered: numbered[1]["recall"])[:WEAKEST]:
        own = predictions.filter(pl.col("label") == k)
        right_N = (own["predicted"] == k).to_numpy()
        bounds = accuracy_95(right_N, own["group"].to_numpy().astype(np.int64), tested)
        found.append({**row, "recall_ci95": [round(bound, 6) for bound in bounds]})
    return found


def _twins(across: Mapping[str, int]) -> list[str]:
    """What of the test set was seen before; a group that is in all three parts is in both counts."""
    return [
        f"{groups:,} partly in the test set and partly in the {words} set"
        for pair, words in (("train_test", "training"), ("val_test", "validation"))
        if (groups := across[pair])
    ]


def limits(
    metrics: Mapping[str, Any], summary: Mapping[str, Any], classes: list[dict[str, Any]]
) -> list[str]:
    """What the numbers do not say, in sentences."""
    test = metrics["test"]
    low, high = test["accuracy_low"], test["accuracy_high"]
    reach = 100 * max(test["accuracy"] - low, high - test["accuracy"])
    groups = summary["groups"]
    drawn = f" in {groups['test']:,} groups (split.group_by)" if groups else ""
    said = [
        f"Tested on {test['images']:,} images{drawn} of the same dataset, whose labels are taken as true: from so "
        f"many, the accuracy is known to within {max(reach, 0.1):.1f} points (95 %). Images from elsewhere "
        f"(another camera, place or year) were not tested.",
        f"One training with one seed ({metrics['seed']}): the interval is that of drawing other {'groups of ' if groups else ''}test images, "
        f"not that of training again.",
        f"It knows {len(classes):,} classes, and gives one of them to any image, whatever is on it.",
        f"Probabilities were not calibrated: on the test images, confidence is off by "
        f"{100 * test['ece']:.1f} points on average (ECE); that of a perfectly calibrated model would seem to be off by "
        f"about {100 * test['ece_by_chance']:.1f}, from so many images.",
        "Whether it treats groups of people or kinds of pictures alike was not tested, beyond the classes.",
    ]
    if groups:
        said.append(
            "Images of one group tend to be right or wrong together, which the intervals take into account: what counts is "
            "the number of groups, more than that of images."
        )
    elif metrics["dataset"] in OWN_IMAGES:
        said.append(
            "Where several images show one individual, place or burst, and some of them are in the test set and some were "
            "trained on, the accuracy is too good for new ones (split.group_by keeps them together)."
        )
    missing = sum(not row["images"] for row in classes)
    few = sum(0 < row["images"] < FEW for row in classes)
    if untold := summary["untold_classes"]:
        said.append(
            f"No label or candidate set of a training image names {listed(untold)}: hardly ever will the model."
        )
    if missing:
        said.append(f"{missing:,} classes have no test image: nothing is known of them.")
    if few:
        said.append(f"{few:,} classes have fewer than {FEW} test images: little is known of each.")
    if twins := _twins(summary["duplicates"]["across"]):
        said.append(
            f"Groups of images with the same pixels: {' and '.join(twins)}; so the accuracy may be too good."
        )
    if summary["candidates"]["train"]["holds_truth"] is None:
        said.append("How many training labels are wrong is unknown: no true label of them is.")
    return said
