"""Tables with a comma, a semicolon or a tab between the values, and lists of names."""

from __future__ import annotations

import codecs
import contextlib
import csv
import difflib
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from pipeline_lib.datasets.files.layout import is_image
from pipeline_lib.datasets.files.sheet import FILE, Sheet, brief, quoted, refuse_spaces
from pipeline_lib.datasets.files.text import open_text
from pipeline_lib.errors import UserError, listed

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from pipeline_lib.datasets.files.sheet import Numbered

# What people call the column of the files.
ALIKE = ("path", "filename", "file_name", "filepath", "image", "image_path", "name", "img")
LIST_ENDINGS = (".txt", ".txt.gz")
SAID = {",": "a comma", ";": "a semicolon", "\t": "a tab"}


def read_csv(path: Path, shown: str) -> Sheet:
    """Read a table whose first row names the columns, or names an image and its classes.

    Args:
        path: a text that `check_text` has passed.
        shown: what messages call it.

    Raises:
        UserError: The first row does neither.
    """
    delimiter, names_columns = _dialect(path)
    if shown.endswith(LIST_ENDINGS) and not names_columns:
        return Sheet(shown, partial(_lines, path, shown), form="names")
    number, first = next(_records(path, shown, delimiter), (1, ()))
    first = _without_blank_end(first, len(first))
    if FILE in first:
        _check_header(first, f"{shown}:{number}")
        columns = dict.fromkeys(first, number)
        return Sheet(shown, partial(_below, path, shown, delimiter, first), columns)
    if first and is_image(first[0]):
        rows = partial(_records, path, shown, delimiter)
        is_list = all(len(fields) == 1 for _, fields in rows())
        return Sheet(shown, rows, form="names" if is_list else "classes")
    raise UserError(_no_header(first, f"{shown}:{number}"))


class Written(NamedTuple):
    """How a CSV file is written, beside what it says: spreadsheets of a country know one way only.

    Attributes:
        delimiter: between the fields.
        ending: of the lines.
        mark: whether U+FEFF at the beginning says that it is UTF-8.
    """

    delimiter: str = ","
    ending: str = "\n"
    mark: bool = False


USUAL = Written()
FEW_LINES = 100  # of which the first may be blank


def written(path: Path) -> Written:
    """Tell how a CSV file is written; of other files what is usual."""
    with path.open("rb") as file:
        lines = (file.readline(1 << 16) for _ in range(FEW_LINES))
        head = next((line for line in lines if line.strip()), b"")
    names_columns = FILE.encode() in head  # no gzip, Parquet, JSON lines or list
    if not names_columns or head.startswith((b"{", b"PAR1")):
        return USUAL
    ending = "\r\n" if head.endswith(b"\r\n") else "\n"
    return Written(_dialect(path)[0], ending, head.startswith(codecs.BOM_UTF8))


def _dialect(path: Path) -> tuple[str, bool]:
    """Tell what stands between the fields by the first line that has several, and if it names columns."""
    with open_text(path) as file:
        line = next((line for line in file if any(map(line.__contains__, SAID))), "")
    for delimiter in SAID:
        with contextlib.suppress(csv.Error):
            fields = next(csv.reader([line], delimiter=delimiter), [])
            if FILE in fields or (len(fields) > 1 and is_image(fields[0])):
                return delimiter, FILE in fields
    return ",", False


def _records(
    path: Path, shown: str, delimiter: str, header: Sequence[str] = ()
) -> Iterator[tuple[int, tuple[str, ...]]]:
    """Give every row that says anything, with the line on which it ends."""
    with open_text(path) as file:
        reader = csv.reader(file, delimiter=delimiter, strict=True)
        try:
            for fields in reader:
                if any(fields):
                    if any(field != field.strip() for field in fields):
                        refuse_spaces(fields, f"{shown}:{reader.line_num}", header)
                    yield reader.line_num, tuple(fields)
        except csv.Error as error:
            msg = f"{shown}:{reader.line_num}: {error}; save the table as CSV again"
            raise UserError(msg) from error


def _below(path: Path, shown: str, delimiter: str, header: Sequence[str]) -> Iterator[Numbered]:
    """Give the rows below the header, all as long as it is."""
    records = _records(path, shown, delimiter, header)
    next(records)
    for number, row in records:
        fields = _without_blank_end(row, len(row) - len(header))
        if len(fields) != len(header):
            msg = (
                f"{shown}:{number}: {len(fields)} fields, but the header names {len(header)} columns; "
                f'put quotes (") around a field that holds {SAID[delimiter]}'
            )
            raise UserError(msg)
        yield number, fields


def _without_blank_end(fields: tuple[str, ...], most: int) -> tuple[str, ...]:
    """The fields without `most` blank ones at the end: spreadsheets write columns that nobody has filled."""
    while most > 0 and fields and not fields[-1]:
        fields, most = fields[:-1], most - 1
    return fields


def _lines(path: Path, shown: str) -> Iterator[tuple[int, tuple[str]]]:
    """Give every line as it is: in a list of names, commas and quotes belong to them."""
    with open_text(path) as file:
        for number, line in enumerate(file, start=1):
            if name := line.rstrip("\r\n"):
                refuse_spaces((name,), f"{shown}:{number}")
                yield number, (name,)


def _check_header(names: Sequence[str], where: str) -> None:
    if len(set(names)) < len(names) or "" in names:
        found = listed(brief(name) for name in names)
        msg = f"{where}: columns need names, and every one another; found {found}"
        raise UserError(msg)


def _no_header(first: Sequence[str], where: str) -> str:
    found = f"found {listed(quoted(name) for name in first)}" if first else "it is empty"
    if first and first[0].casefold().startswith("sep="):
        return f"{where}: {quoted(first[0])} is for Excel alone; remove the line"
    meant = [name for name in first if name.casefold() in (FILE, *ALIKE)]
    meant += difflib.get_close_matches(FILE, first, n=1)
    advice = (
        f"rename {quoted(meant[0])}"
        if meant
        else "begin with a line like file,label (commas, semicolons or tabs between)"
    )
    return f"{where}: no column `file` ({found}); {advice}"
