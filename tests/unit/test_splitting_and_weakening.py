"""The split stage on small tables made by hand."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Never

import numpy as np
import pyarrow as pa
import pytest
from ruamel.yaml import YAML

from pipeline_lib.datasets.ingest import LABELS
from pipeline_lib.errors import UserError
from pipeline_lib.params.split import Split
from pipeline_lib.protocols.shares import allot
from pipeline_lib.protocols.split import Tables, split
from stages.split import described

ROOT = Path(__file__).resolve().parents[2]
PARAMS = YAML(typ="safe").load((ROOT / "params.yaml").read_text())["split"]
PARAMS["group_by"] = None  # a user's own would find nothing in the paths of these tables
NAMES = ("ant", "bee", "cow")


def params(**changes) -> Split:
    options = PARAMS | {"few_shot": PARAMS["few_shot"] | {"labels": 6}}
    for name, value in changes.items():
        options[name] = PARAMS[name] | value if isinstance(value, dict) else value
    return Split.model_validate(options)


def rows(*groups: dict) -> pa.Table:
    """Make labels.parquet: each group is what `count` images have in common."""
    expanded = [group for group in groups for _ in range(group.get("count", 1))]
    columns = {
        name: [group.get(name) for group in expanded]
        for name in LABELS.names
        if name not in {"id", "source"}
    }
    for column, group in enumerate(expanded):
        if "class" in group:
            columns["label"][column] = columns["true_label"][column] = group["class"]
    numbers = range(len(expanded))
    if not any(columns["annotators"]):
        columns["annotators"] = [
            None if said is None else list(range(len(said))) for said in columns["annotations"]
        ]
    return pa.table(
        {"id": numbers, "source": [f"{i}.png" for i in numbers]} | columns, schema=LABELS
    )


def classes(names: Sequence[str] = NAMES, **more) -> dict:
    """Make what classes.json says."""
    people = [f"annotator {number}" for number in range(9)]
    return {
        "dataset": "digits",
        "classes": names,
        "annotators": people,
        "superclasses": None,
    } | more


def folders(each: int = 20, **more) -> pa.Table:
    return rows(*[{"class": k, "count": each} | more for k in range(3)])


def run(table: pa.Table, kind: str = "partial", limit: int | None = None, **changes) -> Tables:
    return split(table, classes(), kind, params(**changes), 1, limit, no_pixels)


def no_pixels(ids: object) -> Never:
    raise AssertionError(ids)


def refusal(*arguments, **options) -> str:
    with pytest.raises(UserError) as caught:
        run(*arguments, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


class TestProtocol:
    def test_auto_follows_the_method_where_folders_name_classes(self):
        assert run(folders()).summary["protocol"] == "uniform_candidates"
        assert run(folders(), "few_shot").summary["protocol"] == "few_shot"
        assert run(folders(), "clean").summary["protocol"] == "clean"

    @pytest.mark.parametrize(
        "said",
        [{"candidates": [0, 1]}, {"annotations": [0]}, {"true_label": 0}, {"label": 0}, {}],
    )
    @pytest.mark.parametrize("kind", ["partial", "few_shot"])
    def test_auto_follows_the_data_where_a_table_supervises(self, said: dict, kind: str):
        table = pa.concat_tables([folders(), rows(said)])
        table = table.set_column(0, "id", pa.array(range(len(table)), pa.int32()))
        assert run(table, kind).summary["protocol"] == "given"
        assert run(table, kind, limit=30).summary["protocol"] == "given"

    @pytest.mark.parametrize("protocol", ["uniform_candidates", "few_shot"])
    @pytest.mark.parametrize(
        "said",
        [
            {"true_label": 0, "candidates": [0, 1]},
            {"true_label": 0, "annotations": [1]},
            {"true_label": 0, "label": 1},
            {"true_label": 0},
            {"candidates": [0, 1]},
        ],
    )
    def test_a_protocol_cannot_go_past_a_table_to_the_true_labels(self, protocol: str, said: dict):
        message = refusal(
            rows(*[{"class": k, "count": 20} for k in range(3)], said), protocol=protocol
        )
        assert message == (
            f"split.protocol {protocol} would weaken true classes, but data.table supervises "
            f"(60.png); set split.protocol to auto or given, or data.table to null"
        )
        to_test = [{"class": k, "count": 20, "split": "train"} for k in range(3)]
        tested = [{"class": 0, "split": "test"}, said | {"split": "test"}]
        assert run(rows(*to_test, *tested), protocol=protocol)

    def test_a_protocol_weakens_what_a_table_says_of_files_without_folders(self):
        table = rows(*[{"label": k, "count": 20} for k in range(3)], {"count": 9})
        summary = run(table, "few_shot", protocol="few_shot").summary
        assert (summary["protocol"], summary["roles"]["train"]["labeled_and_unlabeled"]) == (
            "few_shot",
            6,
        )

    @pytest.mark.parametrize("too", [True, False])
    def test_labeled_images_of_a_table_are_in_the_unlabeled_set_too_if_asked(self, too: bool):
        table = rows(
            *[{"label": k, "count": 20} for k in range(3)], {"candidates": [0, 1]}, {"count": 9}
        )
        options = {"labeled_in_unlabeled": too, "val_fraction": 0.1}
        result = run(table, "few_shot", **options)
        labeled = "labeled_and_unlabeled" if too else "labeled"
        assert set(result.summary["roles"]["train"]) <= {labeled, "partial", "unlabeled"}
        assert result.summary["roles"]["train"][labeled] > 30
        mixed = {"labeled": 0.5, "partial": 0.2, "rate": 0.2}
        result = run(folders(), "few_shot", protocol="mixed", mixed=mixed, **options)
        assert set(result.summary["roles"]["train"]) == {labeled, "partial", "unlabeled"}

    def test_the_rate_of_mixed_labels_is_that_of_the_candidate_sets(self):
        table = rows(*[{"class": k, "count": 20} for k in range(3)])
        mixed = {"labeled": 0.3, "partial": 0.5, "rate": 1.0}
        assert run(table, "few_shot", protocol="mixed", mixed=mixed).summary["empirical_rate"] == 1
        mixed["rate"] = 0.0
        assert run(table, "few_shot", protocol="mixed", mixed=mixed).summary["empirical_rate"] == 0
        given = rows(
            *[{"label": k, "count": 20} for k in range(3)],
            {"candidates": [0, 1], "class": 0, "count": 30},
            {"count": 30},
        )
        result = run(given, "few_shot", protocol="given")
        assert result.summary["empirical_rate"] == 0.5
        sets = rows(
            {"candidates": [0], "class": 0, "count": 30},
            {"candidates": [1, 2], "class": 1, "count": 30},
            {"candidates": [0, 1, 2], "class": 2, "count": 30},
        )
        summary = run(sets, "few_shot", protocol="given", val_fraction=0).summary
        assert summary["roles"]["train"]["labeled_and_unlabeled"], "a set of one is a set"
        assert 0.4 < summary["empirical_rate"] < 0.6

    @pytest.mark.parametrize("protocol", ["mixed", "few_shot", "given", "uniform_candidates"])
    def test_methods_of_all_kinds_get_the_same_files(self, protocol: str) -> None:
        """Else a comparison of them would be none."""
        unlabeled = [] if protocol == "uniform_candidates" else [{"count": 10}]
        table = rows(*[{"class": k, "count": 20} for k in range(3)], *unlabeled)
        few, partial = (
            run(table, kind, protocol=protocol, few_shot={"labels": 6, "unlabeled": None})
            for kind in ("few_shot", "partial")
        )
        assert few.train.equals(partial.train)
        assert few.val.equals(partial.val)
        assert few.test.equals(partial.test)

    def test_labels_of_all_images_make_no_unlabeled_set(self):
        table = rows(*[{"label": k, "count": 20} for k in range(3)])
        assert set(run(table, "few_shot").summary["roles"]["train"]) == {"labeled"}

    def test_a_clean_method_gets_true_labels_whatever_was_given(self):
        table = rows(*[{"true_label": k, "candidates": [0, 1, 2], "count": 9} for k in range(3)])
        train = run(table, "clean", protocol="few_shot").train.to_pylist()
        assert {row["role"] for row in train} == {"labeled"}
        assert all(row["candidates"] == [row["id"] // 9] for row in train)

    @pytest.mark.parametrize("limit", [None, 12])
    def test_hidden_true_labels_choose_no_image_of_given_ones(self, limit: int | None):
        def divided(*truths: int) -> Tables:
            said = ([0, 1, 2], [0, 1, 2], [1, 2], [0, 2])
            hidden = [
                {"candidates": sets, "true_label": k, "count": 10}
                for sets, k in zip(said, truths, strict=True)
            ]
            labels = [{"label": k, "count": 3} for k in range(3)]
            tests = [{"class": k, "split": "test", "count": 4} for k in range(3)]
            options = {"val_fraction": 0.3, "allow_noisy_candidates": True}
            return run(rows(*hidden, *labels, *tests), limit=limit, **options)

        one, other = divided(0, 1, 2, 0), divided(2, 0, 1, 2)
        assert one.train == other.train
        assert one.val == other.val
        assert one.oracle != other.oracle

    def test_oracle_gets_the_images_that_the_others_get(self):
        hidden = ({"true_label": k, "count": 20} for k in range(3))
        table = rows(*hidden, *({"class": k, "count": 3} for k in range(3)))
        one, every = (run(table, kind, limit=30) for kind in ("few_shot", "clean"))
        assert (one.summary["protocol"], every.summary["protocol"]) == ("given", "clean")
        for ours, theirs in (
            (one.train, every.train),
            (one.val, every.val),
            (one.test, every.test),
        ):
            assert ours["id"] == theirs["id"]

    def test_a_limit_that_leaves_out_classes_is_named(self):
        hidden = ({"candidates": [k, (k + 1) % 3], "true_label": k, "count": 9} for k in range(3))
        said = refusal(rows(*hidden), limit=1, val_fraction=0)
        assert said.startswith("data.limit: 1 training images leave classes without any: '")

    def test_a_limit_is_not_blamed_for_classes_that_are_only_tested(self):
        table = rows(
            *({"class": k, "split": "train", "count": 9} for k in range(2)),
            {"class": 2, "split": "test", "count": 3},
        )
        for limit in (None, 12):
            said = refusal(table, "clean", limit=limit)
            assert said.startswith("classes without training images: ")

    def test_given_takes_candidates_annotators_label_or_all_classes(self):
        table = rows(
            {"candidates": [0, 2], "true_label": 0},
            {"annotations": [1, 2], "true_label": 1},
            {"annotations": [], "true_label": 2},
            {"class": 2},
            {},
            *[{"class": k, "split": "test"} for k in range(3)],
        )
        result = run(table, val_fraction=0.0, labeled_in_unlabeled=False)
        assert [(row["candidates"], row["role"]) for row in result.train.to_pylist()] == [
            ([0, 2], "partial"),
            ([1, 2], "partial"),
            ([0, 1, 2], "unlabeled"),
            ([2], "labeled"),
            ([0, 1, 2], "unlabeled"),
        ]
        assert result.oracle["label"].to_pylist() == [0, 1, 2, 2, None]
        assert result.summary["roles"]["train"] == {"labeled": 1, "partial": 2, "unlabeled": 2}
        assert result.val.num_rows == 0


class TestNoise:
    TABLE = rows(
        *[{"true_label": k, "candidates": [k, (k + 1) % 3], "count": 10} for k in range(3)],
        {"true_label": 0, "candidates": [1], "count": 12},
        *[{"class": k, "split": "test"} for k in range(3)],
    )

    def test_candidate_sets_without_the_truth_are_refused_and_named(self):
        message = refusal(self.TABLE)
        assert message.startswith("12 of 42 candidate sets miss the true label (")
        assert "and 2 more" in message
        assert "set split.allow_noisy_candidates: true" in message

    def test_they_are_counted_where_they_are_allowed(self):
        summary = run(self.TABLE, allow_noisy_candidates=True).summary
        assert sum(summary["noisy"].values()) == 12
        assert len(summary["noisy_first"]) == 10

    def test_an_empty_set_is_refused(self):
        table = rows(
            *[{"class": k, "count": 9} for k in range(3)], {"true_label": 0, "candidates": []}
        )
        assert refusal(table).startswith("1 images have an empty candidate set (27.png)")


class TestFewShot:
    def test_labels_are_shared_evenly(self):
        result = run(folders(), "few_shot", few_shot={"labels": 9})
        labeled = [row for row in result.train.to_pylist() if row["role"] != "unlabeled"]
        assert {row["role"] for row in labeled} == {"labeled_and_unlabeled"}
        assert [sum(row["candidates"] == [k] for row in labeled) for k in range(3)] == [3, 3, 3]
        assert all(row["candidates"] == [row["id"] // 20] for row in labeled)

    def test_per_class_counts_and_separate_sets(self):
        few_shot = {"labels": None, "labels_per_class": 2, "unlabeled": 10}
        result = run(folders(), "few_shot", few_shot=few_shot, labeled_in_unlabeled=False)
        assert result.summary["roles"]["train"] == {"labeled": 6, "unlabeled": 10}
        assert result.summary["left_out"]["train"] == 40 - 16
        assert result.summary["images"]["train"] == 16

    def test_without_unlabeled_images_labeled_ones_are_no_unlabeled_set(self):
        few_shot = {"labels": 9, "unlabeled": 0}
        result = run(folders(), "few_shot", few_shot=few_shot, labeled_in_unlabeled=True)
        assert result.summary["roles"]["train"] == {"labeled": 9}

    def test_a_total_that_does_not_divide_names_its_neighbours(self):
        message = refusal(folders(), "few_shot", few_shot={"labels": 10})
        assert message == (
            "split.few_shot.labels: 10 labels cannot be shared evenly by 3 classes; take 9 or 12, or set split.few_shot.balance: stratified"
        )
        assert refusal(folders(), "few_shot", few_shot={"labels": 2}).endswith("take 3")

    def test_a_class_with_too_few_images_is_named(self):
        table = rows({"class": 0, "count": 40}, {"class": 1, "count": 40}, {"class": 2, "count": 6})
        message = refusal(table, "few_shot", few_shot={"labels": 30})
        assert message == (
            "split.few_shot: too few training images with a label: cow has 4 of 10; take 4 or fewer of each, or set split.few_shot.balance: stratified"
        )

    def test_too_many_unlabeled_images_are_refused(self):
        message = refusal(folders(), "few_shot", few_shot={"labels": 6, "unlabeled": 99})
        assert message.startswith("split.few_shot.unlabeled: 99, but only 34 images are left")

    def test_validation_images_lose_their_labels_or_keep_them(self):
        weak = run(folders(), "few_shot")
        assert weak.summary["roles"]["val"] == {"unlabeled": weak.val.num_rows}
        clean = run(folders(), "few_shot", val_labels="clean").val.to_pylist()
        assert all(row["candidates"] == [row["id"] // 20] for row in clean)


class TestParts:
    def test_own_splits_are_used(self):
        table = rows(
            *[{"class": k, "split": "train", "count": 5} for k in range(3)],
            *[{"class": k, "split": "val", "count": 2} for k in range(3)],
            *[{"class": k, "split": "test", "count": 3} for k in range(3)],
        )
        result = run(table)
        assert result.train["id"].to_pylist() == list(range(15))
        assert result.val["id"].to_pylist() == list(range(15, 21))
        assert result.test.to_pylist() == [
            {"id": 21 + i, "label": i // 3, "group": 21 + i} for i in range(9)
        ]

    def test_images_of_unknown_class_are_never_tested(self):
        table = rows(*[{"class": k, "count": 20} for k in range(3)], {"count": 40})
        result = run(table)
        assert result.test.num_rows == 15
        assert set(result.test["label"].to_pylist()) == {0, 1, 2}
        assert result.train.num_rows + result.val.num_rows == 85
        own = pa.concat_tables([table, rows({"split": "test"}, {"class": 0, "split": "test"})])
        own = own.set_column(0, "id", pa.array(range(len(own)), pa.int32()))
        told = run(own).summary
        assert told["left_out"]["test"] == 1
        assert described(told).endswith(
            "\nwarning: 1 of the data's own test images left out: their class is not known"
        )

    def test_a_limit_is_exact_and_shrinks_validation_in_proportion(self):
        full, limited = run(folders(100)), run(folders(100), limit=40)
        assert (full.train.num_rows, full.val.num_rows) == (202, 23)
        assert (limited.train.num_rows, limited.val.num_rows) == (40, 5)
        assert limited.test.equals(full.test)

    def test_a_limit_below_the_number_of_classes_is_refused(self):
        assert refusal(folders(), limit=2) == (
            "data.limit: 2 training images cannot cover 3 classes; raise it"
        )

    def test_no_image_to_test_is_refused(self):
        table = rows({"candidates": [0, 1], "count": 9}, {"candidates": [1, 2], "count": 9})
        assert refusal(table) == (
            "no image has a known label to test with; add files as test/<class>/<file>, or a column "
            "`true_label` to data.table, filled for some of the images"
        )

    def test_who_has_neither_folders_nor_a_table_is_told_another_way(self):
        sets = [{"candidates": [0, 1], "count": 9}, {"candidates": [1, 2], "count": 9}]
        for groups, advice in (
            (sets, "label some rows"),
            ([*sets, {"split": "test"}], "label some test rows, or leave the test file out"),
        ):
            about = classes(dataset="image_parquet")
            with pytest.raises(UserError) as caught:
                split(rows(*groups), about, "partial", params(), 1, None, no_pixels)
            assert str(caught.value) == f"no image has a known label to test with; {advice}"

    def test_one_image_of_each_class_is_refused(self):
        table = rows(*[{"class": k} for k in range(3)])
        assert refusal(table).startswith("no class has two images of known label")

    def test_a_class_without_training_images_is_refused(self):
        table = rows(
            *[{"class": k, "split": "train", "count": 5} for k in range(2)],
            *[{"class": k, "split": "test"} for k in range(3)],
        )
        assert refusal(table).startswith("classes without training images: 'cow'")
        hidden = rows(
            *[{"label": k, "split": "train", "count": 9} for k in range(2)],
            {"split": "train", "count": 9},
            *[{"class": k, "split": "test"} for k in range(3)],
        )
        assert refusal(hidden).startswith("classes without training images: 'cow'")

    def test_a_single_class_is_refused(self):
        with pytest.raises(UserError, match="at least two classes, the data have ant"):
            split(
                rows({"class": 0, "count": 9}),
                classes(["ant"]),
                "partial",
                params(),
                1,
                None,
                no_pixels,
            )

    def test_rare_classes_keep_an_image_to_train_on(self):
        table = rows({"class": 0, "count": 50}, {"class": 1, "count": 2}, {"class": 2, "count": 1})
        result = run(table, test_fraction=0.5, val_fraction=0.5)
        truth = dict(
            zip(*(result.oracle[name].to_pylist() for name in ("id", "label")), strict=True)
        )
        assert {truth[i] for i in result.train["id"].to_pylist()} == {0, 1, 2}

    def test_classes_that_cannot_be_validated_are_listed(self):
        table = rows({"class": 0, "count": 50}, {"class": 1, "count": 50}, {"class": 2, "count": 2})
        missing = run(table, val_fraction=0.05).summary["missing_classes"]
        assert missing == {"val": ["cow"], "test": ["cow"]}


class TestUniform:
    def test_every_label_must_be_known(self):
        table = rows(*[{"class": k, "count": 20} for k in range(3)], {"count": 4})
        message = refusal(table, protocol="uniform_candidates")
        assert message.startswith(
            "split.protocol uniform_candidates needs the label of every image"
        )
        assert refusal(table, "clean").startswith(
            "a method that learns from clean labels (oracle) needs"
        )

    def test_two_classes_cannot_be_forced_to_be_ambiguous(self):
        table = rows(*[{"class": k, "count": 20} for k in range(2)])
        with pytest.raises(UserError, match="force_ambiguous: of two classes both"):
            split(table, classes(NAMES[:2]), "partial", params(), 1, None, no_pixels)

    def test_sets_that_say_nothing_at_all_are_refused(self):
        said = "no training image says anything of its class: all candidate sets hold all classes; "
        for protocol, options in (
            ("uniform_candidates", {}),
            ("mixed", {"labeled": 0, "partial": 1}),
        ):
            changes = {"protocol": protocol, protocol: options | {"rate": 1.0}}
            assert refusal(folders(), **changes) == (
                f"{said}let split.{protocol} keep more of the labels, or give labels"
            )
        silent = rows({"count": 9}, *[{"class": k, "split": "test"} for k in range(3)])
        assert refusal(silent) == f"{said}give labels"

    def test_the_empirical_rate_counts_wrong_classes(self):
        table = folders()
        result = run(table, uniform_candidates={"rate": 0.0, "force_ambiguous": True})
        assert result.summary["empirical_rate"] == 0.5  # one of the two wrong classes, in every set
        assert result.summary["mean_candidates"]["train"] == 2.0


@pytest.mark.parametrize(
    ("total", "sizes", "expected"),
    [
        (10, [50, 30, 20], [5, 3, 2]),
        (4, [1, 1, 1], [1, 1, 1]),
        (1, [1, 1, 1], [1, 0, 0]),
        (5, [9, 0, 2], [4, 0, 1]),
        (0, [3, 3, 3], [0, 0, 0]),
    ],
)
def test_shares_are_largest_remainders(total: int, sizes: list[int], expected: list[int]):
    assert allot(total, np.array(sizes), np.arange(3)).tolist() == expected
