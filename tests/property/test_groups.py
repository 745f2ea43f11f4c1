"""Images that show one individual are in one part, whatever the seed, the sizes and what is known of them."""

from __future__ import annotations

from unicodedata import normalize

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pipeline_lib.errors import LabelsError, UserError
from pipeline_lib.protocols.groups import _nearest
from pipeline_lib.protocols.shares import rounded
from tests.label_tables import classes, replaced, run, table

NAMES = ["cat", "dog", "elk"]
ABOUT = classes(NAMES)
GROUP_BY = r"animal_(\d+)"
SEEDS = st.integers(0, 2**31)
# of each group: class, how many images, and of how many the class is known
GROUPS = st.lists(
    st.tuples(st.integers(0, 2), st.integers(1, 12), st.integers(0, 12)), min_size=9, max_size=40
).map(lambda drawn: [*((k, 2, 2) for k in (0, 1, 2) * 3), *drawn])


def made(groups: list[tuple[int, int, int]], **columns: object) -> tuple[pa.Table, np.ndarray]:
    """labels.parquet, and the group of each image."""
    of_N = np.repeat(np.arange(len(groups)), [size for _, size, _ in groups])
    label = [k if number < known else None for k, size, known in groups for number in range(size)]
    rows = table({"label": label, "true_label": label}, len(label))
    source = [f"animal_{group}/{number}.png" for number, group in enumerate(of_N)]
    return replaced(rows, source=source, **columns), of_N


def groups_of(part: pa.Table, of_N: np.ndarray) -> set[int]:
    return set(of_N[part["id"].to_numpy()].tolist())


@settings(max_examples=60)
@given(GROUPS, SEEDS, st.floats(0.1, 0.5), st.floats(0, 0.4))
def test_no_group_is_in_two_parts(groups, seed, test_fraction, val_fraction) -> None:
    rows, of_N = made(groups)
    options = {
        "seed": seed,
        "protocol": "given",
        "test_fraction": test_fraction,
        "val_fraction": val_fraction,
        "group_by": GROUP_BY,
        "duplicates": "allow",
    }
    found = run(rows, ABOUT, **options)
    parts = [groups_of(part, of_N) for part in found[:3]]
    assert sum(map(len, parts)) == len(set().union(*parts))
    told = found.summary["groups"]
    assert [told[name] for name in ("train", "val", "test")] == list(map(len, parts))
    tested = found.test["id"].to_pylist()
    first = {of_N[i]: i for i in reversed(tested)}
    assert found.test["group"].to_pylist() == [first[of_N[i]] for i in tested]
    # every class can be learned, and tested if an image of it is to be: there are three groups of each
    label_N = np.array([-1 if k is None else k for k in rows["label"].to_pylist()])
    assert set(label_N[found.train["id"].to_numpy()]) >= {0, 1, 2}
    if test_fraction * np.bincount(label_N[label_N >= 0]).min() >= 1:
        assert set(found.test["label"].to_pylist()) == {0, 1, 2}
    # about as many as were asked for: each class is within half of a group of its share
    known = int((label_N >= 0).sum())
    assert abs(len(found.test) - test_fraction * known) <= 3 * (12 / 2 + 1)
    # images of unknown class are left out, not trained on, where their group is tested
    left = sum(len(part) for part in found[:3]) + told["left_out"]
    assert left == len(rows)


@settings(max_examples=60)
@given(
    st.lists(st.lists(st.integers(1, 200), min_size=3, max_size=12), min_size=2, max_size=4),
    SEEDS,
    st.floats(0.1, 0.6),
    st.floats(0.05, 0.4),
)
@example([[3, 150, 4, 2, 27], [120, 5, 3, 6]], 1, 0.25, 0.1)
def test_each_class_of_three_groups_is_tested_and_validated_with(
    sizes, seed, test_fraction, val_fraction
) -> None:
    """Where the test took all but one of them, nothing was left to validate with."""
    rows, _ = made([(k, size, size) for k, of_class in enumerate(sizes) for size in of_class])
    found = run(
        rows,
        classes([f"class {k}" for k in range(len(sizes))]),
        seed=seed,
        protocol="given",
        test_fraction=test_fraction,
        val_fraction=val_fraction,
        group_by=GROUP_BY,
    )
    label_N = np.array(rows["label"].to_pylist())
    of_part = [label_N[part["id"].to_numpy()] for part in found[:3]]
    train_K, val_K, test_K = (np.bincount(of_class, minlength=len(sizes)) for of_class in of_part)
    assert (train_K > 0).all()
    for part_K, rest_K, fraction in (
        (test_K, np.bincount(label_N), test_fraction),
        (val_K, train_K + val_K, val_fraction),
    ):
        share_K = rounded(fraction * rest_K.sum()) * rest_K / rest_K.sum()
        assert (part_K[share_K >= 1] > 0).all()


@settings(max_examples=30)
@given(GROUPS, SEEDS, st.randoms())
def test_the_order_of_rows_does_not_matter_and_single_images_are_drawn_as_ever(
    groups, seed, shuffle
) -> None:
    rows, _ = made(groups)
    order = list(range(len(rows)))
    shuffle.shuffle(order)
    options = {"seed": seed, "protocol": "given", "duplicates": "allow"}
    grouped = [run(some, ABOUT, group_by=GROUP_BY, **options) for some in (rows, rows.take(order))]
    assert grouped[0].summary == grouped[1].summary
    assert all(one.equals(other) for one, other in zip(*(t[:4] for t in grouped), strict=True))
    plain = run(rows, ABOUT, **options)
    single = run(rows, ABOUT, group_by=r"/(\d+)\.png", **options)
    assert single.test.equals(plain.test)


@pytest.mark.parametrize(
    ("sizes", "quota", "keep", "taken"),
    [
        ([5, 3, 2], 4, 1, [0]),  # nearer with one too many than with three
        ([5, 3, 2], 2, 1, [1]),
        ([1, 1], 2, 1, [0]),  # one stays
        ([1, 1, 1], 3, 2, [0]),  # two do
        ([9, 2, 2, 2], 4, 1, [1, 2]),
        ([4, 4], 2, 1, []),
    ],
)
def test_groups_are_taken_where_they_bring_the_number_nearer(sizes, quota, keep, taken) -> None:
    assert _nearest(np.arange(len(sizes)), np.array(sizes), quota, keep) == taken


def test_where_groups_are_too_large_each_class_has_its_smallest_one() -> None:
    """Else a network that knows one class would be the best one in validation."""
    rows, _ = made([(k, 8 + (n % 2), 9) for k in (0, 1, 2) for n in range(6)])
    found = run(rows, ABOUT, group_by=GROUP_BY, protocol="given", test_fraction=0.05)
    for part in (found.test, found.val):
        of_class = np.array(rows["label"].to_pylist())[part["id"].to_numpy()]
        assert set(np.bincount(of_class).tolist()) <= {8, 9}
        assert set(of_class) == {0, 1, 2}


@pytest.mark.parametrize("seed", range(5))
def test_few_labels_of_a_group_tell_its_class(seed) -> None:
    """Else its class would be unknown, and all groups of it could be validated with."""
    rows, _ = made([(k, 10, 2 + k) for k in (0, 1, 2) * 4])
    found = run(rows, ABOUT, group_by=GROUP_BY, protocol="given", seed=seed, val_fraction=0.3)
    for part in found[:3]:
        label = np.array(rows["label"].to_pylist(), object)[part["id"].to_numpy()]
        assert {0, 1, 2} <= set(label)
    assert found.summary["untold_classes"] == []


def test_a_group_may_be_told_by_several_pieces_of_the_path() -> None:
    names = [f"{place}/{day}_{shot}.png" for place in "ab" for day in range(9) for shot in range(3)]
    label = [number % 2 for number in range(len(names))]
    rows = replaced(table({"label": label, "true_label": label}, len(label)), source=names)
    found = run(rows, classes(["x", "y"]), group_by=r"(\w)/(\d+)_", protocol="given")
    told = found.summary["groups"]
    assert told["train"] + told["val"] + told["test"] == 18


def test_images_in_whose_paths_nothing_is_found_are_counted() -> None:
    """Another camera may have written the names otherwise."""
    groups = [(k, 2, 2) for k in (0, 1, 2) * 4]
    rows, _ = made(groups)
    found = run(rows, ABOUT, group_by=GROUP_BY, protocol="given")
    assert (found.warnings, found.summary["groups"]["alone"]) == ([], 0)
    source = [
        f"{'aA'[n in {3, 8, 9}]}{name[1:]}" for n, name in enumerate(rows["source"].to_pylist())
    ]
    rows = replaced(rows, source=source)
    found = run(rows, ABOUT, group_by=GROUP_BY, protocol="given")
    assert found.warnings == [
        "warning: split.group_by finds nothing in the paths of 3 of 24 images, as Animal_1/3.png: each is a group of its own"
    ]
    told = found.summary["groups"]
    assert told["alone"] == 3
    # of one of the groups an image is left, of another none
    assert told["train"] + told["val"] + told["test"] == 12 - 1 + 3
    either = run(
        rows, ABOUT, group_by=r"(?i)animal_([0-9]+)", protocol="given"
    )  # as own-data.md says
    told = either.summary["groups"]
    assert (told["alone"], told["train"] + told["val"] + told["test"]) == (0, 12)


@pytest.mark.parametrize("pattern", ["NFC", "NFD"])
def test_a_mac_writes_the_same_names(pattern) -> None:
    """It writes accents apart from their letters."""
    form = ("NFC", "NFD")
    names = [normalize(form[n % 2], f"hübsch_é{n // 2}_{n}.png") for n in range(24)]
    label = [number // 2 % 2 for number in range(len(names))]
    rows = replaced(table({"label": label, "true_label": label}, len(label)), source=names)
    found = run(
        rows, classes(["x", "y"]), group_by=normalize(pattern, r"hübsch_é\d+"), protocol="given"
    )
    told = found.summary["groups"]
    assert (told["alone"], told["train"] + told["val"] + told["test"]) == (0, 12)


def test_parts_of_the_data_are_kept_and_what_they_divide_is_refused_or_left_out() -> None:
    groups = [(k, 3, 3) for k in (0, 1, 2) * 4]
    split = np.repeat(["test", *["train"] * 11], 3).astype(object)
    split[1] = "train"  # of the first animal, the only one in the test
    rows, _ = made(groups, split=split.tolist())
    found = run(rows, ABOUT, group_by=GROUP_BY, protocol="given")
    assert found.test["id"].to_pylist() == [0, 2]
    assert found.summary["groups"]["left_out"] == 1
    assert 1 not in found.train["id"].to_pylist()
    split[3] = "val"
    rows, _ = made(groups, split=split.tolist())
    with pytest.raises(
        LabelsError,
        match=r"group_by: 1 groups .*: animal_1/4\.png \(train\) = animal_1/3\.png \(val\)",
    ):
        run(rows, ABOUT, group_by=GROUP_BY, protocol="given")


def test_what_groups_nothing_or_everything_is_refused() -> None:
    rows, _ = made([(k, 2, 2) for k in (0, 1, 2) * 3])
    with pytest.raises(UserError, match=r"split\.group_by: plant finds nothing .* animal_0/0\.png"):
        run(rows, ABOUT, group_by="plant", protocol="given")
    with pytest.raises(
        LabelsError, match=r"no class has two groups \(split.group_by; is it right\?\)"
    ):
        run(rows, ABOUT, group_by="animal", protocol="given")
    with pytest.raises(ValueError, match="no regular expression"):
        run(rows, ABOUT, group_by="animal_(", protocol="given")
