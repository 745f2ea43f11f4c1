"""Tables in Parquet."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import pyarrow as pa

from pipeline_lib.datasets.files.parquet_pages import batches, open_parquet
from pipeline_lib.datasets.files.sheet import FILE, MAX_COLUMNS, Sheet, brief, refuse_spaces
from pipeline_lib.errors import UserError, listed

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from pipeline_lib.datasets.files.sheet import Cell, Numbered

BATCH_ROWS = 8192
# pandas writes the numbers of rows beside them.
INDEX = "__index_level_"


def read_parquet(path: Path, shown: str) -> Sheet:
    """Read columns of text, integers, categories of them, or lists.

    Raises:
        UserError: The file is damaged, or a column is not one of these.
    """
    with open_parquet(path, shown) as file:
        schema = file.schema_arrow
    names = [name for name in schema.names if not name.startswith(INDEX)]
    columns = dict.fromkeys(names, 1)
    if FILE not in names or len(columns) < len(names) or len(names) > MAX_COLUMNS:
        found = listed(brief(name) for name in names)
        msg = f"{shown}: no column `file`, or two of one name, or more than {MAX_COLUMNS} (found {found})"
        raise UserError(msg)
    for name in names:
        _check_type(schema.field(name).type, name, shown)
    return Sheet(shown, partial(_rows, path, shown, names), columns, is_text=False)


def _rows(path: Path, shown: str, names: Sequence[str]) -> Iterator[Numbered]:
    done = 0
    with open_parquet(path, shown) as file:
        for batch in batches(file, names, shown, BATCH_ROWS):
            columns = [map(_cell, batch.column(name).to_pylist()) for name in names]
            for number, cells in enumerate(zip(*columns, strict=True), start=done + 1):
                refuse_spaces(cells, f"{shown}: row {number}", names)
                yield number, cells
            done += batch.num_rows


def _cell(value: object) -> Cell:
    if isinstance(value, list):
        return tuple("" if one is None else str(one) for one in value)
    return None if value is None else str(value)


def _check_type(kind: pa.DataType, name: str, shown: str) -> None:
    plain = kind.value_type if pa.types.is_list(kind) or pa.types.is_large_list(kind) else kind
    plain = plain.value_type if pa.types.is_dictionary(plain) else plain
    texts = (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view)
    if not any(is_it(plain) for is_it in (*texts, pa.types.is_integer, pa.types.is_null)):
        msg = f"{shown}: column {brief(name)}: holds {kind}; use text (or lists of text for candidates)"
        raise UserError(msg)
