"""What the page says of results, by the number of seeds and what the tests found."""

from dataclasses import replace

import polars as pl
import pytest

from pipeline_lib.compare import budgets, fairness, settings, words
from pipeline_lib.compare.build import tables
from pipeline_lib.compare.page import content_hash
from tests.compare.made_up import UNSURE, compare_section, groups, pairs, results, said

ROUGH = "about 9 seeds, a rough number: 4 to 200, as far as 3 seeds tell the spread."


def test_a_lead_is_told_with_its_interval_and_its_tests():
    comparisons = pairs(
        {"first": "c", "second": "a", "difference": 0.104, "p_holm": 0.003},
        {"first": "c", "second": "b", "difference": 0.004, **UNSURE, "p_holm": 0.41},
        {"first": "b", "second": "a", "difference": 0.1, "p_holm": 0.01},
    )
    assert said(groups(0.857, 0.957, 0.961), comparisons) == [
        "With 20 labels c is best on average, 96.1 % (95 % interval 94.1 to 98.1 % over 3 seeds).",
        "Better than a (+10.4 points, p = .003) after Holm\u2019s correction for 3 tests.",
        "Not told apart from b (+0.4 points, p = .410); as far as trainings decide, a difference of one point takes "
        + ROUGH,
        "Other tested pairs that differ significantly: 1 of 1.",
    ]


def test_the_leader_may_be_the_second_of_a_pair():
    """The difference is then turned around."""
    row = {"first": "b", "second": "a", "difference": -0.05}
    assert said(groups(0.9, 0.85), pairs(row))[1] == "Better than b (+5.0 points, p = .003)."


def test_a_p_value_does_not_break_over_lines():
    (verdict,) = words.verdicts(
        groups(0.9, 0.8), pairs({"first": "b", "second": "a", "difference": -0.1}), {"b": "b"}
    )
    assert "p\xa0=\xa0.003" in verdict.sentences[1]


def test_leaders_that_were_refused_alike_are_told_once():
    refused = {"refused": "1 seed: too few", "p": None, "p_holm": None, "significant": False}
    rows = ({"first": "c", "second": leader, "difference": -0.1, **refused} for leader in "ab")
    assert said(groups(0.9, 0.9, 0.8), pairs(*rows))[1:] == [
        "a and b were not tested against c (+10.0 points). 1 seed: too few."
    ]


def test_only_the_closest_of_many_are_named():
    found = groups(*(0.5 + 0.01 * k for k in range(8)))
    comparisons = pairs(
        *(
            {"first": "h", "second": "abcdefg"[k], "difference": 0.07 - 0.01 * k, **UNSURE}
            for k in range(7)
        )
    )
    sentence = said(found, comparisons)[1]
    assert sentence.startswith("Not told apart from g (+1.0 points, p = .140), f (+2.0")
    assert "c (+5.0 points, p = .140) and 2 more;" in sentence


def test_a_tie_has_two_leaders():
    """Each with an interval and tests of its own: what holds of one does not of the other."""
    comparisons = pairs(
        {"first": "c", "second": "a", "difference": -0.1},
        {"first": "c", "second": "b", "difference": -0.1, **UNSURE},
    )
    found = groups(0.9, 0.9, 0.8).with_columns(high=pl.Series([0.92, 1.2, 0.82]))
    assert said(found, comparisons) == [
        "With 20 labels a and b share the best mean, 90.0 % (95 % intervals 88.0 to 92.0 % and 88.0 to 100.0 %, "
        "over 3 seeds).",
        "a is better than c (+10.0 points, p = .003) after Holm\u2019s correction for 2 tests.",
        "b is not told apart from c (+10.0 points, p = .140); as far as trainings decide, a difference of one point takes "
        + ROUGH,
    ]


def test_leaders_of_whom_one_was_not_tested_are_named():
    sentences = said(
        groups(0.9, 0.9, 0.8), pairs({"first": "c", "second": "a", "difference": -0.1})
    )
    assert sentences[1].startswith("a is better than c")
    assert sentences[2:] == ["No test of b against c was asked for (compare.pairs)."]


def test_what_was_not_asked_is_not_called_equal():
    sentences = said(groups(0.7, 0.8, 0.9), pairs({"first": "b", "second": "a"}))
    assert sentences[1:] == [
        "No test against a and b was asked for (compare.pairs).",
        "Other tested pairs that differ significantly: 1 of 1.",
    ]


@pytest.mark.parametrize(
    ("seeds", "lead", "reason"),
    [
        (
            (1,),
            "in one training; what another seed would change is not known.",
            "1 seed: a paired t-test needs at least 3; add 2 seeds to compare.seeds.",
        ),
        (
            (1, 2),
            "over 2 seeds).",
            "2 seeds: a paired t-test needs at least 3; add 1 seed to compare.seeds.",
        ),
    ],
)
def test_too_few_seeds_are_told(seeds, lead, reason):
    found = tables(results(compare_section(methods=("supervised", "mixmatch"), seeds=seeds)))
    for verdict in words.verdicts(found.groups, found.comparisons, budgets.titles(found.cells)):
        assert verdict.leaders == ("mixmatch",)
        assert verdict.sentences[0].endswith(lead)
        assert verdict.sentences[1].startswith("Not tested against supervised (+")
        assert verdict.sentences[1].endswith(reason)
        assert len(verdict.sentences) == 2


def test_three_seeds_are_tested():
    found = tables(results(compare_section(methods=("supervised", "mixmatch"), seeds=(1, 2, 3))))
    for verdict in words.verdicts(found.groups, found.comparisons, budgets.titles(found.cells)):
        assert "over 3 seeds)" in verdict.sentences[0]
        assert verdict.sentences[1].startswith(("Better than", "Not told apart from"))


def test_one_contender_is_compared_with_nothing():
    found = tables(results(compare_section(methods=("paws",))))
    (first, _) = words.verdicts(found.groups, found.comparisons, budgets.titles(found.cells))
    assert first.sentences[0].endswith("there is nothing to compare it with.")
    assert len(first.sentences) == 1


def test_intervals_end_where_accuracies_do():
    assert words.interval(-0.1, 1.2) == "0.0 to 100.0\u202f%"
    assert words.interval(None, None) is None


def test_a_training_that_was_too_short_for_its_settings_is_named():
    made = results(compare_section(methods=("paws", "cr_dpll")))
    assert "long enough for the settings" not in notes(made)
    for key, phases in made.phases.items():
        if key.startswith("paws"):
            phases["unfinished"] = ["train.ema_decay 0.999: after 9 steps"]
    note = notes(made)["long enough for the settings"]
    assert (note.value, note.explanation) == (
        "not all",
        "train.ema_decay 0.999: after 9 steps (paws)",
    )


def test_budgets_are_called_by_their_labels():
    cells = results(compare_section(methods=("supervised", "oracle"))).cells
    cells = cells.with_columns(
        labeled=pl.when(pl.col("method") == "oracle").then(1213).otherwise("labeled")
    )
    assert budgets.titles(cells) == {"labels_20": "20 labels", "labels_100": "100 labels"}
    assert budgets.labels(cells) == {"labels_20": 20, "labels_100": 100}
    assert budgets.candidate_rates(cells) == {}


def test_budgets_are_called_by_their_candidates():
    section = compare_section(methods=("cr_dpll",), budgets=("few", "many"))
    cells = results(section, labels=False).cells
    assert budgets.titles(cells) == {
        "few": "candidates at a rate of 0.1",
        "many": "candidates at a rate of 0.2",
    }
    assert budgets.candidate_rates(cells) == {"few": 0.1, "many": 0.2}
    assert budgets.labels(cells) == {}


def test_budgets_that_look_the_same_keep_their_names():
    cells = results(compare_section(methods=("paws",))).cells.with_columns(labeled=pl.lit(20))
    assert budgets.titles(cells) == {
        "labels_20": "budget labels_20",
        "labels_100": "budget labels_100",
    }


def notes(made):
    return {note.name: note for note in fairness.notes(made, tables(made).groups)}


def test_lengths_are_equal_within_two_percent():
    made = results(compare_section(methods=("supervised", "mixmatch")))
    found = notes(made)
    assert found["steps"].value == "equal"
    assert found["steps"].explanation == "360 optimizer steps of a training, within 2 %"
    assert found["views"].value == "not equal"
    assert found["views"].explanation.startswith("23,040 (supervised) to 46,080 (mixmatch)")
    assert found["seconds"].value == "not known"
    assert "compare-times" in found["seconds"].explanation


def test_lengths_that_depend_on_the_budget_are_told_by_budget():
    made = results(compare_section(methods=("supervised", "mixmatch")))
    steps = pl.when(pl.col("budget") == "labels_20").then(500.0).otherwise(1500.0)
    groups = tables(made).groups.with_columns(steps=steps)
    (note,) = (note for note in fairness.notes(made, groups) if note.name == "steps")
    assert (note.value, note.explanation) == (
        "equal",
        "500 with labels_20 and 1,500 with labels_100: optimizer steps of a training, within 2 %",
    )
    crossed = (pl.col("budget") == "labels_20") == (pl.col("contender") == "mixmatch")
    groups = groups.with_columns(steps=pl.when(crossed).then(1500.0).otherwise(500.0))
    (note,) = (note for note in fairness.notes(made, groups) if note.name == "steps")
    assert note.value == "not equal"
    assert note.explanation.startswith("500 (supervised with labels_20) to 1,500 (")


def test_what_validation_images_tell_is_beside_the_budget():
    made = results(compare_section(methods=("supervised", "oracle")))
    assert notes(made)["validation images"].explanation == (
        "135 images, labels as weak as those of training"
    )
    told = made.cells.with_columns(val_tells_more=True)
    assert notes(replace(made, cells=told))["validation images"].explanation == (
        "135 images, each with one label, beside those of the budget"
    )
    for key in made.params:
        made.params[key]["split"] = {"val_labels": "clean"}
    assert notes(made)["validation images"].explanation == (
        "135 images, each with its true label, beside those of the budget"
    )


def test_cells_of_other_machines_are_told():
    made = results(compare_section(methods=("supervised", "mixmatch")))
    assert notes(made)["made with"].value == "equal"
    assert notes(made)["made with"].explanation == "torch 2.15.0, device cpu, processes 1"
    for key, phases in made.phases.items():
        if key.startswith("mixmatch"):
            phases["made_with"] |= {"device": "NVIDIA H200"}
    assert (notes(made)["made with"].value, notes(made)["made with"].explanation) == (
        "not equal",
        "device cpu (supervised); NVIDIA H200 (mixmatch)",
    )


def test_settings_were_tried_only_where_some_were():
    section = compare_section(methods=("supervised", "mixmatch"))
    assert "settings were tried" not in fairness.chosen(section)
    tuned = section.methods["mixmatch"].model_copy(update={"tried": 3})
    section = section.model_copy(update={"methods": section.methods | {"mixmatch": tuned}})
    assert "and settings were tried on them; test images were looked at once" in fairness.chosen(
        section
    )


@pytest.mark.parametrize(("milliseconds", "verdict"), [(10.2, "equal"), (10.3, "not equal")])
def test_seconds_are_compared_too(milliseconds, verdict):
    times = {"supervised-standard": {"train": 10.0}, "mixmatch-standard": {"train": milliseconds}}
    made = results(compare_section(methods=("supervised", "mixmatch"), ms_per_step=times))
    assert notes(made)["seconds"].value == verdict


def test_tuning_is_told_as_it_is_declared():
    methods = {"paws": {"tried": 12, "params": {}}, "fixmatch": {"tried": 0, "params": {}}}
    section = compare_section(methods=("paws", "fixmatch"))
    section = section.model_validate(section.model_dump() | {"methods": methods})
    made = results(section)
    assert notes(made)["tuning"].value == "0 to 12"
    assert [row["tried"] for row in fairness.costs(made)] == [12, 0]


def test_what_was_asked_to_be_equal():
    assert "compare.amount is not set" in fairness.asked(results(compare_section()))
    methods = ("supervised", "mixmatch")
    equal = results(compare_section(methods[:1], equal="images", amount=23000))
    assert fairness.asked(equal) == (
        "Every training was stretched to 23,000 views (compare.equal: images), within 2 %."
    )
    unequal = results(compare_section(methods, equal="images", amount=23000))
    assert fairness.asked(unequal) == (
        "Every training was to be stretched to 23,000 views (compare.equal: images), and trainings had 23,040 to "
        "46,080: an epoch has whole steps, and a phase may end before its last one."
    )


@pytest.mark.parametrize(
    ("times", "steps", "words"),
    [
        ({}, True, "No comparison at equal time was made: how long a step takes is not known."),
        ({"supervised-standard": {"train": 1.0}, "mixmatch-standard": {"train": 3.0}}, True, ""),
        (
            {"supervised-standard": {"train": 1.0}, "mixmatch-standard": {"train": 3.0}},
            False,
            "No comparison at equal steps was made: set compare.equal to steps",
        ),
    ],
)
def test_the_comparison_that_is_missing_is_named(times, steps, words):
    made = results(compare_section(("supervised", "mixmatch"), ms_per_step=times))
    found = tables(made)
    groups = found.groups
    if not steps:
        groups = groups.with_columns(steps=pl.col("views"))
    told = fairness.of_time(made, groups, read=not found.at_equal_time.is_empty())
    assert told.startswith(words)
    assert bool(told) == bool(words)
    asked_for = made.compare.model_copy(update={"amount": 360.0})
    again = fairness.of_time(replace(made, compare=asked_for), groups, read=bool(times))
    assert "at equal steps" not in again, (
        "they were asked for, and the page says how long trainings were"
    )


def test_the_same_settings_are_called_equal():
    found = notes(results(compare_section(("supervised", "mixmatch"))))
    assert (found["network"].value, found["training"].value) == ("equal", "equal")
    assert "looked for batch size" not in found["training"].explanation


def test_settings_that_differ_are_named_with_who_has_them():
    variants = {
        "standard": {},
        "wide": {"model": {"width": 32}},
        "slow": {"train": {"learning_rate": 0.01}},
    }
    section = compare_section(("two_phase",))
    section = section.model_validate(section.model_dump() | {"variants": variants})
    found = notes(results(section))
    assert found["network"].value == found["training"].value == "not equal"
    assert found["network"].explanation == "model, in params.yaml: width 16 but for 32 (wide)"
    assert found["training"].explanation == (
        "train, in params.yaml: learning_rate 0.05 but for 0.01 (slow); standard, wide and slow looked for batch "
        "size or learning rate before training, and used what came of it"
    )


def test_what_was_given_was_not_looked_for():
    made = results(compare_section(("two_phase",)))
    for phases in made.phases.values():
        phases["found"]["reasons"] = {"batch_size": "given", "learning_rate": "given"}
    assert "looked for" not in notes(made)["training"].explanation


def test_what_a_contender_changes_is_its_methods_and_its_variants():
    section = compare_section(("mixmatch", "paws"))
    methods = {
        "mixmatch": {"tried": 0, "params": {"train": {"learning_rate": 0.01, "nesterov": False}}},
        "paws": {"tried": 0, "params": {}},
    }
    variants = {
        "standard": {},
        "k_1": {"methods": {"mixmatch": {"guesses": 1}}, "train": {"learning_rate": 0.02}},
        "no_me_max": {"methods": {"paws": {"me_max": 0.0, "projection_width": None}}},
    }
    section = section.model_validate(
        section.model_dump() | {"methods": methods, "variants": variants}
    )
    assert settings.changes(results(section)) == [
        ("mixmatch standard", [("train.learning_rate", "0.01"), ("train.nesterov", "false")]),
        (
            "mixmatch k_1",
            [("train.learning_rate", "0.02"), ("train.nesterov", "false"), ("guesses", "1")],
        ),
        ("mixmatch no_me_max", [("train.learning_rate", "0.01"), ("train.nesterov", "false")]),
        ("paws standard", []),
        ("paws k_1", [("train.learning_rate", "0.02")]),
        ("paws no_me_max", [("me_max", "0.0"), ("projection_width", "null")]),
    ]


def test_a_rate_of_candidates_is_of_partial_labels_only():
    section = compare_section(("supervised", "mixmatch"))
    of_labels, of_candidates = (tables(results(section, labels=labels)) for labels in (True, False))
    for table in ("cells", "groups"):
        without = getattr(of_labels, table)["candidate_rate"]
        assert without.null_count() == len(without)
        assert without.dtype == getattr(of_candidates, table)["candidate_rate"].dtype == pl.Float64
        assert getattr(of_candidates, table)["candidate_rate"].null_count() == 0


def test_the_script_is_known_by_its_hash():
    """The example of the specification, Content Security Policy Level 3, section 8.4."""
    assert content_hash("alert('Hello, world.');") == (
        "sha256-qznLcsROx4GACP2dm0UCKCzCG+HiZ1guq6ZZDob/Tng="
    )


def test_what_accuracy_hides_with_unbalanced_classes_is_said() -> None:
    found = groups(0.48, 0.42).with_columns(
        pl.Series("balanced_accuracy", [0.18, 0.35]), commonest=0.519, classes=6.0
    )
    sure = pairs({"first": "a", "second": "b"})
    words = "always naming the most frequent class would get 51.9 %."
    alike = " Where every class counts alike (balanced accuracy), b is ahead on average: 35.0 % against 18.0 %."
    assert said(found, sure)[1] == f"No better than a constant: {words}{alike}"
    better = found.with_columns(mean=pl.col("mean") + 0.1)
    assert said(better, sure)[1] == f"A{words[1:]}{alike}"
    same_order = better.with_columns(balanced_accuracy=pl.Series([0.35, 0.18]))
    assert said(same_order, sure)[1] == f"A{words[1:]}"
    even = found.with_columns(commonest=0.2)
    assert not any("frequent" in sentence for sentence in said(even, sure))


def test_candidates_whose_truth_nobody_knows_have_no_rate() -> None:
    cells = pl.DataFrame(
        {
            "method": ["cr_dpll"] * 4,
            "budget": ["mine", "some", "rate", "free"],
            "labeled": [30, 0, 0, 30],
            "partial": [10, 1, 50, 50],
            "unlabeled": [0, 0, 0, 0],
            "candidate_rate": [None, None, 0.3, 0.1],
        }
    )
    assert budgets.titles(cells) == {
        "mine": "30 labels and 10 candidate sets",
        "some": "1 candidate set",
        "rate": "candidates at a rate of 0.3",
        "free": "candidates at a rate of 0.1 (38 % with one)",
    }
    assert budgets.candidate_rates(cells) == {"rate": 0.3, "free": 0.1}


def test_seeds_are_not_promised_to_do_what_takes_more_images() -> None:
    unsure = {"first": "b", "second": "a", "hidden_by_images": 0.012} | UNSURE
    more = " These test images may hide differences of up to 1.2 points from any number of seeds, so that it may take more images as well."
    assert said(groups(0.8, 0.9), pairs(unsure))[1].endswith(more)
    assert "hide" not in said(groups(0.8, 0.9), pairs(unsure | {"hidden_by_images": 0.01}))[1]
