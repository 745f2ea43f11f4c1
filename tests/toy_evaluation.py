"""What the evaluate stage reads, small and made up; and the stage on it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import torch

from pipeline_lib.artifacts import publish_json
from pipeline_lib.evaluation.evaluate import evaluate
from pipeline_lib.memory import ImageMemory
from pipeline_lib.models.build import Architecture, build
from pipeline_lib.models.predictor import Predictor, save_predictor
from pipeline_lib.params.load import load
from pipeline_lib.parquet import publish_table

CLASSES = ["ant", "bee", "cow", "dog", "eel", "fox, red"]
IMAGES, TRAIN, VAL, TEST = 40, range(20), range(20, 24), [39, 24, 31, *range(25, 31)]
ARCHITECTURE = Architecture(
    name="small_cnn",
    width=4,
    alpha=1.0,
    dropout=0.0,
    stem="auto",
    bn_momentum=0.1,
    channels=3,
    image_height=8,
    image_width=8,
    num_classes=len(CLASSES),
    mean=(0.5, 0.4, 0.3),
    std=(0.2, 0.2, 0.2),
)


def ints(values, kind):
    return pa.array(values, kind)


def write_inputs(
    root: Path, *, classes=CLASSES, test_labels=None, break_weights=False, snapshots=None
) -> None:
    """Random images, a random network, and a split whose label table is right for 15 of 20 images."""
    draw = np.random.default_rng(0)
    pixels = draw.integers(0, 256, size=(IMAGES, 8, 8, 3), dtype=np.uint8)
    labels = draw.integers(len(CLASSES) - 1, size=IMAGES)  # the last class has no image
    data = root / "data"
    images = {
        "id": ints(range(IMAGES), pa.int32()),
        "image": [image.tobytes() for image in pixels],
    }
    publish_table(data / "images.parquet", pa.table(images))
    task = {"dataset": "toy", "classes": CLASSES, "height": 8, "width": 8, "channels": 3}
    task |= {"store": "pixels", "resize": "stretch"}
    publish_json(data / "classes.json", task)
    write_split(data, labels, test_labels)
    write_labels(data, labels)
    torch.manual_seed(1)
    predictor = Predictor(build(ARCHITECTURE))
    if break_weights:
        predictor.classifier.head.bias.data[:] = torch.nan
    about = {"method": "cr_dpll", "variant": "official", "dataset": "toy", "seed": 3}
    about |= {"classes": classes, "resize": "stretch", "selected_epoch": 2, "epochs": 3}
    about["snapshots"] = snapshots or {}
    save_predictor(
        root / "models", predictor.state_dict(), {"kind": "softmax"}, ARCHITECTURE, about
    )


def write_split(data: Path, labels, test_labels) -> None:
    candidates = [sorted({int(labels[i]), i % 3}) for i in TRAIN]
    train = {
        "id": ints(TRAIN, pa.int32()),
        "candidates": ints(candidates, pa.list_(pa.int16())),
        "role": ["partial"] * len(TRAIN),
    }
    publish_table(data / "split/train.parquet", pa.table(train))
    ids = [*TRAIN, *VAL]
    oracle = {
        "id": ints(ids, pa.int32()),
        "source": [f"{i}.png" for i in ids],
        "label": ints(labels[ids], pa.int16()),
        "part": ["train"] * len(TRAIN) + ["val"] * len(VAL),
    }
    publish_table(data / "split/oracle.parquet", pa.table(oracle))
    chosen = labels[TEST] if test_labels is None else test_labels
    ids = TEST[: len(chosen)]
    test = {name: ints(ids, pa.int32()) for name in ("id", "group")}
    test["label"] = ints(list(chosen), pa.int16())
    publish_table(data / "split/test.parquet", pa.table(test))
    summary = {
        "protocol": "uniform_candidates",
        "roles": {"train": {"labeled": 4, "partial": 16}, "val": {}},
        "mean_candidates": {"train": 1.8, "val": 1.5},
        "noisy": {"train": 3, "val": 0},
    }
    publish_json(data / "split/summary.json", summary)


def write_labels(data: Path, labels) -> None:
    table = np.full((len(TRAIN), len(CLASSES)), 0.04)
    table[np.arange(20), np.where(np.arange(20) < 15, labels[:20], (labels[:20] + 1) % 6)] = 0.8
    state = {
        "id": ints(TRAIN, pa.int32()),
        "probabilities": ints(table.tolist(), pa.list_(pa.float32())),
    }
    publish_table(data / "label_state.parquet", pa.table(state))
    wrong = (labels[list(VAL)] + 1) % 6
    history = {
        "epoch": ints([1, 2, 3], pa.int32()),
        "part": ["val"] * 3,
        "labels": ints([wrong, [*labels[20:23], wrong[3]], wrong], pa.list_(pa.int16())),
    }
    publish_table(data / "label_history.parquet", pa.table(history))


def run(root: Path, batch_size: int = 4, budget: float = 1.0, say=print, method="cr_dpll"):
    params = load(Path(__file__).parents[1] / "params.yaml").evaluate.model_copy(
        update={"batch_size": batch_size}
    )
    cpu = torch.device("cpu")
    memory = ImageMemory(budget, cpu, root / "scratch", say)
    return evaluate(root / "data", root / "models", root / "reports", method, params, cpu, memory)
