"""How many seeds a difference needs, and what the tests beside the t-test are, on the page."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from pipeline_lib.compare.build import build_comparison, tables
from pipeline_lib.compare.read import Predictions
from pipeline_lib.compare.verdicts import comparisons
from pipeline_lib.statistics.intervals import RESAMPLES
from pipeline_lib.statistics.paired import ALPHA, FEWEST_SEEDS
from pipeline_lib.statistics.power import seeds_needed
from tests.compare.made_up import UNSURE, compare_section, groups, pairs, results, said
from tests.html_page import Page


def answered(*right, seeds=(1, 2, 3), **section):
    """A comparison in which contenders get so many of 100 images right, by seed."""
    methods = ("supervised", "mixmatch", "fixmatch")[: len(right)]
    made = results(compare_section(methods, budgets=("b",), seeds=seeds, **section))
    ids_N, label_N = np.arange(100), np.zeros(100, int)
    answers = {
        f"{method}-standard-b-{seed}": Predictions(ids_N, ids_N, label_N, 1 * (ids_N >= count))
        for method, counts in zip(methods, right, strict=True)
        for seed, count in zip(seeds, counts, strict=True)
    }
    return dataclasses.replace(made, predictions=answers)


def test_a_mean_difference_of_nothing_has_a_spread_all_the_same():
    (row,) = comparisons(answered((90, 91, 92), (91, 91, 91))).rows(named=True)
    assert row["difference"] == row["effect_size"] == 0
    assert row["sd"] == pytest.approx(0.01)
    assert row["seeds_for_a_point"] == seeds_needed(0.01, 0.01)
    assert row["detectable"] > 0


def test_how_rough_the_number_of_seeds_is_stands_beside_it(tmp_path):
    """0.52 to 6.28 times the spread of three seeds: 1 / sqrt(chi2 / 2) of its 97.5 % and 2.5 % quantiles."""
    made = answered((90, 91, 92), (91, 91, 91))
    (row,) = comparisons(made).rows(named=True)
    assert row["fewest_seeds"] == seeds_needed(0.01 / np.sqrt(7.377759 / 2), 0.01)
    assert row["most_seeds"] == seeds_needed(0.01 / np.sqrt(0.0506356 / 2), 0.01)
    text = page_of(made, tmp_path)
    assert f"{row['seeds_for_a_point']} {row['fewest_seeds']} to {row['most_seeds']}" in text
    assert "Both are rough, as few seeds tell the spread" in text


def test_two_seeds_are_reckoned_for_all_pairs_that_were_asked_for():
    rows = comparisons(answered((90, 95), (92, 93), (94, 99), seeds=(1, 2))).rows(named=True)
    assert [row["p"] for row in rows] == [None] * 3
    for row in rows[::2]:
        assert row["seeds_for_a_point"] == seeds_needed(row["sd"], 0.01, alpha=0.05 / 3)


def test_what_images_hide_follows_from_their_interval_and_the_number_of_tests():
    """A true difference of that size is found four times out of five by a test with their standard error."""
    for row in comparisons(answered((90, 95, 93), (92, 93, 92), (94, 99, 91))).rows(named=True):
        standard_error = (row["image_high"] - row["image_low"]) / (2 * 1.959964)
        critical = stats.norm.isf(0.05 / 3 / 2) * standard_error
        found = stats.norm.sf(critical, row["hidden_by_images"], standard_error)
        assert found == pytest.approx(0.8, abs=1e-6)


def test_equal_answers_have_equal_intervals_over_images():
    known = (90, 91, 95), (80, 81, 84)
    rows = comparisons(answered(known[0], known[1], known[1], pairs="first")).rows(named=True)
    first, copy = ((row["image_low"], row["image_high"]) for row in rows)
    assert first == copy


def test_a_refused_pair_counts_among_those_that_were_asked_for():
    refused, other, _ = comparisons(answered((90, 91, 92), (90, 91, 92), (95, 95, 97))).rows(
        named=True
    )
    assert refused["refused"].startswith("right on the very same images with each of 3 seeds")
    assert (refused["sd"], refused["seeds_for_a_point"]) == (0, None)
    assert other["seeds_for_a_point"] == seeds_needed(other["sd"], 0.01, alpha=0.05 / 3)


def test_seeds_beyond_reason_are_said_to_be():
    none = {"fewest_seeds": 3000, "seeds_for_a_point": None, "most_seeds": None}
    unknown = {"first": "b", "second": "a", **UNSURE, **none}
    known = {"first": "c", "second": "b", **UNSURE, "seeds_for_a_point": 40}
    sentence = said(groups(0.8, 0.81), pairs(unknown))[1]
    assert (
        "takes about more than 10,000 seeds, a rough number: 3,000 to more than 10,000," in sentence
    )
    sentence = said(groups(0.8, 0.9, 0.8), pairs(unknown, known))[1]
    assert "takes about 40 to more than 10,000 seeds, a rough number: 4 to more than" in sentence


def test_the_interval_on_the_page_goes_with_the_p_that_counts(tmp_path):
    """The t-test alone is sure; other images are not, and the interval says so."""
    made = answered((90, 90, 90), (92, 93, 92))
    (row,) = tables(made).comparisons.rows(named=True)
    assert row["p_t"] < 0.05 < row["p_crossed"] == row["p"]
    assert row["low"] > 0
    assert row["crossed_low"] < 0
    text = page_of(made, tmp_path)
    wide, narrow = (
        f"{100 * row[low]:+.1f} to {100 * row[high]:+.1f}".replace("-", "\N{MINUS SIGN}")
        for low, high in (("crossed_low", "crossed_high"), ("low", "high"))
    )
    assert wide in text
    assert narrow not in text
    assert f"images: {100 * row['hidden_by_images']:.1f}" in text
    assert "95% over seeds and images" in text


def test_a_pair_without_spread_is_told_apart_or_not_by_other_images(tmp_path):
    made = answered((90, 91, 92), (91, 92, 93))
    (row,) = comparisons(made).rows(named=True)
    assert (row["sd"], row["p_t"], row["refused"]) == (0, None, None)
    assert row["p_holm"] == row["p"] == row["p_crossed"] > 0.05
    text = page_of(made, tmp_path).replace("\xa0", " ")
    p = f"{row['p']:.3f}".removeprefix("0")
    assert f"Not told apart from supervised (+1.0 points, p = {p})." in text
    assert "seeds, a rough number" not in text


def test_the_settings_of_the_tests_stand_on_the_page_and_in_the_documents(tmp_path):
    text = page_of(answered((90, 91, 92), (91, 93, 95)), tmp_path)
    words = (
        "two-sided and paired by seed",
        f"from {FEWEST_SEEDS} seeds on",
        f"{RESAMPLES:,} resamples of the images",
    )
    document = Path("docs/how-to/compare.md").read_text().replace("\n", " ")
    for said_of in (text, document):
        assert all(each in said_of for each in words)
    assert f"at most {ALPHA:g}".replace("0.", ".") in text


def page_of(made, folder):
    build_comparison(made, folder)
    return Page((folder / "index.html").read_text()).text


@pytest.mark.parametrize("seeds", [(1,), (1, 2), (1, 2, 3)])
def test_the_page_always_says_what_the_power_is_of(tmp_path, seeds):
    right = [range(90, 90 + len(seeds)), range(95, 95 + 2 * len(seeds), 2), [97] * len(seeds)]
    text = page_of(answered(*right, seeds=seeds), tmp_path)
    assert (
        "for a power of 80% of the t-test, whatever the test images, in 3 tests, as many as were asked for"
        in text
    )
    assert "are of each pair by itself, not corrected for the number of pairs" in text
    assert ("Intervals and McNemar\u2019s p are" in text) == (len(seeds) == 1)


def test_wilcoxons_p_stands_beside_where_it_could_be_significant(tmp_path):
    seeds = tuple(range(6))
    made = answered((90, 91, 92, 90, 91, 92), (91, 93, 95, 94, 96, 98), seeds=seeds)
    assert tables(made).comparisons["p_wilcoxon"].to_list() == [pytest.approx(2 / 2**6)]
    text = page_of(made, tmp_path)
    assert "Wilcoxon p" in text
    assert "= .031" in text or ".031" in text
    assert "Intervals and Wilcoxon\u2019s p are of each pair by itself" in text
    few = page_of(answered((90, 91, 92), (91, 93, 95)), tmp_path)
    assert "Wilcoxon" not in few
