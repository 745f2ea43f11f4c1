"""Rows 5 to 7, 9 to 11 and 18 of the faults: labels that do not allow the split that is asked for.

Each is met as a user meets it: the stage in a process of its own says one line, exits with 1, and what
an earlier run left in data/split is as it was.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from pipeline_lib.parquet import publish_table, read_table
from tests.label_tables import replaced

if TYPE_CHECKING:
    from tests.faults.conftest import Workspace

FEW = {"labels": 4, "labels_per_class": None}


@pytest.fixture
def split_once(workspace: Workspace) -> Workspace:
    """Two classes of eight images each, split for few labels; the test part takes two of each."""
    workspace.two_classes(each=8)
    workspace.set(method="fixmatch")
    workspace.params["split"]["few_shot"] |= FEW
    workspace.run("configure", "download", "ingest", "split")
    assert workspace.read("split/train.parquet")
    return workspace


def summary(workspace: Workspace) -> dict:
    content: dict = json.loads((workspace.root / "data/split/summary.json").read_text())
    return content


def test_row_5_more_labels_than_a_class_has_images(split_once: Workspace):
    split_once.params["split"]["few_shot"] |= {"labels": None, "labels_per_class": 7}
    assert split_once.refused_as_a_user("split") == (
        "split.few_shot: too few training images with a label: cat has 6 of 7, dog has 5 of 7; "
        "take 5 or fewer of each, or set split.few_shot.balance: stratified"
    )


def test_row_6_labels_that_the_classes_cannot_share(split_once: Workspace):
    split_once.params["split"]["few_shot"] |= {"labels": 5}
    message = split_once.refused_as_a_user("split")
    assert message == (
        "split.few_shot.labels: 5 labels cannot be shared evenly by 2 classes; take 4 or 6, or set split.few_shot.balance: stratified"
    )
    # In proportion to the classes, any total can be shared out, and the counts are reported.
    split_once.params["split"]["few_shot"] |= {"balance": "stratified"}
    split_once.run("split")
    assert sum(summary(split_once)["balance"]["labeled"]) == 5


def test_row_7_a_class_that_nothing_is_learned_of(workspace: Workspace):
    for number in range(6):
        workspace.add(f"train/cat/{number}.png", number)
        workspace.add(f"train/dog/{number}.png", 20 + number)
        workspace.add(f"test/cat/{number}.png", 40 + number)
        workspace.add(f"test/elk/{number}.png", 60 + number)
    workspace.run("configure", "download", "ingest")
    assert workspace.refused_as_a_user("split") == (
        "classes without training images: 'elk' (test/elk/0.png and 5 more); add images of them or remove the classes; "
        "once corrected: dvc repro --force download && dvc repro"
    )


def test_row_7_a_class_that_no_label_names_is_told(workspace: Workspace, capsys):
    """Its images are there, so that it can be tested; training only sees them as any other."""
    workspace.two_classes(each=8)
    for number in range(8):
        workspace.add(f"elk/{number}.png", 100 + number)
    workspace.set(method="fixmatch")
    workspace.table(
        "".join(f"{name}/{k:02}.png\n" for name in ("cat", "dog") for k in range(8)), "t.txt"
    )
    workspace.run("configure", "download", "ingest", "split")
    told = "warning: no label or candidate set of a training image names elk: it will hardly be "
    assert told in capsys.readouterr().out
    assert summary(workspace)["untold_classes"] == ["elk"]


def test_row_7_a_class_that_cannot_be_validated_is_named(workspace: Workspace, capsys):
    for number in range(6):
        for name, shade in (("cat", 0), ("dog", 20)):
            workspace.add(f"train/{name}/{number}.png", shade + number)
            workspace.add(f"test/{name}/{number}.png", 40 + shade + number)
    workspace.add("val/cat/0.png", 100)
    workspace.run("configure", "download", "ingest", "split")
    assert "warning: no val image of dog" in capsys.readouterr().out
    assert summary(workspace)["missing_classes"] == {"val": ["dog"], "test": []}


def test_row_7_data_of_one_class(workspace: Workspace):
    for number in range(6):
        workspace.add(f"cat/{number}.png", number)
    workspace.run("configure", "download")
    assert workspace.refused_as_a_user("ingest") == (
        "photos: all images lie in one folder (cat); use <class>/<file> with two classes or more, or give "
        "labels in data.table; once corrected: dvc repro --force download && dvc repro"
    )


def with_candidates(workspace: Workspace, sets: list[str]) -> None:
    """As many training images of cats and of dogs; a table gives the cats candidates."""
    for number in range(len(sets)):
        for name, shade in (("cat", 0), ("dog", 100)):
            workspace.add(f"train/{name}/{number:02d}.png", shade + number)
            workspace.add(f"test/{name}/{number:02d}.png", 50 + shade + number)
    rows = [f"train/cat/{number:02d}.png,{of}" for number, of in enumerate(sets)]
    workspace.table("\n".join(["file,candidates", *rows]))
    workspace.set(split={"val_fraction": 0.0})
    workspace.run("configure", "download", "ingest")


def test_row_9_an_empty_candidate_set(workspace: Workspace):
    """No reader of tables lets one through; the stage trusts none of them."""
    with_candidates(workspace, ["cat|dog"] * 12)
    workspace.run("split")
    labels = read_table(workspace.root / "data/labels.parquet")
    sets = [None if said is None else [] for said in labels["candidates"].to_pylist()]
    publish_table(workspace.root / "data/labels.parquet", replaced(labels, candidates=sets))
    named = ", ".join(f"train/cat/{number:02d}.png" for number in range(10))
    assert workspace.refused_as_a_user("split") == (
        f"12 images have an empty candidate set ({named} and 2 more); name all classes there if nothing is known"
    )


def test_row_10_candidates_without_the_true_label(workspace: Workspace):
    with_candidates(workspace, ["cat", "cat|dog", "dog", "dog"])
    assert workspace.refused_as_a_user("split") == (
        "2 of 8 candidate sets miss the true label (train/cat/02.png, train/cat/03.png); correct them, or set "
        "split.allow_noisy_candidates: true"
    )
    workspace.set(split={"allow_noisy_candidates": True})
    workspace.run("split")
    told = summary(workspace)
    assert told["noisy"] == {"train": 2, "val": 0}
    assert told["noisy_first"] == ["train/cat/02.png", "train/cat/03.png"]
    assert told["candidates"]["train"]["holds_truth"] == 0.75


def test_row_11_all_classes_as_candidates_is_no_label(workspace: Workspace):
    with_candidates(workspace, ["cat|dog"] * 3 + ["cat"] * 5)
    workspace.run("split")
    rows = workspace.read("split/train.parquet")
    assert [row["role"] for row in rows if len(row["candidates"]) == 2] == ["unlabeled"] * 3
    assert summary(workspace)["roles"]["train"] == {"labeled_and_unlabeled": 13, "unlabeled": 3}


def test_row_18_the_same_pixels_in_two_parts(workspace: Workspace):
    for number in range(8):
        for name, shade in (("cat", 0), ("dog", 100)):
            workspace.add(f"train/{name}/{number}.png", shade + number)
            workspace.add(f"val/{name}/{number}.png", 20 + shade + number)
            workspace.add(f"test/{name}/{number}.png", 40 + shade + number)
    workspace.run("configure", "download", "ingest", "split")
    workspace.add("train/cat/copy.png", 42)
    workspace.add("train/dog/copy.png", 125)
    workspace.run("download", "ingest")
    assert workspace.refused_as_a_user("split") == (
        "2 images are in two parts, with the same pixels: train/cat/copy.png (train) = "
        "test/cat/2.png (test); train/dog/copy.png (train) = val/dog/5.png (val); set split.duplicates: drop to keep one of "
        "each, or allow"
    )
    workspace.set(split={"duplicates": "drop"})
    workspace.run("split")
    told = summary(workspace)
    assert (told["images"], told["duplicates"]["dropped"]) == (
        {"train": 16, "val": 16, "test": 16},
        2,
    )
    workspace.set(split={"duplicates": "allow"})
    workspace.run("split")
    assert summary(workspace)["duplicates"]["across"] == {
        "train_val": 1,
        "train_test": 1,
        "val_test": 0,
    }


def test_row_18_copies_with_other_labels_are_seen_when_it_runs(workspace: Workspace, capsys):
    workspace.two_classes()
    workspace.add("dog/cat.png", 3)
    workspace.set(split={"duplicates": "drop"})
    workspace.run("configure", "download", "ingest", "split")
    assert capsys.readouterr().out.splitlines()[-1] == (
        "warning: labels differ in 1 group of images with the same pixels: cat/03.png (cat) = dog/cat.png "
        "(dog); correct them, then dvc repro --force download && dvc repro"
    )
