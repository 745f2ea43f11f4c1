"""How sure a comparison is: means with intervals, and differences with tests; every number from predictions."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from pipeline_lib.rng import generator
from pipeline_lib.statistics.agreement import agreement
from pipeline_lib.statistics.intervals import bootstrap_interval, t_interval
from pipeline_lib.statistics.paired import ALPHA, Comparison, adjusted, compare
from pipeline_lib.statistics.power import (
    detectable,
    hidden_by_images,
    sd_interval,
    seeds_needed,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from pipeline_lib.compare.read import Predictions, Results

POINT = 0.01  # of accuracy: the difference that seeds are counted for
MEASURES = (
    *("labeled", "partial", "candidate_rate", "val_accuracy", "balanced_accuracy"),
    *("macro_f1", "median_accuracy", "steps", "views", "seconds"),
)
SPREADS = {f"{name}_sd": name for name in ("balanced_accuracy", "macro_f1", "median_accuracy")}
MAY_LACK = (
    *("sd", "low", "high", "candidate_rate", "val_accuracy", "median_accuracy", "seconds"),
    *SPREADS,
)


def groups(results: Results) -> pl.DataFrame:
    """One row per contender and budget: accuracy over the seeds, and what it took.

    Returns:
        contender, budget, seeds, mean, sd (over seeds; null for one), low and high (95 % t-interval over
        seeds), image_low and image_high (95 % interval over test images, see `bootstrap_interval`), commonest (share of
        the most frequent class of the test images, mean over seeds), classes (how many they have), means of `MEASURES`, and standard
        deviations over seeds of `SPREADS`.
    """
    rows = []
    for contender, name in results.names.items():
        for budget in results.compare.budgets:
            accuracy_S = np.array([p.right_N.mean() for p in results.of(contender, budget)])
            low, high = t_interval(accuracy_S) or (None, None)
            image_low, image_high = _over_images(results, contender, budget)
            cells = results.cells.filter(contender=name, budget=budget)
            rows.append(
                {
                    "contender": name,
                    "budget": budget,
                    "seeds": len(accuracy_S),
                    "mean": float(accuracy_S.mean()),
                    "sd": float(accuracy_S.std(ddof=1)) if len(accuracy_S) > 1 else None,
                    "low": low,
                    "high": high,
                    "image_low": image_low,
                    "image_high": image_high,
                    **_test_classes(results.of(contender, budget)),
                    **{measure: cells[measure].mean() for measure in MEASURES},
                    **{spread: cells[measure].std() for spread, measure in SPREADS.items()},
                }
            )
    return pl.DataFrame(
        rows, infer_schema_length=None, schema_overrides=dict.fromkeys(MAY_LACK, pl.Float64)
    )


def _test_classes(of_seeds: Sequence[Predictions]) -> dict[str, float]:
    counts = [np.bincount(p.label_N) for p in of_seeds]
    return {
        "commonest": float(np.mean([images_K.max() / images_K.sum() for images_K in counts])),
        "classes": float(np.mean([np.count_nonzero(images_K) for images_K in counts])),
    }


def _over_images(results: Results, contender: str, budget: str) -> tuple[float, float]:
    """95 % interval of the mean accuracy over test images; the same draws for all, so that equal answers have equal ones."""
    of_seeds = results.of(contender, budget)
    return bootstrap_interval(
        [p.right_N for p in of_seeds],
        [p.group_N for p in of_seeds],
        generator(0, "bootstrap", budget),
    )


def pairs(contenders: Sequence[str], which: str) -> list[tuple[str, str]]:
    """Which contenders are tested against which, the one with the later name first.

    Args:
        contenders: in the order of params.yaml.
        which: `compare.pairs`.
    """
    if which == "first":
        return [(other, contenders[0]) for other in contenders[1:]]
    if which == "previous":
        return [(later, earlier) for earlier, later in itertools.pairwise(contenders)]
    return [(later, earlier) for earlier, later in itertools.combinations(contenders, 2)]


def comparisons(results: Results) -> pl.DataFrame:
    """One row per tested pair and budget: the first contender less the second.

    Holm's correction is over all rows, also those without a test: they stand on one page and are looked at together.

    Returns:
        budget, first, second and the fields of `statistics.paired.Comparison`, its intervals as low, high, crossed_low,
        crossed_high, image_low and image_high; seeds_for_a_point, with which the t-test would find a true difference of a point four
        times out of five among as many comparisons as were asked for, fewest_seeds and most_seeds, the same
        from the 95 % interval of the spread, and detectable, the difference that these seeds would find. All four are null
        where one seed, or none of its differences, shows a spread, and the numbers of seeds also where `MOST_SEEDS` do
        not suffice. hidden_by_images is the largest difference that these test images may hide from any number of seeds.
    """
    asked = [
        (budget, *pair)
        for budget in results.compare.budgets
        for pair in pairs(list(results.names), results.compare.pairs)
    ]
    verdicts = adjusted([_compared(results, *question) for question in asked])
    alpha = ALPHA / max(len(asked), 1)
    rows = [
        {
            "budget": budget,
            "first": results.names[first],
            "second": results.names[second],
            **_flat(verdict),
            **_power(verdict, alpha),
            "hidden_by_images": hidden_by_images(*verdict.image_interval, alpha=alpha),
        }
        for (budget, first, second), verdict in zip(asked, verdicts, strict=True)
    ]
    return pl.DataFrame(rows, schema=COMPARISONS, orient="row")


def corrected(comparisons: pl.DataFrame) -> int:
    """How many pairs Holm's correction is for: all rows, which have the same seeds; 0 where none was tested."""
    return len(comparisons) if comparisons["p"].is_not_null().any() else 0


COMPARISONS = {
    "budget": pl.String,
    "first": pl.String,
    "second": pl.String,
    "seeds": pl.Int64,
    "difference": pl.Float64,
    "low": pl.Float64,
    "high": pl.Float64,
    "crossed_low": pl.Float64,
    "crossed_high": pl.Float64,
    "image_low": pl.Float64,
    "image_high": pl.Float64,
    "sd": pl.Float64,
    "effect_size": pl.Float64,
    "p": pl.Float64,
    "p_holm": pl.Float64,
    "p_t": pl.Float64,
    "p_crossed": pl.Float64,
    "p_wilcoxon": pl.Float64,
    "p_mcnemar": pl.Float64,
    "significant": pl.Boolean,
    "refused": pl.String,
    "seeds_for_a_point": pl.Int64,
    "fewest_seeds": pl.Int64,
    "most_seeds": pl.Int64,
    "detectable": pl.Float64,
    "hidden_by_images": pl.Float64,
}


def _compared(results: Results, budget: str, first: str, second: str) -> Comparison:
    of_first, of_second = results.of(first, budget), results.of(second, budget)
    return compare(
        [p.right_N for p in of_first],
        [p.right_N for p in of_second],
        [p.group_N for p in of_first],
        generator(0, "bootstrap", budget),  # equal answers have equal intervals
    )


def _flat(verdict: Comparison) -> dict[str, Any]:
    """Its fields, and its intervals by their bounds; of these, `COMPARISONS` names the columns."""
    intervals = {
        "": verdict.interval,
        "crossed_": verdict.crossed_interval,
        "image_": verdict.image_interval,
    }
    bounds: dict[str, Any] = {}
    for name, interval in intervals.items():
        bounds[f"{name}low"], bounds[f"{name}high"] = interval or (None, None)
    return vars(verdict) | bounds | {"significant": verdict.significant}


def _power(verdict: Comparison, alpha: float) -> dict[str, Any]:
    if not verdict.sd:
        return dict.fromkeys(("seeds_for_a_point", "fewest_seeds", "most_seeds", "detectable"))
    low, high = sd_interval(verdict.sd, verdict.seeds)
    return {
        "seeds_for_a_point": seeds_needed(verdict.sd, POINT, alpha=alpha),
        "fewest_seeds": seeds_needed(low, POINT, alpha=alpha),
        "most_seeds": seeds_needed(high, POINT, alpha=alpha),
        "detectable": detectable(verdict.sd, verdict.seeds, alpha=alpha),
    }


def agreements(results: Results) -> pl.DataFrame:
    """How alike contenders answer, mean over seeds: budget, first, second, same, kappa, both_wrong."""
    rows = []
    for budget in results.compare.budgets:
        for first, second in itertools.combinations(results.names, 2):
            found = [
                agreement(one.predicted_N, other.predicted_N, one.label_N)
                for one, other in zip(
                    results.of(first, budget), results.of(second, budget), strict=True
                )
            ]
            rows.append(
                {
                    "budget": budget,
                    "first": results.names[first],
                    "second": results.names[second],
                    "same": float(np.mean([f.same for f in found])),
                    "kappa": _mean(f.kappa for f in found),
                    "both_wrong": float(np.mean([f.both_wrong for f in found])),
                }
            )
    return pl.DataFrame(rows, schema=AGREEMENTS)


AGREEMENTS = {
    "budget": pl.String,
    "first": pl.String,
    "second": pl.String,
    "same": pl.Float64,
    "kappa": pl.Float64,
    "both_wrong": pl.Float64,
}


def _mean(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None
