"""What the train stage leaves behind."""

from __future__ import annotations

import csv
import io
import json
import platform
from dataclasses import asdict, replace
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import torch

from pipeline_lib.artifacts import publish_json, publish_text
from pipeline_lib.control_groups import cores
from pipeline_lib.losses.common import restrict
from pipeline_lib.models.predictor import (
    SNAPSHOTS,
    in_passes,
    predictor_like,
    save_predictor,
)
from pipeline_lib.models.weights import load_weights, save_weights
from pipeline_lib.parquet import publish_table
from pipeline_lib.training.determinism import processor
from pipeline_lib.training.device import device_name
from pipeline_lib.training.record import PARTS, Kept, Record
from pipeline_lib.training.unfinished import unfinished

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from pipeline_lib.methods.phases import Phase
    from pipeline_lib.models.build import Architecture
    from pipeline_lib.params.load import Params
    from pipeline_lib.training.finders import Findings
    from pipeline_lib.training.loop import Trainer

MODELS = Path("models")
LABEL_STATE = Path("data/label_state.parquet")
LABEL_HISTORY = Path("data/label_history.parquet")
HISTORY = Path("reports/train/history.csv")
PHASES = Path("reports/train/phases.json")
ENVIRONMENT = Path("reports/environment.json")
# What the bytes of images and tables depend on.
LIBRARIES = ("torchvision", "numpy", "pillow", "pyarrow", "polars")
HEAD = ("epoch", "step", "phase", "learning_rate", "loss")  # the first columns of the history
PLOTTED = "val_loss"  # by dvc.yaml; validation images that tell nothing have none


def publish_training(
    params: Params,
    classes: Mapping[str, Any],
    architecture: Architecture,
    ids_N: Tensor,
    trainer: Trainer,
    findings: Findings | None,
    seconds: float,
) -> None:
    """Write the predictor, the label state, the label history and the history of the training."""
    record = trainer.record
    labels_NK = _final_labels(trainer, architecture)
    publish_table(LABEL_STATE, _label_state(ids_N, labels_NK))
    publish_table(LABEL_HISTORY, _label_history(record))
    publish_text(HISTORY, history_csv(record.rows, PLOTTED))
    course: dict[str, Any] = {
        "phases": record.phases,
        "unfinished": unfinished(params, trainer, _as_they_ran(trainer)),
    }
    if findings:
        course["found"] = asdict(findings.found)
        publish_text(HISTORY.with_name("range_test.csv"), history_csv(findings.curve))
    publish_json(PHASES, course | {"made_with": _made_with(params, trainer)})
    kept = record.kept
    about = {
        "method": params.method,
        "variant": trainer.method.variant,
        "dataset": classes["dataset"],
        "seed": params.seed,
        "classes": list(classes["classes"]),
        "resize": classes["resize"],
        "epochs": int(record.rows[-1]["epoch"]),
        "steps": int(record.rows[-1]["step"]),
        "select": trainer.rule,
        "selected_epoch": kept.epoch,
        "snapshots": _publish_snapshots(record),
    }
    save_predictor(MODELS, kept.weights, kept.description, architecture, about)
    _write_environment(trainer, seconds)


def _as_they_ran(trainer: Trainer) -> list[Phase]:
    """The phases with the steps that they took: one may end early."""
    took = {ran["phase"]: ran["end"] - ran["first_step"] for ran in trainer.record.phases}
    return [replace(phase, steps=took.get(phase.name, 0)) for phase in trainer.phases]


def _made_with(params: Params, trainer: Trainer) -> dict[str, Any]:
    """What the bits depend on besides params and inputs."""
    versions = {name: version(name).partition("+")[0] for name in ("torch", "torchvision", "numpy")}
    return {
        **versions,
        "device": device_name(trainer.pool.device),
        "processes": trainer.ranks.count if trainer.ranks else 1,
        "threads": params.train.threads,
        "reproducible": params.train.reproducible,
    }


def _publish_snapshots(record: Record) -> dict[str, Any]:
    """Write the predictors at the last evaluations and at the ends of phases; describe them by name."""
    named: list[tuple[str, str, Kept]] = [
        (f"evaluation-{kept.epoch:05d}", "evaluation", kept) for kept in record.last
    ]
    if len(record.ends) > 1:
        named += [(f"phase-{phase}", "phase", kept) for phase, kept in record.ends.items()]
    for name, _, kept in named:
        save_weights(MODELS / SNAPSHOTS / f"{name}.safetensors", kept.weights)
    return {
        name: {"of": of, "epoch": kept.epoch, "predictor": kept.description}
        for name, of, kept in named
    }


@torch.no_grad()
def _final_labels(trainer: Trainer, architecture: Architecture) -> Tensor:
    """Soft label of every training image, float32 (N, K): the method's table, or else its predictor's.

    Both are those of the epoch that is kept. A prediction is restricted to the image's candidates, since
    nothing outside them is believed.
    """
    record, pool = trainer.record, trainer.pool
    if record.best_labels_NK is not None:
        return record.best_labels_NK.float().cpu()
    with torch.random.fork_rng(devices=[]):
        predictor = predictor_like(architecture, record.kept.description).to(pool.device).eval()
    load_weights(predictor, record.kept.weights)
    batches = in_passes(pool.images_NCHW)
    p_NK = torch.cat([predictor(images_BCHW.to(pool.device)) for images_BCHW in batches])
    return restrict(p_NK, pool.candidates_NK).cpu()


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
        {"epoch": epoch, "part": part, "labels": labels_N.numpy()}
        for part in PARTS
        for epoch, labels_N in record.labels[part].items()
    ]
    schema = pa.schema(
        [("epoch", pa.int32()), ("part", pa.string()), ("labels", pa.list_(pa.int16()))]
    )
    return pa.Table.from_pylist(rows, schema)


def history_csv(rows: list[dict[str, float]], *always: str) -> str:
    """The history as CSV: one line per evaluation, blank where a row has no such number.

    Args:
        rows: of `Record.rows`, or of a range test.
        always: columns that are there although no row has such a number.
    """
    seen = {*always, *(name for row in rows for name in row)}
    # In an order of its own: that of a row depends on where an interrupted run went on.
    names = [n for n in HEAD if n in seen] + sorted(seen.difference(HEAD))
    text = io.StringIO()
    writer = csv.DictWriter(text, names, lineterminator="\n")
    writer.writeheader()
    whole = {"epoch", "step", "phase"}
    for row in rows:
        writer.writerow({n: int(v) if n in whole else f"{v:.6g}" for n, v in row.items()})
    return text.getvalue()


def _write_environment(trainer: Trainer, seconds: float) -> None:
    """Note where and how long it ran: no output of the stage, since it differs each time.

    `seconds` and `ms_per_step` are those of this process, which took the last `steps_here` of all `steps`. A step
    takes as long as its phase lets it; a search for settings is one step of its own.
    """
    environment = {
        "python": platform.python_version(),
        "torch": torch.__version__,
        **{library: version(library) for library in LIBRARIES},
        "device": device_name(trainer.pool.device),
        "processor": processor(),
        "cores": cores(),
        "threads": torch.get_num_threads(),
        "seconds": round(seconds, 3),
        "steps": trainer.done,
        "steps_here": trainer.done - trainer.resumed_at,
        "ms_per_step": {name: round(ms, 3) for name, ms in trainer.ms_per_step.items()},
    }
    ENVIRONMENT.parent.mkdir(parents=True, exist_ok=True)
    ENVIRONMENT.write_text(json.dumps(environment, indent=2) + "\n", encoding="utf-8")
