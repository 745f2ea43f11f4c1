"""What a table says about each file: a label, candidates, or several annotators' labels."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pipeline_lib.errors import UserError, listed

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence, Set

    from pipeline_lib.datasets.files.layout import Place
    from pipeline_lib.datasets.files.sheet import Cell, Sheet

SEPARATOR = "|"


@dataclass(frozen=True)
class Supervision:
    """What one row says; nothing at all means unlabeled."""

    label: str | None = None
    candidates: tuple[str, ...] | None = None
    annotations: tuple[tuple[str, str], ...] | None = None


def attach(sheet: Sheet, places: Sequence[Place]) -> dict[str, Supervision]:
    """Find the image of every row, and check every class name.

    A file is named as the user sees it or as the archive does. Where folders name classes, these are
    all the classes; where none does, the table introduces them.

    Returns:
        Supervision by `Place.source`.

    Raises:
        UserError: The first mistake: file, line or row, and what to do.
    """
    style = _style(sheet)
    others = [name for name in sheet.header if name != "file"]
    sources = {place.member: place.source for place in places} | {
        p.source: p.source for p in places
    }
    classes = {place.label for place in places if place.label is not None}
    at_file = sheet.header.index("file")
    rows: dict[str, tuple[int, Supervision]] = {}
    empty: list[int] = []
    for number, cells in sheet.rows:
        where = sheet.where(number)
        source = _source(cells[at_file], sources, where)
        if source in rows:
            msg = f"{where}: {source} is named on {sheet.where(rows[source][0])} already; keep one row"
            raise UserError(msg)
        values = [cell for position, cell in enumerate(cells) if position != at_file]
        supervision = _supervision(style, others, values, where)
        _check_classes(supervision, classes, where)
        if supervision.candidates == ():
            empty.append(number)
        rows[source] = (number, supervision)
    if empty:
        msg = (
            f"{sheet.shown}: {len(empty)} rows with an empty candidate set "
            f"({listed(sheet.where(number) for number in empty)}); "
            f"name all classes there if nothing is known"
        )
        raise UserError(msg)
    return {source: supervision for source, (_, supervision) in rows.items()}


def _style(sheet: Sheet) -> str:
    """Tell which of the three kinds of table this is: `label`, `candidates` or `annotators`."""
    others = [name for name in sheet.header if name != "file"]
    if not others:
        msg = f"{sheet.shown}: only a column `file`; add `label`, `candidates`, or one column per annotator"
        raise UserError(msg)
    for style in ("label", "candidates"):
        if style in others:
            if len(others) > 1:
                surplus = listed(name for name in others if name != style)
                msg = f"{sheet.shown}: `{style}` stands alone beside `file`; remove the columns {surplus}"
                raise UserError(msg)
            return style
    return "annotators"


def _source(cell: Cell, sources: dict[str, str], where: str) -> str:
    if not isinstance(cell, str):
        msg = f"{where}: no file name; remove the row or name its file"
        raise UserError(msg)
    if cell.startswith("/") or cell[1:3] in {":\\", ":/"} or ".." in cell.split("/"):
        msg = f"{where}: {cell!r}: name files by their path inside data.path, as in train/cat/1.jpg"
        raise UserError(msg)
    name = cell.removeprefix("./")
    if name not in sources:
        tail = name.rsplit("/", 1)[-1]
        alike = next((known for known in sources if known.rsplit("/", 1)[-1] == tail), None)
        hint = f"did you mean {alike}?" if alike else f"names are like {next(iter(sources))}"
        msg = f"{where}: {cell!r} is not one of the images in data.path; {hint}"
        raise UserError(msg)
    return sources[name]


def _supervision(
    style: str, columns: Sequence[str], values: Sequence[Cell], where: str
) -> Supervision:
    if style == "candidates":
        value = values[0]
        names = value.split(SEPARATOR) if isinstance(value, str) else value or []
        if "" in names or any(name != name.strip() for name in names):
            msg = f"{where}: column candidates: {value!r}: write class names with {SEPARATOR} between, no spaces"
            raise UserError(msg)
        return Supervision(candidates=tuple(dict.fromkeys(names)))
    texts: list[str | None] = []
    for value in values:
        if isinstance(value, list):
            msg = (
                f"{where}: a list of classes outside of the column `candidates`; rename the column"
            )
            raise UserError(msg)
        texts.append(value)
    if style == "label":
        return Supervision(label=texts[0])
    said = ((name, text) for name, text in zip(columns, texts, strict=True) if text is not None)
    return Supervision(annotations=tuple(said))


def _check_classes(supervision: Supervision, classes: Set[str], where: str) -> None:
    if not classes:
        return
    for name in _names(supervision):
        if name not in classes:
            close = difflib.get_close_matches(name, classes, n=1)
            hint = (
                f"did you mean {close[0]!r}?" if close else "the class folders are all the classes"
            )
            msg = f"{where}: {name!r} is not one of the classes {listed(sorted(classes))}; {hint}"
            raise UserError(msg)


def _names(supervision: Supervision) -> Iterable[str]:
    said = [name for _, name in supervision.annotations or ()]
    names = [supervision.label, *(supervision.candidates or ()), *said]
    return (name for name in names if name is not None)
