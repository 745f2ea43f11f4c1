"""docs/reference/tables.md describes every column of every stored table, and none that there is not."""

from __future__ import annotations

import csv
import json
import re
from types import SimpleNamespace
from typing import TYPE_CHECKING

import polars as pl
import pytest
import torch

from pipeline_lib.apply.table import PREDICTIONS
from pipeline_lib.compare.build import summary, tables
from pipeline_lib.datasets.ingest import IMAGES, LABELS, REJECTED, _describe
from pipeline_lib.evaluation.labels import CLEANED_SCHEMA
from pipeline_lib.evaluation.tables import PREDICTIONS_SCHEMA
from pipeline_lib.params.methods import KINDS
from pipeline_lib.training.outputs import _label_history, _label_state
from pipeline_lib.training.record import Record
from tests.as_user import ROOT
from tests.compare.made_up import compare_section, results
from tests.label_tables import classes, labels, run
from tests.report.conftest import write_run
from tests.toy_methods import Quiet, make_trainer

if TYPE_CHECKING:
    from pathlib import Path

    import pyarrow as pa

PAGE = (ROOT / "docs/reference/tables.md").read_text(encoding="utf-8")
KINDS_OF = {pl.Int64: "int64", pl.Float64: "float64", pl.String: "string", pl.Boolean: "bool"}
Columns = dict[str, str]


def described() -> dict[str, Columns]:
    """The columns of each table and their types, as the page says."""
    found = {}
    for section in PAGE.split("\n## ")[1:]:
        title, _, body = section.partition("\n")
        rows = re.findall(r"^\| `(\w+)` \| ([^|]*?) \| [^|]*\| ([^|]+) \|$", body, re.MULTILINE)
        assert all(meaning.strip() for *_, meaning in rows)
        names = [name for name, *_ in rows]
        assert len(names) == len(set(names)) == body.count("\n| `"), title
        found[title.strip("`")] = {name: kind for name, kind, _ in rows}
    return found


def typed(schema: pa.Schema) -> Columns:
    return {
        field.name: re.sub(r"list<\w+: (\w+)>", r"list of \1", str(field.type)) for field in schema
    }


def untyped(names: object) -> Columns:
    return dict.fromkeys(names, "")


def head(path: Path) -> Columns:
    with path.open(encoding="utf-8", newline="") as file:
        return untyped(next(csv.reader(file)))


def of_methods(folder: Path) -> Columns:
    """What any method notes of its training."""
    names: dict[str, None] = {}
    for name in KINDS:
        trainer = make_trainer(name, folder / name)
        trainer.run(Quiet())
        names |= dict.fromkeys(column for row in trainer.record.rows for column in row)
    return untyped(names)


def of_comparison() -> dict[str, Columns]:
    found = tables(results(compare_section(("supervised", "paws"), budgets=("b",))))
    ((of_contender, *_),) = (about.values() for about in summary(found).values())
    return {
        "reports/compare/summary.json": untyped(of_contender),
        **{
            f"reports/compare/tables/{name}": {c: KINDS_OF[k] for c, k in table.schema.items()}
            for name, table in vars(found).items()
        },
    }


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Columns]:
    """The columns of each table and their types, by the code; without a type in CSV and JSON."""
    folder = tmp_path_factory.mktemp("run")
    made = write_run(folder, method="two_phase")
    write_run(folder / "paws", method="paws")
    split = run(labels([5, 5, 5]), classes(["a", "b", "c"]))
    intake = SimpleNamespace(
        shape=None, sayings=SimpleNamespace(classes={}, annotators={}), store="files"
    )
    evaluated, trained = made.reports / "evaluate", made.reports / "train"
    phases = json.loads((trained / "phases.json").read_text(encoding="utf-8"))
    return {
        "data/images.parquet": typed(IMAGES),
        "data/labels.parquet": typed(LABELS),
        "data/rejected.parquet": typed(REJECTED),
        "data/classes.json": untyped(
            _describe(intake, SimpleNamespace(name="", resize=""), "", None)
        ),
        **{
            f"data/split/{part}.parquet": typed(getattr(split, part).schema)
            for part in ("train", "val", "test", "oracle")
        },
        "data/split/summary.json": untyped(split.summary),
        "data/label_state.parquet": typed(_label_state(torch.arange(2), torch.ones(2, 3)).schema),
        "data/label_history.parquet": typed(_label_history(Record()).schema),
        "reports/train/history.csv": of_methods(folder),
        "reports/train/range_test.csv": head(trained / "range_test.csv"),
        "reports/train/phases.json": untyped(phases),
        "reports/evaluate/predictions.parquet": typed(PREDICTIONS_SCHEMA),
        **{
            f"reports/evaluate/{name}.csv": head(evaluated / f"{name}.csv")
            for name in ("confusion", "per_class", "calibration", "label_curve")
        },
        "reports/evaluate/embedding.csv": head(folder / "paws/reports/evaluate/embedding.csv"),
        "reports/labels.parquet": typed(CLEANED_SCHEMA),
        "Predictions of `predict`": typed(PREDICTIONS),
        **of_comparison(),
    }


def test_every_table_has_its_section(stored: dict[str, Columns]) -> None:
    assert {title.strip("`") for title in stored} == set(described())


def test_every_column_is_described_and_nothing_else(stored: dict[str, Columns]) -> None:
    for title, columns in stored.items():
        told = described()[title.strip("`")]
        assert set(told) == set(columns), title
        if title.endswith(".parquet"):
            assert told == columns, title
        kinds = {name: kind for name, kind in columns.items() if kind}
        assert {name: told[name] for name in kinds} == kinds, title
