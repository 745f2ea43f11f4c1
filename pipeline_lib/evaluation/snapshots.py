"""Test accuracy of the predictors beside the kept one: the last evaluations, and the ends of phases."""

from __future__ import annotations

import statistics
from typing import TYPE_CHECKING, Any

from pipeline_lib import metrics
from pipeline_lib.evaluation.predict import predict
from pipeline_lib.models.description import read_description
from pipeline_lib.models.predictor import load_snapshot

if TYPE_CHECKING:
    from pathlib import Path

    import torch
    from torch import Tensor

    from pipeline_lib.metrics import Integers


def snapshot_accuracies(
    models: Path,
    images_NCHW: Tensor,
    labels_N: Integers,
    batch_size: int,
    device: torch.device,
) -> dict[str, Any]:
    """What metrics.json says of them; nothing where none was kept.

    The median over the last evaluations involves no choice of an epoch, on any images: MixMatch reports it
    over the last 20 (Berthelot et al. 2019).

    Returns:
        `median_accuracy` over `median_of` last evaluations, and `phases`: name -> accuracy at its end.
    """
    snapshots: dict[str, Any] = read_description(models)["snapshots"]
    accuracy = {}
    for name in snapshots:
        predicted_NK = predict(load_snapshot(models, name), images_NCHW, batch_size, device)
        accuracy[name] = metrics.accuracy(predicted_NK.astype("float64"), labels_N)
    last = [accuracy[name] for name, about in snapshots.items() if about["of"] == "evaluation"]
    phases = {
        name.removeprefix("phase-"): accuracy[name]
        for name, about in snapshots.items()
        if about["of"] == "phase"
    }
    content: dict[str, Any] = {}
    if last:
        content |= {"median_accuracy": statistics.median(last), "median_of": len(last)}
    return content | ({"phases": phases} if phases else {})
