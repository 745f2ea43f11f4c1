"""The page and the files beside it, built from a made-up run."""

import hashlib
import os
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import polars as pl
import pytest

from pipeline_lib.artifacts import verify
from pipeline_lib.errors import UserError
from pipeline_lib.evaluation import tables

ROOT = Path(__file__).parents[2]
FIGURES = (
    "accuracy",
    "confusion",
    "disambiguation",
    "loss",
    "mistakes",
    "per_class",
    "reliability",
    "training_images",
)
ADDRESSES = ("src", "srcset", "href", "action", "poster")
VOID = {"meta", "link", "img", "source", "br"}


class Page(HTMLParser):
    """Text, attributes and headings of a page; fails on tags that do not close where they should."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open, self.tags, self.words = [], [], []
        self.feed(html)
        assert self.open == []
        self.text = re.sub(r"\s+", " ", " ".join(self.words)).replace(" %", "%")

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if not {"style", "script"} & set(self.open):
            self.words.append(data)

    def all(self, tag):
        return [attrs for name, attrs in self.tags if name == tag]


def read(run):
    return Page(run.page.read_text(encoding="utf-8"))


@pytest.fixture
def run(make_run):
    return make_run()


def test_the_page_says_what_was_run_and_how_well_it_did(digits_run):
    page = read(digits_run)
    metrics = pl.read_json(digits_run.reports / "metrics.json").to_dicts()[0]
    low, high = metrics["test"]["accuracy_ci95"]
    for words in (
        "cr_dpll on digits",
        "official",
        "uniform_candidates",
        "8 \N{MULTIPLICATION SIGN} 8 pixels, grey",
        "40 training images, with",
        f"{100 * metrics['test']['accuracy']:.1f}%",
        f"interval {100 * low:.1f}% to {100 * high:.1f}%",
        "60 test images; guessing gets 10.0%",
        f"{metrics['test']['nll']:.4f}",
        "weights of epoch 6",
        "dvc repro",
        "dvc exp run -S seed=2",
    ):
        assert words in page.text


def test_images_are_counted_by_their_candidates(digits_run):
    sizes = pl.read_parquet(digits_run.reports / "labels.parquet")["candidates"].list.len()
    labeled, unlabeled = (sizes == 1).sum(), (sizes == 10).sum()
    assert labeled >= 2
    assert unlabeled >= 2
    text = read(digits_run).text
    assert f"{labeled} labeled" in text
    assert f"{40 - labeled - unlabeled} partial" in text
    assert f"{unlabeled} unlabeled" in text
    assert f"{sizes.mean():.2f} candidate labels each" in text


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


def test_hostile_class_names_stay_text(hostile_run, digits_run):
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
    assert cut >= {"n" * 47 + "\N{HORIZONTAL ELLIPSIS}", "n" * 23 + "\N{HORIZONTAL ELLIPSIS}"}
    assert {title for title, text in shown if text.startswith("nn")} == {"n" * 300}
    assert all(0 < len(text) <= 48 for _, text in shown)
    assert max(len(word) for word in page.text.split()) <= 48
    whole = {title or text for title, text in shown}
    for name in hostile_run.classes:
        printed = " ".join(name.split()).translate({0x07: "\ufffd", 0x202E: "\ufffd"})
        assert printed in whole
    assert not set(html) & {"\u202e", "\x07"}


def test_every_image_has_words_and_every_chart_two_themes(digits_run):
    page = read(digits_run)
    assert all(attrs["alt"].strip() for attrs in page.all("img"))
    assert len(page.all("picture")) == 6
    assert all("dark" in attrs["media"] for attrs in page.all("source"))
    assert len(page.all("source")) == 6


def test_every_figure_is_a_file_and_its_data_a_table(digits_run):
    figures = sorted(path.name for path in (digits_run.reports / "figures").iterdir())
    assert figures == sorted(f"{name}.{kind}" for name in FIGURES for kind in ("png", "svg"))
    for name in FIGURES:
        path = digits_run.reports / f"tables/{name}.csv"
        verify(path)
        table = pl.read_csv(path, infer_schema=False)
        assert len(table) > 0
        assert "pixels" not in table.columns
    shown = pl.read_csv(digits_run.reports / "tables/training_images.csv", infer_schema=False)
    labels = pl.read_parquet(digits_run.reports / "labels.parquet")
    expected = {str(row["id"]): "|".join(row["candidates"]) for row in labels.to_dicts()}
    assert dict(shown.select("id", "candidates").rows()).items() <= expected.items()


def test_recovered_labels_are_marked_right_or_wrong(digits_run):
    page = read(digits_run)
    marks = [attrs["class"] for attrs in page.all("span") if "chosen" in attrs.get("class", "")]
    shown = pl.read_csv(digits_run.reports / "tables/training_images.csv", infer_schema=False)
    # one of each in the explanation, and the wrong ones among the worst mistakes
    mistakes = len(pl.read_csv(digits_run.reports / "tables/mistakes.csv"))
    assert marks.count("chip chosen wrong") == 1 + (shown["right"] == "false").sum() + mistakes
    assert marks.count("chip chosen right") == 1 + (shown["right"] == "true").sum()


def test_a_method_without_labels_of_its_own(make_run):
    """Its figures are left out with a sentence, and those of an earlier run do not stay behind."""
    run = make_run(keeps_labels=False)
    (run.reports / "figures").mkdir()
    (run.reports / "figures/disambiguation.svg").write_text("<svg/>")
    (run.reports / "tables").mkdir()
    (run.reports / "tables/training_images.csv").write_text("id\n")
    sentences = run.build()
    assert len(sentences) == 2
    text = read(run).text
    for sentence in sentences:
        assert sentence in text
    assert "supervised keeps no labels" in text
    assert not (run.reports / "figures/disambiguation.svg").exists()
    assert not (run.reports / "tables/training_images.csv").exists()


def test_nothing_trained_nothing_wrong_nothing_asked_for(make_run):
    run = make_run(epochs=0, classes=("cat", "dog"))
    path = run.reports / "evaluate/predictions.parquet"
    predictions = pl.read_parquet(path)
    right = predictions["label"].to_numpy()
    probabilities = predictions["probabilities"].to_list()
    tables.publish_predictions(path, predictions["id"].to_numpy(), right, right, probabilities)
    assert run.build(grid_images=0) == [
        "Left out: report.grid_images is 0.",
        "There are none: every test image was recognised.",
    ]
    text = read(run).text
    assert "the whole set of 2 classes" in text
    assert "Top-5" not in text


def test_a_history_of_one_row_with_empty_columns(make_run):
    run = make_run(epochs=1)
    path = run.reports / "train/history.csv"
    header = path.read_text().splitlines()[0]
    tables.publish_csv(path, header.split(","), [{"epoch": 1, "loss": float("nan")}])
    tables.publish_label_curve(run.reports / "evaluate/label_curve.csv", [])
    assert len(run.build()) == 3  # neither loss, nor accuracy, nor disambiguation
    assert "no epoch was trained" in read(run).text


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
        "data/split/oracle.parquet",
        "reports/train/history.csv",
        "reports/evaluate/predictions.parquet",
        "reports/evaluate/per_class.csv",
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
    """On one core, with another hash seed, from the command line."""
    run = make_run()
    shutil.copy(ROOT / "params.yaml", run.root)
    core = min(os.sched_getaffinity(0))
    settings = {"PYTHONPATH": str(ROOT), "PYTHONHASHSEED": "4711", "POLARS_MAX_THREADS": "1"}
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


def test_the_report_needs_no_torch():
    code = "import stages.report, sys; print(sorted({'torch', 'pandas', 'scipy', 'sklearn'} & set(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout == "[]\n"
