"""The model card: what it says is what the run's files say, for people and for programs."""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
from pathlib import Path

import polars as pl
import pytest
from ruamel.yaml import YAML

from pipeline_lib.artifacts import publish_text, sha256
from pipeline_lib.card.content import _words_of, limits, weakest
from pipeline_lib.card.references import entries, to_cite
from pipeline_lib.card.write import as_markdown, plain
from pipeline_lib.errors import UserError
from pipeline_lib.metrics import wilson_95
from pipeline_lib.params.methods import Methods
from tests.report.conftest import HOSTILE


def card_of(run) -> dict:
    return json.loads((run.reports / "model_card.json").read_text())


def text_of(run) -> str:
    return (run.reports / "model_card.md").read_text()


def test_the_metrics_are_those_of_metrics_json(digits_run):
    card, metrics = (
        card_of(digits_run),
        json.loads((digits_run.reports / "metrics.json").read_text()),
    )
    assert card["metrics"] == {part: metrics[part] for part in ("test", "val", "train")}
    low, high = metrics["test"]["accuracy_low"], metrics["test"]["accuracy_high"]
    row = f"| accuracy | {metrics['test']['accuracy']} | {low} to {high} |"
    assert row in text_of(digits_run)
    assert f"| balanced accuracy | {metrics['test']['balanced_accuracy']} | |" in text_of(
        digits_run
    )


def test_the_hashes_are_those_of_the_files(digits_run):
    card = card_of(digits_run)
    for path, digest in card["reproduce"]["sha256"].items():
        assert digest == sha256(digits_run.root / path)
        assert f"`{digest}`" in text_of(digits_run)
    assert len(card["reproduce"]["sha256"]) == 8


def test_the_supervision_is_told_in_words_and_numbers(digits_run):
    card, text = card_of(digits_run), text_of(digits_run)
    told = card["supervision"]
    assert told["labeled"] + told["partial"] + told["unlabeled"] == 40
    assert "Each wrong label joined the candidates with probability 0.3" in text
    assert f"{told['partial']} a set of candidates" in text
    assert "The labels of the validation images were as weak as these." in text
    card["supervision"]["validation_tells_more"] = True
    assert "The labels of the validation images were one for each, beside these." in as_markdown(
        card
    )


def test_the_paper_of_the_method_is_named(digits_run):
    assert r"| method | cr\_dpll: Consistency regularization" in text_of(digits_run)
    assert all(_words_of(method).endswith(".") for method in Methods.model_fields)


def test_the_commit_that_recorded_the_run_is_found(digits_run):
    [line] = re.findall(r"^git log .*$", text_of(digits_run), re.MULTILINE)
    here, clone = digits_run.reports, digits_run.root
    card = (here / "model_card.md").read_bytes()

    def shell(command: str) -> str:
        git = "git -c user.name=a -c user.email=a@localhost"
        script = command.replace("git commit", f"{git} commit")
        return subprocess.check_output(script, shell=True, cwd=here, text=True).strip()  # noqa: S602

    assert here.parent == clone
    shell("git init -q .. && git commit -q --allow-empty -m start")
    (clone / "dvc.lock").write_text(f"md5: {hashlib.md5(card).hexdigest()}\n")  # noqa: S324
    recorded = shell("git add ../dvc.lock && git commit -q -m run && git rev-parse HEAD")
    (clone / "dvc.lock").write_text("md5: another run\n")
    shell("git add ../dvc.lock && git commit -q -m another")
    assert shell(line) == recorded
    shell("git update-ref -d HEAD")  # now it is in no branch
    assert shell(line) == ""
    shell(f"git update-ref refs/exps/ab/mine {recorded}")  # as an experiment of DVC is
    assert shell(line) == recorded


def test_the_head_is_what_a_hub_of_models_reads(digits_run):
    head = YAML(typ="safe").load(text_of(digits_run).split("---\n")[1])
    accuracy = card_of(digits_run)["metrics"]["test"]["accuracy"]
    [result] = head["model-index"][0]["results"]
    assert result["metrics"] == [{"type": "accuracy", "value": accuracy}]
    assert head["pipeline_tag"] == "image-classification"
    assert head["tags"] == ["weak-labels", "cr_dpll"]


def test_paper_and_dataset_are_to_be_cited(digits_run):
    assert [entry.partition(",")[0] for entry in card_of(digits_run)["cite"]] == [
        "@inproceedings{cr_dpll",
        "@misc{digits",
    ]
    text = text_of(digits_run)
    assert "title     = {Revisiting Consistency Regularization" in text
    card = card_of(digits_run)
    card["cite"] = []
    assert "cite" not in as_markdown(card).lower()


def test_what_has_a_paper_can_be_cited():
    published = {
        method
        for method in Methods.model_fields
        if re.search(r"(?:ICML|ICLR|ICCV|NeurIPS) \d{4}", _words_of(method))
    }
    assert len(published) == 10
    assert published <= entries().keys()
    assert not set("&<>\"'") & set("".join(entries().values()))  # the card would escape them
    assert to_cite("pawsb", "image_folder") == to_cite("snn", "mine") == [entries()["paws"]]


def test_datasets_have_the_terms_that_their_page_says():
    page = Path("docs/how-to/datasets.md").read_text().partition("Terms are")[0]
    rows = re.findall(r"^\| `(\w+)` (?:\|[^|]*){4}\| ([^|]+) \| [^|]+ \|$", page, re.MULTILINE)
    assert len(rows) == 9
    for name, terms in rows:
        [entry] = to_cite("oracle", name)
        assert f"{{{terms}}}" in entry


def test_true_labels_are_not_called_weak(digits_run):
    card = card_of(digits_run)
    assert "trained from weak labels" in as_markdown(card)
    card["supervision"]["protocol"] = "clean"
    text = as_markdown(card)
    assert "trained from true labels" in text
    assert "weak" not in text


def test_no_validation_images_have_no_labels(digits_run):
    card = card_of(digits_run)
    card["data"]["images"]["val"] = 0
    text = as_markdown(card)
    assert "labels of the validation images" not in text
    assert "and no test image.\n\n## How good it is" in text


def test_labels_that_were_given_are_not_called_recovered(digits_run):
    card = card_of(digits_run)
    assert "training labels recovered" in as_markdown(card)
    card["metrics"]["train"]["disambiguation_accuracy_ambiguous"] = None
    assert "training labels recovered" not in as_markdown(card)


def test_a_run_without_validation_kept_its_last_weights_by_no_image(digits_run):
    assert "| kept | the weights of epoch 6 (rule `last`) |" in text_of(digits_run)


def test_a_rule_that_looks_at_validation_images_is_said_to(digits_run):
    card = card_of(digits_run)
    card["model"] |= {"select": "covering_rate", "selected_epoch": 3}
    kept = "| kept | the weights of epoch 3 (rule `covering_rate`, on validation images) |"
    assert kept in as_markdown(card)


def test_the_weakest_classes_come_first_with_their_intervals():
    recalls = [1.0, 0.5, None, 0.9, 0.25, 0.75, 0.8, 0.85]
    rows = [
        {"name": str(n), "images": 0 if recall is None else 20, "recall": recall}
        for n, recall in enumerate(recalls)
    ]
    right = [
        (n, i < row["recall"] * 20) for n, row in enumerate(rows) for i in range(row["images"])
    ]
    predictions = pl.DataFrame(
        {
            "group": range(len(right)),
            "label": [n for n, _ in right],
            "predicted": [n if is_right else -1 for n, is_right in right],
        }
    )
    found = weakest(rows, predictions)
    assert [row["name"] for row in found] == ["4", "1", "5", "6", "7"]
    assert found[0]["recall_ci95"] == [
        round(x, 6) for x in wilson_95(5, 20, 7)
    ]  # of seven classes with images
    assert weakest(rows[:1], predictions) == []
    # five images to a group: right in one group, wrong in three
    low, high = weakest(rows, predictions.with_columns(pl.col("group") // 5))[0]["recall_ci95"]
    assert low < found[0]["recall_ci95"][0] - 0.05
    assert high > found[0]["recall_ci95"][1] + 0.05


def test_classes_that_begin_and_end_alike_are_told_apart(digits_run):
    card = card_of(digits_run)
    names = [f"Carex muelleri subsp. communis var. {n:03} {'(L.) Nyman ' * 5}" for n in range(10)]
    card["model"]["classes"] = names
    card["weakest_classes"] = [
        {"name": name, "images": 9, "recall": 0.5, "recall_ci95": [0.1, 0.9]} for name in names[:5]
    ]
    text = as_markdown(card)
    [listed] = re.findall(r"of 10 classes \((.*)\), trained", text)
    assert len(set(listed.split(", "))) == 10
    rows = re.findall(r"^\| (.*) \| 9 \| 0.5 ", text, re.MULTILINE)
    assert len(set(rows)) == 5
    assert all(len(name) <= 48 for name in [*listed.split(", "), *rows])


def test_limits_name_what_was_not_tested():
    said = " ".join(limits_with({"train_val": 0, "train_test": 3, "val_test": 0}))
    for words in (
        *("Tested on 60 images", "within 7.0 points", "one seed (7)", "knows 3 classes"),
        *("1 classes have no test image", "1 classes have fewer than 30", "off by 5.0 points"),
        "How many training labels are wrong is unknown",
    ):
        assert words in said


def limits_with(
    across: dict[str, int], dataset: str = "digits", groups: dict[str, int] | None = None
) -> list[str]:
    """Of a run whose images with the same pixels are across these parts."""
    test = {
        "images": 60,
        "accuracy": 0.87,
        "accuracy_low": 0.8,
        "accuracy_high": 0.9,
        "ece": 0.05,
        "ece_by_chance": 0.04,
    }
    summary = {
        "duplicates": {"across": across},
        "groups": groups,
        "untold_classes": ["fox"],
        "candidates": {"train": {"holds_truth": None}},
    }
    return limits(
        {"test": test, "seed": 7, "dataset": dataset}, summary, [{"images": n} for n in (0, 10, 50)]
    )


@pytest.mark.parametrize(
    ("train_test", "val_test", "words"),
    [
        (3, 0, "3 partly in the test set and partly in the training set; so the accuracy"),
        (
            0,
            1,
            "pixels: 1 partly in the test set and partly in the validation set; so the accuracy",
        ),
        (1200, 4, "1,200 partly in the test set and partly in the training set and 4 partly in"),
    ],
)
def test_groups_of_twins_count_where_the_test_set_has_one(train_test, val_test, words):
    said = limits_with({"train_val": 99, "train_test": train_test, "val_test": val_test})
    assert words in " ".join(said)
    assert "99" not in " ".join(said)


def test_twins_outside_of_the_test_set_say_nothing_of_the_accuracy():
    said = limits_with({"train_val": 99, "train_test": 0, "val_test": 0})
    assert "pixels" not in " ".join(said)


def test_own_images_that_are_not_grouped_may_show_the_same_twice():
    across = {"train_val": 0, "train_test": 0, "val_test": 0}
    words = "Where several images show one individual"
    assert words in " ".join(limits_with(across, "image_folder"))
    assert "of a training image names fox: hardly ever" in " ".join(limits_with(across))
    said = " ".join(limits_with(across, "image_folder", {"train": 3, "val": 1, "test": 2}))
    assert words not in said
    assert " images in 2 groups (split.group_by) of the same dataset" in said
    assert "the interval is that of drawing other groups of test images" in said
    assert "what counts is the number of groups, more than that of images" in said
    assert words not in " ".join(limits_with(across))


def test_hostile_names_are_text(hostile_run):
    text = text_of(hostile_run)
    assert card_of(hostile_run)["model"]["classes"] == list(HOSTILE)
    assert "<" not in text
    assert "\u202e" not in text
    assert "n" * 49 not in text
    for line in text.splitlines():
        if line.startswith("|"):  # no name opens or closes a cell
            assert len(re.findall(r"(?<!\\)\|", line)) in {3, 4, 5}


def test_markdown_in_a_name_is_escaped():
    assert plain("a*b_c|d`e[f]\\") == r"a\*b\_c\|d\`e\[f\]" + "\\\\"
    assert plain("# no\nheading") == r"\# no heading"
    assert plain("<b>") == "&lt;b&gt;"


def test_a_file_of_the_split_that_is_missing_is_named(make_run):
    run = make_run()
    (run.data / "split/val.parquet.sha256").unlink()
    with pytest.raises(
        UserError, match=r"val\.parquet\.sha256: missing or damaged; run `dvc repro`"
    ):
        run.build()
    publish_text(run.data / "split/val.parquet.sha256", "")
    with pytest.raises(UserError, match=r"val\.parquet\.sha256: missing or damaged"):
        run.build()
