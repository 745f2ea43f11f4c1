"""A small made-up run: every file that the report stage reads, with numbers that look like a run's."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
import pyarrow as pa
import pytest

from pipeline_lib import metrics
from pipeline_lib.artifacts import publish_bytes, publish_json, publish_text
from pipeline_lib.card.write import write_card
from pipeline_lib.evaluation import tables
from pipeline_lib.models.description import SCHEMA_VERSION
from pipeline_lib.params.load import load
from pipeline_lib.parquet import publish_table
from pipeline_lib.report.build import build_report
from pipeline_lib.report.inputs import read_inputs
from tests.browser import browser, visit  # noqa: F401 - fixtures

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

DIGITS = tuple("0123456789")


@dataclass
class FakeRun:
    """A folder with data/ and reports/ as the earlier stages leave them."""

    root: Path
    classes: Sequence[str]

    @property
    def data(self) -> Path:
        return self.root / "data"

    @property
    def reports(self) -> Path:
        return self.root / "reports"

    @property
    def page(self) -> Path:
        return self.reports / "index.html"

    def build(self, **report: int) -> list[str]:
        """As the stage does."""
        params = load().report.model_copy(update=report)
        inputs = read_inputs(self.data, self.reports)
        missing = build_report(inputs, self.reports, params)
        write_card(inputs, self.data, self.root / "models", self.reports)
        return missing


@pytest.fixture
def make_run(tmp_path: Path) -> Callable[..., FakeRun]:
    """`make_run(classes=..., train=..., test=...)` writes a run into a new folder."""
    number = iter(range(100))

    def make(**options: object) -> FakeRun:
        return write_run(tmp_path / f"run{next(number)}", **options)  # type: ignore[arg-type]

    return make


HOSTILE = (
    "<script>document.title='owned'</script>",
    "n" * 300,
    "חתול קטן",
    "قطة \u202egnp.exe",
    "$\\frac{1}{0}$",
    "line\nbreak\ttab\x07bell",
    "猫",
    "\"><img src=x onerror=document.title='owned'>",
    "{{ 7*7 }}{% raw %}",
    "&amp;|;</title>",
)


@pytest.fixture(scope="session")
def digits_run(tmp_path_factory: pytest.TempPathFactory) -> FakeRun:
    """A run on ten classes with its report built, to be read only."""
    run = write_run(tmp_path_factory.mktemp("digits"))
    assert run.build() == []
    return run


@pytest.fixture(scope="session")
def hostile_run(tmp_path_factory: pytest.TempPathFactory) -> FakeRun:
    """The same with names that mean to break the page."""
    annotated = {"protocol": "given", "parameters": {}, "annotators": people(*HOSTILE)}
    run = write_run(tmp_path_factory.mktemp("hostile"), classes=HOSTILE, summary=annotated)
    assert run.build() == []
    return run


@pytest.fixture(scope="session")
def hostile_paws_run(tmp_path_factory: pytest.TempPathFactory) -> FakeRun:
    """With the diagnostics of PAWS."""
    run = write_run(tmp_path_factory.mktemp("paws"), classes=HOSTILE, method="paws")
    assert run.build() == []
    return run


@pytest.fixture(scope="session")
def two_phase_run(tmp_path_factory: pytest.TempPathFactory) -> FakeRun:
    """With the diagnostics of two_phase."""
    run = write_run(tmp_path_factory.mktemp("two_phase"), method="two_phase")
    assert run.build() == []
    return run


def write_run(
    root: Path,
    classes: Sequence[str] = DIGITS,
    *,
    train: int = 40,
    test: int = 60,
    epochs: int = 6,
    keeps_labels: bool = True,
    method: str | None = None,
    shape: tuple[int, int, int] = (8, 8, 1),
    accuracy: float = 0.85,
    summary: Mapping[str, object] | None = None,
) -> FakeRun:
    """Write all inputs of the report stage for `train` training and `test` test images.

    `summary` replaces entries of data/split/summary.json. A `method` of few labels has diagnostics of its own.
    """
    rng = np.random.default_rng(7)
    run = FakeRun(root, classes)
    truth_N = np.arange(train + test) % len(classes)
    _write_images(run, rng, truth_N, shape, train)
    chosen = _write_labels(run, rng, truth_N[:train])
    _write_curves(run, epochs, keeps_labels=keeps_labels, method=method)
    _write_phases(run, epochs, method)
    measured = _write_test(run, rng, truth_N[train:], first_id=train, accuracy=accuracy)
    _write_points(run, rng, method)
    _write_summary(run, summary or {})
    _write_model(run, shape)
    content = {
        "method": method or ("cr_dpll" if keeps_labels else "supervised"),
        "variant": "official",
        "dataset": "digits",
        "seed": 1,
        "protocol": "uniform_candidates",
        "test": measured,
        "val": {"accuracy": 0.9, "images": 10, "epoch": epochs},
        "train": {
            "disambiguation_accuracy": float(np.mean(chosen == truth_N[:train]))
            if keeps_labels
            else None,
            "disambiguation_accuracy_ambiguous": 0.8 if keeps_labels else None,
            "images": train,
            "images_ambiguous": train - 2,
            "images_of_known_class": train,
            "images_ambiguous_of_known_class": train - 2,
        },
    }
    publish_json(run.reports / "metrics.json", tables.rounded(content), sidecar=False)
    return run


def _write_images(
    run: FakeRun,
    rng: np.random.Generator,
    truth_N: np.ndarray,
    shape: tuple[int, int, int],
    train: int,
) -> None:
    height, width, channels = shape
    patterns = rng.integers(0, 256, (len(run.classes), *shape))
    images = (0.7 * patterns[truth_N] + rng.integers(0, 70, (len(truth_N), *shape))).astype(
        np.uint8
    )
    count = len(images)
    about = {"dataset": "digits", "classes": list(run.classes), "policy": "digits"}
    about |= {"height": height, "width": width, "channels": channels}
    about |= {"store": "pixels", "resize": "stretch"}
    publish_json(run.data / "classes.json", about)
    columns = {
        "id": pa.array(range(count), pa.int32()),
        "image": pa.array([image.tobytes() for image in images], pa.binary()),
    }
    publish_table(run.data / "images.parquet", pa.table(columns))
    oracle = {
        "id": pa.array(range(train), pa.int32()),
        "source": [f"digits/{i}" for i in range(train)],
        "label": pa.array(truth_N[:train], pa.int16()),
        "part": ["train"] * train,
    }
    publish_table(run.data / "split/oracle.parquet", pa.table(oracle))


def _write_points(run: FakeRun, rng: np.random.Generator, method: str | None) -> None:
    """Embeddings of PAWS alone; every sixth image is mistaken."""
    points = [
        {"x": x, "y": y, "kind": "support" if n % 4 == 0 else "test", "class": run.classes[k]}
        for n, (k, (x, y)) in enumerate(
            (n % len(run.classes), rng.normal(size=2).round(4)) for n in range(40)
        )
        if method == "paws"
    ]
    for n, point in enumerate(points):
        if point["kind"] == "test":
            point["predicted"] = run.classes[0] if n % 6 == 0 else point["class"]
    tables.publish_embedding(run.reports / "evaluate/embedding.csv", points)


def _write_model(run: FakeRun, shape: tuple[int, int, int]) -> None:
    """What describes a predictor, weights that nobody reads, and the split's files of no content."""
    height, width, channels = shape
    network = {"name": "small_cnn", "width": 4, "alpha": 1.0, "dropout": 0.0, "stem": "auto"}
    network |= {"bn_momentum": 0.1, "channels": channels, "num_classes": len(run.classes)}
    network |= {"image_height": height, "image_width": width}
    network |= {"mean": [0.5] * channels, "std": [0.2] * channels}
    about = {"schema_version": SCHEMA_VERSION, "method": "cr_dpll", "variant": "official"}
    about |= {"dataset": "digits", "seed": 1, "classes": list(run.classes), "resize": "stretch"}
    about |= {"epochs": 6, "steps": 1200, "select": "last", "selected_epoch": 6}
    about |= {"architecture": network, "predictor": {"kind": "softmax"}, "snapshots": {}}
    publish_json(run.root / "models/predictor.json", about)
    names = [f"data/split/{part}.parquet" for part in ("train", "val", "test")]
    for name in ("models/predictor.safetensors", "data/labels.parquet", *names):
        publish_bytes(run.root / name, name.encode())


def _write_summary(run: FakeRun, changes: Mapping[str, object]) -> None:
    """What the split stage tells that the report reads, and no rejected images."""
    candidates = pl.read_parquet(run.reports / "labels.parquet")["candidates"]
    sets = candidates.list.len().fill_null(len(run.classes)).to_list()
    kinds = [{1: "labeled", len(run.classes): "unlabeled"}.get(size, "partial") for size in sets]
    content = {
        "protocol": "uniform_candidates",
        "roles": {
            "train": {kind: kinds.count(kind) for kind in sorted(set(kinds))},
            "val": {"partial": 10},
        },
        "val_labels": "like_train",
        "images": {"train": 40, "val": 10, "test": 60},
        "parameters": {"rate": 0.3, "force_ambiguous": True},
        "left_out": {"train": 0, "val": 0, "test": 0},
        "noisy": {"train": 0, "val": 0},
        "candidates": {"train": {"holds_truth": 1.0}},
        "groups": None,
        "untold_classes": [],
        "balance": {"labeled": [10] * len(run.classes)},
        "duplicates": {
            "rule": "allow",
            "groups": 0,
            "images": 0,
            "differ": 0,
            "across": {"train_val": 0, "train_test": 0, "val_test": 0},
            "first": [],
            "dropped": 0,
        },
    }
    publish_json(run.data / "split/summary.json", content | dict(changes))
    nothing = {"source": pa.array([], pa.string()), "reason": pa.array([], pa.string())}
    publish_table(run.data / "rejected.parquet", pa.table(nothing))


def people(*names: str) -> dict[str, object]:
    """The entry `annotators` of summary.json: the first is the best, every second one's truth is known."""
    rows = [
        {
            "name": name,
            "votes": 40,
            "estimated_accuracy": 0.9 - 0.05 * n,
            "accuracy": 0.85 if n % 2 == 0 else None,
        }
        for n, name in enumerate(names)
    ]
    return {
        "rule": "union",
        "at_least": 2,
        "mass": 0.95,
        "count": len(rows),
        "images": 50,
        "votes": 40 * len(rows),
        "votes_per_image": {str(len(rows)): 50},
        "agreement": 0.75,
        "krippendorff_alpha": 0.6543,
        "majority_wrong": {"expected": 0.04, "actual": 0.0512},
        "best": rows,
        "worst": [],
    }


def _write_labels(run: FakeRun, rng: np.random.Generator, truth_N: np.ndarray) -> np.ndarray:
    """Two images with one candidate, two with all, the rest between; every eighth label is wrong."""
    size = len(run.classes)
    candidates_NK = rng.random((len(truth_N), size)) < 0.3
    candidates_NK[:2], candidates_NK[2:4] = False, True
    candidates_NK[np.arange(len(truth_N)), truth_N] = True
    chosen_N = truth_N.copy()
    for n in range(5, len(truth_N), 8):
        chosen_N[n] = (truth_N[n] + 1) % size
        candidates_NK[n, chosen_N[n]] = True
    names = [
        None if row.all() else [run.classes[k] for k in np.flatnonzero(row)]
        for row in candidates_NK
    ]
    count = len(truth_N)
    columns = {
        "id": pa.array(range(count), pa.int32()),
        "source": [f"digits/{i}" for i in range(count)],
        "candidates": pa.array(names, pa.list_(pa.string())),
        "label": [run.classes[k] for k in chosen_N],
        "confidence": pa.array(rng.uniform(0.6, 1, count).round(6), pa.float32()),
    }
    publish_table(run.reports / "labels.parquet", pa.table(columns))
    return chosen_N


PHASES = {"paws": ("pretrain", "finetune"), "two_phase": ("warm_up", "supervised", "second")}


def _write_phases(run: FakeRun, epochs: int, method: str | None) -> None:
    """Phases of equally many epochs; of two_phase the search for a rate, whose loss falls and is lost."""
    names = PHASES.get(method or "", ("train",))
    each = 10 * epochs // len(names)
    phases = [
        {"phase": name, "first_step": n * each, "end": (n + 1) * each, "views_per_step": 16}
        for n, name in enumerate(names)
    ]
    versions = {"torch": "2.15.0", "torchvision": "0.30.0", "numpy": "2.3.4"}
    settings = {"device": "cpu", "threads": 1, "reproducible": "any_cpu"}
    content: dict[str, object] = {
        "phases": phases,
        "unfinished": [],
        "made_with": versions | settings,
    }
    if method == "two_phase":
        reasons = {"batch_size": "16: as sought", "learning_rate": "0.1: where the loss fell"}
        content["found"] = {"batch_size": 16, "learning_rate": 0.1, "reasons": reasons}
        steps = range(15)
        losses = [2.0 + (step == 7) - 0.1 * step if step < 14 else 1e9 for step in steps]
        smoothed = [2.0 - 0.1 * step if step < 14 else 1e8 for step in steps]
        columns = {"learning_rate": [10 ** (step / 2 - 6) for step in steps], "loss": losses}
        table = pl.DataFrame({**columns, "smoothed_loss": smoothed, "step": steps})
        publish_text(run.reports / "train/range_test.csv", table.write_csv())
    publish_json(run.reports / "train/phases.json", content)


def _write_curves(run: FakeRun, epochs: int, *, keeps_labels: bool, method: str | None) -> None:
    history, curve = [], []
    for epoch in range(epochs + 1):
        fall = 0.6**epoch
        row = {"epoch": epoch, "step": 10 * epoch, "learning_rate": 0.05, "val_loss": 2.4 * fall}
        row |= {"val_covering_rate": 1 - 0.5 * fall, "val_approximated_accuracy": 1 - 0.6 * fall}
        if epoch:
            row |= {"loss": 2 * fall, "complementary_loss": 1.8 * fall}
            row |= {"consistency_loss": 0.2 * fall, "consistency_weight": 0.1 * epoch}
        if method in PHASES:
            row["phase"] = max(epoch - 1, 0) * len(PHASES[method]) // max(epochs, 1)
        if epoch and method in {"fixmatch", "two_phase"}:
            row["pseudo_label_rate"] = 0.9 - fall / 2
        history.append(row)
        recovered = 1 - 0.7 * fall if keeps_labels else None
        point = {
            "epoch": epoch,
            "val_accuracy": 1 - 0.8 * fall,
            "disambiguation_accuracy": recovered,
        }
        if method:
            point |= {"coverage": 1 - fall, "precision": 0.9 if epoch else None}
        curve.append(point)
    columns = list(history[-1])
    text = pl.DataFrame(history, schema=columns, infer_schema_length=None).write_csv()
    publish_text(run.reports / "train/history.csv", text)
    tables.publish_label_curve(run.reports / "evaluate/label_curve.csv", curve)


def _write_test(
    run: FakeRun, rng: np.random.Generator, truth_N: np.ndarray, first_id: int, accuracy: float
) -> dict[str, object]:
    size = len(run.classes)
    peak_N = np.where(rng.random(len(truth_N)) < accuracy, truth_N, (truth_N + 1) % size)
    scores_NK = rng.random((len(truth_N), size))
    scores_NK[np.arange(len(truth_N)), peak_N] += rng.uniform(1, 60, len(truth_N))
    probabilities_NK = (scores_NK / scores_NK.sum(axis=1, keepdims=True)).round(6)
    predicted_N = metrics.predicted_classes(probabilities_NK)
    ids_N = first_id + np.arange(len(truth_N))
    scores = metrics.class_scores(metrics.confusion_matrix(probabilities_NK, truth_N))
    bins = metrics.calibration_bins(probabilities_NK, truth_N, 15)
    folder = run.reports / "evaluate"
    tables.publish_predictions(
        folder / "predictions.parquet",
        tables.HeldOut(ids_N, ids_N, truth_N),
        predicted_N,
        probabilities_NK.astype(np.float32),
    )
    tables.publish_confusion(folder / "confusion.csv", truth_N, predicted_N, run.classes)
    tables.publish_per_class(folder / "per_class.csv", scores, run.classes)
    tables.publish_calibration(folder / "calibration.csv", bins)
    right = int((predicted_N == truth_N).sum())
    top = metrics.top_accuracy(probabilities_NK, truth_N)
    return {
        "accuracy": right / len(truth_N),
        "accuracy_low": metrics.wilson_95(right, len(truth_N))[0],
        "accuracy_high": metrics.wilson_95(right, len(truth_N))[1],
        **({"top5_accuracy": top} if size > metrics.TOP else {}),
        "balanced_accuracy": metrics.balanced_accuracy(scores),
        "macro_f1": metrics.macro_f1(scores),
        "nll": metrics.nll(probabilities_NK, truth_N),
        "brier": metrics.brier(probabilities_NK, truth_N),
        "ece": metrics.expected_calibration_error(bins),
        "ece_by_chance": metrics.calibration_error_by_chance(bins),
        "images": len(truth_N),
    }
