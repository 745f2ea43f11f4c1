"""Parquet files from anybody, read a few megabytes at a time."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline_lib.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

BATCH_BYTES = 1 << 23
BATCH_ROWS = 1024
BUFFER_BYTES = 1 << 20


@contextlib.contextmanager
def open_parquet(path: Path, shown: str) -> Iterator[pq.ParquetFile]:
    """Open a Parquet file that is read in pages.

    Raises:
        UserError: It is damaged; `shown` is its name.
    """
    with _damage_told(shown):
        opened = pq.ParquetFile(path, buffer_size=BUFFER_BYTES, pre_buffer=False)
    with opened as file:
        yield file


def batches(
    file: pq.ParquetFile, columns: Sequence[str], shown: str, rows: int | None = None
) -> Iterator[pa.RecordBatch]:
    """Give some columns, so many `rows` at a time at most, or a few megabytes of them.

    A value that the file stores once for many rows is in memory for each of them.

    Args:
        file: from `open_parquet`.
        columns: which to read.
        shown: what messages call it.
        rows: at most; None: as many as a few megabytes hold.

    Raises:
        UserError: The file is damaged.
    """
    with _damage_told(shown):
        for batch in file.iter_batches(rows or _rows_per_batch(file), columns=list(columns)):
            batch.validate(full=True)  # text that is none, lists that lead out of it
            yield batch


def _rows_per_batch(file: pq.ParquetFile) -> int:
    held = sum(file.metadata.row_group(i).total_byte_size for i in range(file.num_row_groups))
    rows: int = BATCH_BYTES * file.metadata.num_rows // max(held, 1)
    return max(1, min(BATCH_ROWS, rows))


@contextlib.contextmanager
def _damage_told(shown: str) -> Iterator[None]:
    """Within, a file is read, and nothing else is done: its mistakes alone are told as such."""
    try:
        yield
    except (pa.ArrowException, OSError, ValueError) as error:
        why = (str(error).splitlines() or [type(error).__name__])[0]
        msg = f"{shown}: no Parquet file, or a damaged one ({why}); download or write it again"
        raise UserError(msg) from error
