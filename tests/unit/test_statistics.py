"""The statistics against scipy, their formulas and published examples, and every refusal."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import special, stats
from sklearn.metrics import cohen_kappa_score

from pipeline_lib.ranking import ranks
from pipeline_lib.statistics import agreement, intervals, paired, power

few = settings(max_examples=40)

# Student's hours of sleep gained with two drugs (Biometrika 6, 1908).
SLEEP_1 = [0.7, -1.6, -0.2, -1.2, -0.1, 3.4, 3.7, 0.8, 0.0, 2.0]
SLEEP_2 = [1.9, 0.8, 1.1, 0.1, -0.1, 4.4, 5.5, 1.6, 4.6, 3.4]
# Darwin's crossed and self-fertilised maize, differences in eighths of an inch (Fisher 1935).
MAIZE = [49, -67, 8, 16, 6, 23, 28, 41, 14, 29, 56, 24, 75, 60, -48]
# Average ranks of four variants of C4.5 over 14 datasets (Demsar 2006, table 6).
DEMSAR_RANK_SUMS = np.array([44, 28, 40.5, 27.5])


def right(correct: int, images: int, seed: int = 0) -> np.ndarray:
    """Answers of which `correct` are right, at random places."""
    return np.random.default_rng(seed).permutation(images) < correct


def numbered(sets, *, same_images: bool) -> list[np.ndarray]:
    """Ids of the images of each seed: the same ones, or other ones each."""
    return [np.arange(len(a_N)) + (0 if same_images else 1000 * s) for s, a_N in enumerate(sets)]


def compare(first_S, second_S, images=1000):
    first = [right(round(a * images), images, s) for s, a in enumerate(first_S)]
    second = [right(round(a * images), images, s + 99) for s, a in enumerate(second_S)]
    generator = np.random.default_rng(7)
    ids = numbered(first, same_images=False)
    return paired.compare(first, second, ids, generator)


def test_students_own_example() -> None:
    difference_S = np.subtract(SLEEP_1, SLEEP_2)
    assert intervals.t_interval(difference_S) == pytest.approx((-2.4598858, -0.7001142))
    assert paired.paired_t(difference_S) == pytest.approx(0.002832890)


def test_darwins_maize() -> None:
    assert paired.paired_t(np.array(MAIZE)) == pytest.approx(0.0497, abs=5e-5)
    assert paired.wilcoxon(np.array(MAIZE)) == pytest.approx(0.04126, abs=5e-6)


@few
@given(values=st.lists(st.floats(0, 1), min_size=2, max_size=12), confidence=st.floats(0.5, 0.999))
def test_the_t_interval_is_the_formula(values, confidence) -> None:
    found = intervals.t_interval(values, confidence)
    if np.ptp(values) <= intervals.ROUNDING:
        assert found is None
        return
    S = len(values)
    half = stats.t.ppf((1 + confidence) / 2, S - 1) * stats.sem(values)
    assert found == pytest.approx((np.mean(values) - half, np.mean(values) + half), abs=1e-9)


@pytest.mark.parametrize("values", [[], [0.9], [0.9, 0.9, 0.9], [0.1 + 0.2, 0.3]])
def test_without_spread_there_is_no_t_interval(values) -> None:
    assert intervals.t_interval(values) is None


def alone(correct_N, generator, **options):
    """The interval of one training."""
    ids = [np.arange(len(correct_N))]
    return intervals.bootstrap_interval([correct_N], ids, generator, **options)


def test_the_bootstrap_of_one_training_is_binomial() -> None:
    correct_N = right(830, 1000)
    found = alone(correct_N, np.random.default_rng(1), resamples=200_000)
    assert found == pytest.approx(stats.binom.ppf([0.025, 0.975], 1000, 0.83) / 1000, abs=1.1e-3)


def test_the_bootstrap_is_that_of_drawing_images_one_by_one() -> None:
    generator = np.random.default_rng(2)
    ease_N = generator.beta(2, 0.5, 300)
    correct_SN = generator.random((4, 300)) < ease_N
    ids = numbered(correct_SN, same_images=True)
    found = intervals.bootstrap_interval(correct_SN, ids, np.random.default_rng(3), 100_000)
    drawn = np.random.default_rng(4).integers(300, size=(20_000, 300))
    expected = np.quantile(correct_SN.mean(axis=0)[drawn].mean(axis=1), [0.025, 0.975])
    assert found == pytest.approx(expected, abs=2e-3)
    apart = np.quantile(
        np.random.default_rng(5).binomial(300, correct_SN.mean(axis=1), (20_000, 4)).mean(1) / 300,
        [0.025, 0.975],
    )
    assert np.ptp(found) > 1.2 * np.ptp(apart), "answers to one image go together"


def test_the_bootstrap_repeats_and_takes_its_confidence() -> None:
    correct_N = right(700, 1000)
    first, second, other = (alone(correct_N, np.random.default_rng(s)) for s in (1, 1, 2))
    assert first == second != other
    wide = alone(correct_N, np.random.default_rng(1), confidence=0.99)
    assert wide[0] < first[0] < 0.7 < first[1] < wide[1]
    with pytest.raises(ValueError, match="no test images"):
        alone(np.ones(0, bool), np.random.default_rng(1))


@pytest.mark.parametrize("right_of_9", [0, 9])
@pytest.mark.parametrize("seeds", [1, 4])
def test_where_all_answers_are_alike_the_interval_is_wilsons(right_of_9: int, seeds: int) -> None:
    """Of the images, not of the answers: those of other seeds to the same images are no new images."""
    correct_SN = np.tile(right(right_of_9, 9), (seeds, 1))
    ids = numbered(correct_SN, same_images=True)
    for confidence in (0.95, 0.8):
        found = intervals.bootstrap_interval(
            correct_SN, ids, np.random.default_rng(1), confidence=confidence
        )
        wilson = stats.binomtest(right_of_9, 9).proportion_ci(confidence, "wilson")
        assert found == pytest.approx((wilson.low, wilson.high))
        assert 0 <= found[0] < found[1] <= 1


def score(difference: float, only_first: int, N: int) -> float:
    """Tango's statistic, its nuisance parameter by maximum likelihood on a grid; no image is only the second's."""
    least = max(0.0, -difference)  # q: share of images that only the second one gets right
    q_G = np.linspace(least, (1 - difference) / 2, 100_001)
    likelihood_G = special.xlogy(only_first, q_G + difference)
    likelihood_G += special.xlogy(N - only_first, 1 - 2 * q_G - difference)
    q = q_G[np.argmax(likelihood_G)]
    return (only_first - N * difference) / math.sqrt(N * (2 * q + difference * (1 - difference)))


@pytest.mark.parametrize("seeds", [1, 3])
@pytest.mark.parametrize("same_images", [True, False])
def test_where_no_image_differs_the_interval_is_tangos(seeds: int, same_images: bool) -> None:
    answers = [right(30, 40, seed) for seed in range(seeds)]
    generator = np.random.default_rng(0)
    ids = numbered(answers, same_images=same_images)
    low, high = paired.image_interval(answers, answers, ids, generator)
    N = 40 if same_images else 40 * seeds
    assert score(high, 0, N) == pytest.approx(-stats.norm.ppf(0.975))
    assert (low, high) == pytest.approx((-high, 3.8415 / (N + 3.8415)), abs=1e-4)


def test_where_all_images_differ_alike_the_interval_is_tangos() -> None:
    right_N, wrong_N = np.ones(40, bool), np.zeros(40, bool)
    generator = np.random.default_rng(0)
    ids = [np.arange(40)]
    low, high = paired.image_interval([right_N], [wrong_N], ids, generator)
    assert score(low, 40, 40) == pytest.approx(stats.norm.ppf(0.975))
    assert high == 1
    less, more = paired.image_interval([wrong_N], [right_N], ids, generator)
    assert (less, more) == pytest.approx((-high, -low))


@few
@given(data=st.data(), S=st.integers(3, 9))
def test_a_comparison_holds_the_numbers_of_scipy(data, S) -> None:
    accuracies = st.lists(st.integers(0, 1000).map(lambda n: n / 1000), min_size=S, max_size=S)
    first_S, second_S = data.draw(accuracies), data.draw(accuracies)
    found = compare(first_S, second_S)
    difference_S = np.round(np.subtract(first_S, second_S), 9)
    assert found.seeds == S
    assert found.difference == pytest.approx(difference_S.mean())
    assert found.p_mcnemar is None
    assert found.image_interval[0] <= found.difference + 1e-9
    assert found.image_interval[1] >= found.difference - 1e-9
    if np.ptp(difference_S) == 0:
        assert found.p_t is found.effect_size is found.interval is None
        assert found.p == found.p_crossed
        assert (found.p is None) == bool(found.refused) == (abs(difference_S[0]) in {0, 1})
        return
    t = stats.ttest_rel(first_S, second_S)
    assert found.refused is None
    assert found.p_t == pytest.approx(t.pvalue)
    assert found.p == max(found.p_t, found.p_crossed)
    assert found.interval == pytest.approx(tuple(t.confidence_interval()))
    assert found.effect_size == pytest.approx(t.statistic / math.sqrt(S))
    if S < 6:
        assert found.p_wilcoxon is None
    else:
        expected = stats.wilcoxon(difference_S, zero_method="zsplit").pvalue
        assert found.p_wilcoxon == pytest.approx(expected)


@pytest.mark.parametrize("sizes", [(40, 40, 40, 40), (40, 20, 35, 8)])
@pytest.mark.parametrize("pool", [40, 60, 400])
@pytest.mark.parametrize("of_group", [1, 4])
def test_the_p_over_trainings_and_images_is_that_of_answers_clustered_twice(
    of_group, pool, sizes
) -> None:
    """Of up to 40 answers per seed: to the same images, to some that seeds share, and to hardly any; also in groups."""
    generator = np.random.default_rng(pool)
    seeds = len(sizes)
    ids = [generator.permutation(pool)[:answers] // of_group for answers in sizes]
    first, second = (
        [generator.random(answers) < share for answers in sizes] for share in (0.8, 0.6)
    )
    one_by_one = [
        (seed, image, int(a) - int(b), 1 / seeds / sizes[seed])
        for seed in range(seeds)
        for image, a, b in zip(ids[seed], first[seed], second[seed], strict=True)
    ]
    mean = sum(weight * d for *_, d, weight in one_by_one)

    def variance(cluster):
        """Of the mean: squares of the weighted residuals' sums per cluster."""
        sums = {}
        for answer in one_by_one:
            sums[cluster(answer)] = sums.get(cluster(answer), 0) + answer[3] * (answer[2] - mean)
        return sum(x * x for x in sums.values())

    by_seed, by_image = variance(lambda a: a[0]), variance(lambda a: a[1])
    S, single = seeds, variance(lambda a: a[:2])
    # of images, how many there are; of groups, how many of one size count for as much
    tested = [
        sum(a[1] == unit for a in one_by_one) / len({a[0] for a in one_by_one if a[1] == unit})
        for unit in {a[1] for a in one_by_one}
    ]
    images = sum(tested) ** 2 / sum(size**2 for size in tested)
    assert of_group > 1 or images == pytest.approx(len(tested))
    by_seed, by_image = by_seed * S / (S - 1), by_image * images / (images - 1)
    total = max(by_seed + by_image - single, by_seed, by_image)
    freedom = total**2 / (by_seed**2 / (S - 1) + by_image**2 / (images - 1))
    found = paired.crossed(first, second, ids)
    assert found.p == pytest.approx(2 * stats.t.sf(abs(mean) / math.sqrt(total), freedom))
    half = stats.t.ppf(0.975, freedom) * math.sqrt(total)
    assert found.interval == pytest.approx((mean - half, mean + half))
    compared = paired.compare(first, second, ids, generator)
    assert compared.difference == pytest.approx(mean), "both tests are of one mean"
    assert (compared.p_crossed, compared.crossed_interval) == (found.p, found.interval)


def test_a_seed_counts_as_much_as_another_whatever_its_number_of_images() -> None:
    """Images of a test set of 50 weigh twice as much as those of one of 100, of which 20 are the same."""
    ids = [np.arange(100), np.arange(80, 130)]
    right_S = [ids_N % 3 > 0 for ids_N in ids]
    totals_I, weights_I = intervals.per_unit([a_N.astype(int) for a_N in right_S], ids)
    assert weights_I == pytest.approx([1] * 80 + [3] * 20 + [2] * 30)
    assert totals_I == pytest.approx(weights_I * (np.arange(130) % 3 > 0))
    mean = np.mean([a_N.mean() for a_N in right_S])
    assert totals_I.sum() / weights_I.sum() == pytest.approx(mean)


def test_the_same_difference_with_every_seed_is_tested_over_images() -> None:
    """10 of 100 points with each of three seeds, which the t-test calls certain: p is that of other images."""
    first_N, second_N = np.arange(100) < 80, np.arange(100) >= 30
    ids = [np.arange(100)] * 3
    found = paired.compare([first_N] * 3, [second_N] * 3, ids, np.random.default_rng(0))
    difference_N = first_N.astype(float) - second_N
    t = stats.ttest_1samp(difference_N, 0)
    assert found.refused is found.p_t is found.interval is found.effect_size is None
    assert found.sd == 0
    # divided by I - 1, as ttest_1samp does, with I - 1 degrees of freedom
    assert found.p == found.p_crossed == pytest.approx(t.pvalue)
    assert found.crossed_interval == pytest.approx(tuple(t.confidence_interval()))
    (one,) = paired.adjusted([found])
    assert one.p_holm == found.p


def test_one_right_and_the_other_wrong_on_every_image_is_refused() -> None:
    right_S = [np.ones(9, bool)] * 3
    wrong_S = [~a_N for a_N in right_S]
    ids = [np.arange(9)] * 3
    found = paired.compare(wrong_S, right_S, ids, np.random.default_rng(0))
    assert found.refused == (
        "one right and the other wrong on every image with each of 3 seeds: no spread to measure the difference against; "
        "a larger test set could show it"
    )
    assert found.p is found.p_crossed is found.crossed_interval is None


def test_wilcoxon_is_given_from_the_number_of_seeds_at_which_it_can_be_significant() -> None:
    for S in range(3, 9):
        p = paired.wilcoxon(np.arange(1, S + 1) / 1000)
        assert (p is not None) == (S >= 6)
        smallest = stats.wilcoxon(np.arange(1, S + 1)).pvalue
        assert (p is not None) == (smallest < paired.ALPHA)


@pytest.mark.parametrize("S", [6, 9, 13, 14, 20])
def test_wilcoxon_is_scipys_up_to_the_seeds_that_are_gone_through_and_beyond(S) -> None:
    generator = np.random.default_rng(S)
    untied_S = (
        generator.permutation(np.arange(1, S + 1)) * generator.choice([-1, 1, 1, 1], S) / 1000
    )
    assert paired.wilcoxon(untied_S) == pytest.approx(stats.wilcoxon(untied_S).pvalue)


def test_one_seed_gives_mcnemar_of_this_pair_of_models_and_no_p_value() -> None:
    first_N, second_N = right(900, 1000, 1), right(870, 1000, 2)
    found = paired.compare([first_N], [second_N], [np.arange(1000)], np.random.default_rng(0))
    b, c = int(np.sum(first_N & ~second_N)), int(np.sum(~first_N & second_N))
    assert found.p_mcnemar == pytest.approx(stats.binomtest(b, b + c).pvalue)
    assert found.p is found.p_t is found.p_crossed is found.interval is found.effect_size is None
    assert found.refused == (
        "1 seed: a paired t-test needs at least 3; add 2 seeds to compare.seeds"
    )


@few
@given(st.integers(0, 60), st.integers(0, 60))
def test_mcnemar_is_twice_the_tail_of_the_binomial(b, c) -> None:
    first_N = np.array([True] * b + [False] * c + [True, False])
    second_N = np.array([False] * b + [True] * c + [True, False])
    tail = sum(math.comb(b + c, k) for k in range(min(b, c) + 1)) / 2 ** (b + c)
    assert paired.mcnemar_exact(first_N, second_N) == pytest.approx(min(1, 2 * tail))


def test_two_seeds_are_refused_however_large_the_difference() -> None:
    found = compare([0.9, 0.91], [0.1, 0.12])
    assert found.refused == (
        "2 seeds: a paired t-test needs at least 3; add 1 seed to compare.seeds"
    )
    assert found.p is found.p_t is found.p_crossed is found.p_wilcoxon is found.p_mcnemar is None
    assert found.effect_size is not None
    assert found.interval is not None


def test_equal_accuracies_are_refused_and_say_so() -> None:
    equal = compare([0.5, 0.6, 0.7], [0.5, 0.6, 0.7])
    assert equal.refused is not None
    assert equal.refused.startswith("identical accuracies with each of 3 seeds")
    of_copies = [np.array([True, False]), np.array([False, True]), np.array([True, True])]
    ids = numbered(of_copies, same_images=True)
    copies = paired.compare(of_copies, of_copies, ids, np.random.default_rng(7))
    assert copies.refused is not None
    assert copies.refused.startswith("right on the very same images with each of 3 seeds")
    for found in (equal, copies):
        assert found.p is found.p_crossed is found.interval is found.effect_size is None
    low, high = equal.crossed_interval
    assert (low + high, low < 0) == (pytest.approx(0), True)
    assert copies.crossed_interval is None


def test_images_shared_by_all_seeds_are_drawn_with_all_their_answers() -> None:
    generator = np.random.default_rng(5)
    ease_2N = generator.beta(2, 0.5, (2, 400))
    correct_2SN = generator.random((2, 5, 400)) < ease_2N[:, None]
    found = {
        same: paired.image_interval(
            *map(list, correct_2SN),
            numbered(correct_2SN[0], same_images=same),
            np.random.default_rng(6),
            resamples=50_000,
        )
        for same in (True, False)
    }
    drawn = np.random.default_rng(7).integers(400, size=(20_000, 400))
    difference_SN = correct_2SN[0].astype(float) - correct_2SN[1]
    together = np.quantile(difference_SN.mean(axis=0)[drawn].mean(axis=1), [0.025, 0.975])
    assert found[True] == pytest.approx(together, abs=2e-3)
    within = np.mean(
        [
            d_N[np.random.default_rng(s).integers(400, size=(20_000, 400))].mean(1)
            for s, d_N in enumerate(difference_SN)
        ],
        axis=0,
    )
    assert found[False] == pytest.approx(np.quantile(within, [0.025, 0.975]), abs=2e-3)
    assert np.ptp(found[True]) > 1.3 * np.ptp(found[False])


def test_images_shared_by_some_seeds_are_drawn_with_the_answers_that_they_have() -> None:
    """Test sets of 200 out of 500 images, as those of digits overlap."""
    generator = np.random.default_rng(8)
    ease_2I = generator.beta(2, 0.5, (2, 500))
    ids = [generator.permutation(500)[:200] for _ in range(4)]
    first, second = ([generator.random(200) < ease_I[i_N] for i_N in ids] for ease_I in ease_2I)
    totals_I, counts_I = np.zeros(500), np.zeros(500)
    for a_N, b_N, ids_N in zip(first, second, ids, strict=True):
        totals_I[ids_N] += a_N.astype(float) - b_N
        counts_I[ids_N] += 1
    tested = np.flatnonzero(counts_I)
    drawn = tested[np.random.default_rng(7).integers(len(tested), size=(20_000, len(tested)))]
    means_R = totals_I[drawn].sum(axis=1) / counts_I[drawn].sum(axis=1)
    found = paired.image_interval(first, second, ids, np.random.default_rng(6), resamples=50_000)
    assert found == pytest.approx(np.quantile(means_R, [0.025, 0.975]), abs=2e-3)


def test_test_sets_of_different_sizes_may_differ_between_seeds_only() -> None:
    sets = [right(50, 100), right(70, 90)]
    generator = np.random.default_rng(0)
    ids = numbered(sets, same_images=False)
    low, high = paired.image_interval(sets, [~a_N for a_N in sets], ids, generator)
    assert low < np.mean([0, 50 / 90]) < high
    with pytest.raises(ValueError, match="same test images"):
        paired.image_interval(sets, sets[::-1], ids, generator)
    with pytest.raises(ValueError, match="same seeds"):
        paired.compare(sets[:1], sets, ids, generator)
    with pytest.raises(ValueError, match="same seeds"):
        paired.compare([], [], [], generator)


def test_holm_by_hand() -> None:
    assert paired.holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])


def rejected(ps: list[float], alpha: float) -> list[bool]:
    """Holm's procedure in his words: from the smallest on, until one is above its share of alpha."""
    decisions, going_on = [False] * len(ps), True
    for left, position in zip(range(len(ps), 0, -1), np.argsort(ps, kind="stable"), strict=True):
        going_on = going_on and ps[position] <= alpha / left
        decisions[position] = going_on
    return decisions


@settings(max_examples=100)
@given(st.lists(st.none() | st.floats(0, 1), max_size=12))
def test_holm_rejects_what_his_procedure_rejects(ps) -> None:
    found = paired.holm(ps)
    assert [p is None for p in found] == [p is None for p in ps]
    adjusted_ps = [p for p in found if p is not None]
    tested = [p for p in ps if p is not None]
    # Just above an adjusted p-value its hypothesis is rejected, just below it is not.
    for alpha in {0.05, *adjusted_ps}:
        for level in (alpha * (1 + 1e-9) + 1e-12, alpha * (1 - 1e-9) - 1e-12):
            if 0 < level < 1:
                assert [p <= level for p in adjusted_ps] == rejected(tested, level)


def test_a_refused_comparison_is_in_the_family_with_a_p_of_1() -> None:
    good, other = (
        compare([0.9, 0.8, 0.91], [0.5, 0.45, 0.6]),
        compare([0.5, 0.6, 0.7], [0.4, 0.6, 0.65]),
    )
    refused = compare([0.5, 0.6, 0.7], [0.5, 0.6, 0.7])
    family = paired.adjusted([good, refused, other])
    assert [c.p_holm for c in family] == [
        pytest.approx(3 * good.p),
        None,
        pytest.approx(max(2 * other.p, 3 * good.p)),
    ]
    assert family[0].p == good.p
    of_two = compare([0.5, 0.6], [0.4, 0.7])
    assert [c.p_holm for c in paired.adjusted([good, of_two])] == [good.p, None], (
        "never to be tested"
    )


@pytest.mark.parametrize(("effect", "seeds"), [(0.2, 199), (0.5, 34), (0.8, 15), (1.0, 10)])
def test_seeds_needed_are_those_of_the_tables(effect, seeds) -> None:
    """Cohen's small, medium and large effects, as G*Power gives them for a matched-pairs t-test."""
    assert power.seeds_needed(sd_of_difference=1 / effect, difference=1) == seeds


@few
@given(effect=st.floats(0.06, 500), wanted=st.floats(0.5, 0.99))
def test_seeds_needed_are_the_fewest_that_suffice(effect, wanted) -> None:
    seeds = power.seeds_needed(0.02, 0.02 * effect, wanted)
    assert seeds is not None
    assert power.power_of(0.02 * effect / 0.02, seeds) >= wanted
    assert seeds == 3 or power.power_of(0.02 * effect / 0.02, seeds - 1) < wanted


def test_seeds_needed_beyond_reason_or_without_spread_are_none() -> None:
    smallest = power.detectable(1, power.MOST_SEEDS)
    assert power.seeds_needed(1, smallest * 1.001) <= power.MOST_SEEDS
    assert power.seeds_needed(1, smallest * 0.999) is None
    assert power.seeds_needed(0, 0.01) is None
    assert power.seeds_needed(1e-9, 0.01) == 3
    assert power.detectable(0, 5) is power.detectable(0.01, 2) is None


@few
@given(seeds=st.integers(2, 40), effect=st.floats(0, 1000))
def test_the_power_is_that_of_the_integral_even_where_scipy_has_none(seeds, effect) -> None:
    """Over the sample's standard deviation, which is independent of its mean."""
    df = seeds - 1
    scales = np.sqrt(stats.chi2.ppf((np.arange(2000) + 0.5) / 2000, df) / df)
    missed = stats.t.ppf(0.975, df) * scales - effect * math.sqrt(seeds)
    expected = np.mean(stats.norm.sf(missed))
    assert power.power_of(effect, seeds) == pytest.approx(expected, abs=1e-3)


@few
@given(seeds=st.integers(3, 200), sd=st.floats(1e-4, 1))
def test_the_detectable_difference_is_found_with_its_power(seeds, sd) -> None:
    difference = power.detectable(sd, seeds)
    assert power.power_of(difference / sd, seeds) == pytest.approx(0.8)
    assert power.seeds_needed(sd, difference * 1.001) <= seeds
    assert seeds == 3 or power.seeds_needed(sd, difference * 0.999) > seeds


def ranks_with_demsars_sums() -> np.ndarray:
    """Ranks of four methods over 14 datasets with the published sums; one tie makes them halves."""
    generator = np.random.default_rng(0)
    ranks_DM = np.tile([4, 2, 3, 1], (14, 1)).astype(float)
    ranks_DM[0] = [4, 1, 2.5, 2.5]
    distance = np.abs(ranks_DM.sum(axis=0) - DEMSAR_RANK_SUMS).sum()
    while distance:  # exchange two ranks of a dataset when this does not lead away from the sums
        row, (a, b) = generator.integers(1, 14), generator.choice(4, 2, replace=False)
        tried_DM = ranks_DM.copy()
        tried_DM[row, [a, b]] = ranks_DM[row, [b, a]]
        new = np.abs(tried_DM.sum(axis=0) - DEMSAR_RANK_SUMS).sum()
        if new <= distance:
            ranks_DM, distance = tried_DM, new
    return ranks_DM


def test_demsars_c45_variants() -> None:
    scores_DM = -ranks_with_demsars_sums()
    found = ranks.rank(scores_DM, np.random.default_rng(0))
    assert found.ranks == pytest.approx((3.143, 2.000, 2.893, 1.964), abs=5e-4)
    # Demsar's formula has no correction for ties; here one pair is tied.
    assert found.statistic is not None
    chi_square = found.statistic * (1 - (2**3 - 2) / (14 * (4**3 - 4)))
    assert chi_square == pytest.approx(9.28, abs=5e-3)
    assert 13 * chi_square / (14 * 3 - chi_square) == pytest.approx(3.69, abs=5e-3)
    assert found.critical_difference == pytest.approx(1.25, abs=5e-3)
    assert ranks.critical_difference(4, 14, alpha=0.1) == pytest.approx(1.12, abs=5e-3)
    assert found.p is not None
    assert found.p == pytest.approx(stats.chi2.sf(found.statistic, 3), abs=0.01)
    # At 5 % Nemenyi's test "is not powerful enough", as the paper says: all in one group.
    assert found.cliques == ((3, 1, 2, 0),)
    # At 10 % the plain C4.5 differs from the two variants that tune m.
    assert ranks.cliques(np.array(found.ranks), 1.12) == ((3, 1, 2), (2, 0))


@pytest.mark.parametrize(
    ("methods", "q"), [(3, 2.343), (4, 2.569), (5, 2.728), (6, 2.850), (10, 3.164)]
)
def test_nemenyis_quantiles_are_those_of_the_table(methods, q) -> None:
    """Demsar 2006, table 5 (a)."""
    expected = q * math.sqrt(methods * (methods + 1) / 60)
    assert ranks.critical_difference(methods, 10) == pytest.approx(expected, abs=1e-3)


@few
@given(seed=st.integers(0, 999), D=st.integers(3, 5), M=st.integers(3, 4), levels=st.integers(2, 9))
def test_friedmans_statistic_is_scipys_and_its_p_that_of_all_permutations(
    seed, D, M, levels
) -> None:
    scores_DM = np.random.default_rng(seed).integers(levels, size=(D, M)) / 10
    found = ranks.rank(scores_DM, np.random.default_rng(0))
    if np.ptp(scores_DM, axis=1).max() == 0:
        assert found.refused
        return
    assert found.statistic == pytest.approx(stats.friedmanchisquare(*scores_DM.T).statistic)
    if math.factorial(M) ** D > ranks.RESAMPLES:
        return
    ranks_DM = stats.rankdata(-scores_DM, axis=1)
    every = [
        np.sum(np.sum(rows, axis=0) ** 2)
        for rows in itertools.product(*(list(itertools.permutations(row)) for row in ranks_DM))
    ]
    expected = np.mean(np.array(every) >= np.sum(ranks_DM.sum(axis=0) ** 2) - 1e-9)
    assert found.p == pytest.approx(expected)


def test_groups_of_methods_that_do_not_differ() -> None:
    near = ranks.cliques
    assert near(np.array([1.0, 2.0, 3.0, 4.0]), 1.5) == ((0, 1), (1, 2), (2, 3))
    assert near(np.array([4.0, 1.0, 2.0, 3.0]), 2.5) == ((1, 2, 3), (2, 3, 0))
    assert near(np.array([1.0, 2.0, 3.0]), 1.0) == ()
    assert near(np.array([1.0, 2.0, 3.0]), 9.0) == ((0, 1, 2),)


def test_a_clear_order_of_methods_is_found() -> None:
    scores_DM = np.tile([0.9, 0.5, 0.8, 0.1], (12, 1)) + np.arange(12)[:, None] / 100
    found = ranks.rank(scores_DM, np.random.default_rng(0))
    assert found.ranks == (1, 3, 2, 4)
    assert found.p is not None
    assert found.p < 0.001
    assert found.cliques == ((0, 2), (2, 1), (1, 3))


def test_ranks_are_refused_for_too_few_methods_or_datasets() -> None:
    generator = np.random.default_rng(0)
    two = ranks.rank(np.arange(10.0).reshape(5, 2), generator)
    assert two.refused == "2 methods: Friedman's test needs at least 3; compare two over seeds"
    small = ranks.rank(np.arange(8.0).reshape(2, 4), generator)
    assert small.refused == (
        "2 datasets: with 4 methods no difference of ranks could be significant; run at least 3 datasets"
    )
    assert small.ranks == (4, 3, 2, 1)
    assert small.p is small.statistic is small.critical_difference is None
    level = ranks.rank(np.ones((5, 3)), generator)
    assert level.refused is not None
    assert level.refused.startswith("all methods have the same score")
    for scores_DM in (np.array([[0.1, np.nan, 0.2]] * 4), np.ones((0, 3))):
        with pytest.raises(ValueError, match="every method needs a score"):
            ranks.rank(scores_DM, generator)


@pytest.mark.parametrize("methods", [3, 4, 6, 10, 25])
def test_with_the_datasets_needed_two_methods_can_differ_and_with_fewer_not(methods) -> None:
    needed = ranks.datasets_needed(methods)
    assert ranks.critical_difference(methods, needed) <= methods - 1
    assert ranks.critical_difference(methods, needed - 1) > methods - 1
    scores_DM = np.tile(np.arange(methods, dtype=float), (needed, 1))
    found = ranks.rank(scores_DM, np.random.default_rng(0))
    assert found.p is not None
    assert found.p < 0.05
    assert not any({0, methods - 1} <= set(group) for group in found.cliques)


@few
@given(seed=st.integers(0, 999), N=st.integers(1, 60), K=st.integers(1, 5))
def test_agreement_is_sklearns(seed, N, K) -> None:
    first_N, second_N, truth_N = np.random.default_rng(seed).integers(K, size=(3, N))
    found = agreement.agreement(first_N, second_N, truth_N)
    assert found.same == np.mean(first_N == second_N)
    wrong = [a != t != b for a, b, t in zip(first_N, second_N, truth_N, strict=True)]
    assert found.both_wrong == pytest.approx(np.mean(wrong))
    if len({*first_N, *second_N}) == 1:
        assert found.kappa is None
    else:
        assert found.kappa == pytest.approx(cohen_kappa_score(first_N, second_N))


def test_kappa_by_hand() -> None:
    """20 yes-yes, 5 yes-no, 10 no-yes, 15 no-no: 0.7 observed, 0.5 by chance."""
    first_N = np.repeat([1, 1, 0, 0], [20, 5, 10, 15])
    second_N = np.repeat([1, 0, 1, 0], [20, 5, 10, 15])
    found = agreement.agreement(first_N, second_N, np.ones(50, int))
    assert (found.same, found.kappa, found.both_wrong) == pytest.approx((0.7, 0.4, 0.3))
    with pytest.raises(ValueError, match="same images"):
        agreement.agreement(first_N, second_N[1:], first_N)
