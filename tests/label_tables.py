"""Small tables as `ingest` leaves them, and the split of them, for tests of what becomes of labels."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from ruamel.yaml import YAML

from pipeline_lib.datasets.ingest import LABELS
from pipeline_lib.params.split import Split
from pipeline_lib.protocols.split import Tables, split

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

PARAMS = YAML(typ="safe").load((Path(__file__).parents[1] / "params.yaml").read_text())["split"]
PARAMS["group_by"] = None  # a user's own would find nothing in the paths of these tables


def params(**changes: Any) -> Split:
    """`split` of params.yaml with changes, section by section."""
    changed = {
        name: PARAMS[name] | value if isinstance(value, dict) else value
        for name, value in changes.items()
    }
    return Split.model_validate(PARAMS | changed)


def table(columns: dict[str, Any], number: int) -> pa.Table:
    """labels.parquet of so many images, of which `columns` tell and the others say nothing."""
    named = {"id": np.arange(number), "source": [f"{i}.png" for i in range(number)]}
    return pa.table(dict.fromkeys(LABELS.names, [None] * number) | named | columns, schema=LABELS)


def labels(counts: Sequence[int]) -> pa.Table:
    """So many labeled images of each class, in no order."""
    truth = np.random.default_rng(0).permutation(np.repeat(np.arange(len(counts)), counts))
    return table({"label": truth, "true_label": truth}, len(truth))


def replaced(rows: pa.Table, **columns: Sequence[Any]) -> pa.Table:
    """The table with other values in some columns."""
    given = {name: rows[name] for name in rows.column_names} | columns
    return pa.table(given, schema=LABELS)


def voted(votes: Sequence[Sequence[tuple[int, int]]], truth: Sequence[int | None]) -> pa.Table:
    """Images of which annotators said something: pairs of an annotator and a class."""
    columns = {
        "annotators": [[who for who, _ in said] for said in votes],
        "annotations": [[what for _, what in said] for said in votes],
        "true_label": truth,
    }
    return table(columns, len(votes))


def classes(names: Sequence[str], **more: Any) -> dict[str, Any]:
    """What classes.json says."""
    about = {"dataset": "digits", "annotators": [], "superclasses": None}
    return about | {"classes": names} | more


def no_pixels(ids: np.ndarray) -> Iterator[Any]:
    """Fail: a protocol that does without pixels asked for some."""
    raise AssertionError(ids)


def run(
    rows: pa.Table,
    about: dict[str, Any],
    kind: str = "partial",
    *,
    seed: int = 1,
    limit: int | None = None,
    pixels: Any = no_pixels,
    **changes: Any,
) -> Tables:
    """Split a table."""
    return split(rows, about, kind, params(**changes), seed, limit, pixels)


def mask(part: pa.Table, number: int) -> np.ndarray:
    """Candidates of a part of a split, (N, K)."""
    marks = np.zeros((part.num_rows, number), bool)
    for row, candidates in enumerate(part["candidates"].to_pylist()):
        marks[row, candidates] = True
    return marks


def truth_of(tables: Tables) -> np.ndarray:
    """True classes of the training images, in their order."""
    return np.array(tables.oracle["label"].to_pylist()[: tables.train.num_rows])
