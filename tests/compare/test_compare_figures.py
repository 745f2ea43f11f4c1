"""The figures of a comparison: their numbers against ones counted by hand, and that they can always be drawn."""

import itertools
import math
import xml.etree.ElementTree as ET

import numpy as np
import polars as pl
import pytest

from pipeline_lib.compare.build import tables
from pipeline_lib.compare.figures import (
    accuracy,
    agreement,
    amounts,
    bands,
    classes,
    curves,
    logs,
    phases,
    range_tests,
)
from pipeline_lib.compare.figures.heat import Heat, draw_heat
from pipeline_lib.compare.panels import panels
from pipeline_lib.figures import style
from pipeline_lib.ranking import critical_difference
from pipeline_lib.ranking.ranks import Ranking, rank
from tests.compare.conftest import LONG
from tests.compare.made_up import compare_section, results

SVG = "{http://www.w3.org/2000/svg}"


def texts(svg):
    return ["".join(element.itertext()) for element in ET.fromstring(svg).iter(f"{SVG}text")]  # noqa: S314


def made_curves(*rows):
    columns = ("budget", "contender", "seed", "step", "val_accuracy")
    return pl.DataFrame(rows, schema=columns, orient="row")


def test_bands_are_mean_lowest_and_highest_of_the_seeds():
    table = made_curves(
        ("b", "m", 1, 0, 0.1), ("b", "m", 1, 10, 0.5), ("b", "m", 2, 0, 0.2), ("b", "m", 2, 10, 0.9)
    )
    assert curves.data(table, "steps", "val_accuracy").rows() == [
        ("b", "m", 0.0, 0.15, 0.1, 0.2),
        ("b", "m", 10.0, 0.7, 0.5, 0.9),
    ]


def test_seeds_of_other_lengths_are_interpolated_as_far_as_all_go():
    table = made_curves(
        ("b", "m", 1, 0, 0.0), ("b", "m", 1, 10, 0.5), ("b", "m", 1, 30, 0.9),
        ("b", "m", 2, 0, 0.0), ("b", "m", 2, 20, 0.8),
    )  # fmt: skip
    found = bands.over_seeds(table, "step", "val_accuracy")
    assert found["x"].to_list() == [0, 10, 20]
    assert found["value"].to_list() == pytest.approx([0, 0.45, (0.7 + 0.8) / 2])
    assert found["low"].to_list() == pytest.approx([0, 0.4, 0.7])


def test_what_is_not_known_makes_no_line():
    made = results(compare_section(methods=("supervised", "mixmatch")))
    assert curves.data(made.curves, "seconds", "val_accuracy").is_empty()
    guesses = curves.data(made.curves, "steps", "coverage")
    assert set(guesses["contender"]) == {"mixmatch"}


def test_labels_are_an_axis_only_where_they_differ():
    cells = pl.DataFrame(
        {
            "contender": ["m"] * 4,
            "budget": ["few", "few", "many", "many"],
            "accuracy": [0.5, 0.7, 0.8, 0.9],
        }
    )
    found = amounts.data(cells, {"few": 20.0, "many": 400.0})
    assert found.rows() == [("", "m", 20.0, 0.6, 0.5, 0.7), ("", "m", 400.0, 0.85, 0.8, 0.9)]
    assert amounts.data(cells, {"few": 20.0, "many": 20.0}).is_empty()
    alike = {"few": 20.0, "many": 400.0, "other": 400.0}
    assert amounts.data(cells, alike).is_empty(), "two budgets are no two seeds of one"
    assert amounts.data(cells, {}).is_empty()


def test_brackets_are_those_of_the_best_first_and_significant():
    names = "abcdefg"
    groups = pl.DataFrame(
        {"contender": list(names), "budget": "b", "mean": [0.5 + 0.05 * k for k in range(7)]}
    ).with_columns(low=pl.col("mean") - 0.1, high=pl.col("mean") + 0.1)
    cells = groups.select("contender", "budget", seed=pl.lit(1), accuracy="mean")
    comparisons = pl.DataFrame(
        [
            ("b", "b", "a", 0.0001),
            ("b", "g", "a", 0.01),
            ("b", "g", "b", 0.06),
            ("b", "c", "a", 0.02),
            ("b", "g", "c", 0.04),
            ("b", "d", "a", 0.03),
            ("b", "e", "a", None),
            ("b", "g", "f", 0.001),  # other test images could undo it
            ("other", "g", "e", 0.001),
        ],
        schema=["budget", "first", "second", "p_holm"],
        orient="row",
    ).with_columns(significant=(pl.col("p_holm") <= 0.05) & (pl.col("second") != "f"))
    frame = accuracy.data(cells, groups, comparisons, "b")
    means = frame.filter(pl.col("what") == "mean")
    assert means["contender"].to_list() == list(reversed(names))
    brackets = frame.filter(pl.col("what") == "bracket").select("contender", "other", "value")
    assert brackets.rows() == [
        ("g", "a", 0.01),
        ("g", "c", 0.04),
        ("b", "a", 0.0001),
        ("c", "a", 0.02),
    ]


@pytest.mark.parametrize("contenders", [2, 5, 12])
def test_brackets_and_their_words_never_touch(contenders):
    rng = np.random.default_rng(contenders)
    for _ in range(50):
        pairs = [
            (*rng.choice(contenders, 2, replace=False), 0.01) for _ in range(accuracy.MOST_BRACKETS)
        ]
        placed = accuracy.in_lanes(pairs)
        assert sorted((top, bottom) for top, bottom, *_ in placed) == sorted(
            (min(a, b), max(a, b)) for a, b, _ in pairs
        )
        for lane in range(accuracy.MOST_BRACKETS):
            rooms = sorted(
                ((top + bottom) / 2, max(bottom - top, accuracy.LETTERS))
                for top, bottom, _, own in placed
                if own == lane
            )
            for (one, one_length), (other, other_length) in itertools.pairwise(rooms):
                assert other - one >= (one_length + other_length) / 2


@pytest.mark.parametrize(
    ("p", "said"), [(0.00004, "p < .001"), (0.0034, "p = .003"), (0.5, "p = .500"), (1.0, "p = 1")]
)
def test_p_values_are_written_as_usual(p, said):
    assert accuracy.p_words(p) == said


def test_the_axis_of_accuracies_starts_at_zero_or_near_the_results():
    cells = pl.DataFrame({"accuracy": [0.91, 0.95]})
    wide = pl.DataFrame({"low": [0.2, 0.93], "high": [1.6, 0.97]})
    assert accuracy.limits(wide, cells) == (0.85, 1.0)
    narrow = pl.DataFrame({"low": [0.9, 0.93], "high": [0.92, 0.97]})
    assert accuracy.limits(narrow, cells) == (0.85, 1.0)
    poor = pl.DataFrame({"accuracy": [0.12, 0.6]})
    assert accuracy.limits(narrow, poor)[0] == 0.0


def test_classes_are_compared_with_the_mean_of_contenders():
    per_class = pl.DataFrame(
        [
            ("a", "b", 1, "x", 0.5),
            ("a", "b", 2, "x", 0.7),
            ("c", "b", 1, "x", 0.9),
            ("c", "b", 2, "x", 0.9),
            ("a", "b", 1, "never", None),
            ("a", "other", 1, "x", 0.0),
        ],
        schema=["contender", "budget", "seed", "class", "recall"],
        orient="row",
    )
    found = classes.data(per_class, "b")
    assert found.select("class", "contender").rows() == [("x", "a"), ("x", "c")]
    assert found["recall"].to_list() == pytest.approx([0.6, 0.9])
    assert found["difference"].to_list() == pytest.approx([-0.15, 0.15])


def test_of_many_classes_those_that_differ_most_are_drawn():
    frame = pl.DataFrame(
        {
            "class": [f"{c}" for c in range(100) for _ in "ab"],
            "contender": ["a", "b"] * 100,
            "recall": [value for c in range(100) for value in (0.5, 0.5 + c / 1000)],
        }
    ).with_columns(difference=pl.lit(0.01))
    shown = classes.shown_classes(frame)
    assert shown == [f"{c}" for c in range(100 - classes.SHOWN, 100)]


def test_phases_are_those_of_trainings_with_several():
    made = results(compare_section(budgets=("b",), seeds=(1, 2)))
    frame = phases.data(made.cells, made.phases)
    assert set(frame["contender"]) == {"two_phase"}
    assert frame.filter(pl.col("phase") == "phase 1")["end"].to_list() == [140, 180]


def test_phases_have_no_colour_of_a_contender(usual):
    panel = panels(usual.results, usual.tables)["phases"]
    svg = style.as_svg(panel.draw(panel.frame, style.LIGHT), style.LIGHT).decode()
    assert not [colour for colour in style.LIGHT.series if colour in svg]


def test_searches_show_the_rate_that_was_chosen():
    made = results(compare_section(budgets=("b",), seeds=(1, 2)))
    frame = range_tests.data(made.cells, made.range_tests, made.phases)
    chosen = frame.filter(pl.col("series") == "rate that was chosen")
    assert chosen.select("contender", "seed", "learning_rate").rows() == [
        ("two_phase", 1, 0.01),
        ("two_phase", 2, 0.02),
    ]
    assert frame.height == 2 * 41


def test_logs_leave_out_what_was_not_measured():
    made = results(compare_section(methods=("paws",), budgets=("b",), seeds=(1,)))
    assert logs.data(made.curves, "loss", "b")["step"].to_list() == list(range(18, 361, 18))


def test_logs_of_accuracy_have_room_for_every_contender():
    made = results(compare_section(methods=("supervised", "mixmatch"), budgets=("b",), seeds=(1,)))
    frame = logs.data(made.curves, "val_accuracy", "b")
    worse_first = frame.with_columns(
        pl.when(pl.col("contender") == "supervised").then(0.1).otherwise(0.9).alias("value")
    )
    names = ["supervised", "mixmatch"]
    figure = logs.draw(worse_first, style.LIGHT, measure="val_accuracy", contenders=names)
    for axes in figure.axes:
        low, high = axes.get_ylim()
        assert low <= 0.1 < 0.9 <= high <= 1


@pytest.mark.parametrize("theme", style.THEMES, ids=lambda theme: theme.name)
def test_every_figure_of_twelve_long_names_is_drawn(crowded, theme):
    names = list(crowded.results.names.values())
    assert len(names) == 12
    for panel in panels(crowded.results, crowded.tables).values():
        if not panel.shown:
            continue
        svg = style.as_svg(panel.draw(panel.frame, theme), theme)
        assert len(svg) < 400_000
        longest = max(len(line) for text in texts(svg) for line in text.split("\n"))
        assert longest <= 46


def test_contenders_keep_their_stroke_in_every_figure():
    strokes = [style.stroke(style.LIGHT, number) for number in range(12)]
    assert len(set(strokes)) == 12
    assert [colour for colour, _ in strokes[:6]] == list(style.LIGHT.series)
    assert [dash for _, dash in strokes[:6]] == list(style.DASHES)


def test_names_over_thirty_columns_do_not_overlap():
    names = [f"fixmatch variant_{k}" for k in range(30)]
    ends = (-1, "-9"), (1, "+9")
    figure = draw_heat(Heat(np.zeros((3, 30)), [], list("abc"), names, ends), style.LIGHT)
    figure.draw_without_rendering()
    axes, _ = figure.axes
    boxes = [tick.get_window_extent() for tick in axes.get_xticklabels()]
    assert all(one.x1 <= other.x0 for one, other in itertools.pairwise(boxes))


@pytest.mark.parametrize("columns", [8, 9])
def test_where_cells_have_no_number_a_scale_says_what_colours_stand_for(columns):
    names = [f"m{k}" for k in range(columns + 1)]
    rows = [
        (c, name, 0.5 + value, value)
        for c, value in (("cat", 0.07), ("dog", -0.12))
        for name in names[:columns]
    ]
    schema = ("class", "contender", "recall", "difference")
    by_class = pl.DataFrame(rows, schema=schema, orient="row")
    found = texts(
        style.as_svg(classes.draw(by_class, style.LIGHT, contenders=names[:columns]), style.LIGHT)
    )
    pairs = [(a, b, 0.63 + 0.3 * (a == "m0")) for a, b in itertools.combinations(names, 2)]
    alike = pl.DataFrame(pairs, schema=("first", "second", "same"), orient="row")
    shares = texts(style.as_svg(agreement.draw(alike, style.LIGHT, contenders=names), style.LIGHT))
    scale = columns == 9
    assert found.count("\N{MINUS SIGN}12") == (1 if scale else columns)
    assert ("+12 points" in found) == scale
    assert {"60\u202f%", "100\u202f%"} <= set(shares) if scale else "63" in shares


def test_an_interval_that_leaves_the_axis_ends_in_an_arrow():
    schema = accuracy.SCHEMA
    frame = pl.DataFrame([("mean", "a", None, None, 0.9, 0.2, 1.3)], schema=schema, orient="row")
    figure = accuracy.draw(frame, style.LIGHT, contenders=["a"], between=(0.7, 1.0))
    markers = [line.get_marker() for line in figure.axes[0].get_lines()]
    assert "<" in markers
    assert ">" not in markers  # accuracies end at 1, as the axis does


def test_a_single_training_is_drawn():
    made = results(compare_section(methods=("paws",), budgets=("b",), seeds=(1,)))
    for panel in panels(made, tables(made)).values():
        if panel.shown:
            assert texts(style.as_svg(panel.draw(panel.frame, style.DARK), style.DARK))


def ranking(methods, datasets=12, seed=0):
    rng = np.random.default_rng(seed)
    scores = rng.normal(0, 1, (datasets, methods)) + 0.7 * np.arange(methods)
    return rank(scores, rng)


def test_the_critical_difference_diagram_goes_from_best_to_worst():
    made = Ranking(10, (2.4, 1.2, 2.4), 9.0, 0.01, 1.05, ((1,), (0, 2)), None)
    frame = critical_difference.data(made, ["a", "b", "c"])
    assert frame.rows() == [
        ("b", 1.2, [0], 1.05),
        ("a", 2.4, [1], 1.05),
        ("c", 2.4, [1], 1.05),
    ]
    shown = texts(style.as_svg(critical_difference.draw(frame, style.LIGHT), style.LIGHT))
    assert "critical difference 1.05" in shown
    assert "b  1.20" in shown
    assert "2.40  c" in shown
    assert any("average rank" in text for text in shown)
    assert any("bars join" in text for text in shown)


@pytest.mark.parametrize(
    ("p", "told"), [(0.0001, "p <= 0.0001 (permutations)"), (0.0312, "p = 0.0312")]
)
def test_drawn_permutations_give_no_smaller_p_than_one_of_them(p, told):
    assert Ranking(10, (1.0,), 9.0, p, 1.05, (), None).p_words == told


@pytest.mark.parametrize("theme", style.THEMES, ids=lambda theme: theme.name)
@pytest.mark.parametrize("methods", [3, 4, 5, 12])
def test_critical_differences_of_many_methods(methods, theme):
    names = [f"{LONG}_{m}"[-30:] for m in range(methods)]
    frame = critical_difference.data(ranking(methods), names)
    figure = critical_difference.draw(frame, theme)
    shown = texts(style.as_svg(figure, theme))
    assert sum("  " in text for text in shown) == methods


def test_ranks_without_a_test_have_no_bars():
    made = ranking(3, datasets=1)
    assert made.refused is not None
    frame = critical_difference.data(made, ["a", "b", "c"])
    shown = texts(style.as_svg(critical_difference.draw(frame, style.LIGHT), style.LIGHT))
    assert not any("critical" in text or "bars join" in text for text in shown)


def test_no_number_of_a_picture_is_a_guess(usual):
    """The points of the accuracy figure are those of the table of cells."""
    frame = panels(usual.results, usual.tables)["accuracy_labels_20"].frame
    seeds = frame.filter((pl.col("what") == "seed") & (pl.col("contender") == "paws"))["value"]
    mean = frame.filter((pl.col("what") == "mean") & (pl.col("contender") == "paws"))["value"][0]
    own = [
        p.right_N.mean() for key, p in usual.results.predictions.items()
        if key.startswith("paws-standard-labels_20-")
    ]  # fmt: skip
    assert seeds.to_list() == pytest.approx(own)
    assert math.isclose(mean, sum(own) / 3, abs_tol=1e-6)
