"""What a table says about each image, found and checked."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING

from pipeline_lib.datasets.files import forms
from pipeline_lib.datasets.files.forms import SEPARATOR, Supervision, style_of
from pipeline_lib.datasets.files.layout import composed
from pipeline_lib.datasets.files.names import Names
from pipeline_lib.datasets.files.sheet import FILE, brief, quoted
from pipeline_lib.datasets.files.tables import read_sheet
from pipeline_lib.errors import UserError, listed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence, Set
    from pathlib import Path

    from pipeline_lib.datasets.files.forms import Style
    from pipeline_lib.datasets.files.layout import Place
    from pipeline_lib.datasets.files.sheet import Cell, Sheet

ROW_READERS: dict[Style, Callable[[Sequence[str], Sequence[Cell], str], Supervision]] = {
    "label": forms.as_label,
    "candidates": forms.as_candidates,
    "annotators": forms.as_annotators,
    "classes": forms.as_classes,
}


def read_supervision(path: Path, shown: str, places: Sequence[Place]) -> dict[str, Supervision]:
    """Read a table of labels, find the image of every row, and check every class name.

    A file is named as the user sees it, as the archive does, or without its folder. Where folders
    name classes, these are all the classes; where none does, the table introduces them.

    Args:
        path: the table.
        shown: what messages call it.
        places: the images.

    Returns:
        Supervision by `Place.source`, of the images of which the table says something. Equal ones are
        one object, so that a million rows take little memory.

    Raises:
        UserError: The first mistake: file, line or row, and what to do.
    """
    names = Names(places)
    sheet = read_sheet(path, shown)
    classes = {place.label for place in places if place.label is not None}
    style = style_of(sheet)
    if style == "names":
        said = _rest_unlabeled(sheet, names, places)
    elif style == "long":
        said = _gathered(sheet, names, classes)
    else:
        said = _one_row_each(sheet, names, classes, style)
    if not said and next(sheet.rows(), None) is None:
        msg = f"{shown}: no rows; remove data.table if there is nothing to say"
        raise UserError(msg)
    return said


def _one_row_each(
    sheet: Sheet, names: Names, classes: Set[str], style: Style
) -> dict[str, Supervision]:
    read_row = ROW_READERS[style]
    columns = [name for name in sheet.columns if name != FILE]
    said: dict[str, Supervision] = {}
    known: dict[tuple[Cell, ...], Supervision] = {}
    empty: list[int] = []
    for number, cell, values in _rows(sheet):
        source = names.find(cell, sheet.where(number))
        if source in said:
            first = next(n for n, c, _ in _rows(sheet) if names.find(c, "") == source)
            msg = f"{sheet.where(number)}: {brief(source)} is named on {sheet.where(first)} already; keep one row"
            raise UserError(msg)
        if values not in known:
            supervision = read_row(columns, values, sheet.where(number))
            _check_classes(_names(supervision), classes, values, sheet.where(number))
            known[values] = supervision
        said[source] = known[values]
        if known[values].candidates == ():
            empty.append(number)
    if empty:
        msg = (
            f"{sheet.shown}: {len(empty)} rows with an empty candidate set "
            f"({listed(sheet.where(number) for number in empty)}); "
            f"name all classes there if nothing is known"
        )
        raise UserError(msg)
    return said


def _gathered(sheet: Sheet, names: Names, classes: Set[str]) -> dict[str, Supervision]:
    """Put together what several rows say of each image, in an order that is not the rows'."""
    columns = [name for name in sheet.columns if name != FILE]
    who, what = columns.index(forms.ANNOTATOR), columns.index(forms.LABEL)
    pairs: dict[str, list[tuple[str, str]]] = {}
    known: dict[tuple[Cell, ...], list[tuple[str, str]]] = {}
    for number, cell, values in _rows(sheet):
        source = names.find(cell, sheet.where(number))
        if values not in known:
            pair = forms.as_annotation((values[who], values[what]), sheet.where(number))
            _check_classes(pair[1:] if pair else (), classes, values, sheet.where(number))
            known[values] = [pair] if pair else []
        pairs.setdefault(source, []).extend(known[values])
    one: dict[tuple[tuple[str, str], ...], Supervision] = {}
    said: dict[str, Supervision] = {}
    for source, several in pairs.items():
        distinct = tuple(sorted(set(several)))
        said[source] = one.setdefault(distinct, Supervision(annotations=distinct))
    return said


def _rest_unlabeled(sheet: Sheet, names: Names, places: Sequence[Place]) -> dict[str, Supervision]:
    """Take the label from every training image that a list does not name."""
    listed_sources: set[str] = set()
    labeled = {place.source for place in places if place.label is not None}
    for number, cell, _ in _rows(sheet):
        source = names.find(cell, sheet.where(number))
        if source not in labeled:
            msg = (
                f"{sheet.where(number)}: {brief(source)} lies in no class folder, so that a list of names "
                f"gives it no label; use a table of file,label"
            )
            raise UserError(msg)
        listed_sources.add(source)
    if not listed_sources:
        return {}
    nothing = Supervision()
    training = (place.source for place in places if place.split in {None, "train"})
    return {source: nothing for source in training if source not in listed_sources}


def _rows(sheet: Sheet) -> Iterator[tuple[int, Cell, tuple[Cell, ...]]]:
    """Give number, file and the other cells of each row."""
    at = list(sheet.columns).index(FILE) if sheet.columns else 0
    for number, cells in sheet.rows():
        yield number, cells[at], tuple(map(_composed, cells[:at] + cells[at + 1 :]))


def _composed(cell: Cell) -> Cell:
    if isinstance(cell, tuple):
        return tuple(map(composed, cell))
    return cell and composed(cell)


def _check_classes(
    names: Sequence[str], classes: Set[str], values: Sequence[Cell], where: str
) -> None:
    for name in names:
        if not classes or name in classes:
            continue
        close = difflib.get_close_matches(name[:200], classes, n=1)
        hint = "the class folders are all the classes"
        if any(
            value in classes and SEPARATOR in value for value in values if isinstance(value, str)
        ):
            hint = f"a class has {SEPARATOR} in its name: write lists, as JSON lines or Parquet"
        elif close:
            hint = f"did you mean {quoted(close[0])}?"
        known = listed(brief(known) for known in sorted(classes))
        msg = f"{where}: {quoted(name)} is not one of the classes {known}; {hint}"
        raise UserError(msg)


def _names(supervision: Supervision) -> list[str]:
    said = [name for _, name in supervision.annotations or ()]
    names = [supervision.label, *(supervision.candidates or ()), *said]
    return [name for name in names if name is not None]
