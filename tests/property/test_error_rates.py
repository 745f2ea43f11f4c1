"""How often the statistics are wrong, by simulation: intervals that miss, differences that are none.

The seeds are fixed, so that a test passes or fails for good; every tolerance is three standard errors
of the simulation.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from pipeline_lib import metrics
from pipeline_lib.ranking import ranks
from pipeline_lib.statistics import intervals, paired, power

ALPHA = 0.05
METHODS = 4
PAIRS = list(itertools.combinations(range(METHODS), 2))


def error(rate: float, runs: int) -> float:
    """Three standard errors of a simulated rate."""
    return 3 * math.sqrt(rate * (1 - rate) / runs)


def accuracies(generator, families, seeds, images, gain_M=(0, 0, 0, 0)):
    """Test accuracies_FSM: seeds are hard or easy for all methods, trainings turn out differently, and
    the images of each test set are drawn anew."""
    difficulty_FS1 = generator.normal(0, 0.03, (families, seeds, 1))
    training_FSM = generator.normal(0, 0.01, (families, seeds, METHODS))
    share_FSM = np.clip(0.8 + np.asarray(gain_M) + difficulty_FS1 + training_FSM, 0, 1)
    return generator.binomial(images, share_FSM) / images


def p_values(differences_S):
    """The t-test along the last axis; infinite where there is no spread."""
    refused = np.ptp(differences_S, axis=-1) < 1e-9
    # any spread will do there, and keeps scipy from warning
    tested_S = differences_S + refused[..., None] * np.arange(differences_S.shape[-1])
    return np.where(refused, np.inf, stats.ttest_1samp(tested_S, 0, axis=-1).pvalue)


def found_in(accuracies_FSM, *, with_holm: bool):
    """found_FP: which pairs the procedure calls different. The same rules once more, all at once."""
    difference_FPS = np.stack(
        [accuracies_FSM[..., a] - accuracies_FSM[..., b] for a, b in PAIRS], axis=1
    )
    p_FP = p_values(difference_FPS)
    if not with_holm:
        return p_FP <= ALPHA
    order_FP = np.argsort(p_FP, axis=1)
    allowed_P = ALPHA / np.arange(len(PAIRS), 0, -1)
    passed_FP = np.logical_and.accumulate(
        np.take_along_axis(p_FP, order_FP, axis=1) <= allowed_P, axis=1
    )
    found_FP = np.empty_like(passed_FP)
    np.put_along_axis(found_FP, order_FP, passed_FP, axis=1)
    return found_FP


@pytest.mark.parametrize(("seeds", "images"), [(3, 1000), (5, 1000), (10, 1000), (3, 20)])
def test_the_simulated_rules_are_those_of_the_library(seeds, images) -> None:
    """Test sets of 20 images bring refusals and ties, and one method is better so that pairs are found."""
    generator = np.random.default_rng(seeds)
    accuracies_FSM = accuracies(generator, 6, seeds, images, gain_M=(0, 0, 0, 0.06))
    expected_FP = found_in(accuracies_FSM, with_holm=True)
    answers = {
        n: np.arange(images) < n for n in np.unique(np.round(accuracies_FSM * images).astype(int))
    }
    for accuracies_SM, expected_P in zip(accuracies_FSM, expected_FP, strict=True):
        correct = [[answers[n] for n in np.round(a_S * images)] for a_S in accuracies_SM.T]
        family = [
            paired.compare(
                correct[a],
                correct[b],
                [np.arange(images) + images * s for s in range(seeds)],
                generator,
            )
            for a, b in PAIRS
        ]
        of_t = [replace(comparison, p=comparison.p_t) for comparison in family]
        assert [one.significant for one in paired.adjusted(of_t)] == list(expected_P)
    assert expected_FP.any() or images == 20
    assert not expected_FP.all()


@pytest.mark.parametrize("images", [50, 500, 5000])
@pytest.mark.parametrize("seeds", [3, 5, 10])
def test_equal_methods_are_called_different_in_at_most_5_percent_of_families(seeds, images) -> None:
    families = 20_000
    generator = np.random.default_rng([seeds, images])
    accuracies_FSM = accuracies(generator, families, seeds, images)
    rate, without_holm = (
        found_in(accuracies_FSM, with_holm=holm).any(axis=1).mean() for holm in (True, False)
    )
    assert rate <= ALPHA + error(ALPHA, families)
    assert rate > ALPHA / 2, "the procedure would hardly ever find anything"
    assert without_holm > 3 * ALPHA, "the simulation would not show a missing correction"


@pytest.mark.parametrize(
    ("seeds", "difference", "often"), [(3, 0.12, 0.3), (5, 0.06, 0.8), (10, 0.035, 0.8)]
)
def test_a_difference_of_some_points_is_found_and_the_equal_ones_are_not(
    seeds, difference, often
) -> None:
    """As often as the power says, at a level between that of Holm's first step and of no correction."""
    families, images = 4000, 1000
    generator = np.random.default_rng(seeds)
    gain_M = (0, 0, 0, difference)
    accuracies_FSM = accuracies(generator, families, seeds, images, gain_M)
    found_FP = found_in(accuracies_FSM, with_holm=True)
    better_P = np.array([b == METHODS - 1 for _, b in PAIRS])
    rate = found_FP[:, better_P].mean()
    variance = 2 * 0.01**2 + 2 * 0.8 * 0.2 / images
    least, most = (
        power.power_of(difference / math.sqrt(variance), seeds, alpha)
        for alpha in (ALPHA / len(PAIRS), ALPHA)
    )
    assert least - error(least, families) < rate < most + error(most, families)
    assert rate > often
    wrong = found_FP[:, ~better_P].any(axis=1).mean()
    assert wrong <= ALPHA + error(ALPHA, families)


def test_seeds_needed_give_the_power_they_promise() -> None:
    runs, difference, sd = 20_000, 0.01, 0.012
    generator = np.random.default_rng(1)
    seeds = power.seeds_needed(sd, difference)
    for number, is_enough in ((seeds, True), (seeds - 1, False)):
        difference_RS = generator.normal(difference, sd, (runs, number))
        rate = np.mean(stats.ttest_1samp(difference_RS, 0, axis=1).pvalue <= ALPHA)
        assert rate == pytest.approx(power.power_of(difference / sd, number), abs=error(0.8, runs))
        assert (power.power_of(difference / sd, number) >= 0.8) == is_enough


@pytest.mark.parametrize("seeds", [2, 3, 5, 10])
def test_95_percent_of_t_intervals_hold_the_true_mean(seeds) -> None:
    runs = 1500
    accuracies_RS = accuracies(np.random.default_rng(seeds), runs, seeds, 1000)[..., 0]
    bounds = [intervals.t_interval(a_S) for a_S in accuracies_RS]
    held = np.mean([low <= 0.8 <= high for low, high in filter(None, bounds)])
    assert held == pytest.approx(0.95, abs=error(0.95, runs))
    normal = stats.norm.ppf(0.975) * stats.sem(accuracies_RS, axis=1)
    too_narrow = np.mean(np.abs(accuracies_RS.mean(axis=1) - 0.8) <= normal)
    assert too_narrow < 0.95 - error(0.95, runs), "the normal quantile is no substitute"


def answers(generator, runs, seeds, images):
    """correct_R2SN of two equal methods on one test set for all seeds, each with images of its own
    that it finds hard."""
    ease_R2N = generator.beta(2, 0.5, (runs, 2, images))
    return generator.random((runs, 2, seeds, images)) < ease_R2N[:, :, None]


def test_95_percent_of_image_intervals_hold_the_true_value() -> None:
    runs, generator = 500, np.random.default_rng(3)
    together, apart = [np.arange(400)] * 4, list(np.arange(1600).reshape(4, 400))
    correct_R2SN = answers(generator, runs, 4, 400)
    held = {"one": [], "two": [], "apart": []}
    for correct_2SN in correct_R2SN:
        low, high = intervals.bootstrap_interval(correct_2SN[0], together, generator, 1000)
        held["one"].append(low <= 0.8 <= high)
        for name, ids in (("two", together), ("apart", apart)):
            low, high = paired.image_interval(
                *map(list, correct_2SN), ids, generator, resamples=1000
            )
            held[name].append(low <= 0 <= high)
    # a percentile interval of finitely many images and resamples is a little too narrow
    tolerance = 0.005 + error(0.95, runs)
    assert np.mean(held["one"]) == pytest.approx(0.95, abs=tolerance)
    assert np.mean(held["two"]) == pytest.approx(0.95, abs=tolerance)
    assert np.mean(held["apart"]) < 0.95 - tolerance, "shared images must be drawn together"


def test_image_intervals_of_few_errors_hold_the_true_value_nearly_as_often() -> None:
    """Exact: the interval of each number of errors, weighed by how often it comes up."""
    images, generator, most = 450, np.random.default_rng(0), 60
    ids, errors_K = [np.arange(images)], np.arange(most)
    bounds = [
        intervals.bootstrap_interval([np.arange(images) >= wrong], ids, generator)
        for wrong in errors_K
    ]
    low_K, high_K = np.transpose(bounds)
    assert (np.diff(low_K[:4]) < 0).all(), "more errors, a lower bound"
    held = [
        stats.binom.pmf(errors_K, images, 1 - rate) @ ((low_K <= rate) & (rate <= high_K))
        for rate in 1 - np.arange(0.5, 20, 0.1) / images
    ]
    assert min(held) > 0.88
    assert np.mean(held) == pytest.approx(0.95, abs=0.01)


def test_seeds_that_redraw_parts_of_one_pool_do_not_make_equal_methods_different() -> None:
    """The t-test alone calls them different in one of five comparisons of ten seeds: all share the luck of the pool."""
    runs, seeds, images, generator = 500, 10, 600, np.random.default_rng(10)
    by_t = found = 0
    for _ in range(runs):
        hard_2I = generator.random((2, images)) < 0.1
        ids = [generator.permutation(images)[: images // 4] for _ in range(seeds)]
        first, second = (
            [generator.random(images // 4) < np.where(hard_I[i_N], 0.1, 0.97) for i_N in ids]
            for hard_I in hard_2I
        )
        means_2S = np.array([[right_N.mean() for right_N in right] for right in (first, second)])
        if p_values(means_2S[0] - means_2S[1]) > ALPHA:
            continue
        (one,) = paired.adjusted([paired.compare(first, second, ids, generator)])
        assert one.p_t <= ALPHA
        by_t += 1
        found += one.significant
    assert by_t / runs > 3 * ALPHA, "the simulation would not show the t-test alone"
    assert found / runs <= ALPHA + error(ALPHA, runs)


@pytest.mark.parametrize("seeds", [3, 10])
def test_95_percent_of_image_intervals_hold_where_test_sets_overlap(seeds) -> None:
    """Each seed tests on a quarter of 1,600 images, a tenth of which is hard."""
    runs, generator, images = 400, np.random.default_rng([9, seeds]), 1600
    held, apart = [], []
    for _ in range(runs):
        hard_2I = generator.random((2, images)) < 0.1
        ids = [generator.permutation(images)[: images // 4] for _ in range(seeds)]
        first, second = (
            [generator.random(images // 4) < np.where(hard_I[i_N], 0.3, 0.97) for i_N in ids]
            for hard_I in hard_2I
        )
        disjoint = [i_N + images * s for s, i_N in enumerate(ids)]
        for found, named in ((held, ids), (apart, disjoint)):
            low, high = paired.image_interval(first, second, named, generator, resamples=1000)
            found.append(low <= 0 <= high)
    assert np.mean(held) == pytest.approx(0.95, abs=0.005 + error(0.95, runs))
    if seeds == 10:
        assert np.mean(apart) < 0.95 - error(0.95, runs), "an image is no other in another set"


def test_with_one_test_set_for_all_seeds_the_t_test_speaks_of_its_images_only() -> None:
    """A limit, held fast here: methods equal over all images differ on any test set of them, which more
    seeds show ever more clearly. The p over other images too is the safeguard."""
    runs, generator = 1000, np.random.default_rng(4)
    rates = []
    for seeds in (3, 5, 10):
        correct_R2SN = answers(generator, runs, seeds, 300)
        first_RS, second_RS = correct_R2SN.mean(axis=3).swapaxes(0, 1)
        rejected_R = p_values(first_RS - second_RS) <= ALPHA
        both = 0
        for correct_2SN in correct_R2SN[rejected_R]:
            first, second = map(list, correct_2SN)
            both += paired.crossed(first, second, [np.arange(300)] * seeds).p <= ALPHA
        assert both / runs <= ALPHA + error(ALPHA, runs)
        rates.append(rejected_R.mean())
    assert ALPHA + error(ALPHA, runs) < rates[0] < rates[1] < rates[2]


def of_groups(generator, sizes_G, shape, share=0.8):
    """Whether images of groups are right, and their groups: all images of a group are alike hard."""
    group_N = np.repeat(np.arange(len(sizes_G)), sizes_G)
    ease_G = generator.beta(share, 1 - share, (*shape, len(sizes_G)))
    return generator.random((*shape, len(group_N))) < ease_G[..., group_N], group_N


@pytest.mark.parametrize(
    ("sizes_G", "least"),
    [
        ([3] * 100, 0.94),
        ([8] * 12, 0.92),
        ([2, 4, 6, 8, 10, 20] * 2, 0.9),
        ([*[1] * 90, 50, 50], 0.88),
    ],
)
def test_intervals_of_an_accuracy_hold_where_images_are_drawn_in_groups(sizes_G, least) -> None:
    runs, generator = 2000, np.random.default_rng(len(sizes_G))
    right_RN, group_N = of_groups(generator, sizes_G, (runs,))
    bounds = [metrics.accuracy_95(right_N, group_N) for right_N in right_RN]
    held = np.mean([low <= 0.8 <= high for low, high in bounds])
    alone = [metrics.accuracy_95(right_N, np.arange(len(group_N))) for right_N in right_RN]
    assert least <= held <= 0.97, held
    assert np.mean([low <= 0.8 <= high for low, high in alone]) < 0.85


@pytest.mark.parametrize("sizes_G", [[8] * 12, [*[1] * 90, 50, 50], [*[1] * 50, 100]])
def test_equal_methods_are_not_different_where_images_are_drawn_in_groups(sizes_G) -> None:
    runs, seeds, images = 400, 5, sum(sizes_G)
    generator = np.random.default_rng(images)
    found, alone, held = [], [], []
    for _ in range(runs):
        ease_2N, group_N = of_groups(generator, sizes_G, (2,))
        # a training differs from another one of its method in one of ten images
        first, second = (
            list(np.where(generator.random((seeds, images)) < 0.9, ease_N, ~ease_N))
            for ease_N in ease_2N
        )
        one, other = (
            paired.compare(first, second, [units_N] * seeds, generator)
            for units_N in (group_N, np.arange(images))
        )
        found.append(one.p is not None and one.p <= ALPHA)
        alone.append(other.p is not None and other.p <= ALPHA)
        held.append(one.image_interval[0] <= 0 <= one.image_interval[1])
    assert np.mean(found) <= ALPHA + error(ALPHA, runs)
    assert np.mean(alone) > 3 * ALPHA, "the simulation would not show images taken one by one"
    assert np.mean(held) >= 0.85, "a percentile interval of few groups is a little too narrow"


@pytest.mark.parametrize("methods", [3, 4, 10])
@pytest.mark.parametrize("datasets", [3, 4, 5, 14])
def test_nemenyi_tells_equal_methods_apart_in_at_most_5_percent(methods, datasets) -> None:
    runs = 20_000
    generator = np.random.default_rng([methods, datasets])
    ranks_RDM = generator.random((runs, datasets, methods)).argsort(axis=2)
    distance = ranks.critical_difference(methods, datasets)
    rate = np.mean(np.ptp(ranks_RDM.mean(axis=1), axis=1) >= distance)
    assert 0.001 < rate <= ALPHA + error(ALPHA, runs)
    for_one_pair = stats.norm.ppf(0.975) * math.sqrt(methods * (methods + 1) / (6 * datasets))
    if datasets > 5:
        uncorrected = np.mean(np.ptp(ranks_RDM.mean(axis=1), axis=1) >= for_one_pair)
        assert uncorrected > 2 * ALPHA


def test_friedmans_p_is_exact_where_chi_square_rejects_too_often() -> None:
    """Three methods and four datasets: all 6^4 orders, each equally likely if the methods are equal."""
    orders = list(itertools.permutations((0.0, 1.0, 2.0)))
    # the first dataset may keep its order, as only the names of the methods change with it
    tables = [np.array([orders[0], *rest]) for rest in itertools.product(orders, repeat=3)]
    generator = np.random.default_rng(0)
    exact = np.mean([ranks.friedman_p(t_DM, generator) <= ALPHA for t_DM in tables])
    chi_square = np.mean([stats.friedmanchisquare(*t_DM.T).pvalue <= ALPHA for t_DM in tables])
    assert 0.02 < exact <= ALPHA < chi_square


@pytest.mark.parametrize(
    ("seeds", "training"), [(3, 0.2), (5, 0.0), (5, 0.1), (5, 0.2), (10, 0.0), (10, 0.1), (10, 0.2)]
)
def test_on_about_5_percent_of_pages_equal_methods_are_called_different(seeds, training) -> None:
    """One test set for all seeds: each method finds images of its own hard, and a training is better or worse on all."""
    pages, images, methods = 300, 449, 5
    generator = np.random.default_rng([seeds, int(100 * training)])
    ids = [np.arange(images)] * seeds
    found = by_t = 0
    for _ in range(pages):
        ease_M1N = generator.normal(1, 1, (methods, 1, images)) + generator.normal(0, 0.5, images)
        turn_MS1 = generator.normal(0, training, (methods, seeds, 1))
        noise_MSN = generator.normal(0, 0.3, (methods, seeds, images))
        right_MSN = ease_M1N + turn_MS1 + noise_MSN > 0
        means_MS = right_MSN.mean(axis=2)
        of_t, of_both = [], []  # as `compare` puts them together, without its bootstrap
        for a, b in itertools.combinations(range(methods), 2):
            p_t = paired.paired_t(means_MS[a] - means_MS[b])
            of_t.append(p_t)
            both = paired.crossed(list(right_MSN[a]), list(right_MSN[b]), ids)
            of_both.append(max(p_t or 0, both.p))
        found += any(p is not None and p <= ALPHA for p in paired.holm(of_both))
        by_t += any(p is not None and p <= ALPHA for p in paired.holm(of_t))
    assert found / pages <= ALPHA + error(ALPHA, pages)
    assert training == 0.2 or by_t / pages > 3 * ALPHA, (
        "the simulation would not show the t-test alone"
    )


def test_equal_methods_are_rarely_called_different_where_differences_are_often_the_same() -> None:
    """Of 60 images and three seeds: a pair without spread has no t-test, and other images decide alone."""
    pages, images, seeds, methods = 300, 60, 3, 4
    generator = np.random.default_rng(60)
    ids = [np.arange(images)] * seeds
    found = same = 0
    for _ in range(pages):
        ease_M1N = generator.normal(1, 1, (methods, 1, images)) + generator.normal(0, 0.5, images)
        right_MSN = ease_M1N + generator.normal(0, 0.1, (methods, seeds, images)) > 0
        family = []
        for a, b in PAIRS:
            p_t = paired.paired_t(right_MSN[a].mean(axis=1) - right_MSN[b].mean(axis=1))
            both = paired.crossed(list(right_MSN[a]), list(right_MSN[b]), ids)
            family.append(max(p_t or 0, both.p))
            same += p_t is None
        found += min(paired.holm(family)) <= ALPHA
    assert same / pages / len(PAIRS) > 0.02
    assert found / pages <= ALPHA + error(ALPHA, pages)
