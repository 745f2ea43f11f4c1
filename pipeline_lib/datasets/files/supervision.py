"""What a table says about each image, found and checked."""

from __future__ import annotations

import difflib
from collections import Counter
from typing import TYPE_CHECKING

from pipeline_lib.datasets.files import forms
from pipeline_lib.datasets.files.class_names import check_names
from pipeline_lib.datasets.files.forms import SEPARATOR, Supervision, style_of
from pipeline_lib.datasets.files.names import Names, NoSuchImageError
from pipeline_lib.datasets.files.sheet import brief, quoted
from pipeline_lib.datasets.files.tables import read_sheet
from pipeline_lib.errors import UserError, listed
from pipeline_lib.progress import say

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence, Set
    from pathlib import Path

    from pipeline_lib.datasets.files.forms import Style
    from pipeline_lib.datasets.files.layout import Place
    from pipeline_lib.datasets.files.sheet import Cell, Sheet

COMPARED = 200  # letters of a name that may be a mistyped one
FEW = 5  # answers, from which on a column tells what it is about
ROW_READERS: dict[Style, Callable[[Sequence[str], Sequence[Cell], str], Supervision]] = {
    "label": forms.as_label,
    "candidates": forms.as_candidates,
    "annotators": forms.as_annotators,
    "classes": forms.as_classes,
}


def read_supervision(
    path: Path, shown: str, places: Sequence[Place], folder: str = ""
) -> dict[str, Supervision]:
    """Read a table of labels, find the image of every row, and check every class name.

    A file is named as the user sees it, as the archive does, or without its folder. Where folders
    name classes, these are all the classes, and the true ones; where none does, the table introduces them.

    Args:
        path: the table.
        shown: what messages call it.
        places: the images.
        folder: that holds them, which a table may put in front of their paths.

    Returns:
        Supervision by `Place.source`, of the images of which the table says something. Equal ones are
        one object, so that a million rows take little memory.

    Raises:
        UserError: The first mistake: file, line or row, and what to do.
    """
    names = Names(places, folder)
    sheet = read_sheet(path, shown)
    truths = Truths(sheet, places)
    style = style_of(sheet, truths.classes)
    if style == "names":
        said = _rest_unlabeled(sheet, names, places)
    elif style == "long":
        said = _gathered(sheet, names, truths)
    else:
        said = _one_row_each(sheet, names, truths, style)
    if not said and next(sheet.rows(), None) is None:
        msg = f"{shown}: no rows; remove data.table if there is nothing to say"
        raise UserError(msg)
    if style == "annotators":
        _check_columns(forms.saying(sheet), said.values(), shown)
    if not truths.classes:
        check_names(sheet, style, said.values())
    return said


class Truths:
    """The column `true_label`, if there is one, and the folders: where they name classes, they are the truth."""

    def __init__(self, sheet: Sheet, places: Sequence[Place]) -> None:
        self.classes = {place.label for place in places if place.label is not None}
        self.are_told = forms.TRUTH in sheet.columns
        labels = ((place.source, place.label) for place in places) if self.are_told else ()
        self._folders = {source: label for source, label in labels if label is not None}

    def check(self, cell: Cell, source: str, where: str) -> str | None:
        """Give the true label that a row tells, or None.

        Raises:
            UserError: It is no class, or the folder of the image is named after another one.
        """
        truth = forms.one_text(cell, f"{where}: column {forms.TRUTH}") or None
        if truth is None:
            return None
        _check_classes([truth], self.classes, (), where)
        folder = self._folders.get(source, truth)
        if truth != folder:
            msg = (
                f"{where}: column {forms.TRUTH}: {quoted(truth)}, but {brief(source)} lies in the folder of "
                f"{quoted(folder)}; correct one of them, or leave the cell blank"
            )
            raise UserError(msg)
        return truth


def _one_row_each(
    sheet: Sheet, names: Names, truths: Truths, style: Style
) -> dict[str, Supervision]:
    read_row = ROW_READERS[style]
    columns = forms.saying(sheet)
    said: dict[str, Supervision] = {}
    known: dict[tuple[Cell, ...], Supervision] = {}
    empty: list[int] = []
    for number, cell, values, true_cell in forms.rows(sheet):
        where = sheet.where(number)
        source = _source(sheet, names, cell, number)
        if source in said:
            first = sheet.where(_first_row(sheet, names, source))
            msg = f"{where}: {brief(source)} is named on {first} already; keep one row"
            raise UserError(msg)
        truth = truths.check(true_cell, source, where)
        if (*values, truth) not in known:
            supervision = read_row(columns, values, where)
            _check_classes(supervision.names, truths.classes, values, where)
            if truths.are_told:
                supervision = forms.with_truth(supervision, truth)
            known[*values, truth] = supervision
        said[source] = known[*values, truth]
        if said[source].candidates == ():
            empty.append(number)
    if empty:
        msg = (
            f"{sheet.shown}: {len(empty)} rows with an empty candidate set "
            f"({listed(sheet.where(number) for number in empty)}); "
            f"name all classes there if nothing is known, or leave the rows out"
        )
        raise UserError(msg)
    return said


def _check_columns(columns: Sequence[str], said: Iterable[Supervision], shown: str) -> None:
    """See to it that columns that are taken for annotators are about the same thing.

    Raises:
        UserError: One names no class that any other names.
    """
    named: dict[str, set[str]] = {}
    often: Counter[str] = Counter()
    for one in said:
        answers = one.annotations or ()
        # people who share the work answer to images of their own, each of classes of their own
        for who, name in answers if len(answers) > 1 else ():
            named.setdefault(who, set()).add(name)
            often[who] += 1
    if len(columns) == 1:
        say(
            f"{shown}: column {brief(columns[0])}: taken for what one annotator said; if it is the class, "
            "call it `label`"
        )
    for who, names in named.items():
        others = set().union(*(other for one, other in named.items() if one != who))
        if others and often[who] >= FEW and not names & others:
            msg = (
                f"{shown}: columns {listed(map(brief, named))}: would be taken for annotators, but {brief(who)} names no "
                f"class that another does ({listed(map(quoted, sorted(names)), 3)}); remove what names no classes, and call "
                f"what is the class `label`"
            )
            raise UserError(msg)


def _gathered(sheet: Sheet, names: Names, truths: Truths) -> dict[str, Supervision]:
    """Put together what several rows say of each image, in an order that is not the rows'."""
    columns = forms.saying(sheet)
    who, what = columns.index(forms.ANNOTATOR), columns.index(forms.LABEL)
    pairs: dict[str, list[tuple[str, str]]] = {}
    true: dict[str, str] = {}
    known: dict[tuple[Cell, ...], list[tuple[str, str]]] = {}
    for number, cell, values, true_cell in forms.rows(sheet):
        where = sheet.where(number)
        source = _source(sheet, names, cell, number)
        if values not in known:
            pair = forms.as_annotation((values[who], values[what]), where)
            _check_classes(pair[1:] if pair else (), truths.classes, values, where)
            known[values] = [pair] if pair else []
        pairs.setdefault(source, []).extend(known[values])
        truth = truths.check(true_cell, source, where)
        if truth and true.setdefault(source, truth) != truth:
            first = sheet.where(_first_row(sheet, names, source, true[source]))
            msg = (
                f"{where}: column {forms.TRUTH}: {quoted(truth)}, but {quoted(true[source])} on {first}, "
                f"of the same {brief(source)}; correct one of them"
            )
            raise UserError(msg)
    one: dict[tuple[tuple[tuple[str, str], ...], str | None], Supervision] = {}
    said: dict[str, Supervision] = {}
    for source, several in pairs.items():
        distinct, truth = tuple(sorted(set(several))), true.get(source)
        supervision = Supervision(annotations=distinct, true_label=truth)
        said[source] = one.setdefault((distinct, truth), supervision)
    return said


def _source(sheet: Sheet, names: Names, cell: Cell, number: int) -> str:
    """Find the image of a row.

    Raises:
        UserError: See `Names.find`; it counts the rows below that name no image either.
    """
    try:
        return names.find(cell, sheet.where(number))
    except NoSuchImageError as error:
        more = sum(names.lacks(other) for at, other, _, _ in forms.rows(sheet) if at > number)
        if not more:
            raise
        msg = f"{error} ({more} more of the rows below name no image)"
        raise UserError(msg) from error


def _first_row(sheet: Sheet, names: Names, source: str, truth: str | None = None) -> int:
    """Find the first row of an image, or the first that tells this truth of it."""
    return next(
        number
        for number, cell, _, true_cell in forms.rows(sheet)
        if truth in {None, true_cell} and names.find(cell, "") == source
    )


def _rest_unlabeled(sheet: Sheet, names: Names, places: Sequence[Place]) -> dict[str, Supervision]:
    """Take the label from every training image that a list does not name."""
    listed_sources: set[str] = set()
    labeled = {place.source for place in places if place.label is not None}
    for number, cell, _, _ in forms.rows(sheet):
        source = _source(sheet, names, cell, number)
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


def _check_classes(
    names: Sequence[str], classes: Set[str], values: Sequence[Cell], where: str
) -> None:
    for name in names:
        if name in classes:
            continue
        if name.casefold() in forms.BLANKS:
            msg = (
                f"{where}: {quoted(name)} is a way to write a blank; leave the cell of an unlabeled image "
                f"blank (in `{forms.CANDIDATES}`: name all classes), or rename the class"
            )
            raise UserError(msg)
        if not classes:
            continue
        close = difflib.get_close_matches(name[:COMPARED], classes, n=1)
        # A letter may be all that differs, at the end of long names.
        others, letters = (3, COMPARED) if close else (10, 80)
        hint = "the class folders are all the classes (a new one: a folder with an image of it)"
        if any(
            value in classes and SEPARATOR in value for value in values if isinstance(value, str)
        ):
            hint = f"a class has {SEPARATOR} in its name: write lists, as JSON lines or Parquet"
        elif close:
            hint = f"did you mean {quoted(close[0], letters)}?"
        known = listed((brief(known) for known in sorted(classes)), others)
        msg = f"{where}: {quoted(name, letters)} is not one of the classes {known}; {hint}"
        raise UserError(msg)
