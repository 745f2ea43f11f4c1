"""What the train stage leaves behind."""

from __future__ import annotations

import csv
import io
import json
import os
import platform
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import torch

from pipeline_lib.artifacts import publish_table, publish_text
from pipeline_lib.models.predictor import save_predictor
from pipeline_lib.training.loop import PARTS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from pipeline_lib.models.build import Architecture
    from pipeline_lib.params.load import Params
    from pipeline_lib.training.loop import Record, Trainer

MODELS = Path("models")
LABEL_STATE = Path("data/label_state.parquet")
LABEL_HISTORY = Path("data/label_history.parquet")
HISTORY = Path("reports/train/history.csv")
ENVIRONMENT = Path("reports/environment.json")
HEAD = ("epoch", "step", "learning_rate", "loss")  # the first columns of the history
BATCH = 1024


def publish_training(
    params: Params,
    classes: Mapping[str, Any],
    architecture: Architecture,
    ids_N: Tensor,
    trainer: Trainer,
    record: Record,
    seconds: float,
) -> None:
    """Write the predictor, the label state, the label history and the history of the training."""
    labels_NK = _final_labels(trainer, record)
    publish_table(LABEL_STATE, _label_state(ids_N, labels_NK))
    publish_table(LABEL_HISTORY, _label_history(record))
    publish_text(HISTORY, history_csv(record.rows))
    about = {
        "method": params.method,
        "variant": trainer.method.variant,
        "dataset": classes["dataset"],
        "seed": params.seed,
        "classes": list(classes["classes"]),
        "epochs": int(record.rows[-1]["epoch"]),
        "steps": int(record.rows[-1]["step"]),
        "select": trainer.rule,
        "selected_epoch": record.best_epoch,
    }
    save_predictor(MODELS, record.best, architecture, about)
    _write_environment(trainer, seconds)


@torch.no_grad()
def _final_labels(trainer: Trainer, record: Record) -> Tensor:
    """Soft label of every training image, float32 (N, K): the method's table, or else its predictor's.

    Both are those of the epoch that is kept. A prediction is restricted to the image's candidates, since
    nothing outside them is believed.
    """
    predictor = trainer.method.predictor()
    predictor.load_state_dict(record.best)
    if record.best_labels_NK is not None:
        return record.best_labels_NK.float().cpu()
    predictor.eval()
    pool = trainer.pool
    p_NK = torch.cat([predictor(images) for images in pool.images_NCHW.split(BATCH)])
    inside_NK = p_NK.clamp_min(torch.finfo(torch.float32).tiny) * pool.candidates_NK
    return (inside_NK / inside_NK.sum(dim=1, keepdim=True)).cpu()


def _label_state(ids_N: Tensor, labels_NK: Tensor) -> pa.Table:
    flat = pa.array(labels_NK.flatten().numpy(), pa.float32())
    offsets = pa.array(range(0, labels_NK.numel() + 1, labels_NK.shape[1]), pa.int32())
    return pa.table(
        {
            "id": pa.array(ids_N.numpy(), pa.int32()),
            "probabilities": pa.ListArray.from_arrays(offsets, flat),
        }
    )


def _label_history(record: Record) -> pa.Table:
    rows = [
        {"epoch": int(row["epoch"]), "part": part, "labels": labels.numpy()}
        for part in PARTS
        for row, labels in zip(record.rows, record.labels[part], strict=False)
    ]
    schema = pa.schema(
        [("epoch", pa.int32()), ("part", pa.string()), ("labels", pa.list_(pa.int16()))]
    )
    return pa.Table.from_pylist(rows, schema)


def history_csv(rows: list[dict[str, float]]) -> str:
    """The history as CSV: one line per evaluation, blank where a row has no such number."""
    seen = {name for row in rows for name in row}
    # In an order of its own: that of a row depends on where an interrupted run went on.
    names = [n for n in HEAD if n in seen] + sorted(seen.difference(HEAD))
    text = io.StringIO()
    writer = csv.DictWriter(text, names, lineterminator="\n")
    writer.writeheader()
    whole = {"epoch", "step"}
    for row in rows:
        writer.writerow({n: int(v) if n in whole else f"{v:.6g}" for n, v in row.items()})
    return text.getvalue()


def _write_environment(trainer: Trainer, seconds: float) -> None:
    """Note where and how long it ran: no output of the stage, since it differs each time."""
    device = trainer.pool.device
    steps = trainer.clock.step
    environment = {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "device": torch.cuda.get_device_name() if device.type == "cuda" else device.type,
        "processor": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "seconds": round(seconds, 2),
        "steps": steps,
    }
    ENVIRONMENT.parent.mkdir(parents=True, exist_ok=True)
    ENVIRONMENT.write_text(json.dumps(environment, indent=2) + "\n", encoding="utf-8")
