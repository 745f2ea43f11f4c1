"""What a list column of a table cannot hold is refused before work is done for it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyarrow as pa
import pytest

from pipeline_lib.errors import UserError
from pipeline_lib.memory import ImageMemory
from pipeline_lib.parquet import publish_table
from pipeline_lib.protocols import split as splitting
from pipeline_lib.training import prepare as training
from tests.label_tables import classes, labels, run

if TYPE_CHECKING:
    from pathlib import Path


def test_more_candidates_than_a_table_can_list_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    rows, about = labels([20, 20, 20]), classes(["ant", "bee", "cow"])
    tables = run(rows, about)
    most = len(tables.train["candidates"].combine_chunks().flatten())
    monkeypatch.setattr(splitting, "LIST_VALUES", most)
    run(rows, about)
    monkeypatch.setattr(splitting, "LIST_VALUES", most - 1)
    with pytest.raises(
        UserError, match=f"^data.limit: .* images have {most} candidates, more than"
    ):
        run(rows, about)


def test_more_soft_labels_than_a_table_can_list_are_refused_before_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "train.parquet"
    rows = {"id": pa.array([0, 1, 2], pa.int32()), "candidates": [[0], [1], [0, 1]]}
    publish_table(path, pa.table(rows | {"role": ["labeled", "labeled", "unlabeled"]}))
    memory = object.__new__(ImageMemory)  # nothing is read
    monkeypatch.setattr(training, "LIST_VALUES", 5)
    with pytest.raises(
        UserError, match=r"^data.limit: 3 training images of 2 classes .* 2 or less$"
    ):
        training._read_part(path, {"classes": ["a", "b"]}, memory, "training")
