"""The page of a comparison and the files beside it, built from made-up results."""

import hashlib
import os
import re
import subprocess
import sys
from base64 import b64encode
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from PIL import Image

from pipeline_lib.compare.build import build_comparison, tables
from pipeline_lib.compare.page import render
from pipeline_lib.compare.panels import panels
from tests.compare.made_up import compare_section, results
from tests.html_page import ADDRESSES, Page
from tests.report.conftest import HOSTILE

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def page(usual):
    return Page(usual.html)


def test_the_verdict_comes_first_and_in_words(usual, page):
    best = usual.tables.groups.filter(budget="labels_20").sort("mean")[-1]
    mean, name = 100 * best["mean"][0], best["contender"][0]
    start = page.text.index("Verdict labels_20")
    verdict = page.text[start : page.text.index("What was equal, and what not")]
    words = f"With 20 labels {name} is best on average, {mean:.1f}"
    assert words in verdict.replace("\u202f", " ")
    assert "With 100 labels" in verdict
    assert "over 3 seeds" in verdict


def test_the_page_says_what_was_equal(page):
    for words in (
        "supervised, mixmatch, fixmatch, paws and two_phase on digits",
        "360 optimizer steps of a training, within 2%",
        "23,040 (supervised) to 69,120 (fixmatch) views",
        "0.7 (supervised) to 7.2 (paws) seconds of training",
        "compare.amount is not set",
        "The pipeline lets no test image choose anything: validation images may choose whose weights are kept and when a phase ends; test",
        "135 images, labels as weak as those of training",
        "made with equal torch 2.15.0, device cpu, processes 1",
        "0 each",
        "model, in params.yaml, is the same for all contenders",
        "two_phase looked for batch size or learning rate before training",
        "Nothing: every contender runs with the settings that its method has in params.yaml .",
    ):
        assert words in page.text


def undrawn(made):
    """The page without drawing its charts, which takes most of the time."""
    found = tables(made)
    figures = panels(made, found)
    blank = {name: {"light": b"<svg/>", "dark": b"<svg/>"} for name in figures}
    return Page(render(made, found, figures, blank))


def test_images_that_seeds_draw_from_one_pool_are_counted_once():
    made = results(compare_section(methods=("supervised", "mixmatch")))
    keys = list(made.predictions)
    count = len(made.predictions[keys[0]].id_N)
    for key in keys:
        own = made.predictions[key]
        seed = made.cells.filter(key=key)["seed"][0]
        made.predictions[key] = replace(own, id_N=own.id_N + seed * count // 2)
    seeds = made.cells["seed"].n_unique()
    distinct = count + (seeds - 1) * count // 2
    assert f"{count} for each seed, {distinct} in all" in undrawn(made).text


def test_sections_come_in_the_order_of_interest(page):
    sections = [attrs["id"] for attrs in page.all("section")]
    assert sections == [
        "verdict", "equal", "means", "learning", "answers", "inside", "trainings", "files",
    ]  # fmt: skip
    links = [attrs["href"] for attrs in page.all("a") if attrs["href"].startswith("#")]
    assert [link for link in links if not link.startswith("#mean-")] == [
        "#main",
        *(f"#{name}" for name in sections),
    ]


def test_all_it_needs_is_in_it_and_only_its_script_may_run(usual, page):
    addresses = [a[name] for _, a in page.tags for name in ADDRESSES if name in a]
    assert not [text for text in addresses if "//" in text and not text.startswith("data:")]
    (policy,) = [a["content"] for a in page.all("meta") if "http-equiv" in a]
    (script,) = re.findall(r"<script>(.*?)</script>", usual.html, re.DOTALL)
    digest = b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert policy == (
        f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{digest}'; "
        "base-uri 'none'; form-action 'none'"
    )
    assert not [name for _, attrs in page.tags for name in attrs if name.startswith("on")]


def test_every_link_leads_to_a_file(usual, page):
    targets = [a["href"] for a in page.all("a") if not a["href"].startswith("#")]
    assert len(set(targets)) == 30 + 2 * len(vars(usual.tables))
    for target in targets:
        assert (usual.folder / target).is_file()
    ids = {attrs["id"] for _, attrs in page.tags if "id" in attrs}
    assert {a["href"][1:] for a in page.all("a") if a["href"].startswith("#")} <= ids


def test_every_number_leads_to_the_reports_of_its_trainings(usual, page):
    """Nine or more in every row of trainings; the seeds of means and of equal times; pairs lead to their means."""
    targets = [attrs["href"] for attrs in page.all("a")]
    rows = {row["key"]: row for row in usual.tables.cells.rows(named=True)}
    numbers = (
        "accuracy",
        "balanced_accuracy",
        "val_accuracy",
        "macro_f1",
        "nll",
        "ece",
        "steps",
        "views",
        "seconds",
    )
    for key, row in rows.items():
        known = sum(row[name] is not None for name in (*numbers, "disambiguation_accuracy"))
        embedded = 1 if row["contender"] == "paws" and row["seed"] == 1 else 0
        assert targets.count(f"pages/{key}/index.html") == known + 2 + embedded
    for budget in ("labels_20", "labels_100"):
        leader = usual.tables.groups.filter(budget=budget).sort("mean")[-1]["contender"][0]
        for name in usual.results.names.values():
            link = f"#mean-{name}-standard-{budget}"
            assert targets.count(link) == 4 + 1 + (name == leader), "pairs, equal time, verdict"


def test_few_of_them_are_stops_of_the_keyboard(page):
    stops = [a for a in page.all("a") if a["href"].startswith("pages/") and "tabindex" not in a]
    assert len(stops) == 30 + 30 + 30 + 2
    assert all("report of" in a["aria-label"] for a in stops if "aria-label" in a)


def test_variants_are_defined():
    variants = {"full": {}, "k_1": {"methods": {"mixmatch": {"guesses": 1}}}}
    section = compare_section(("mixmatch",), budgets=("b",))
    section = section.model_validate(section.model_dump() | {"variants": variants})
    text = undrawn(results(section)).text
    assert "What each changes" in text
    assert "full nothing k_1 guesses: 1" in text


def test_a_comparison_at_equal_time_is_missed_and_says_how_to_get_it(crowded):
    text = Page(crowded.html).text
    assert "No comparison at equal time was made: see what was equal" in text
    assert "Run python -m stages.app compare-times where the cells ran, then make compare." in text


def test_equal_times_have_their_spread_and_their_images(usual, page):
    row = usual.tables.at_equal_time.row(0, named=True)
    values = usual.results.curves.filter(contender=row["contender"], budget=row["budget"])
    ends = [
        values.filter((pl.col("seed") == seed) & (pl.col("seconds") <= row["seconds"] + 1e-9))[
            "val_accuracy"
        ][-1]
        for seed in (1, 2, 3)
    ]
    assert row["sd"] == pytest.approx(np.std(ends, ddof=1), abs=1e-6)
    assert (row["seeds"], row["val_images"]) == (3, 135)
    told = f"{100 * row['val_accuracy']:.1f}% {100 * row['sd']:.2f} 135 1 2 3"
    assert f"{row['contender']} {row['budget']} {row['at_seconds']:.1f} {told}" in page.text
    assert page.text.count("Standard deviation, points") == 2


def test_every_chart_is_told_in_words(page):
    charts = page.all("img")
    assert len(charts) > 15
    assert all(len(attrs["alt"]) > 40 for attrs in charts)
    assert len(page.all("picture")) == len(page.all("source")) == len(charts)


def test_every_figure_lies_beside_the_page_with_its_numbers(usual, page):
    names = {a["id"] for a in page.all("figure")}
    files = {path.name for path in (usual.folder / "figures").glob("**/*.*")}
    assert files == {f"{name}.{kind}" for name in names for kind in ("svg", "png")}
    for name in names:
        assert len(pl.read_csv(usual.folder / "tables" / f"{name}.csv")) > 0
        with Image.open(usual.folder / "figures/png" / f"{name}.png") as picture:
            assert picture.size[0] > 600


def test_tables_are_also_files(usual):
    for name, table in vars(usual.tables).items():
        path = usual.folder / "tables" / f"{name}.parquet"
        assert pl.read_parquet(path).equals(table)
        assert path.with_suffix(".csv").read_text() == table.write_csv()


def test_rows_say_what_the_tables_say(usual, page):
    text = page.text.replace("\u202f", " ")
    for row in usual.tables.groups.rows(named=True):
        interval = f"{100 * row['low']:.1f} to {100 * min(row['high'], 1):.1f}"
        assert f"{row['contender']} {100 * row['mean']:.1f}%" in text
        assert interval in text
    for row in usual.tables.comparisons.rows(named=True):
        points = f"{100 * row['difference']:+.1f}".replace("-", "\N{MINUS SIGN}")
        assert f"{row['first']} \N{MINUS SIGN} {row['second']} {row['budget']} {points}" in text


def test_one_seed_is_refused_once_and_not_in_every_row(crowded):
    text = Page(crowded.html).text
    assert text.count("Nothing was tested. 1 seed: a paired t-test needs at least 3") == 1
    assert "McNemar\u2019s p is about one pair of trained models" in text
    assert "Nothing was tested" not in text.replace("Nothing was tested. 1 seed", "")


def test_row_39_hostile_names_are_text(crowded):
    for name in HOSTILE:
        if "<" in name or '"' in name:
            assert name not in crowded.html
    assert crowded.html.count("<script") == 1
    assert Page(crowded.html).all("img")


def test_reasons_that_differ_stand_with_their_pair():
    """A pair without any difference is refused, the others are tested."""
    made = results(compare_section(methods=("mixmatch", "paws", "fixmatch"), budgets=("b",)))
    for seed in (1, 2, 3):
        answers = made.predictions[f"mixmatch-standard-b-{seed}"]
        made.predictions[f"paws-standard-b-{seed}"] = answers
    text = undrawn(made).text
    assert "Nothing was tested" not in text
    assert "paws \N{MINUS SIGN} mixmatch right on the very same images with each of 3 seeds" in text


def test_times_that_are_not_known_are_said_to_be(crowded):
    text = Page(crowded.html).text
    assert (
        "Left out: how long a step takes is not known. python -m stages.app compare-times" in text
    )
    assert "When the fastest has ended" not in text


def test_who_is_missing_from_the_chart_over_time_is_said(page):
    assert "Not timed" not in page.text
    section = compare_section(
        methods=("supervised", "mixmatch"),
        budgets=("b",),
        ms_per_step={"supervised-standard": {"train": 2.0}},
    )
    assert "Not timed, and left out: mixmatch." in undrawn(results(section)).text


def test_all_that_share_the_best_mean_are_bold():
    made = results(compare_section(methods=("mixmatch", "paws", "fixmatch"), budgets=("b",)))
    for seed in (1, 2, 3):
        answers = made.predictions[f"fixmatch-standard-b-{seed}"]
        made.predictions[f"paws-standard-b-{seed}"] = answers
    assert [row.get("class") for row in undrawn(made).all("tr")].count("top") == 2


def test_classes_that_no_test_image_shows_are_said_to_be_left_out(page):
    assert "which no test image shows" not in page.text
    made = results(compare_section(methods=("mixmatch", "fixmatch"), budgets=("b",)))
    recall = pl.when(pl.col("class").is_in(["3", "4"])).then(None).otherwise("recall")
    without = replace(made, per_class=made.per_class.with_columns(recall=recall))
    assert "Left out: 2 of 10 classes, which no test image shows." in undrawn(without).text


def test_known_times_are_compared(usual, page):
    assert "When the fastest has ended" in page.text
    assert "over_seconds" in {a["id"] for a in page.all("figure")}


def test_one_contender_has_a_page():
    text = undrawn(results(compare_section(methods=("paws",), seeds=(1,)))).text
    assert "there is nothing to compare it with" in text
    assert "nothing to compare its answers with" in text


BUILD = """
import sys
from pathlib import Path
from pipeline_lib.compare.build import build_comparison
from tests.compare.made_up import compare_section, results
section = compare_section(methods=("mixmatch", "two_phase"), budgets=("labels_20",), seeds=(1, 2, 3))
build_comparison(results(section), Path(sys.argv[1]))
"""


def test_another_process_writes_the_same_bytes(tmp_path):
    for name, seed in (("one", "1"), ("other", "2")):
        environment = os.environ | {"PYTHONHASHSEED": seed, "POLARS_MAX_THREADS": seed}
        command = [sys.executable, "-c", BUILD, str(tmp_path / name)]
        subprocess.run(command, check=True, cwd=ROOT, env=environment)
    files = sorted(path.relative_to(tmp_path / "one") for path in (tmp_path / "one").rglob("*"))
    assert len(files) > 60
    for file in files:
        one, other = tmp_path / "one" / file, tmp_path / "other" / file
        assert one.is_dir() or one.read_bytes() == other.read_bytes(), file


def test_a_second_build_leaves_nothing_of_the_first(tmp_path):
    first = compare_section(methods=("mixmatch",), budgets=("labels_20",), seeds=(1,))
    build_comparison(results(first), tmp_path)
    second = compare_section(methods=("supervised",), budgets=("other",), seeds=(1,))
    build_comparison(results(second), tmp_path)
    names = {path.name for path in tmp_path.rglob("*.*")}
    assert not [name for name in names if "labels_20" in name or "coverage" in name]
    assert "accuracy_other.svg" in names
