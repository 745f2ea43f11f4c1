"""Reading a table of labels, CSV or Parquet, into rows of text that know their line."""

from __future__ import annotations

import csv
import gzip
import io
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from pipeline_lib.errors import UserError, listed

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import pyarrow as pa

MAX_TEXT_BYTES = 1 << 30
# Text, a list of texts (Parquet only), or nothing.
Cell: TypeAlias = str | list[str] | None


@dataclass(frozen=True)
class Sheet:
    """A table as text.

    Attributes:
        shown: what the user calls the file.
        header: names of the columns.
        rows: (line or row number, cells), blank cells being None.
        is_text: CSV, whose rows are found by line.
    """

    shown: str
    header: tuple[str, ...]
    rows: Sequence[tuple[int, tuple[Cell, ...]]]
    is_text: bool

    def where(self, number: int) -> str:
        """Name a row the way an editor finds it."""
        return f"{self.shown}:{number}" if self.is_text else f"{self.shown}: row {number}"


def read_sheet(path: Path, shown: str) -> Sheet:
    """Read CSV (plain or gzipped) or Parquet; the first bytes tell which.

    Raises:
        UserError: Not a table, or one with a mistake: file, line, and what to do.
    """
    with path.open("rb") as file:
        head = file.read(4)
    if head == b"PAR1":
        return _read_parquet(path, shown)
    return _read_csv(_text(path, head, shown), shown)


def _text(path: Path, head: bytes, shown: str) -> str:
    try:
        with gzip.open(path) if head.startswith(b"\x1f\x8b") else path.open("rb") as file:
            content = file.read(MAX_TEXT_BYTES + 1)
    except (OSError, EOFError, zlib.error) as error:
        msg = f"{shown}: damaged gzip file ({error}); pack it again"
        raise UserError(msg) from error
    if len(content) > MAX_TEXT_BYTES:
        msg = f"{shown}: more than {MAX_TEXT_BYTES} bytes of text; save the table as Parquet"
        raise UserError(msg)
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        msg = (
            f"{shown}:{line}: not UTF-8 (byte {content[error.start]:#04x}); save the table as UTF-8"
        )
        raise UserError(msg) from error


def _read_csv(text: str, shown: str) -> Sheet:
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    rows: list[tuple[int, tuple[Cell, ...]]] = []
    header: tuple[str, ...] = ()
    try:
        for fields in reader:
            where = f"{shown}:{reader.line_num}"
            if not fields:
                continue
            _refuse_spaces(fields, header, where)
            if not header:
                header = tuple(fields)
                continue
            if len(fields) != len(header):
                msg = (
                    f"{where}: {len(fields)} fields, but the header names {len(header)} columns; "
                    f'put quotes (") around a field that holds a comma'
                )
                raise UserError(msg)
            rows.append((reader.line_num, tuple(field or None for field in fields)))
    except csv.Error as error:
        msg = f"{shown}:{reader.line_num}: {error}; save the table as CSV again"
        raise UserError(msg) from error
    return _checked(Sheet(shown, header, rows, is_text=True))


def _read_parquet(path: Path, shown: str) -> Sheet:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(path)
    except (pa.ArrowException, OSError) as error:
        msg = f"{shown}: damaged Parquet file ({str(error).splitlines()[0]}); write it again"
        raise UserError(msg) from error
    columns = [_cells(table.column(name), name, shown) for name in table.column_names]
    rows = list(enumerate(zip(*columns, strict=True), start=1))
    sheet = Sheet(shown, tuple(table.column_names), rows, is_text=False)
    for number, cells in rows:
        flat = [
            text for cell in cells for text in (cell if isinstance(cell, list) else [cell or ""])
        ]
        _refuse_spaces(flat, (), sheet.where(number))
    return _checked(sheet)


def _cells(column: pa.ChunkedArray, name: str, shown: str) -> list[Cell]:
    """Turn a column of text, integers, or lists of them into cells."""
    import pyarrow as pa

    def is_plain(kind: pa.DataType) -> bool:
        kind = kind.value_type if pa.types.is_dictionary(kind) else kind
        texts = (
            pa.types.is_string(kind)
            or pa.types.is_large_string(kind)
            or pa.types.is_string_view(kind)
        )
        return bool(texts or pa.types.is_integer(kind) or pa.types.is_null(kind))

    is_list = pa.types.is_list(column.type) or pa.types.is_large_list(column.type)
    if not is_plain(column.type.value_type if is_list else column.type):
        msg = f"{shown}: column {name}: holds {column.type}; use text (or lists of text for candidates)"
        raise UserError(msg)
    if not is_list:
        return [None if value in {None, ""} else str(value) for value in column.to_pylist()]
    return [
        None if values is None else ["" if value is None else str(value) for value in values]
        for values in column.to_pylist()
    ]


def _refuse_spaces(fields: Sequence[str], header: Sequence[str], where: str) -> None:
    for position, field in enumerate(fields):
        if field != field.strip():
            column = f" column {header[position]}:" if position < len(header) else ""
            msg = f"{where}:{column} {field!r} begins or ends with a space; remove it"
            raise UserError(msg)


def _checked(sheet: Sheet) -> Sheet:
    """Refuse a header that cannot be meant."""
    first = sheet.where(1) if sheet.is_text else sheet.shown
    if "file" not in sheet.header:
        found = (
            f"found {listed(repr(name) for name in sheet.header)}"
            if sheet.header
            else "it is empty"
        )
        msg = f"{first}: no column `file` ({found}); begin with a line like file,label (comma between)"
        raise UserError(msg)
    if len(set(sheet.header)) < len(sheet.header) or "" in sheet.header:
        msg = f"{first}: columns need names, and every one another; found {', '.join(sheet.header)}"
        raise UserError(msg)
    if not sheet.rows:
        msg = f"{sheet.shown}: no rows; remove data.table if there is nothing to say"
        raise UserError(msg)
    return sheet
