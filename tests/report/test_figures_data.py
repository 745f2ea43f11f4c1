"""The numbers behind the figures, against numbers worked out by hand."""

import numpy as np
import polars as pl
import pytest

from pipeline_lib.figures import (
    accuracy,
    annotators,
    candidates,
    co_occurrence,
    confusion,
    disambiguation,
    embedding,
    lines,
    loss,
    mistakes,
    per_class,
    pseudo_labels,
    range_test,
    reliability,
    style,
    tiles,
    training_images,
)
from pipeline_lib.report.build import as_csv


def text_table(**columns):
    """A table as it comes from a CSV file: every cell is text, an empty one is null."""
    return pl.DataFrame(columns, schema=dict.fromkeys(columns, pl.String))


def test_losses_are_the_totals_and_the_parts():
    history = text_table(
        epoch=["0", "1", "2"],
        step=["0", "10", "20"],
        learning_rate=["0.1", "0.1", "0.1"],
        loss=[None, "2.5", "1.5"],
        complementary_loss=[None, "2.0", "nan"],
        consistency_weight=["0", "0.5", "1"],
        val_loss=["2.25", "2", "inf"],
        val_covering_rate=["0.1", "0.2", "0.3"],
    )
    assert loss.data(history).rows() == [
        (1, "training", 2.5),
        (2, "training", 1.5),
        (0, "validation", 2.25),
        (1, "validation", 2.0),
        (1, "complementary loss", 2.0),
    ]


def test_history_without_training_has_no_losses():
    assert loss.data(text_table(epoch=[], loss=[])).is_empty()
    assert loss.data(text_table(epoch=["0"], loss=[None])).is_empty()


def test_validation_shows_true_accuracy_and_the_criteria_beside_it():
    curve = text_table(
        epoch=["1", "2"], val_accuracy=["0.5", None], disambiguation_accuracy=["0.25", "0.75"]
    )
    history = text_table(epoch=["1", "2"], val_covering_rate=["0.6", "0.7"])
    assert accuracy.data(history, curve).rows() == [
        (1, "accuracy (true labels)", 0.5),
        (1, "covering rate", 0.6),
        (2, "covering rate", 0.7),
    ]
    assert disambiguation.data(curve)["value"].to_list() == [0.25, 0.75]


def test_criteria_that_equal_the_accuracy_are_left_out():
    history = text_table(epoch=["1"], val_covering_rate=["0.6"], val_accuracy=["0.6"])
    curve = text_table(epoch=["1"], val_accuracy=["0.6"])
    assert accuracy.data(history, curve)["series"].to_list() == ["accuracy (true labels)"]


def test_no_disambiguation_curve_without_a_label_table():
    curve = text_table(
        epoch=["1", "2"], val_accuracy=["1", "1"], disambiguation_accuracy=[None] * 2
    )
    assert disambiguation.data(curve).is_empty()


def test_pseudo_labels_are_measured_beside_what_the_method_says():
    curve = text_table(
        epoch=["0", "1", "2"], coverage=["0.0", "0.5", None], precision=[None, "0.75", None]
    )
    history = text_table(epoch=["0", "1"], pseudo_label_rate=[None, "0.25"])
    assert pseudo_labels.data(history, curve).rows() == [
        (0, "coverage", 0.0),
        (1, "coverage", 0.5),
        (1, "precision", 0.75),
        (1, "used by the method", 0.25),
    ]
    of_mixmatch = pseudo_labels.data(history.drop("pseudo_label_rate"), curve)
    assert of_mixmatch["series"].unique(maintain_order=True).to_list() == ["coverage", "precision"]


def test_no_pseudo_labels_of_a_method_that_makes_none():
    curve = text_table(epoch=["0", "1"], coverage=[None] * 2, precision=[None] * 2)
    assert pseudo_labels.data(text_table(epoch=["0", "1"]), curve).is_empty()
    assert pseudo_labels.data(text_table(epoch=[]), text_table(epoch=[])).is_empty()


def test_phases_are_told_apart_by_the_epochs_of_the_history():
    """An evaluation at the end of a phase belongs to it; an epoch that the history lacks, to none."""
    history = text_table(epoch=["0", "1", "2", "4", "5"], phase=["0", "0", "1", "2", "2"])
    frame = lines.tidy(text_table(epoch=["0", "1", "2", "3", "5"], loss=["1"] * 5), {"loss": "a"})
    told = lines.with_phases(frame, history, ["warm", "first", "second"])
    assert told["phase"].to_list() == ["warm", "warm", "first", None, "second"]
    assert told.drop("phase").equals(frame)
    assert lines.switches(told) == [(1, "first"), (2, "second")]
    assert lines.switches(told.filter(pl.col("epoch") < 2)) == []
    assert lines.switches(told.clear()) == []


def test_a_training_of_one_phase_has_no_switches():
    history = text_table(epoch=["0", "1"])
    frame = lines.tidy(text_table(epoch=["0", "1"], loss=["1", "1"]), {"loss": "a"})
    assert lines.with_phases(frame, history, ["train"]).equals(frame)
    assert lines.switches(frame) == []


@pytest.mark.parametrize(
    ("spans", "rows"),
    [
        ([], []),
        ([(0, 2), (2, 3), (5, 6)], [0, 0, 0]),
        ([(0, 2), (1, 3), (2.5, 4)], [0, 1, 0]),
        ([(0, 5), (1, 5), (2, 5)], [0, 1, 2]),
    ],
)
def test_names_that_would_overlap_stand_in_other_rows(spans, rows):
    assert lines.stacked(spans) == rows


def test_the_chosen_rate_is_a_point_of_the_smoothed_curve():
    curve = text_table(
        learning_rate=["0.001", "0.01", "0.1"],
        loss=["2.5", "1.5", "9"],
        smoothed_loss=["2", "1", "3"],
        step=["0", "1", "2"],
    )
    frame = range_test.data(curve, 0.01 * 10**0.5)
    assert frame.rows()[:-1] == [
        (0.001, "loss of the step", 2.5),
        (0.01, "loss of the step", 1.5),
        (0.1, "loss of the step", 9.0),
        (0.001, "smoothed", 2.0),
        (0.01, "smoothed", 1.0),
        (0.1, "smoothed", 3.0),
    ]
    rate, series, value = frame.row(-1)
    assert (rate, series) == (0.01 * 10**0.5, "rate that was chosen")
    assert value == pytest.approx(2.0)  # halfway between 1 and 3 in the logarithm of the rate
    assert range_test.data(curve, 1.0).row(-1) == (1.0, "rate that was chosen", 3.0)


def test_the_table_of_a_range_test_tells_its_rates_apart():
    rates = 1e-6 * 10 ** (np.arange(9) / 8)
    curve = pl.DataFrame({"learning_rate": rates, "loss": rates, "smoothed_loss": rates})
    written = pl.read_csv(as_csv(range_test.data(curve, 1e-5)).encode())
    assert written["learning_rate"][:9].to_list() == pytest.approx(rates, rel=1e-5)


def test_no_range_test_where_the_rate_was_given():
    assert range_test.data(pl.DataFrame(), 0.1).is_empty()  # an empty file has no columns
    none = text_table(learning_rate=[], loss=[], smoothed_loss=[], step=[])
    assert range_test.data(none, 0.1).is_empty()


def points_table(*rows):
    names = ("x", "y", "kind", "class", "predicted")
    return pl.DataFrame(rows, schema=dict.fromkeys(names, pl.String), orient="row")


def test_test_images_of_the_embedding_are_right_or_wrong():
    table = points_table(
        ("0.5", "-1", "test", "1", "1"),
        ("2", "0", "test", "cat", "1"),
        ("1e-4", "3", "support", "cat", None),
    )
    assert embedding.data(table).rows() == [
        (0.5, -1.0, "right", "1", "1"),
        (2.0, 0.0, "wrong", "cat", "1"),
        (0.0001, 3.0, "support", "cat", None),
    ]
    assert embedding.data(table.clear()).is_empty()
    assert embedding.data(table).schema == embedding.SCHEMA


def test_a_name_stands_at_the_median_of_its_test_images():
    """Of classes in one place, the one with most images; the support moves no name."""
    rows = [(x, 0, "right", "a", "a") for x in (0, 1, 9)] + [(1, 0, "wrong", "b", "a")] * 2
    rows += [(9, 9, "right", "c", "c"), (50, 50, "support", "c", None)]
    frame = pl.DataFrame(rows, schema=embedding.SCHEMA, orient="row")
    assert embedding.named(frame) == [("a", 1.0, 0.0), ("c", 9.0, 9.0)]
    apart = frame.with_columns(y=pl.when(pl.col("class") == "b").then(40.0).otherwise("y"))
    assert [name for name, *_ in embedding.named(apart)] == ["a", "b", "c"]


def test_a_name_at_the_edge_is_moved_inside():
    """As far as its letters ask: the square is a tenth larger than what the points need, from -55 to 55."""
    rows = [
        (-50, 0, "right", "ab", "ab"),
        (50, 50, "right", "c" * 10, ""),
        (0, -50, "support", "c", None),
    ]
    frame = pl.DataFrame(rows, schema=embedding.SCHEMA, orient="row")
    rightmost = pytest.approx(55 * (1 - 10 * embedding.LETTER))
    assert embedding.named(frame) == [("ab", -50, 0), ("c" * 10, rightmost, 50)]


def test_confusion_counts_and_shares():
    predictions = pl.DataFrame({"label": [2, 0, 0, 0, 1], "predicted": [0, 0, 1, 0, 0]})
    cells = confusion.data(predictions, ["a", "b", "c"])
    assert cells.rows() == [
        ("a", "a", 2, 0.666667),
        ("a", "b", 1, 0.333333),
        ("b", "a", 1, 1.0),
        ("c", "a", 1, 1.0),
    ]
    none = confusion.data(predictions.clear(), ["a", "b"])
    assert none.is_empty()
    assert none.schema == cells.schema


def test_confusion_of_many_classes_is_as_long_as_what_occurs():
    label_N = np.arange(30_000)
    predictions = pl.DataFrame({"label": label_N, "predicted": label_N // 2})
    assert len(confusion.data(predictions, [f"c{k}" for k in label_N])) == 30_000


def test_confusion_of_class_numbers_beyond_int8():
    predictions = pl.DataFrame(
        {"label": [99], "predicted": [98]}, schema={"label": pl.Int16, "predicted": pl.Int16}
    )
    cells = confusion.data(predictions, [f"c{k}" for k in range(100)])
    assert cells.rows() == [("c99", "c98", 1, 1.0)]


def test_reliability_bins_and_their_calibration_error():
    bins = reliability.data(
        text_table(
            bin=["0", "1"],
            lower=["0.0", "0.5"],
            upper=["0.5", "1.0"],
            count=["0", "4"],
            mean_confidence=[None, "0.9"],
            accuracy=[None, "0.75"],
        )
    )
    assert bins["count"].to_list() == [0, 4]
    assert bins["accuracy"].to_list() == [None, 0.75]
    assert reliability.calibration_error(bins) == pytest.approx(0.15)
    more = bins.vstack(pl.DataFrame([(0.5, 1.0, 12, 0.5, 0.55)], schema=bins.schema, orient="row"))
    assert reliability.calibration_error(more) == pytest.approx((4 * 0.15 + 12 * 0.05) / 16)


def test_reliability_without_images_is_empty():
    bins = text_table(
        lower=["0"], upper=["1"], count=["0"], mean_confidence=[None], accuracy=[None]
    )
    assert reliability.data(bins).is_empty()


def test_per_class_keeps_names_that_look_like_numbers():
    table = text_table(
        **{"class": ["007", "b"]},
        images=["3", "0"],
        recall=["0.5", None],
        precision=["1.0", None],
        f1=["0.6667", None],
    )
    assert per_class.data(table).rows() == [
        ("007", 3, 0.5, 1.0, 0.6667),
        ("b", 0, None, None, None),
    ]


def sets_table(*sets):
    return pl.DataFrame(
        {"id": range(len(sets)), "candidates": [list(names) for names in sets]},
        schema={"id": pl.Int32, "candidates": pl.List(pl.String)},
    )


def truth_table(*names):
    return pl.DataFrame(
        {"id": range(len(names)), "true_label": names},
        schema={"id": pl.Int32, "true_label": pl.String},
    )


def test_candidates_are_counted_by_size_and_kind():
    frame = candidates.data(sets_table("a", "ab", "bc", "b", "abcd", "c"), 4)
    assert frame.rows() == [
        (1, "one", 3, 0.5),
        (2, "several", 2, 0.333333),
        (3, "several", 0, 0.0),
        (4, "all", 1, 0.166667),
    ]
    of_two = candidates.data(sets_table("a", "ab", "ab"), 2)
    assert of_two["kind"].to_list() == ["one", "all"]
    assert candidates.data(sets_table(), 3).is_empty()


def test_no_candidates_are_all_classes():
    """As evaluate writes them: where nothing is known, no names are listed."""
    listed, truth = sets_table("a", "ab", "abc", "bc", "abc"), truth_table(*"aabbc")
    nulls = listed.with_columns(
        pl.when(pl.col("candidates").list.len() < 3).then(pl.col("candidates"))
    )
    assert nulls["candidates"].null_count() == 2
    classes = ["a", "b", "c"]
    told = {"label": list("abcba"), "confidence": [0.5] * 5}
    for make in (
        lambda sets: candidates.data(sets, 3),
        lambda sets: co_occurrence.data(sets, truth, classes),
        lambda sets: training_images.choose(
            sets.with_columns(**{name: pl.Series(of) for name, of in told.items()}),
            truth,
            classes,
            4,
            seed=1,
        ),
    ):
        assert make(nulls).equals(make(listed))
        assert len(make(nulls)) >= 3


def test_co_occurrence_by_true_class():
    """Sets of all classes do not count; one set of class b misses b; c has none."""
    labels = sets_table("ab", "ac", "a", "bc", "ac", "abc", "b")
    truth = truth_table("a", "a", "a", "b", "b", "c", None)
    cells = co_occurrence.data(labels, truth, "abc")
    assert cells.columns[0] == "true_class"
    assert cells.rows() == [
        ("a", "a", 3, 1.0),
        ("a", "b", 1, 0.333333),
        ("a", "c", 1, 0.333333),
        ("b", "a", 1, 0.5),
        ("b", "b", 1, 0.5),
        ("b", "c", 2, 1.0),
        ("c", "a", 0, None),
        ("c", "b", 0, None),
        ("c", "c", 0, None),
    ]
    assert co_occurrence.strongest(cells, 2) == [("b", "c", 2, 1.0), ("b", "a", 1, 0.5)]


def test_co_occurrence_of_pairs_where_true_classes_are_unknown():
    """Known for the set of one class, which it equals, and for no other: it would say nothing."""
    labels = sets_table("ab", "ab", "ac", "b", "abcd")
    cells = co_occurrence.data(labels, truth_table(None, None, None, "b", "a"), "abcd")
    assert cells.columns[0] == "class"
    held = {(first, other): (sets, share) for first, other, sets, share in cells.rows()}
    assert held["a", "a"] == (3, 1.0)
    assert held["a", "b"] == (2, 0.666667)
    assert held["b", "a"] == (2, 0.666667)
    assert held["c", "a"] == (1, 1.0)
    assert held["b", "c"] == (0, 0.0)
    assert held["d", "a"] == (0, None)


@pytest.mark.parametrize("known", [True, False])
def test_co_occurrence_is_what_counting_one_by_one_gives(known):
    """More images than are counted at once, against loops over sets."""
    rng = np.random.default_rng(3)
    names = [f"c{k}" for k in range(5)]
    held_NK = rng.random((9000, 5)) < 0.4
    held_NK[~held_NK.any(axis=1), 2] = True
    sets = [[names[k] for k in np.flatnonzero(row)] for row in held_NK]
    true = [names[k] if known else None for k in rng.integers(0, 5, len(sets))]
    expected = {(row, column): 0 for row in names for column in names}
    for name, held in zip(true, sets, strict=True):
        for row in ([name] if known else held) if len(held) < 5 else ():
            for column in held:
                expected[row, column] += 1
    cells = co_occurrence.data(sets_table(*sets), truth_table(*true), names)
    assert {(row, column): sets for row, column, sets, _ in cells.rows()} == expected


def test_no_co_occurrence_where_sets_hold_one_class_or_all():
    labels, truth = sets_table("a", "b", "abc"), truth_table("a", "b", "c")
    assert co_occurrence.data(labels, truth, "abc").is_empty()
    assert co_occurrence.data(sets_table(), truth_table(), "abc").is_empty()
    wrong = co_occurrence.data(labels, truth_table("a", "c", "c"), "abc")
    assert co_occurrence.strongest(wrong, 9) == [("c", "b", 1, 1.0)]  # a wrong label says something


def test_what_goes_together_most_often_is_what_most_sets_say():
    """A rare class with another in its only set comes after frequent ones."""
    labels = sets_table("ab", *["cd"] * 3, *["c"] * 2, "abcde")
    known = co_occurrence.data(labels, truth_table(*"accccce"), "abcde")
    assert co_occurrence.strongest(known, 9) == [("c", "d", 3, 0.6), ("a", "b", 1, 1.0)]


def test_of_unknown_classes_a_pair_is_named_once():
    """Both directions are of the same sets: what stands in the larger share of its own is told."""
    labels = sets_table("ab", *["cd"] * 3, *["c"] * 2, "abcde")
    unknown = co_occurrence.data(labels, truth_table(*[None] * 7), "abcde")
    assert co_occurrence.strongest(unknown, 9) == [("d", "c", 3, 1.0), ("a", "b", 1, 1.0)]


def test_of_many_classes_those_that_go_together_are_neighbours():
    names = [f"c{k}" for k in range(40)]
    sets = [[name for k, name in enumerate(names) if k % 8 == n] for n in range(8)]
    cells = co_occurrence.data(sets_table(*sets), truth_table(*[None] * 8), names)
    order = cells["candidate"].head(40).to_list()
    assert sorted(order) == sorted(names)
    groups = [int(name[1:]) % 8 for name in order]
    assert groups == [group for group in range(8) for _ in range(5)]


def test_of_too_many_classes_those_that_share_most_sets_are_kept():
    names = [f"c{k:03}" for k in range(300)]
    pairs = [[names[2 * n], names[2 * n + 1]] for n in range(150) for _ in range(1 + (n >= 100))]
    cells = co_occurrence.data(sets_table(*pairs), truth_table(*[None] * len(pairs)), names)
    assert len(cells) == 100**2
    assert cells["candidate"].head(100).to_list() == names[200:]


def test_annotators_are_ranked_by_their_estimated_accuracy():
    def one(name, estimated, accuracy=None):
        return {"name": name, "votes": 5, "estimated_accuracy": estimated, "accuracy": accuracy}

    found = {"best": [one("7", 0.9, 0.8), one("b", 0.7)], "worst": [one("c", None), one("d", 0.2)]}
    assert annotators.data(found).rows() == [
        ("7", 5, 0.9, 0.8),
        ("b", 5, 0.7, None),
        ("d", 5, 0.2, None),
        ("c", 5, None, None),
    ]
    assert annotators.data({"best": [], "worst": []}).is_empty()


@pytest.mark.parametrize(
    ("share", "text"),
    [
        (0, "0 %"),
        (0.00049, "<0.1 %"),
        (0.0005, "0.1 %"),
        (0.0994, "9.9 %"),
        (0.0995, "10 %"),
        (0.5, "50 %"),
        (0.99, "99.0 %"),
        (0.9994, "99.9 %"),
        (0.9995, ">99.9 %"),
        (1, "100 %"),
    ],
)
def test_shares_in_percent_never_claim_nothing_or_all(share, text):
    assert style.percent(share).replace(style.NARROW, " ") == text


def test_worst_mistakes_come_most_confident_first():
    probabilities = [[0.1, 0.9], [0.7, 0.3], [0.2, 0.8], [0.1, 0.9], [0.6, 0.4]]
    predictions = pl.DataFrame(
        {
            "id": [4, 1, 2, 3, 0],
            "label": [0, 0, 1, 0, 1],
            "predicted": [1, 0, 1, 1, 0],
            "probabilities": probabilities,
        }
    )
    chosen = mistakes.choose(predictions, ["cat", "dog"], count=5)
    assert chosen.rows() == [
        (3, "cat", "dog", 0.9, 0.1),
        (4, "cat", "dog", 0.9, 0.1),  # as confident: the lower id first
        (0, "dog", "cat", 0.6, 0.4),
    ]
    assert mistakes.choose(predictions, ["cat", "dog"], count=1)["id"].to_list() == [3]
    assert mistakes.choose(predictions, ["cat", "dog"], count=0).is_empty()


def labels_table(wrong, right, single=0, unknown=0):
    count = wrong + right + single + unknown
    candidates = [["a", "b"]] * (wrong + right) + [["a"]] * single + [["a", "b"]] * unknown
    labels = pl.DataFrame(
        {
            "id": range(count),
            "source": [f"{i}.png" for i in range(count)],
            "candidates": candidates,
            "label": ["a"] * count,
            "confidence": [0.5] * count,
        }
    )
    true = ["b"] * wrong + ["a"] * (right + single) + [None] * unknown
    truth = pl.DataFrame(
        {"id": range(count), "true_label": true}, schema_overrides={"true_label": pl.String}
    )
    return labels, truth, ["a", "b"]


@pytest.mark.parametrize(
    ("wrong", "right", "count", "expected"),
    [
        (50, 50, 8, 4),  # as many as there are in the data
        (2, 98, 8, 2),  # all of them, up to a quarter
        (4, 996, 8, 2),
        (0, 100, 8, 0),
        (100, 0, 8, 8),
        (9, 1, 10, 9),
        (3, 2, 100, 3),
    ],
)
def test_training_images_show_right_and_wrong_labels(wrong, right, count, expected):
    chosen = training_images.choose(*labels_table(wrong, right), count, seed=1)
    assert len(chosen) == min(count, wrong + right)
    assert chosen["right"].eq(other=False).sum() == expected
    assert chosen["right"].to_list() == sorted(chosen["right"].to_list())  # wrong ones first
    assert chosen["id"].n_unique() == len(chosen)


def test_training_images_are_ambiguous_ones_where_there_are_any():
    chosen = training_images.choose(*labels_table(1, 2, single=50), 10, seed=1)
    assert chosen["id"].to_list() == [0, 1, 2]
    only_single = training_images.choose(*labels_table(0, 0, single=5), 10, seed=1)
    assert len(only_single) == 5


def test_training_images_of_unknown_class_are_neither_right_nor_wrong():
    chosen = training_images.choose(*labels_table(0, 0, unknown=4), 10, seed=1)
    assert chosen["right"].to_list() == [None] * 4


def test_training_images_depend_on_the_seed_alone():
    tables = labels_table(5, 95)
    draws = [training_images.choose(*tables, 12, seed)["id"].to_list() for seed in (1, 1, 2)]
    assert draws[0] == draws[1] != draws[2]


def test_pixels_travel_through_a_frame():
    images = np.random.default_rng(0).integers(0, 256, (3, 4, 5, 3)).astype(np.uint8)
    frame = tiles.with_pixels(pl.DataFrame({"id": [3, 1, 2]}), images)
    found = [tiles.image_of(row) for row in frame.iter_rows(named=True)]
    np.testing.assert_array_equal(np.stack(found), images)
