"""Images with the same pixels in two parts: refused, dropped, or counted."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from pipeline_lib.errors import UserError
from tests.label_tables import classes, run, table

if TYPE_CHECKING:
    import pyarrow as pa

SPLITS = ["train"] * 12 + ["val"] * 6 + ["test"] * 6
LABEL = [i % 3 for i in range(24)]
OWN = classes(["ant", "bee", "cow"], dataset="image_folder")


def rows(twins: dict[int, int], *, split: list | None = SPLITS, **columns: list) -> pa.Table:
    """24 images, of which some have the pixels of an earlier one."""
    given = {"split": split or [None] * 24, "label": LABEL, "true_label": LABEL}
    return table(given | {"twin": [twins.get(i) for i in range(24)]} | columns, 24)


def ids(part: pa.Table) -> list[int]:
    return part["id"].to_pylist()


def refusal(twins: dict[int, int], **options) -> str:
    with pytest.raises(UserError) as caught:
        run(rows(twins), OWN, **options)
    return str(caught.value)


def test_pairs_in_two_parts_are_named_with_what_to_do():
    assert refusal({15: 0, 19: 1, 20: 14}) == (
        "3 images are in two parts, with the same pixels: 0.png (train) = 15.png (val); 1.png (train) = "
        "19.png (test); 14.png (val) = 20.png (test); set split.duplicates: drop to keep one of each, or allow"
    )


def test_labels_that_differ_are_named_with_the_pairs():
    """Here not of the first two copies, but of the first and the third; others are not in two parts."""
    assert refusal({3: 0, 19: 0, 22: 1, 8: 7}) == (
        "2 images are in two parts, with the same pixels: 0.png (train) = 19.png (test); 1.png (train) = "
        "22.png (test); labels differ in 1 of these: 0.png (ant) = 19.png (bee); correct them, then "
        "dvc repro --force download && dvc repro; set split.duplicates: drop to keep one of each, or allow"
    )
    assert refusal({12: 0}).startswith(
        "1 image is in two parts, with the same pixels: 0.png (train)"
    )


@pytest.mark.parametrize("rule", ["error", "drop", "allow"])
def test_labels_that_differ_are_warned_of_within_a_part_too(rule: str):
    result = run(rows({1: 0, 2: 0, 4: 3, 13: 12, 9: 6, 19: 18, 11: 10}), OWN, duplicates=rule)
    assert result.summary["duplicates"]["differ"] == 5
    assert result.warnings == [
        "warning: labels differ in 5 groups of images with the same pixels: 0.png (ant) = 1.png (bee); "
        "3.png (ant) = 4.png (bee); 10.png (bee) = 11.png (cow) and 2 more; correct them, then "
        "dvc repro --force download && dvc repro"
    ]


def test_labels_that_are_not_known_differ_from_none():
    unknown = [None, *LABEL[1:]]
    twins = rows({1: 0, 3: 0}, label=unknown, true_label=unknown)
    assert run(twins, OWN).warnings == [
        "warning: labels differ in 1 group of images with the same pixels: 1.png (bee) = 3.png (ant); "
        "correct them, then dvc repro --force download && dvc repro"
    ]
    assert run(rows({9: 6, 4: 1}), OWN).warnings == []


def test_nobody_is_told_to_correct_a_public_dataset():
    assert run(rows({1: 0}), classes(["ant", "bee", "cow"], dataset="cifar10")).warnings == []


def test_ten_are_named_and_the_others_counted():
    twins = {12 + i: i for i in range(12)}
    message = refusal(twins)
    assert message.startswith("12 images are in two parts")
    assert message.count(" = ") == 10
    assert " and 2 more; set split.duplicates" in message


def test_copies_within_a_part_are_counted_only():
    told = run(rows({1: 0, 2: 0, 13: 12, 19: 18}), OWN).summary["duplicates"]
    assert told == {
        "rule": "error",
        "groups": 3,
        "images": 7,
        "differ": 3,
        "across": {"train_val": 0, "train_test": 0, "val_test": 0},
        "first": [],
        "dropped": 0,
    }


@pytest.mark.parametrize(("dataset", "rule"), [("cifar10", "allow"), ("imagenet", "error")])
def test_auto_asks_whether_the_images_are_the_users_own(dataset: str, rule: str):
    about = classes(["ant", "bee", "cow"], dataset=dataset)
    assert run(rows({1: 0}), about).summary["duplicates"]["rule"] == rule


def test_allowed_ones_are_counted_by_parts():
    told = run(rows({13: 0, 18: 0, 20: 1, 4: 1}), OWN, duplicates="allow").summary["duplicates"]
    assert (told["groups"], told["images"], told["differ"]) == (2, 6, 2)
    assert told["across"] == {"train_val": 1, "train_test": 2, "val_test": 1}
    assert told["first"] == [
        [["0.png", "train"], ["13.png", "val"]],
        [["1.png", "train"], ["20.png", "test"]],
    ]


def test_one_of_each_group_stays_the_test_copy_first():
    result = run(rows({13: 0, 18: 0, 14: 3, 6: 2, 19: 7, 20: 7}), OWN, duplicates="drop")
    assert ids(result.train) == [1, 2, 4, 5, 8, 9, 10, 11]
    assert ids(result.val) == [12, 14, 15, 16, 17]
    assert ids(result.test) == [18, 19, 21, 22, 23]
    told = result.summary["duplicates"]
    assert (told["dropped"], told["groups"], told["images"]) == (6, 4, 10)
    assert set(told["across"].values()) == {0}


def test_a_test_copy_without_a_label_is_no_reason_to_drop_a_training_image():
    unlabeled = [*LABEL[:18], None, *LABEL[19:]]
    twins = rows({18: 0}, label=unlabeled, true_label=unlabeled)
    assert 0 in ids(run(twins, OWN, duplicates="drop").train)


def test_the_copy_that_says_most_stays_within_a_place():
    """Images 1 and 4 beside blank copies before them; 7 has candidates only, 9 a truth and a label too."""
    label = [None if i in {0, 3, 6, 7, 8, 10} else i % 3 for i in range(24)]
    said = {"candidates": [[1, 2] if i in {7, 10} else None for i in range(24)]}
    truth = [i % 3 if i == 8 else label[i] for i in range(24)]
    twins = rows({1: 0, 4: 3, 7: 6, 9: 8, 11: 10}, label=label, true_label=truth, **said)
    kept = run(twins, OWN, duplicates="drop", allow_noisy_candidates=True)
    assert ids(kept.train) == [1, 2, 4, 5, 7, 9, 11]


def test_drawn_parts_are_refused_too_and_never_share_a_group_after_a_drop():
    twins = {i: i - 12 for i in range(12, 24)}
    same = {"label": LABEL[:12] * 2, "true_label": LABEL[:12] * 2}
    with pytest.raises(UserError, match="images are in two parts, with the same pixels: "):
        run(rows(twins, split=None, **same), OWN)
    result = run(rows(twins, split=None, **same), OWN, duplicates="drop", val_fraction=0.2)
    everything = ids(result.train) + ids(result.val) + ids(result.test)
    assert sorted(everything) == list(range(12))
    assert result.summary["duplicates"]["dropped"] == 12
    assert result.summary["duplicates"]["differ"] == 0
