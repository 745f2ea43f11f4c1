"""A table of labels as rows of text that know their line, whatever the format it came in."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, TypeAlias

from pipeline_lib.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

MAX_COLUMNS = 1000
FILE = "file"
# Text, a list of texts (JSON lines and Parquet only), or nothing.
Cell: TypeAlias = str | tuple[str, ...] | None
Numbered: TypeAlias = tuple[int, tuple[Cell, ...]]


@dataclass(frozen=True)
class Sheet:
    """A table as text.

    Attributes:
        shown: what the user calls the table.
        rows: reads the table: line or row number, and cells.
        columns: names of the columns, and the line on which each is named first.
        form: rows as the columns say, or a file and any number of `classes`, or just `names` of files.
        is_text: rows are found by line, as in CSV and JSON lines.
    """

    shown: str
    rows: Callable[[], Iterator[Numbered]]
    columns: Mapping[str, int] = field(default_factory=dict)
    form: Literal["columns", "classes", "names"] = "columns"
    is_text: bool = True

    def where(self, number: int) -> str:
        """Name a row the way an editor finds it."""
        return f"{self.shown}:{number}" if self.is_text else f"{self.shown}: row {number}"


def refuse_spaces(fields: Iterable[Cell], where: str, columns: Iterable[str] = ()) -> None:
    """Refuse a text that begins or ends with a space: nobody sees why it is no class.

    Raises:
        UserError: The first of them.
    """
    for position, cell in enumerate(fields):
        for text in cell if isinstance(cell, tuple) else (cell or "",):
            if text != text.strip():
                name = next(itertools.islice(columns, position, None), None)
                column = f" column {brief(name)}:" if name else ""
                msg = f"{where}:{column} {quoted(text)} begins or ends with a space; remove it"
                raise UserError(msg)


def brief(name: str, limit: int = 60) -> str:
    """Write a name of the user's within one line, quoted where it would not be one."""
    cut = name if len(name) <= limit else f"{name[:limit]}..."
    return cut if cut.isprintable() else repr(cut)


def quoted(value: object, limit: int = 80) -> str:
    """Write a value as Python would, cut where it is long."""
    text = repr(value)
    return text if len(text) <= limit else f"{text[:limit]}..."
