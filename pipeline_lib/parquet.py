"""The tables between stages: Parquet files of which the same rows have the same bytes, published and verified."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from pipeline_lib.artifacts import publish, unusable, verify
from pipeline_lib.errors import UserError, listed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    import numpy as np
    import pyarrow as pa
    import pyarrow.parquet as pq
    from numpy.typing import NDArray

# Part of the bytes of every Parquet file: changing one of them changes every hash in dvc.lock.
ROW_GROUP_SIZE = 8192
ROW_GROUP_BYTES = 1 << 26
COMPRESSION = "zstd"
COMPRESSION_LEVEL = 1


@contextlib.contextmanager
def publish_rows(
    path: Path, schema: pa.Schema, *, row_group_size: int = ROW_GROUP_SIZE, sidecar: bool = True
) -> Iterator[Callable[[pa.Table], None]]:
    """Yield `write(table)` (see `write_rows`) for a file that is then published (see `publish`)."""
    with (
        publish(path, sidecar=sidecar) as temporary,
        write_rows(temporary, schema, row_group_size=row_group_size) as write,
    ):
        yield write


@contextlib.contextmanager
def write_rows(
    path: Path, schema: pa.Schema, *, row_group_size: int = ROW_GROUP_SIZE
) -> Iterator[Callable[[pa.Table], None]]:
    """Yield `write(table)`, the one Parquet writer: same rows, same bytes, on any number of cores.

    Tables may come in pieces of any size; row groups hold `row_group_size` rows all the same, or as
    many as have ROW_GROUP_BYTES in their binary columns. So memory stays flat, and the bytes do not
    depend on the pieces.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    waiting: list[pa.Table] = []
    count = size = 0  # rows and bytes that wait

    def flush(*, last: bool) -> None:
        nonlocal count, size
        rows = pa.concat_tables(waiting) if waiting else schema.empty_table()
        sizes_N, start = _binary_bytes(rows), 0
        for stop in _ends_of_row_groups(sizes_N, row_group_size, last=last):
            group = rows.slice(start, stop - start).combine_chunks()
            writer.write_table(group, group.num_rows)
            start = stop
        waiting[:] = [rows.slice(start)]
        count, size = rows.num_rows - start, int(sizes_N[start:].sum())

    def write(table: pa.Table) -> None:
        nonlocal count, size
        waiting.append(table.cast(schema))
        count += table.num_rows
        size += int(_binary_bytes(table).sum())
        if count >= row_group_size or size > ROW_GROUP_BYTES:
            flush(last=False)

    with pq.ParquetWriter(
        path, schema, compression=COMPRESSION, compression_level=COMPRESSION_LEVEL
    ) as writer:
        yield write
        flush(last=True)


def _binary_bytes(table: pa.Table) -> NDArray[np.int64]:
    """Count the bytes that each row has in binary columns."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    sizes_N = np.zeros(table.num_rows, np.int64)
    for column in table.columns:
        if pa.types.is_binary(column.type):
            sizes_N += pc.fill_null(pc.binary_length(column), 0).to_numpy()
    return sizes_N


def _ends_of_row_groups(sizes_N: NDArray[np.int64], most: int, *, last: bool) -> Iterator[int]:
    """Say where row groups end, as far as that is known before the rows that follow."""
    ends_N = sizes_N.cumsum()
    start = 0
    while start < len(ends_N):
        before = ends_N[start - 1] if start else 0
        fitting = int(ends_N.searchsorted(before + ROW_GROUP_BYTES, side="right")) - start
        stop = start + min(max(fitting, 1), most)
        if stop == len(ends_N) and stop - start < most and not last:
            return
        yield stop
        start = stop


def publish_table(path: Path, table: pa.Table) -> None:
    """Write `table` as Parquet (see `write_table` and `publish`)."""
    with publish(path) as temporary:
        write_table(temporary, table)


def write_table(path: Path, table: pa.Table) -> None:
    """Write `table` as Parquet (see `write_rows`)."""
    with write_rows(path, table.schema) as write:
        write(table)


def read_table(path: Path) -> pa.Table:
    """Verify and read a Parquet table.

    Raises:
        UserError: See `verify`; or the file holds something else.
    """
    with _verified_parquet(path) as file:
        return file.read()


def needs_columns(path: Path, table: pa.Table, names: Sequence[str], again: str) -> None:
    """Refuse a table that was written before it had all of its columns.

    Raises:
        UserError: One is missing.
    """
    if missing := [name for name in names if name not in table.column_names]:
        msg = f"{path}: has no column {listed(missing)}, as older code wrote it; run `{again}`"
        raise UserError(msg)


def read_row_groups(path: Path) -> Iterator[pa.Table]:
    """Verify a Parquet table and read it some rows at a time: whole, long lists take several times their memory.

    Yields:
        Tables; at least one, that may have no rows.

    Raises:
        UserError: See `read_table`.
    """
    with _verified_parquet(path) as file:
        for group in range(file.num_row_groups):
            yield file.read_row_group(group)
        if not file.num_row_groups:
            yield file.schema_arrow.empty_table()


@contextlib.contextmanager
def _verified_parquet(path: Path) -> Iterator[pq.ParquetFile]:
    """Hold a file open whose sha256 fits; `pq.read_table` would import pyarrow.dataset: 0.3 seconds."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    verify(path)
    try:
        with pq.ParquetFile(path) as file:
            yield file
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise unusable(path, f"no Parquet ({error})") from error
