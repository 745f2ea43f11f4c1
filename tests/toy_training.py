"""What the train stage reads, small and made up, in the current folder; and the stage on it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa

from pipeline_lib.artifacts import publish_json
from pipeline_lib.params.load import Params, check, read_yaml
from pipeline_lib.parquet import publish_rows, publish_table
from pipeline_lib.training.train import train

ROOT = Path(__file__).parents[1]
CLASSES, SIDE, LABELED, TRAIN, VAL = ["ant", "bee", "cow"], 12, 18, 66, 9
CHANGES = {
    "model": {"width": 4},
    "train": {
        "epochs": 2,
        "batch_size": 8,
        "steps_per_epoch": 3,
        "ema_decay": 0.5,
        "collapse": 0.0,
        "keep_last": 1,
        "weak_augment": "crop_flip",
        "strong_augment": "randaugment",
        "global_augment": "global_crop",
        "small_augment": "small_crop",
    },
}
METHODS = {
    "paws": {"images_per_class": 2, "finetune_steps": 2},
    "two_phase": {
        "warmup_steps": 2,
        "supervised_steps": 2,
        "semi_supervised_steps": 2,
        "batch_size": 8,
        "learning_rate": 0.01,
    },
}


def params(method: str, **train: object) -> Params:
    """params.yaml with a training of a few steps."""
    content = read_yaml(ROOT / "params.yaml")
    content["method"] = method
    for section, values in CHANGES.items():
        content[section].update(values)
    content["train"].update(train)
    content["methods"][method].update(METHODS.get(method, {}))
    return check(content, ROOT / "params.yaml")


def write_inputs() -> None:
    """Coloured noise, in row groups of 20; every class among the labeled images."""
    draw = np.random.default_rng(3)
    count = TRAIN + VAL
    labels_N = np.arange(count) % len(CLASSES)
    images_NHWC = draw.integers(0, 200, (count, SIDE, SIDE, 3))
    images_NHWC[np.arange(count), :, :, labels_N] += 50
    table = pa.table({"image": [image.astype(np.uint8).tobytes() for image in images_NHWC]})
    with publish_rows(Path("data/images.parquet"), table.schema, row_group_size=20) as write:
        write(table)
    about = {"dataset": "toy", "classes": CLASSES, "policy": "natural", "channels": 3}
    about |= {"height": SIDE, "width": SIDE, "store": "pixels", "resize": "stretch"}
    publish_json(Path("data/classes.json"), about)
    ids_N = draw.permutation(count)
    for part, chosen in (("train", ids_N[:TRAIN]), ("val", ids_N[TRAIN:])):
        known = range(LABELED if part == "train" else VAL)
        candidates = [[labels_N[i]] if n in known else [0, 1, 2] for n, i in enumerate(chosen)]
        roles = ["labeled_and_unlabeled" if n in known else "unlabeled" for n in range(len(chosen))]
        columns = {
            "id": pa.array(chosen, pa.int32()),
            "candidates": pa.array(candidates, pa.list_(pa.int16())),
            "role": roles,
        }
        publish_table(Path(f"data/split/{part}.parquet"), pa.table(columns))


def outcome(chosen: Params) -> tuple[dict[str, bytes], list[str]]:
    """Train; every output but the duration, and what was said."""
    said: list[str] = []
    train(chosen, said.append)
    files = [f for name in ("models", "data", "reports") for f in Path(name).rglob("*")]
    return {
        str(file): file.read_bytes()
        for file in sorted(files)
        if file.is_file() and file.name != "environment.json"
    }, said
