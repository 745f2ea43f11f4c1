"""What the protocols refuse, and in which words."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from pipeline_lib.errors import UserError
from pipeline_lib.params.load import check
from tests.label_tables import classes, labels, replaced, run

ROOT = Path(__file__).resolve().parents[2]
PARAMS = YAML(typ="safe").load((ROOT / "params.yaml").read_text())
THREE = classes(["ant", "bee", "cow"])


def refusal(kind: str = "partial", counts=(20, 20, 20), about=THREE, **options) -> str:
    with pytest.raises(UserError) as caught:
        run(labels(counts), about, kind, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def few_shot(counts, **options) -> str:
    return refusal("few_shot", counts, few_shot=options)


def class_dependent(**options) -> str:
    return refusal(protocol="class_dependent", class_dependent=options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"similar": "matrix", "matrix": {"elk": {"ant": 0.5}}},
            "split.class_dependent.matrix: 'elk' is not a class of the data; they are ant, bee, cow",
        ),
        (
            {"similar": "matrix", "matrix": {"ant": {"elk": 0.5}}},
            "split.class_dependent.matrix.ant: 'elk' is not a class of the data; they are ant, bee, cow",
        ),
        (
            {"superclasses": {"insects": ["ant", "fly"]}},
            "split.class_dependent.superclasses.insects: 'fly' is not a class of the data; they are ant, bee, cow",
        ),
        (
            {"superclasses": {"insects": ["ant", "bee"]}},
            "split.class_dependent.superclasses: each class belongs to one superclass; in none: cow",
        ),
        (
            {"superclasses": {"insects": ["ant", "bee"], "all": ["cow", "bee"]}},
            "split.class_dependent.superclasses: each class belongs to one superclass; in two places: bee",
        ),
        (
            {"superclasses": None},
            "split.class_dependent.superclasses: these data have none of their own; name them, or take "
            "similar: matrix",
        ),
    ],
)
def test_class_dependent(options: dict, message: str):
    assert class_dependent(**options) == message


def test_a_confusion_matrix_names_every_class_of_the_data():
    options = {"confusion": {"ant": {"ant": 1.0}, "bee": {"bee": 1.0}}}
    assert refusal(protocol="annotators", annotators=options) == (
        "split.annotators.confusion: every class needs a row; missing: cow"
    )


def test_simulated_annotators_err_and_that_must_be_allowed():
    options = {"count": 1, "accuracy": 0.5}
    message = refusal(protocol="annotators", annotators=options)
    assert "candidate sets miss the true label" in message


def test_few_labels_name_class_have_need_and_what_is_possible():
    assert few_shot([40, 40, 6], labels=30) == (
        "split.few_shot: too few training images with a label: cow has 4 of 10; take 4 or fewer of each, or set split.few_shot.balance: stratified"
    )
    assert few_shot([20, 20, 20], labels=2, balance="stratified") == (
        "split.few_shot.labels: 2 labels cannot cover 3 classes; take 3 or more"
    )
    assert few_shot([20, 20, 20], labels=60, balance="stratified") == (
        "split.few_shot: 60 labeled images needed, 40 have a label; take 40 or fewer"
    )
    assert few_shot([20, 20, 20], labels=2, balance="long_tailed") == (
        "split.few_shot.labels: 2 labels cannot cover 3 classes; take 3 or more"
    )


def test_the_largest_long_tail_is_told_and_possible():
    tail = {"balance": "long_tailed", "imbalance": 4.0}
    message = few_shot([20, 20, 20], labels=30, **tail)
    assert message == (
        "split.few_shot: too few training images with a label: ant has 13 of 17; take 23 or fewer"
    )
    options = {"labels": 23} | tail
    told = run(labels([20, 20, 20]), THREE, "few_shot", few_shot=options).summary
    assert told["balance"]["labeled"] == [13, 7, 3]
    assert few_shot([20, 20, 20], labels=24, **tail).endswith("take 23 or fewer")
    each = {"labels": None, "labels_per_class": 15} | tail
    assert few_shot([20, 20, 20], **each).endswith("ant has 13 of 15; take 13 or fewer")


def test_mixed_shares_need_labels():
    table = labels([20, 20, 20])
    half = [None if i % 2 else k for i, k in enumerate(table["label"].to_pylist())]
    table = replaced(table, label=half, true_label=half)
    with pytest.raises(
        UserError, match=r"split\.mixed: labeled and partial make \d+ of \d+ images"
    ):
        run(table, THREE, protocol="mixed", mixed={"labeled": 0.5, "partial": 0.4})


@pytest.mark.parametrize("protocol", ["class_dependent", "annotators", "instance_candidates"])
def test_true_labels_are_needed_to_be_weakened(protocol: str):
    table = labels([20, 20, 20])
    known = [None, *table["label"].to_pylist()[1:]]
    table = replaced(table, label=known, true_label=known)
    options = {"class_dependent": {"superclasses": {"all": ["ant", "bee", "cow"]}}}
    with pytest.raises(UserError) as caught:
        run(table, THREE, protocol=protocol, allow_noisy_candidates=True, **options)
    assert str(caught.value).startswith(f"split.protocol {protocol} needs the label of every image")


@pytest.mark.parametrize(
    ("section", "options", "message"),
    [
        (
            "class_dependent",
            {"similar": "matrix"},
            "split.class_dependent.matrix: similar: matrix needs the probabilities, as {cat: {dog: 0.4}}",
        ),
        (
            "class_dependent",
            {"matrix": {"cat": {"dog": 1.5}}},
            "split.class_dependent.matrix.cat.dog: 1.5 is no probability; take 0 to 1",
        ),
        (
            "class_dependent",
            {"matrix": {"cat": {"cat": 0.5}}},
            "split.class_dependent.matrix.cat.cat: the true class is always a candidate; leave it out",
        ),
        (
            "annotators",
            {"confusion": {"cat": {"cat": 0.5, "dog": 0.4}}},
            "split.annotators.confusion.cat: probabilities sum to 0.9, must sum to 1",
        ),
        (
            "annotators",
            {"confusion": {"cat": {"cat": 1.5, "dog": -0.5}}},
            "split.annotators.confusion.cat.cat: 1.5 is no probability; take 0 to 1",
        ),
        (
            "mixed",
            {"labeled": 0.8, "partial": 0.4},
            "split.mixed: labeled and partial are shares of all; together at most 1",
        ),
    ],
)
def test_params_are_refused_by_configure(section: str, options: dict, message: str):
    assert complaint({section: options}) == f"params.yaml: {message}"


def complaint(split: dict, method: str = "cr_dpll") -> str | None:
    content = copy.deepcopy(PARAMS) | {"method": method}
    for name, value in split.items():
        content["split"][name] = (
            content["split"][name] | value if isinstance(value, dict) else value
        )
    try:
        check(content, Path("params.yaml"))
    except UserError as error:
        return str(error)
    return None


@pytest.mark.parametrize(
    ("protocol", "method", "fits"),
    [
        ("annotators", "pawsb", True),
        ("uniform_candidates", "pawsb", False),
        ("uniform_candidates", "snn", False),
        ("annotators", "fixmatch", True),
        ("uniform_candidates", "mixmatch", True),
        ("instance_candidates", "two_phase", True),
        ("annotators", "supervised", True),
        ("instance_candidates", "paws", True),
        ("instance_candidates", "proden", True),
        ("mixed", "fixmatch", True),
        ("mixed", "proden", True),
        ("few_shot", "cr_dpll", True),
        ("given", "mixmatch", True),
    ],
)
def test_methods_that_need_labeled_images_refuse_protocols_of_candidate_sets(
    protocol: str, method: str, fits: bool
):
    message = complaint({"protocol": protocol}, method)
    if fits:
        assert message is None
    else:
        assert message == (
            f"params.yaml: split.protocol: {protocol} gives every image several candidates, and {method} "
            f"learns from labeled images; set auto, few_shot or mixed, or split.{protocol}.force_ambiguous to false"
        )


def test_superclasses_must_come_from_somewhere():
    message = complaint({"protocol": "class_dependent"})
    assert message == (
        "params.yaml: split.class_dependent.superclasses: digits has none of its own; name them, as "
        "{pets: [cat, dog], ...}, or take similar: matrix"
    )
    named = {"superclasses": {"all": ["0", "1"]}}
    assert complaint({"protocol": "class_dependent", "class_dependent": named}) is None
