"""The page and the files beside it, built from a made-up run."""

import hashlib
import importlib
import json
import os
import re
import shutil
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import get_args

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from matplotlib.text import Text

from pipeline_lib import artifacts
from pipeline_lib.artifacts import publish_json, publish_text, read_json, sha256, verify
from pipeline_lib.card.content import content
from pipeline_lib.errors import UserError
from pipeline_lib.evaluation import tables
from pipeline_lib.figures import mistakes, training_images
from pipeline_lib.figures.co_occurrence import strongest
from pipeline_lib.figures.style import LIGHT, label
from pipeline_lib.params.load import load
from pipeline_lib.params.split import Annotations, Split
from pipeline_lib.parquet import publish_table
from pipeline_lib.report import facts
from pipeline_lib.report.inputs import read_inputs
from pipeline_lib.report.labels import protocol_words, validation_words
from pipeline_lib.report.page import render
from pipeline_lib.report.panels import _pair_words, panels
from tests.html_page import ADDRESSES, Page
from tests.report.conftest import people, write_run

ROOT = Path(__file__).parents[2]
FIGURES = (
    "accuracy",
    "candidates",
    "co_occurrence",
    "confusion",
    "disambiguation",
    "loss",
    "mistakes",
    "per_class",
    "reliability",
    "training_images",
)
PROTOCOLS = {*get_args(Split.model_fields["protocol"].annotation), "clean"} - {"auto"}


def read(run):
    return Page(run.page.read_text(encoding="utf-8"))


@pytest.fixture
def run(make_run):
    return make_run()


def test_the_page_says_what_was_run_and_how_well_it_did(digits_run):
    page = read(digits_run)
    metrics = pl.read_json(digits_run.reports / "metrics.json").to_dicts()[0]
    low, high = metrics["test"]["accuracy_low"], metrics["test"]["accuracy_high"]
    for words in (
        "cr_dpll on digits",
        "official",
        "uniform_candidates",
        "8 \N{MULTIPLICATION SIGN} 8 pixels, grey",
        "40 training images, with",
        f"{100 * metrics['test']['accuracy']:.1f}%",
        f"interval {100 * low:.1f}% to {100 * high:.1f}%",
        "60 test images; always naming the most frequent class would get 10.0%",
        f"{metrics['test']['nll']:.4f}",
        "weights of epoch 6",
        "dvc repro",
        "dvc exp run -S seed=2",
    ):
        assert words in page.text


def test_the_page_and_the_card_say_what_the_training_was_too_short_for(make_run):
    run = make_run()
    path = run.reports / "train/phases.json"
    why = "train.milestones 100, 150: training has 6 epochs"
    publish_json(path, read_json(path) | {"unfinished": [why]})
    assert f"Too short for a setting: {why}." in undrawn(run).text
    card = content(read_inputs(run.data, run.reports), run.data, run.root / "models")
    assert f"Training was too short for a setting: {why}." in card["limits"]


def test_a_label_that_was_given_is_not_called_right(make_run):
    """Nobody has compared it with anything: that it is the folder's says nothing of the image."""
    inputs, report = inputs_of(make_run())
    found = panels(inputs, report)
    panel = found["training_images"]
    given = panel.frame.with_columns(
        candidates=pl.concat_list("label"),
        true_label="label",
        right=pl.lit(value=True),
        confidence=1.0,
    )
    blank = {key: {"light": b"<svg/>", "dark": b"<svg/>"} for key in found}
    page = Page(render(inputs, found | {"training_images": replace(panel, frame=given)}, blank))
    cards = page.text[page.text.index("Training images and their candidates") :]
    assert cards.count("chosen, given given") == len(given)
    assert "100% sure" not in cards
    assert "A grey one was given: there was nothing to choose." in cards
    drawn = training_images.draw(given, LIGHT)
    assert not [t for t in drawn.findobj(Text) if "\N{CHECK MARK}" in t.get_text()]


def test_images_are_counted_by_their_candidates(digits_run):
    sets = pl.read_parquet(digits_run.reports / "labels.parquet")["candidates"]
    sizes = sets.list.len().fill_null(10)
    labeled, unlabeled = (sizes == 1).sum(), (sizes == 10).sum()
    assert labeled >= 2
    assert unlabeled >= 2
    text = read(digits_run).text
    assert f"{labeled} labeled" in text
    assert f"{40 - labeled - unlabeled} partial" in text
    assert f"{unlabeled} unlabeled" in text
    assert f"{sizes.mean():.2f} candidate labels each" in text


def test_labeled_means_on_page_and_card_what_it_means_in_metrics_json(make_run):
    """A drawn set of one class is no label, and an image of both sets has one."""
    roles = {"labeled": 3, "labeled_and_unlabeled": 2, "partial": 30, "unlabeled": 5}
    options = load().split.mixed.model_dump()
    run = make_run(
        summary={
            "protocol": "mixed",
            "parameters": options,
            "roles": {"train": roles, "val": roles},
        }
    )
    path = run.reports / "metrics.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"protocol": "mixed"}))
    text = undrawn(run).text
    for words in ("5 labeled", "30 partial", "5 unlabeled", "happens to hold one class or all"):
        assert words in text
    card = content(read_inputs(run.data, run.reports), run.data, run.root / "models")["supervision"]
    assert [card[kind] for kind in ("labeled", "partial", "unlabeled")] == [5, 30, 5]


def test_sections_come_in_the_order_of_interest(digits_run):
    ids = [
        attrs["id"]
        for _, attrs in read(digits_run).tags
        if "id" in attrs and "title" not in attrs["id"]
    ]
    wanted = [
        "result",
        "loss",
        "accuracy",
        "disambiguation",
        "confusion",
        "reliability",
        "per_class",
    ]
    wanted += ["labels", "candidates", "co_occurrence"]
    wanted += ["images", "worst", "reproduce"]
    assert [name for name in ids if name in wanted] == wanted


def test_one_page_that_needs_nothing_else(digits_run):
    html = digits_run.page.read_text(encoding="utf-8")
    page = Page(html)
    addresses = [
        attrs.get("src") or attrs.get("srcset") or attrs.get("href") for _, attrs in page.tags
    ]
    outside = [a for a in addresses if a and not a.startswith(("data:", "#"))]
    assert outside == []
    assert page.all("script") == []
    assert "default-src 'none'" in page.all("meta")[1]["content"]
    assert not re.search(r"url\(|@import|https?://", html)
    assert len(html) < 1_000_000


def whole_and_shown(html):
    """Of every class name on the page: the tooltip (None where nothing was cut) and the text."""

    class Names(HTMLParser):
        found, inside = [], False

        def handle_starttag(self, tag, attrs):
            assert not self.inside, f"<{tag}> inside a class name"
            if tag == "bdi":
                self.inside = True
                self.found.append([dict(attrs).get("title"), ""])

        def handle_endtag(self, tag):
            self.inside = self.inside and tag != "bdi"

        def handle_data(self, data):
            if self.inside:
                self.found[-1][1] += data

    names = Names()
    names.feed(html)
    return names.found


def test_row_39_hostile_class_names_stay_text(hostile_run, digits_run):
    """FAULTS row 39: no name becomes an element, an attribute, an address or a very long line."""
    html = hostile_run.page.read_text(encoding="utf-8")
    page = Page(html)  # every tag closes where it should
    assert {tag for tag, _ in page.tags} <= {tag for tag, _ in read(digits_run).tags}
    assert page.all("script") == []
    assert len(page.all("title")) == 1
    names = {name for _, attrs in page.tags for name in attrs}
    assert not {
        name for name in names if name.startswith("on") or not re.fullmatch("[a-z-]+", name)
    }
    addresses = [attrs[key] for _, attrs in page.tags for key in ADDRESSES if key in attrs]
    assert [a for a in addresses if not a.startswith(("data:image/", "data:,", "#"))] == []

    shown = whole_and_shown(html)
    cut = {text for title, text in shown if title}
    in_the_table = (
        "n" * 60 + "…" + "n" * 59
    )  # which is where names that begin and end alike can be told apart
    assert cut >= {in_the_table, "n" * 12 + "…" + "n" * 11}
    assert {title for title, text in shown if text.startswith("nn")} == {"n" * 300}
    assert all(0 < len(text) <= 48 for _, text in shown if text != in_the_table)
    assert max(len(word) for word in page.text.split() if word != in_the_table) <= 48
    whole = {title or text for title, text in shown}
    for name in hostile_run.classes:
        printed = " ".join(name.split()).translate({0x07: "\ufffd", 0x202E: "\ufffd"})
        assert printed in whole
    assert not set(html) & {"\u202e", "\x07"}


def test_every_image_has_words_and_every_chart_two_themes(digits_run):
    page = read(digits_run)
    assert all(attrs["alt"].strip() for attrs in page.all("img"))
    assert len(page.all("picture")) == 8
    assert all("dark" in attrs["media"] for attrs in page.all("source"))
    assert len(page.all("source")) == 8


def test_every_figure_is_a_file_and_its_data_a_table(digits_run):
    figures = {path.name for path in (digits_run.reports / "figures").glob("**/*.*")}
    assert figures == {f"{name}.{kind}" for name in FIGURES for kind in ("png", "svg")}
    for name in FIGURES:
        path = digits_run.reports / f"tables/{name}.csv"
        verify(path)
        table = pl.read_csv(path, infer_schema=False)
        assert len(table) > 0
        assert "pixels" not in table.columns
    shown = pl.read_csv(digits_run.reports / "tables/training_images.csv", infer_schema=False)
    labels = pl.read_parquet(digits_run.reports / "labels.parquet")
    expected = {
        str(row["id"]): "|".join(row["candidates"] or digits_run.classes)
        for row in labels.to_dicts()
    }
    assert dict(shown.select("id", "candidates").rows()).items() <= expected.items()


def test_a_file_that_is_read_several_times_is_hashed_once(make_run, monkeypatch):
    """The page and the card show images, and read the same tables."""
    run, hashed = make_run(), []
    inputs = {
        path for path in run.root.rglob("*") if path.with_name(f"{path.name}.sha256").exists()
    }
    monkeypatch.setattr(artifacts, "SETTLED_NS", 0)
    monkeypatch.setattr(artifacts, "sha256", lambda path: hashed.append(path) or sha256(path))
    run.build()
    counts = Counter(path for path in hashed if path in inputs)
    assert counts[run.data / "images.parquet"] == 1
    assert set(counts.values()) == {1}


def test_recovered_labels_are_marked_right_or_wrong(digits_run):
    page = read(digits_run)
    marks = [attrs["class"] for attrs in page.all("span") if "chosen" in attrs.get("class", "")]
    shown = pl.read_csv(digits_run.reports / "tables/training_images.csv", infer_schema=False)
    # one of each in the explanation, and the wrong ones among the worst mistakes
    mistakes = len(pl.read_csv(digits_run.reports / "tables/mistakes.csv"))
    assert marks.count("chip chosen wrong") == 1 + (shown["right"] == "false").sum() + mistakes
    assert marks.count("chip chosen right") == 1 + (shown["right"] == "true").sum()


def test_a_method_without_labels_of_its_own(make_run):
    """The figure of them is left out with a sentence, and that of an earlier run does not stay behind.

    The training images have labels all the same: those of its predictor.
    """
    run = make_run(keeps_labels=False)
    (run.reports / "figures").mkdir()
    (run.reports / "figures/disambiguation.svg").write_text("<svg/>")
    (run.reports / "tables").mkdir()
    (run.reports / "tables/disambiguation.csv").write_text("id\n")
    (sentence,) = run.build()
    text = read(run).text
    assert sentence in text
    assert "supervised keeps no labels of its own" in sentence
    assert text.count(" sure") > 20
    assert not (run.reports / "figures/disambiguation.svg").exists()
    assert not (run.reports / "tables/disambiguation.csv").exists()
    assert (run.reports / "tables/training_images.csv").exists()


def test_nothing_trained_nothing_wrong_nothing_asked_for(make_run):
    run = make_run(epochs=0, classes=("cat", "dog"))
    path = run.reports / "evaluate/predictions.parquet"
    predictions = pl.read_parquet(path)
    right = predictions["label"].to_numpy()
    probabilities = predictions["probabilities"].to_list()
    tested = tables.HeldOut(predictions["id"].to_numpy(), predictions["group"].to_numpy(), right)
    tables.publish_predictions(path, tested, right, probabilities)
    assert run.build(grid_images=0) == [
        "No co-occurrence of candidates: every set holds one class or all of them.",
        "Left out: report.grid_images is 0.",
        "No mistakes: every test image was recognised.",
    ]
    text = read(run).text
    assert "the whole set of 2 classes" in text


@pytest.mark.parametrize(("num_classes", "left_out"), [(2, True), (5, True), (6, False)])
def test_row_8_the_page_says_that_the_best_five_of_five_classes_are_left_out(
    make_run, num_classes, left_out
):
    """Row 8 of the faults."""
    run = make_run(epochs=1, classes=tuple("abcdef"[:num_classes]))
    said = "truth among the five likeliest; there are no more classes left out"
    text = undrawn(run).text
    assert "Top-5 accuracy truth among the five likeliest" in text
    assert (said in text) == left_out


def test_a_history_of_one_row_with_empty_columns(make_run):
    run = make_run(epochs=1)
    path = run.reports / "train/history.csv"
    header = path.read_text().splitlines()[0]
    tables.publish_csv(path, header.split(","), [{"epoch": 1, "loss": float("nan")}])
    tables.publish_label_curve(run.reports / "evaluate/label_curve.csv", [])
    assert len(run.build()) == 3  # neither loss, nor accuracy, nor disambiguation
    assert "no epoch was trained" in read(run).text


def test_always_naming_the_most_frequent_class_is_what_a_result_must_beat(make_run):
    """Of uneven classes, 1 / K says nothing."""
    run = make_run(epochs=1, classes=("cat", "dog"))
    path = run.reports / "evaluate/predictions.parquet"
    table = pq.read_table(path)
    labels = pa.array([0] * 54 + [1] * 6, table["label"].type)
    publish_table(path, table.set_column(table.column_names.index("label"), "label", labels))
    page = undrawn(run)
    assert "always naming the most frequent class would get 90.0%" in page.text
    assert {"class": "commonest", "style": "left:90.0%"} in page.all("span")


def test_captions_promise_no_line_that_is_not_there(make_run):
    run = make_run()
    text = undrawn(run).text
    assert (
        "minimised and its parts, before they are weighted; beside it, the loss on the val" in text
    )
    assert "Accuracy and the criteria that need no true labels." in text
    path = run.reports / "train/history.csv"
    own = pl.read_csv(path).select("epoch", "loss", "consistency_loss")
    publish_text(path, own.write_csv())
    text = undrawn(run).text
    assert "What was minimised and its parts, before they are weighted." in text
    assert "Accuracy. The weights of epoch 6" in text
    publish_text(path, own.select("epoch", "loss").write_csv())
    assert "What was minimised." in undrawn(run).text


@pytest.mark.parametrize(("known", "said"), [(0, None), (12, "the 12 images of known class")])
def test_recovered_labels_are_counted_by_those_of_known_class(make_run, known, said):
    """Where none is ambiguous too, a share of 1 would praise what was given."""
    run = make_run(epochs=1)
    path = run.reports / "metrics.json"
    metrics = json.loads(path.read_text())
    metrics["train"] |= {"images_ambiguous_of_known_class": known}
    if not known:
        metrics["train"]["disambiguation_accuracy_ambiguous"] = None
    path.write_text(json.dumps(metrics))
    text = undrawn(run).text
    assert ("Training labels recovered" in text) == bool(known)
    assert said is None or said in text


def test_images_with_one_candidate_are_not_called_ambiguous(make_run):
    run = make_run(epochs=1)
    among = "Drawn at random among the images with more than one candidate, but so that at least a quarter"
    assert among in undrawn(run).text
    path = run.reports / "labels.parquet"
    table = pq.read_table(path)
    single = pa.array([[name] for name in table["label"].to_pylist()], pa.list_(pa.string()))
    publish_table(path, table.set_column(2, "candidates", single))
    assert "Drawn at random, but so that at least a quarter" in undrawn(run).text


def test_the_median_of_one_evaluation_is_no_median():
    classes = pl.DataFrame({"accuracy": [1.0], "f1": [1.0]})
    assert (
        "the last one"
        in facts.measures({"test": {"median_accuracy": 1, "median_of": 1}}, classes)[1].explanation
    )


def test_a_mean_over_some_of_the_classes_says_so(make_run):
    """Six test images show six of ten classes."""
    text = undrawn(make_run(epochs=1, test=6, accuracy=1.0)).text
    assert "Balanced accuracy mean over the 6 of 10 classes that test images show" in text
    assert "mean over the 6 of 10 classes in test images or predictions; precision counts" in text
    assert "Left out: 4 of 10 classes, which no test image shows." in text
    all_shown = undrawn(make_run(epochs=1)).text
    assert "Balanced accuracy mean over the classes " in all_shown
    assert "Left out: 4 of 10" not in all_shown


def inputs_of(run):
    return read_inputs(run.data, run.reports), load().report


def undrawn(run):
    """The page without drawing its charts, which takes most of the time."""
    inputs, report = inputs_of(run)
    found = panels(inputs, report)
    blank = {key: {"light": b"<svg/>", "dark": b"<svg/>"} for key in found}
    return Page(render(inputs, found, blank))


def test_the_page_says_how_the_labels_came_about(digits_run, make_run):
    words = "Each wrong label joined the candidates with probability 0.3; every image got at least one of them."
    assert words in read(digits_run).text
    few = {"protocol": "few_shot", "parameters": load().split.few_shot.model_dump()}
    text = undrawn(make_run(summary=few)).text
    assert "100 images kept their label; the others are unlabeled." in text


@pytest.mark.parametrize("protocol", sorted(PROTOCOLS))
def test_every_protocol_has_words_of_its_own(protocol):
    options = getattr(load().split, protocol, None)
    parameters = options.model_dump() if options is not None else {}
    balance = {"labeled": [8, 3, 2]}
    words = protocol_words({"protocol": protocol, "parameters": parameters, "balance": balance})
    assert words.endswith(".")
    assert not words.startswith("Protocol")


@pytest.mark.parametrize("rule", get_args(Annotations.model_fields["rule"].annotation))
def test_every_rule_for_annotators_has_words(rule):
    annotators = people("anna") | {"rule": rule}
    given = {"protocol": "given", "parameters": {}, "annotators": annotators}
    assert protocol_words(given).startswith("Labels are those of the data. ")
    words = protocol_words(given)
    assert "candidate" in words
    assert {"at_least": "2", "weighted": "0.95"}.get(rule, "") in words


def test_a_protocol_that_somebody_added_is_told_by_its_parameters():
    options = {"rate": 0.25, "near": True}
    said = protocol_words({"protocol": "neighbours", "parameters": options})
    assert said == "Protocol neighbours with rate 0.25, near True."
    assert protocol_words({"protocol": "plain", "parameters": {}}) == "Protocol plain."


def test_validation_labels_that_are_better_than_those_of_training_are_told():
    roles = {"train": {"labeled_and_unlabeled": 30, "unlabeled": 230}, "val": {"labeled": 60}}
    summary = {"protocol": "given", "val_labels": "clean", "roles": roles}
    assert validation_words(summary) == "Validation images tell their true labels."
    # a table of the images in train/ leaves those in val/ the class of their folder
    named = summary | {"val_labels": "like_train"}
    assert validation_words(named) == "Every validation image has one label."
    for as_told in ({"labeled": 7, "unlabeled": 53}, {"partial": 60}, {"unlabeled": 60}, {}):
        assert validation_words(named | {"roles": roles | {"val": as_told}}) == ""
    # given labels may be wrong; where training has true ones too, nothing is better
    labeled = summary | {"roles": roles | {"train": {"labeled": 260}}}
    assert validation_words(labeled) == "Validation images tell their true labels."
    assert validation_words(labeled | {"protocol": "clean"}) == ""
    assert validation_words(labeled | {"val_labels": "like_train"}) == ""
    assert validation_words(summary | {"roles": roles | {"val": {}}}) == ""


@pytest.mark.parametrize(
    ("protocol", "changes", "words"),
    [
        ("uniform_candidates", {"force_ambiguous": False}, "with probability 0.3."),
        ("class_dependent", {}, "in the superclass of the true one"),
        ("class_dependent", {"similar": "matrix"}, "with probabilities by true class."),
        ("annotators", {}, "3 simulated annotators label every image, each right with probability 0.8."),
        ("annotators", {"count": 1}, "1 simulated annotator labels every image"),
        ("annotators", {"confusion": {"a": {"b": 1.0}}}, "each with errors by true class."),
        ("few_shot", {"labels": None, "labels_per_class": 4}, "4 images of each class kept"),
        (
            "few_shot",
            {"labels": None, "labels_per_class": 4, "balance": "long_tailed"},
            "4 images of the first class kept their label, falling from 8 of the first class to 2 of the last",
        ),
        (
            "few_shot",
            {"labels": None, "labels_per_class": 1},
            "1 image of each class kept its label; the others are unlabeled.",
        ),
        (
            "few_shot",
            {"labels": None, "labels_per_class": 4, "balance": "stratified"},
            "4 images per class on average kept their label, in proportion",
        ),
        ("few_shot", {"balance": "long_tailed"}, "to 2 of the last; the others are unlabeled."),
        ("few_shot", {"balance": "stratified", "unlabeled": 1000}, "one of each; 1,000 others are"),
        ("mixed", {}, "10 % of the images kept their label, 40 % got candidates"),
    ],
)  # fmt: skip
def test_parameters_of_protocols_are_told(protocol, changes, words):
    options = getattr(load().split, protocol).model_dump() | changes
    balance = {"labeled": [8, 3, 2]}
    summary = {"protocol": protocol, "parameters": options, "balance": balance}
    assert words in protocol_words(summary)


def test_the_page_says_what_was_noticed_about_the_labels(make_run):
    twins = {"rule": "drop", "groups": 3, "images": 7, "differ": 1, "first": [], "dropped": 4}
    twins["across"] = {"train_val": 0, "train_test": 2, "val_test": 1}
    summary = {
        "duplicates": twins,
        "noisy": {"train": 5, "val": 0},
        "candidates": {"train": {"holds_truth": 0.875}},
        "left_out": {"train": 11, "val": 0, "test": 0},
        "groups": {"train": 20, "val": 3, "test": 5, "left_out": 0, "alone": 2},
        "untold_classes": ["fox", "hare"],
    }
    run = make_run(summary=summary)
    bad = {"source": ["a.png", "b.png"], "reason": ["empty", "not an image"]}
    publish_table(run.data / "rejected.parquet", pa.table(bad))
    text = undrawn(run).text
    for words in (
        "Sets without the true label 5 87.5% of the training sets of known class hold it",
        "Images with the same pixels 7 3 groups, 2 across training and test, 1 across validation "
        "and test, 1 with different labels",
        "Duplicates dropped 4 one image of each group was kept",
        "Left out of training 11",
        "Classes that nothing names 2 fox, hare: no label or candidate set of a training image names them",
        "Groups of images 28 20 in training, 3 in validation, 5 in the test, none in two; 2 images in whose paths nothing is "
        "found are groups of their own",
        "The interval says what other groups of test images would change.",
        "Images rejected 2 unreadable; data/rejected.parquet says why",
    ):
        assert words in text


def test_nothing_noticed_is_said_too(digits_run):
    text = read(digits_run).text
    assert "Sets without the true label 0 100.0%" in text
    assert "Images with the same pixels 0 no two images are equal" in text
    assert "Images rejected 0 all were readable" in text
    assert "Duplicates dropped" not in text


def test_where_no_true_label_is_known(make_run):
    run = make_run(summary={"candidates": {"train": {"holds_truth": None}}})
    path = run.data / "split/oracle.parquet"
    table = pq.read_table(path)
    unknown = pa.nulls(len(table), pa.int16())
    publish_table(path, table.set_column(table.schema.get_field_index("label"), "label", unknown))
    text = undrawn(run).text
    assert "Sets without the true label unknown" in text
    assert "Percent of the sets with one class that hold another" in text


def test_annotators_have_a_chart_and_their_numbers(make_run, digits_run):
    assert "annotator" not in read(digits_run).text
    assert not (digits_run.reports / "tables/annotators.csv").exists()
    run = make_run(summary={"annotators": people("anna", "ben", "007")})
    assert run.build() == []
    page = read(run)
    assert len(page.all("picture")) == 9
    assert "Everything that an annotator named is a candidate." in page.text
    for words in (
        "Annotators 3 120 labels of 50 images, 2.4 each",
        "Agreement 75.0% of the pairs of labels; Krippendorff\N{RIGHT SINGLE QUOTATION MARK}s alpha 0.65",
        "Majority wrong, estimated 4.0% by the true labels 5.1%",
    ):
        assert words in page.text
    said = next(attrs["alt"] for attrs in page.all("img") if "annotators" in attrs["alt"])
    assert "3 annotators, from 90\u202f% for anna to 80\u202f% for 007" in said
    table = pl.read_csv(run.reports / "tables/annotators.csv", infer_schema=False)
    assert table.rows() == [
        ("anna", "40", "0.9", "0.85"),
        ("ben", "40", "0.85", None),
        ("007", "40", "0.8", "0.85"),
    ]


def test_annotators_without_estimates_are_said_to_have_none(make_run):
    about = people("anna", "ben")
    about["best"] = [one | {"estimated_accuracy": None} for one in about["best"]]
    text = undrawn(make_run(summary={"annotators": about})).text
    assert (
        "right, where true labels are known: images times classes are too many to estimate" in text
    )
    assert "Dawid" not in text


def test_the_table_of_confusions_holds_those_that_occur(digits_run):
    table = pl.read_csv(digits_run.reports / "tables/confusion.csv")
    assert table["images"].min() > 0
    assert table["images"].sum() == 60


def test_of_many_classes_the_page_says_which_are_in_the_confusion_matrix(make_run):
    shown = (
        "Shown are the 100 of 120 classes with the most mistakes, as true class or as prediction."
    )
    assert shown in undrawn(make_run(classes=[f"class {k}" for k in range(120)])).text
    assert "with the most mistakes" not in undrawn(make_run()).text


LIKE = tuple(
    f"{genus} {species} subsp. communis in locis apricis et siccis collina var. {number} (L., 1753) Nyman ex "
    f"W.D.J.Koch, sect. longissima nomenclaturae botanicae"
    for genus in ("Carex", "Rubus")
    for species in ("mulleri", "muelleri", "m\u00fclleri")
    for number in ("001", "002", "003")
)


@pytest.fixture(scope="module")
def like_run(tmp_path_factory):
    """Names of plants that begin and end alike; half of the test images are mistaken."""
    run = write_run(tmp_path_factory.mktemp("like"), LIKE, accuracy=0.5)
    inputs, report = inputs_of(run)
    found = panels(inputs, report)
    blank = {key: {"light": b"<svg/>", "dark": b"<svg/>"} for key in found}
    return inputs, found, render(inputs, found, blank)


def test_no_two_classes_of_a_card_read_the_same(like_run):
    """Nor does a mistake read as none: "X, is X"."""
    *_, html = like_run
    cards = html.split('<li class="card">')[1:]
    assert len(cards) > 40
    for card in cards:
        names = whole_and_shown(card.partition("</li>")[0])
        assert len({text for _, text in names}) == len({title for title, _ in names})
        assert all(0 < len(text) <= 24 for _, text in names)


def test_candidates_that_go_together_are_told_with_their_number(digits_run):
    table = pl.read_csv(digits_run.reports / "tables/co_occurrence.csv")
    pairs = table.filter(pl.col("true_class") != pl.col("candidate"))
    said = re.search("Most often: (.) in (.+?) of the sets of (.) \\(", read(digits_run).text)
    candidate, sets, name = map(int, said.groups())
    assert (name, candidate, sets) in pairs.select("true_class", "candidate", "sets").rows()
    assert sets == pairs["sets"].max()


def test_no_two_classes_of_a_sentence_or_table_read_the_same(like_run):
    _, found, html = like_run
    table = whole_and_shown(re.search("<table class=.classes.*?</table>", html, re.DOTALL)[0])
    assert len({text for _, text in table}) == len(LIKE)
    pairs = whole_and_shown(re.search("Most often.*?</p>", html)[0])
    assert len({text for _, text in pairs}) == len({title for title, _ in pairs})
    mistakes = re.findall("([^:;]+) as ([^;]+), [0-9]+", found["confusion"].says)
    assert len(mistakes) == 3
    assert all(actual.strip() != predicted for actual, predicted in mistakes)
    says = found["co_occurrence"].says.partition("frequent: ")[2]
    together = re.findall(r"(\S.*?) in [0-9]+ of the sets of (.+?) \([0-9]", says)
    assert all(one != other for one, other in together)


def test_classes_that_go_together_are_told_apart(like_run):
    """The three that differ in a number only."""
    _, found, _ = like_run
    cells = found["co_occurrence"].frame.filter(
        pl.col("true_class").is_in(LIKE[:3]), pl.col("candidate").is_in(LIKE[:3])
    )
    listed = _pair_words(cells).partition("frequent: ")[2].split("; ")
    together = [re.match(r"(.+?) in [0-9]+ of the sets of (.+?) \([0-9]", one) for one in listed]
    named = {name for pair in strongest(cells, 3) for name in pair[:2]}
    assert len({text for pair in together for text in pair.groups()}) == len(named) > 1


def test_no_mistake_of_the_image_grids_reads_as_none(like_run):
    _, found, _ = like_run
    for module, chosen, width in ((training_images, "label", 14), (mistakes, "predicted", 12)):
        rows = found[module.__name__.rpartition(".")[2]].frame.rows(named=True)
        lines = [module._tile(row).lines for row in rows]
        wrong = [
            (row, shown) for row, shown in zip(rows, lines, strict=True) if shown[-1][:3] == "is "
        ]
        alike = 0
        for row, (first, *_, truth) in wrong:
            plain = label(row["true_label"], width)
            alike += label(row[chosen], width) == plain
            assert plain not in first
            assert truth.removeprefix("is ") not in first
        assert alike, "names of no mistake are alike, cut to so many letters"


def test_annotators_with_like_names_are_told_apart(make_run):
    about = people("annotator of the first round, anna", "annotator of the other round, anna")
    inputs, report = inputs_of(make_run(summary={"annotators": about}))
    says = panels(inputs, report)["annotators"].says
    best, worst = re.search("% for (.+) to .*% for (.+?)\\. The", says).groups()
    assert best != worst


DIAGNOSTICS = {"pseudo_labels", "range_test", "embedding"}


@pytest.mark.parametrize(
    ("method", "expected", "words"),
    [
        ("fixmatch", {"pseudo_labels"}, ["Coverage: images without label", "Used by the method"]),
        ("paws", {"pseudo_labels", "embedding"}, ["A dotted line", "each name is in the middle"]),
        ("two_phase", {"pseudo_labels", "range_test"}, ["A dotted line", "Chosen was 0.1: where"]),
        (None, set(), []),
    ],
)
def test_a_method_has_its_own_diagnostics_and_no_others(make_run, method, expected, words):
    run = make_run(method=method)
    run.build()
    page = read(run)
    anchors = {attrs.get("id") for attrs in page.all("figure")}
    tables = {path.stem for path in (run.reports / "tables").glob("*.csv")}
    figures = {path.stem for path in (run.reports / "figures").iterdir()}
    assert anchors & DIAGNOSTICS == tables & DIAGNOSTICS == figures & DIAGNOSTICS == expected
    assert len(page.all("picture")) == 8 + len(expected)
    assert all(attrs["alt"].strip() for attrs in page.all("img"))
    assert all(word in page.text for word in words)
    if not expected:
        foreign = ("Pseudo-labels", "Learning rate", "Embeddings", "dotted line:")
        assert not any(word in page.text for word in foreign)


def test_diagnostics_are_told_in_words(make_run):
    said = {}
    for method in ("paws", "two_phase"):
        found = panels(*inputs_of(make_run(method=method)))
        said |= {(method, name): panel.says for name, panel in found.items()}
    assert "from 0 in epoch 0 to 0.953 in epoch 6; precision" in said["paws", "pseudo_labels"]
    assert said["paws", "loss"].endswith("; finetune begins after epoch 3.")
    assert said["two_phase", "accuracy"].endswith("second begins after epoch 4.")
    assert "30 test images, 2" in said["paws", "embedding"]
    assert "and 10 labeled images" in said["paws", "embedding"]
    assert "starts at 2, is lowest, 0.7, at a rate of 3.2" in said["two_phase", "range_test"]
    assert "was 1 at the rate that was chosen, 0.1." in said["two_phase", "range_test"]


def test_a_rate_that_was_given_needs_no_test(make_run):
    run = make_run(method="two_phase")
    publish_text(run.reports / "train/range_test.csv", "\n")
    assert not panels(*inputs_of(run))["range_test"].shown
    text = undrawn(run).text
    assert "Learning rate No range test: the learning rate, 0.1, was given." in text
    assert "Chosen was" not in text


@pytest.mark.parametrize("name", ["reports/train/range_test.csv"])
def test_a_missing_range_test_is_named(make_run, name):
    run = make_run(method="two_phase")
    (run.root / name).unlink()
    with pytest.raises(UserError, match=re.escape(name)):
        run.build()


@pytest.mark.slow
@pytest.mark.parametrize("method", ["fixmatch", "paws", "two_phase"])
def test_diagnostics_are_the_same_bytes_each_time_and_leave_with_their_method(make_run, method):
    first, second = make_run(method=method), make_run(method=method)
    for run in (first, second):
        run.build()
    assert digests(first.reports) == digests(second.reports)
    plain = make_run()
    for name in ("train/history.csv", "train/phases.json", "evaluate/label_curve.csv"):
        for file in (name, f"{name}.sha256"):
            shutil.copy(plain.reports / file, first.reports / file)
    for file in ("embedding.csv", "embedding.csv.sha256"):
        shutil.copy(plain.reports / "evaluate" / file, first.reports / "evaluate" / file)
    first.build()
    left = {path.stem for path in (first.reports / "figures").iterdir()}
    assert not left & DIAGNOSTICS


@pytest.mark.parametrize(
    ("num_classes", "words"),
    [
        (40, "count. Those that go together are side by side."),
        (120, "Shown are the 100 of 120 classes that share most sets."),
    ],
)
def test_of_many_classes_the_page_says_which_are_shown(make_run, num_classes, words):
    text = undrawn(make_run(classes=[f"class {k}" for k in range(num_classes)], test=130)).text
    assert words in text
    assert "Most often: class " in text


@pytest.mark.slow
def test_many_classes_and_large_images_stay_small(make_run):
    names = [f"class number {k}" for k in range(100)]
    run = make_run(classes=names, train=220, test=300, shape=(120, 90, 3), accuracy=0.5)
    run.build(grid_images=100, worst_mistakes=100)
    assert run.page.stat().st_size < 3_000_000
    assert "24 lowest classes" in read(run).text


@pytest.mark.parametrize(
    "name",
    [
        "data/classes.json",
        "data/images.parquet",
        "data/rejected.parquet",
        "data/split/oracle.parquet",
        "data/split/summary.json",
        "reports/train/history.csv",
        "reports/train/phases.json",
        "reports/evaluate/predictions.parquet",
        "reports/evaluate/per_class.csv",
        "reports/evaluate/embedding.csv",
        "reports/metrics.json",
        "reports/labels.parquet",
    ],
)
@pytest.mark.parametrize("fault", ["missing", "damaged"])
def test_an_input_that_is_missing_or_damaged_is_named(run, name, fault):
    path = run.root / name
    if fault == "missing":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(UserError, match=re.escape(name)) as caught:
        run.build()
    assert "\n" not in str(caught.value)
    assert not run.page.exists()


def digests(folder):
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.mark.skipif(
    not hasattr(os, "sched_setaffinity"), reason="cores can be chosen on Linux only"
)
def test_the_stage_writes_the_same_bytes_in_another_process(digits_run, make_run):
    """On one core, with another hash seed, from the command line of Jupyter, whose user has settings of matplotlib."""
    run = make_run()
    shutil.copy(ROOT / "params.yaml", run.root)
    core = min(os.sched_getaffinity(0))
    settings = {"PYTHONPATH": str(ROOT), "PYTHONHASHSEED": "4711", "POLARS_MAX_THREADS": "1"}
    settings |= {"MPLBACKEND": "module://matplotlib_inline.backend_inline"}
    settings |= {"MATPLOTLIBRC": str(run.root / "matplotlibrc")}
    (run.root / "matplotlibrc").write_text(
        "xtick.labelsize: 20\nxtick.minor.visible: True\nlines.marker: o\nlegend.fontsize: 16\n"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-m", "stages.report"],
        cwd=run.root,
        env=os.environ | settings,
        preexec_fn=lambda: os.sched_setaffinity(0, {core}),
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "open reports/index.html\n"
    assert digests(run.reports) == digests(digits_run.reports)
    assert "index.html" in digests(run.reports)


def test_letters_that_png_figures_lack_are_told(make_run, monkeypatch, capsys):
    run = make_run(classes=("猫", "cat", "犬", "γάτα", "e\ufe0f"))
    shutil.copy(ROOT / "params.yaml", run.root)
    monkeypatch.chdir(run.root)
    importlib.import_module("stages.report").main()
    told = "the PNG figures lack letters of 2 class names (猫, 犬); the SVG ones have them"
    assert told in capsys.readouterr().out.splitlines()


def test_the_report_needs_no_torch():
    code = "import stages.report, sys; print(sorted({'torch', 'pandas', 'scipy', 'sklearn'} & set(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout == "[]\n"


def test_row_38_the_page_says_what_its_bits_depend_on(digits_run) -> None:
    text = read(digits_run).text
    assert (
        "Trained on cpu, 1 thread, reproducible: any_cpu, torch 2.15.0, torchvision 0.30.0, numpy 2.3.4."
        in text
    )
    assert "the results are not bit-comparable" in text
