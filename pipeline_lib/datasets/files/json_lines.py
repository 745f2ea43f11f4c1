"""Tables with one JSON object a line."""

from __future__ import annotations

import json
from collections import Counter
from functools import partial
from typing import TYPE_CHECKING, NoReturn

from pipeline_lib.datasets.files.sheet import FILE, MAX_COLUMNS, Sheet, brief, quoted, refuse_spaces
from pipeline_lib.datasets.files.text import open_text
from pipeline_lib.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from pipeline_lib.datasets.files.sheet import Cell, Numbered

EXAMPLE = '{"file": "cat/1.jpg", "label": "cat"}'


def read_json_lines(path: Path, shown: str) -> Sheet:
    """Read objects; a key that an object lacks says as little as null.

    Raises:
        UserError: A line is no object, says a thing twice, or holds what is neither text nor integer.
    """
    columns: dict[str, int] = {}
    for number, row in _objects(path, shown):
        for name in row:
            if name not in columns:
                refuse_spaces((name,), f"{shown}:{number}")
                columns[name] = number
        if FILE not in row:
            msg = f"{shown}:{number}: no key `file`; write each line like {EXAMPLE}"
            raise UserError(msg)
        if len(columns) > MAX_COLUMNS:
            msg = f"{shown}:{number}: more than {MAX_COLUMNS} keys; for so many annotators write lines of file, annotator, label"
            raise UserError(msg)
    return Sheet(shown, partial(_rows, path, shown, tuple(columns)), columns)


def _rows(path: Path, shown: str, columns: Sequence[str]) -> Iterator[Numbered]:
    for number, row in _objects(path, shown):
        where = f"{shown}:{number}"
        cells = tuple(_cell(row.get(name), name, where) for name in columns)
        refuse_spaces(cells, where, columns)
        yield number, cells


def _objects(path: Path, shown: str) -> Iterator[tuple[int, dict[str, object]]]:
    decoder = json.JSONDecoder(object_pairs_hook=_once, parse_constant=_no_number)
    with open_text(path) as file:
        for number, line in enumerate(file, start=1):
            if not line.strip():
                continue
            try:
                row = decoder.decode(line)
                if "\\u" in line:  # half a character can be escaped, but not written
                    json.dumps(row, ensure_ascii=False).encode()
            except (ValueError, RecursionError) as error:
                why = getattr(error, "msg", None) or error  # without a line number, always 1
                msg = f"{shown}:{number}: no JSON ({why}); write each line like {EXAMPLE}"
                raise UserError(msg) from error
            if not isinstance(row, dict):
                msg = (
                    f"{shown}:{number}: {quoted(row)} is no object; write each line like {EXAMPLE}"
                )
                raise UserError(msg)
            yield number, row


def _once(pairs: list[tuple[str, object]]) -> dict[str, object]:
    row = dict(pairs)
    if len(row) < len(pairs):
        ((twice, _),) = Counter(name for name, _ in pairs).most_common(1)
        msg = f"the key {quoted(twice)} stands there twice"
        raise ValueError(msg)
    return row


def _no_number(text: str) -> NoReturn:
    msg = f"{text} is no number"
    raise ValueError(msg)


def _cell(value: object, name: str, where: str) -> Cell:
    """Turn a text, an integer or a list of them into a cell."""
    if isinstance(value, list):
        texts = [_text(one) for one in value]
        if None not in texts:
            return tuple(text or "" for text in texts)
    elif value is None or _text(value) is not None:
        return _text(value)
    msg = f"{where}: {brief(name)}: {quoted(value)}; use text (or a list of texts for candidates)"
    raise UserError(msg)


def _text(value: object) -> str | None:
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    return value if isinstance(value, str) else None
