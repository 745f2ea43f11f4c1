"""Measure a trained predictor on the test images, and the labels it was trained on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline_lib import metrics
from pipeline_lib.artifacts import publish_json, read_json
from pipeline_lib.errors import UserError
from pipeline_lib.evaluation import labels, tables
from pipeline_lib.evaluation.embedding import embedding
from pipeline_lib.evaluation.predict import predict
from pipeline_lib.evaluation.snapshots import snapshot_accuracies
from pipeline_lib.evaluation.tables import HeldOut
from pipeline_lib.models.description import DESCRIPTION, read_with_task
from pipeline_lib.models.predictor import load_predictor
from pipeline_lib.parquet import needs_columns, read_table
from pipeline_lib.pixels import Stored, check_images

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    import torch

    from pipeline_lib.memory import ImageMemory
    from pipeline_lib.metrics import Floats
    from pipeline_lib.params.sections import Evaluate


def evaluate(
    data: Path,
    models: Path,
    reports: Path,
    method: str,
    params: Evaluate,
    device: torch.device,
    memory: ImageMemory,
) -> dict[str, Any]:
    """Write reports/evaluate/, reports/labels.* and reports/metrics.json.

    Args:
        data: what download to train wrote.
        models: the predictor.
        reports: gets the results.
        method: that the predictor is to be of.
        params: the section `evaluate`.
        device: where the predictor runs.
        memory: of the host, that takes the test images.

    Returns:
        The content of metrics.json.

    Raises:
        UserError: An input is missing, damaged, or does not belong to the others.
    """
    about, task = read_with_task(models, data / "classes.json")
    if about["method"] != method:
        msg = f"{models / DESCRIPTION}: trained with {about['method']}, params.yaml says {method}; run `dvc repro`"
        raise UserError(msg)
    classes: list[str] = task["classes"]
    known = labels.read_training_labels(data, len(classes))
    curve = labels.label_curve(data / "label_history.parquet", known)
    images = data / "images.parquet"
    tested = _test_images(data / "split/test.parquet", images)
    images_NCHW = memory.load(images, tested.id_N, Stored.described_by(task), "test")
    predictor = load_predictor(models)
    predicted_NK = predict(predictor, images_NCHW, params.batch_size, device)
    others = snapshot_accuracies(models, images_NCHW, tested.label_N, params.batch_size, device)
    summary = read_json(data / "split/summary.json")
    measured = {
        "test": _test(reports / "evaluate", tested, predicted_NK, classes, params) | others,
        "val": _val(
            curve, about["selected_epoch"], int((known.val_true_V != labels.UNKNOWN).sum())
        ),
        "train": {**labels.disambiguation(known), **_supervision(summary)},
    }
    run = {name: about[name] for name in ("method", "variant", "dataset", "seed")}
    content: dict[str, Any] = tables.rounded({**run, "protocol": summary["protocol"], **measured})
    points = embedding(
        predictor,
        images_NCHW,
        tested.label_N,
        predicted_NK.argmax(axis=1),
        classes,
        params.batch_size,
        device,
    )
    tables.publish_embedding(reports / "evaluate/embedding.csv", points)
    tables.publish_label_curve(reports / "evaluate/label_curve.csv", curve)
    tables.publish_cleaned_labels(reports, labels.cleaned_labels(known, classes))
    publish_json(reports / "metrics.json", content, sidecar=False)
    return content


def _test_images(path: Path, images: Path) -> HeldOut:
    table = read_table(path)
    check_images(path, table, images)
    if table.num_rows == 0:
        msg = (
            f"{path}: no test images; raise split.test_fraction, or add a folder test/ to the data"
        )
        raise UserError(msg)
    if table["label"].null_count:
        msg = (
            f"{path}: {table['label'].null_count} test images have no label; run `dvc repro split`"
        )
        raise UserError(msg)
    needs_columns(path, table, ("group",), "dvc repro split")
    return HeldOut(*(table[name].to_numpy().astype(np.int64) for name in ("id", "group", "label")))


def _test(
    folder: Path,
    tested: HeldOut,
    predicted_NK: np.ndarray,
    classes: Sequence[str],
    params: Evaluate,
) -> dict[str, Any]:
    """Write the tables of the test images and return their summary."""
    labels_N = tested.label_N
    probabilities_NK: Floats = predicted_NK.astype(np.float64)
    predicted_N = metrics.predicted_classes(probabilities_NK)
    scores = metrics.class_scores(metrics.confusion_matrix(probabilities_NK, labels_N))
    bins = metrics.calibration_bins(probabilities_NK, labels_N, params.calibration_bins)
    tables.publish_predictions(folder / "predictions.parquet", tested, predicted_N, predicted_NK)
    tables.publish_confusion(folder / "confusion.csv", labels_N, predicted_N, classes)
    tables.publish_per_class(folder / "per_class.csv", scores, classes)
    tables.publish_calibration(folder / "calibration.csv", bins)
    top = metrics.top_accuracy(probabilities_NK, labels_N)
    groups = len(np.unique(tested.group_N))
    low, high = metrics.accuracy_95(predicted_N == labels_N, tested.group_N)
    return {
        "accuracy": metrics.accuracy(probabilities_NK, labels_N),
        "accuracy_low": low,  # each by itself, as `dvc metrics` leaves out lists
        "accuracy_high": high,
        # among five classes or fewer, the first five are all of them
        **({"top5_accuracy": top} if len(classes) > metrics.TOP else {}),
        "balanced_accuracy": metrics.balanced_accuracy(scores),
        "macro_f1": metrics.macro_f1(scores),
        "nll": metrics.nll(probabilities_NK, labels_N),
        "brier": metrics.brier(probabilities_NK, labels_N),
        "ece": metrics.expected_calibration_error(bins),
        "ece_by_chance": metrics.calibration_error_by_chance(bins),
        "images": len(labels_N),
        **({"groups": groups} if groups < len(labels_N) else {}),
    }


def _supervision(summary: Mapping[str, Any]) -> dict[str, Any]:
    """What the training images came with: images by role, candidates, sets without the truth."""
    return {
        **summary["roles"]["train"],
        "mean_candidates": summary["mean_candidates"]["train"],
        "noisy_candidates": summary["noisy"]["train"],
    }


def _val(curve: Sequence[Mapping[str, Any]], epoch: int, images: int) -> dict[str, Any]:
    """Accuracy on the validation images of known class after the epoch whose weights were kept."""
    found = [row["val_accuracy"] for row in curve if row["epoch"] == epoch]
    return {"accuracy": found[0] if found else None, "images": images, "epoch": epoch}
