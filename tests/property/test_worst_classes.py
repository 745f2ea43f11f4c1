"""The intervals of the classes that a model is worst at, of classes that are all equally hard."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from pipeline_lib.card.content import weakest
from pipeline_lib.metrics import wilson_95


@pytest.mark.parametrize(("classes", "images", "recall"), [(10, 45, 0.95), (100, 100, 0.75)])
def test_the_interval_of_the_worst_class_holds_its_true_recall(classes, images, recall) -> None:
    generator, runs, held, alone = np.random.default_rng(classes), 400, 0, 0
    for _ in range(runs):
        right_K = generator.binomial(images, recall, classes)
        rows = [
            {"name": str(k), "images": images, "recall": n / images} for k, n in enumerate(right_K)
        ]
        label_N = np.repeat(np.arange(classes), images)
        right_N = np.tile(np.arange(images), classes) < np.repeat(right_K, images)
        predictions = pl.DataFrame(
            {
                "group": np.arange(len(label_N)),
                "label": label_N,
                "predicted": np.where(right_N, label_N, -1),
            }
        )
        if not (found := weakest(rows, predictions)):
            continue
        low, high = found[0]["recall_ci95"]
        held += low <= recall <= high
        low, high = wilson_95(int(right_K.min()), images)
        alone += low <= recall <= high
    assert held / runs >= 0.93
    assert alone / runs < 0.85, "the simulation would not show an interval of one class"
