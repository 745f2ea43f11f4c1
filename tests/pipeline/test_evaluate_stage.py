"""The evaluate stage on a small stored split: what it writes, from what, and what it refuses."""

from __future__ import annotations

import csv
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from pipeline_lib import metrics, progress
from pipeline_lib.artifacts import publish_json
from pipeline_lib.errors import UserError
from pipeline_lib.labeling import pool
from pipeline_lib.labeling.pool import look
from pipeline_lib.models.build import build
from pipeline_lib.models.predictor import (
    Predictor,
    SoftNeighbours,
    load_predictor,
    save_predictor,
)
from pipeline_lib.models.projection import projection_head
from pipeline_lib.models.weights import save_weights
from pipeline_lib.parquet import publish_table
from stages.evaluate import show
from tests.toy_evaluation import (
    ARCHITECTURE,
    CLASSES,
    TEST,
    run,
    write_inputs,
)

ROOT = Path(__file__).parents[2]


def test_the_median_of_the_last_evaluations_and_the_ends_of_phases_are_measured(tmp_path) -> None:
    softmax = {"kind": "softmax"}
    names = {f"evaluation-{e:05d}": ("evaluation", e) for e in (1, 2, 3)} | {
        "phase-first": ("phase", 1),
        "phase-second": ("phase", 3),
    }
    snapshots = {
        name: {"of": of, "epoch": epoch, "predictor": softmax}
        for name, (of, epoch) in names.items()
    }
    write_inputs(tmp_path, snapshots=snapshots)
    accuracy = {}
    for name, (_, epoch) in names.items():
        torch.manual_seed(10 + epoch)
        predictor = Predictor(build(ARCHITECTURE)).eval()
        weights = predictor.state_dict()
        save_weights(tmp_path / f"models/snapshots/{name}.safetensors", weights)
        test = pq.read_table(tmp_path / "data/split/test.parquet")
        pixels = pq.read_table(tmp_path / "data/images.parquet")["image"]
        images = torch.stack(
            [
                torch.frombuffer(bytearray(pixels[i].as_py()), dtype=torch.uint8).view(8, 8, 3)
                for i in test["id"].to_pylist()
            ]
        ).permute(0, 3, 1, 2)
        with torch.no_grad():
            right = predictor(images).argmax(dim=1).numpy() == test["label"].to_numpy()
        accuracy[name] = round(float(right.mean()), 6)
    content = run(tmp_path)["test"]
    last = sorted(accuracy[f"evaluation-{e:05d}"] for e in (1, 2, 3))
    assert (content["median_accuracy"], content["median_of"]) == (last[1], 3)
    assert content["phases"] == {
        "first": accuracy["phase-first"],
        "second": accuracy["phase-second"],
    }


def read_csv(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_metrics_json_has_every_number_in_its_place(tmp_path) -> None:
    write_inputs(tmp_path)
    content = run(tmp_path)
    assert json.loads((tmp_path / "reports/metrics.json").read_text()) == content
    keys = ["method", "variant", "dataset", "seed", "protocol", "test", "val", "train"]
    assert list(content) == keys
    assert [content[key] for key in keys[:5]] == [
        "cr_dpll",
        "official",
        "toy",
        3,
        "uniform_candidates",
    ]
    assert list(content["test"]) == [
        "accuracy",
        "accuracy_low",
        "accuracy_high",
        "top5_accuracy",
        "balanced_accuracy",
        "macro_f1",
        "nll",
        "brier",
        "ece",
        "ece_by_chance",
        "images",
    ]
    low, high = content["test"]["accuracy_low"], content["test"]["accuracy_high"]
    assert 0 <= low <= content["test"]["accuracy"] <= high <= 1
    # the kept epoch is the second, not the last
    assert content["val"] == {"accuracy": 0.75, "images": 4, "epoch": 2}
    assert content["train"]["disambiguation_accuracy"] == 0.75
    assert content["train"]["images"] == 20
    supervision = ("labeled", "partial", "mean_candidates", "noisy_candidates")
    assert [content["train"][name] for name in supervision] == [4, 16, 1.8, 3]
    for part in ("test", "train"):
        numbers = [value for value in content[part].values() if isinstance(value, float)]
        assert all(value == round(value, 6) for value in numbers)


def test_among_five_classes_there_are_no_best_five(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(metrics, "TOP", len(CLASSES))
    write_inputs(tmp_path)
    assert "top5_accuracy" not in run(tmp_path)["test"]


def test_predictions_are_the_predictors_in_the_order_of_the_split(tmp_path) -> None:
    write_inputs(tmp_path)
    content = run(tmp_path)
    table = pq.read_table(tmp_path / "reports/evaluate/predictions.parquet")
    assert table["id"].to_pylist() == TEST
    images = pq.read_table(tmp_path / "data/images.parquet")["image"]
    with torch.inference_mode():
        batch = np.stack(
            [np.frombuffer(images[i].as_py(), np.uint8).reshape(8, 8, 3) for i in TEST]
        )
        expected = load_predictor(tmp_path / "models")(torch.tensor(batch).permute(0, 3, 1, 2))
    np.testing.assert_allclose(table["probabilities"].to_pylist(), expected, atol=1e-6)
    assert table["predicted"].to_pylist() == expected.argmax(dim=1).tolist()
    right = np.mean(np.array(table["predicted"]) == np.array(table["label"]))
    assert content["test"]["accuracy"] == pytest.approx(right, abs=1e-6)


def test_tables_are_readable_without_the_project(tmp_path) -> None:
    write_inputs(tmp_path)
    content = run(tmp_path)
    folder = tmp_path / "reports/evaluate"
    confusion = read_csv(folder / "confusion.csv")
    assert len(confusion) == len(TEST)
    hits = sum(row["actual"] == row["predicted"] for row in confusion)
    assert hits / len(TEST) == pytest.approx(content["test"]["accuracy"], abs=1e-6)
    per_class = read_csv(folder / "per_class.csv")
    assert [row["class"] for row in per_class] == CLASSES
    assert per_class[-1]["recall"] == ""  # no test image shows it
    bins = read_csv(folder / "calibration.csv")
    assert sum(int(row["count"]) for row in bins) == len(TEST)
    curve = read_csv(folder / "label_curve.csv")
    assert [row["val_accuracy"] for row in curve] == ["0.0", "0.75", "0.0"]
    assert {row["disambiguation_accuracy"] for row in curve} == {""}
    assert {(row["coverage"], row["precision"]) for row in curve} == {("", "")}
    labels = read_csv(tmp_path / "reports/labels.csv")
    assert len(labels) == 20
    assert labels[0]["source"] == "0.png"
    assert all(set(row["candidates"].split("|")) <= set(CLASSES) for row in labels)
    assert labels[0]["confidence"] == "0.8"
    parquet = pq.read_table(tmp_path / "reports/labels.parquet").to_pylist()
    assert [row["label"] for row in parquet] == [row["label"] for row in labels]


def test_a_plain_classifier_has_no_embeddings(tmp_path) -> None:
    write_inputs(tmp_path)
    run(tmp_path)
    table = (tmp_path / "reports/evaluate/embedding.csv").read_text()
    assert table == "x,y,kind,class,predicted\n"


def test_the_embeddings_are_of_the_test_images_in_their_order(tmp_path) -> None:
    write_inputs(tmp_path)
    torch.manual_seed(1)
    classifier = build(ARCHITECTURE)
    width = classifier.head.in_features
    head = projection_head(width, 0, None)
    supports_SD, class_S = torch.randn(6, width), torch.arange(6)
    predictor = SoftNeighbours(classifier, head, supports_SD, class_S, len(CLASSES), 0.1)
    about = json.loads((tmp_path / "models/predictor.json").read_text())
    kept = ("method", "variant", "dataset", "seed", "classes", "resize", "selected_epoch")
    kept += ("snapshots",)
    about = {name: about[name] for name in kept}
    state = predictor.state_dict()
    save_predictor(tmp_path / "models", state, predictor.description, ARCHITECTURE, about)
    run(tmp_path)
    points = read_csv(tmp_path / "reports/evaluate/embedding.csv")
    assert [row["kind"] for row in points] == ["test"] * len(TEST) + ["support"] * 6
    assert [row["class"] for row in points[len(TEST) :]] == CLASSES
    assert {row["predicted"] for row in points[len(TEST) :]} == {""}
    table = pq.read_table(tmp_path / "reports/evaluate/predictions.parquet").to_pylist()
    assert [(row["class"], row["predicted"]) for row in points[: len(TEST)]] == [
        (CLASSES[row["label"]], CLASSES[row["predicted"]]) for row in table
    ]
    first = (tmp_path / "reports/evaluate/embedding.csv").read_bytes()
    run(tmp_path, budget=1e-9, say=lambda _: None)  # the test images in a file
    assert (tmp_path / "reports/evaluate/embedding.csv").read_bytes() == first


def test_sidecars_are_where_a_stage_reads_and_nowhere_else(tmp_path) -> None:
    write_inputs(tmp_path)
    run(tmp_path)
    beside = {path.name for path in (tmp_path / "reports").glob("*.sha256")}
    assert beside == {"labels.parquet.sha256"}
    inside = {path.name for path in (tmp_path / "reports/evaluate").iterdir()}
    assert {f"{name}.sha256" for name in inside if not name.endswith(".sha256")} <= inside


def test_the_same_inputs_give_the_same_bytes(tmp_path) -> None:
    write_inputs(tmp_path)
    run(tmp_path)
    first = {p: p.read_bytes() for p in (tmp_path / "reports").rglob("*") if p.is_file()}
    for budget in (1.0, 1e-9):  # the test images in memory, and in a file
        said = []
        shutil.rmtree(tmp_path / "reports")
        run(tmp_path, budget=budget, say=said.append)
        again = {p: p.read_bytes() for p in (tmp_path / "reports").rglob("*") if p.is_file()}
        assert first == again
        assert [line.partition(" GiB")[2][:37] for line in said] == (
            [" of test images are read from a tempo"] if budget < 1 else []
        )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"classes": [*CLASSES[:-1], "fox"]}, "predictor.json: trained on other classes"),
        ({"test_labels": []}, "test.parquet: no test images"),
        ({"test_labels": [1, None, 2]}, "test.parquet: 1 test images have no label"),
        ({"break_weights": True}, "answers 9 of 9 test images with NaN"),
    ],
)
def test_what_does_not_fit_is_refused_before_metrics_are_written(
    tmp_path, changes, message
) -> None:
    write_inputs(tmp_path, **changes)
    with pytest.raises(UserError, match=message):
        run(tmp_path)
    assert not (tmp_path / "reports/metrics.json").exists()


def edit(path: Path, **changes: object) -> None:
    """Change a JSON file; its sidecar fits all the same."""
    publish_json(path, json.loads(path.read_text()) | changes)


def test_row_22_a_predictor_of_other_images_is_refused(tmp_path) -> None:
    write_inputs(tmp_path)
    edit(tmp_path / "data/classes.json", height=16)
    with pytest.raises(UserError, match=r"predictor\.json: trained on other sizes of images than"):
        run(tmp_path)
    with pytest.raises(UserError, match=r"predictor\.json: trained on other sizes of images than"):
        look(tmp_path / "data", tmp_path / "models", torch.device("cpu"))


def test_label_next_tells_how_far_it_is(tmp_path, monkeypatch, capsys) -> None:
    """Of many images a plain line now and then."""
    write_inputs(tmp_path)
    monkeypatch.setattr(progress, "SECONDS_BETWEEN_LINES", 0.0)
    with pytest.raises(UserError, match=r"labels\.parquet"):  # there are no names of images here
        look(tmp_path / "data", tmp_path / "models", torch.device("cpu"))
    assert "looked at: 18 of 18 images" in capsys.readouterr().out


def test_label_next_asks_one_and_the_same_model(tmp_path, monkeypatch) -> None:
    write_inputs(tmp_path)

    def replaced(models):
        edit(models / "predictor.json", seed=8)
        return load_predictor(models)

    monkeypatch.setattr(pool, "load_predictor", replaced)
    with pytest.raises(UserError, match="models: was replaced by another model meanwhile"):
        look(tmp_path / "data", tmp_path / "models", torch.device("cpu"))


def test_evaluate_tells_how_far_it_is(tmp_path, monkeypatch, capsys) -> None:
    write_inputs(tmp_path)
    monkeypatch.setattr(progress, "SECONDS_BETWEEN_LINES", 0.0)
    run(tmp_path)
    said = capsys.readouterr().out
    assert re.search(r"^reading test: (\d+) of \1 images, \d+ s$", said, re.MULTILINE)
    assert re.search(r"^testing: (\d+) of \1 images, \d+ s$", said, re.MULTILINE)


def test_row_22_a_predictor_of_another_method_is_refused(tmp_path) -> None:
    write_inputs(tmp_path)
    said = r"predictor\.json: trained with cr_dpll, params\.yaml says paws; run `dvc repro`"
    with pytest.raises(UserError, match=said):
        run(tmp_path, method="paws")
    assert not (tmp_path / "reports").exists()


def test_row_40_a_model_from_the_future_is_refused(tmp_path) -> None:
    write_inputs(tmp_path)
    shutil.copy(ROOT / "params.yaml", tmp_path)
    edit(tmp_path / "models/predictor.json", schema_version=99, new_key=1)
    done = subprocess.run(
        [sys.executable, "-m", "stages.evaluate"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (
        1,
        "models/predictor.json: schema_version 99, this version reads 3; train again or use the version that "
        "wrote it\n",
    )
    assert not (tmp_path / "reports").exists()


@pytest.mark.parametrize("name", ["models/predictor.json", "data/label_state.parquet"])
def test_a_damaged_input_is_named(tmp_path, name) -> None:
    write_inputs(tmp_path)
    path = tmp_path / name
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    with pytest.raises(UserError, match="damaged"):
        run(tmp_path)


def test_the_stage_prints_plain_lines_and_one_line_for_a_mistake(tmp_path) -> None:
    write_inputs(tmp_path)
    shutil.copy(ROOT / "params.yaml", tmp_path)
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "stages.evaluate"]

    def stage():
        return subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
        )

    done = stage()
    assert done.returncode == 0, done.stderr
    metrics = json.loads((tmp_path / "reports/metrics.json").read_text())
    first = done.stdout.splitlines()[0]
    assert first.startswith(f"test accuracy: {metrics['test']['accuracy']:.4f} (95 % interval")
    assert "val accuracy: 0.7500 (4 images)" in done.stdout
    (tmp_path / "data/classes.json").unlink()
    failed = stage()
    assert failed.returncode == 1
    assert len(failed.stderr.strip().splitlines()) == 1
    assert "data/classes.json: missing" in failed.stderr


@pytest.mark.parametrize(("ambiguous", "told"), [(None, False), (0.75, True)])
def test_labels_that_were_given_are_not_praised_as_right(capsys, ambiguous, told) -> None:
    test = {"accuracy": 0.5, "accuracy_low": 0.4, "accuracy_high": 0.6, "images": 9}
    test |= {"macro_f1": 0.5, "nll": 1.0, "ece": 0.1}
    train = {"disambiguation_accuracy": 1.0, "disambiguation_accuracy_ambiguous": ambiguous}
    show({"test": test, "val": {"accuracy": None}, "train": train})
    assert ("training labels right" in capsys.readouterr().out) == told


def test_test_images_of_groups_are_told_with_their_number(tmp_path, capsys) -> None:
    write_inputs(tmp_path)
    path = tmp_path / "data/split/test.parquet"
    table = pq.read_table(path)
    column = table.column_names.index("group")
    halves = pa.array([i // 2 for i in range(table.num_rows)], pa.int32())
    publish_table(path, table.set_column(column, "group", halves))
    metrics = run(tmp_path)
    assert metrics["test"]["groups"] == (table.num_rows + 1) // 2
    show(metrics)
    assert (
        f"{table.num_rows} images in {(table.num_rows + 1) // 2} groups)" in capsys.readouterr().out
    )
    publish_table(path, table.drop_columns(["group"]))
    with pytest.raises(
        UserError,
        match=r"test\.parquet: has no column group, as older code wrote it; run `dvc repro split`",
    ):
        run(tmp_path)


def test_a_split_that_is_older_than_the_images_is_refused(tmp_path) -> None:
    write_inputs(tmp_path)
    path = tmp_path / "data/split/test.parquet"
    table = pq.read_table(path)
    publish_table(path, table.replace_schema_metadata({"images.parquet": "0" * 64}))
    with pytest.raises(UserError, match=r"test\.parquet: of other images than .*images\.parquet"):
        run(tmp_path)
