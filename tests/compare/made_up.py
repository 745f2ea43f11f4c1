"""Made-up results of a comparison, as `read_results` returns them, and rows of its tables."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from pipeline_lib.cells.cell import Cell, cells
from pipeline_lib.compare import words
from pipeline_lib.compare.course import CURVES
from pipeline_lib.compare.read import MAY_LACK, Predictions, Results, display_names
from pipeline_lib.overlay import overlay
from pipeline_lib.params.compare import Compare
from pipeline_lib.params.methods import KINDS

if TYPE_CHECKING:
    from collections.abc import Sequence

STEPS = 360
METHODS = ("supervised", "mixmatch", "fixmatch", "paws", "two_phase")
PAIR = {
    "budget": "b",
    "seeds": 3,
    "difference": 0.1,
    "sd": 0.01,
    "hidden_by_images": 0.006,
    "p": 0.001,
    "p_holm": 0.003,
    "significant": True,
    "refused": None,
    "seeds_for_a_point": 9,
    "fewest_seeds": 4,
    "most_seeds": 200,
}
UNSURE = {"p_holm": 0.14, "significant": False}


def compare_section(
    methods: Sequence[str] = METHODS,
    variants: Sequence[str] = ("standard",),
    budgets: Sequence[str] = ("labels_20", "labels_100"),
    seeds: Sequence[int] = (1, 2, 3),
    **changes: Any,
) -> Compare:
    """The section `compare` of a params.yaml."""
    assert set(methods) <= set(KINDS)
    content = {
        "methods": {name: {"tried": 0, "params": {}} for name in methods},
        "variants": {name: {} for name in variants},
        "budgets": {name: {} for name in budgets},
        "seeds": list(seeds),
        "pairs": "all",
        "equal": "steps",
        "amount": None,
        "ms_per_step": {},
    }
    return Compare.model_validate(content | changes)


def results(
    compare: Compare,
    *,
    classes: Sequence[str] = tuple("0123456789"),
    test: int = 400,
    labels: bool = True,
    gap: float = 0.025,
) -> Results:
    """Accuracies rise by `gap` from contender to contender, and from budget to budget.

    Args:
        compare: which cells.
        classes: names.
        test: images; the same for all seeds.
        labels: budgets are numbers of labels, else rates of candidates.
        gap: how much a contender is better than the one before.
    """
    names = display_names(compare)
    listed = list(cells(compare))
    truth_N = np.arange(test) % len(classes)
    predictions, rows, curves, per_class = {}, [], [], []
    for cell in listed:
        rng = np.random.default_rng([len(cell.key), cell.seed, *cell.key.encode()])
        k = list(names).index(cell.contender)
        b = list(compare.budgets).index(cell.budget)
        share = min(0.8 + gap * k + 0.05 * b + rng.normal(0, 0.006), 0.995)
        wrong_N = rng.random(test) > share
        predicted_N = np.where(wrong_N, (truth_N + 1 + k) % len(classes), truth_N)
        predictions[cell.key] = Predictions(*[np.arange(test)] * 2, truth_N, predicted_N)
        own = {
            "key": cell.key,
            "contender": names[cell.contender],
            "budget": cell.budget,
            "seed": cell.seed,
        }
        accuracy = float((predicted_N == truth_N).mean())
        course = _course(cell, compare, accuracy, rng, k)
        curves += [own | point for point in course]
        per_class += [
            own
            | {
                "class": name,
                "images": int((truth_N == c).sum()),
                "recall": float((predicted_N == truth_N)[truth_N == c].mean()),
            }
            for c, name in enumerate(classes)
        ]
        rows.append(own | _row(cell, accuracy, course[-1], b, labels=labels))
    own_schema = {"key": pl.String, "contender": pl.String, "budget": pl.String, "seed": pl.Int64}
    return Results(
        compare=compare,
        names=names,
        classes=list(classes),
        cells=pl.DataFrame(
            rows, infer_schema_length=None, schema_overrides=dict.fromkeys(MAY_LACK, pl.Float64)
        ),
        curves=pl.DataFrame(curves, schema=own_schema | CURVES),
        per_class=pl.DataFrame(per_class, infer_schema_length=None),
        predictions=predictions,
        embeddings={cell.key: _embedding(classes) for cell in listed if cell.method == "paws"},
        range_tests={cell.key: _range_test() for cell in listed if cell.method == "two_phase"},
        phases={cell.key: _phases(cell) for cell in listed},
        params={cell.key: _params(cell, compare) for cell in listed},
    )


def _params(cell: Cell, compare: Compare) -> dict[str, Any]:
    """As in cell.json, of a few sections."""
    params = {
        "split": {"val_labels": "like_train"},
        "model": {"name": "small_cnn", "width": 16},
        "train": {"epochs": 20, "steps_per_epoch": STEPS // 20, "learning_rate": 0.05},
        "method": cell.method,
        "methods": {cell.method: {}},
    }
    changes = (compare.methods[cell.method].params, compare.variants[cell.variant])
    for each in changes:
        params = overlay(params, each)
    return params


def _views(k: int) -> int:
    return 64 * (1 + k % 3)


def _course(
    cell: Cell, compare: Compare, accuracy: float, rng: np.random.Generator, k: int
) -> list[dict[str, Any]]:
    per_step = compare.ms_per_step.get(cell.contender, {}).get("train")
    guesses = cell.method in {"mixmatch", "fixmatch", "cr_dpll", "pico"}
    found = []
    for epoch in range(21):
        done = 1 - 0.75**epoch
        step = STEPS // 20 * epoch
        found.append(
            {
                "epoch": epoch,
                "step": step,
                "views": step * _views(k),
                "seconds": None if per_step is None else per_step / 1000 * step,
                "loss": None if not epoch else 2.3 * 0.8**epoch + 0.05 * rng.random(),
                "val_accuracy": round(0.1 + (accuracy - 0.1) * done + 0.02 * rng.random(), 6),
                "disambiguation_accuracy": round(0.1 + 0.85 * done, 6) if guesses else None,
                "coverage": round(0.9 * done, 6) if guesses else None,
                "precision": round(0.5 + 0.45 * done, 6) if guesses and epoch else None,
            }
        )
    return found


def _row(
    cell: Cell, accuracy: float, last: dict[str, Any], b: int, *, labels: bool
) -> dict[str, Any]:
    labeled = [20, 100, 400, 1000][b % 4] if labels else 0
    return {
        "method": cell.method,
        "variant": cell.variant,
        "dataset": "digits",
        "protocol": "few_shot" if labels else "uniform_candidates",
        "labeled": labeled,
        "partial": 0 if labels else 1213,
        "unlabeled": 1213 - labeled if labels else 0,
        "candidate_rate": None if labels else 0.1 * (b + 1),
        "accuracy": round(accuracy, 6),
        "balanced_accuracy": round(accuracy - 0.002, 6),
        "macro_f1": round(accuracy - 0.004, 6),
        "median_accuracy": round(accuracy - 0.003, 6),
        "top5_accuracy": 0.999,
        "nll": round(1.2 * (1 - accuracy) + 0.1, 6),
        "brier": round(1 - accuracy, 6),
        "ece": 0.03,
        "test_images": 400,
        "val_accuracy": last["val_accuracy"],
        "val_images": 135,
        "val_tells_more": False,
        "disambiguation_accuracy": last["disambiguation_accuracy"],
        "steps": last["step"],
        "views": last["views"],
        "seconds": last["seconds"],
    }


def _embedding(classes: Sequence[str]) -> pl.DataFrame:
    """As in embedding.csv: all text."""
    rng = np.random.default_rng(0)
    rows = [
        (
            f"{k + rng.normal(0, 0.3):.4f}",
            f"{(3 * k) % 7 + rng.normal():.4f}",
            kind,
            name,
            predicted,
        )
        for k, name in enumerate(classes)
        for kind, predicted in [("test", name)] * 20 + [("test", classes[0]), ("support", None)]
    ]
    columns = dict.fromkeys(("x", "y", "kind", "class", "predicted"), pl.String)
    return pl.DataFrame(rows, schema=columns, orient="row")


def _range_test() -> pl.DataFrame:
    """As in range_test.csv: all text."""
    rates = np.geomspace(1e-5, 1, 40)
    losses = 2.3 - 1.2 * np.exp(-((np.log10(rates) + 1.3) ** 2)) + 20 * (rates > 0.3) * rates
    columns = {"learning_rate": rates, "loss": losses, "smoothed_loss": losses}
    return pl.DataFrame(columns).cast(pl.String)


def _phases(cell: Cell) -> dict[str, Any]:
    switch = 100 + 40 * cell.seed if cell.method == "two_phase" else STEPS
    bounds = [(0, switch), (switch, STEPS)] if switch < STEPS else [(0, STEPS)]
    found = {
        "learning_rate": 0.01 * cell.seed,
        "batch_size": 64,
        "reasons": {"learning_rate": "it fell fastest"},
    }
    return {
        "made_with": {"torch": "2.15.0", "device": "cpu", "processes": 1},
        "unfinished": [],
        **({"found": found} if cell.method == "two_phase" else {}),
        "phases": [
            {
                "phase": f"phase {number}" if len(bounds) > 1 else "train",
                "first_step": first,
                "end": end,
                "views_per_step": 64,
                "ended": f"all of its {end - first} steps",
            }
            for number, (first, end) in enumerate(bounds, 1)
        ],
    }


def groups(*means, seeds=3):
    """Contenders a, b, c ... with these means."""
    rows = [
        {
            "contender": "abcdefghij"[k],
            "budget": "b",
            "seeds": seeds,
            "mean": mean,
            "balanced_accuracy": mean,
            "commonest": 0.1,
            "classes": 10,
            "low": mean - 0.02 if seeds > 1 else None,
            "high": mean + 0.02 if seeds > 1 else None,
        }
        for k, mean in enumerate(means)
    ]
    return pl.DataFrame(rows, infer_schema_length=None)


def pairs(*changes):
    """Tests of pairs of contenders, each with these changes."""
    return pl.DataFrame([PAIR | change for change in changes], infer_schema_length=None)


def said(found, comparisons):
    """The sentences of the verdict on one budget."""
    (verdict,) = words.verdicts(found, comparisons, {"b": "20 labels"})
    return [sentence.replace("\u202f", " ").replace("\xa0", " ") for sentence in verdict.sentences]
