"""Checks of the names of classes, where nothing but a table says which classes there are."""

from __future__ import annotations

import difflib
import re
from collections import Counter
from typing import TYPE_CHECKING
from unicodedata import category

from pipeline_lib.datasets.files import forms
from pipeline_lib.datasets.files.forms import SEPARATOR
from pipeline_lib.datasets.files.sheet import FILE, brief, quoted
from pipeline_lib.datasets.files.tables import read_sheet
from pipeline_lib.errors import UserError
from pipeline_lib.progress import say

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence, Set
    from pathlib import Path

    from pipeline_lib.datasets.files.forms import Style, Supervision
    from pipeline_lib.datasets.files.sheet import Cell, Sheet

DIGITS = re.compile(r"\d+")
# Those of East Asian and Arabic keyboards too.
OTHER_SEPARATORS = ";,/\uff5c\uff1b\uff0c\uff0f\u3001\u060c\u061b"
SEPARATORS = SEPARATOR + OTHER_SEPARATORS
# How like two names are of which one is probably the other, mistyped (`difflib`), and how much rarer it is then.
NEARLY = 0.75
RARE, TIMES_RARER, LONG_ENOUGH = 2, 10, 3
MOST_RARE = 20  # mistakes; more rare classes are what the data are like
MOST_COMPARED = 300  # names with those of folders
SHOWN = 3


def check_names(sheet: Sheet, style: Style, sayings: Collection[Supervision]) -> None:
    """Refuse what is hardly a class: several in one, or one written in two ways; warn of what may be mistyped.

    Args:
        sheet: the table.
        style: its form.
        sayings: what it says of each image; equal ones are one object.

    Raises:
        UserError: The first row with such a name.
    """
    times = _times(sayings)
    _check_separators(sheet, style, times.keys())
    _check_alike(sheet, times)
    if odd := _perhaps_mistyped(times):
        _warn_of_mistyped(sheet, times, odd)


def names_none_of(path: Path, shown: str, folders: Collection[str]) -> bool:
    """Whether a table has classes of its own: two or more, not all numbers, and none is a folder or nearly one.

    Raises:
        UserError: It is no table.
    """
    sheet = read_sheet(path, shown)
    if sheet.form == "names":
        return False
    known = set(map(plain, folders))
    if not known.isdisjoint(map(plain, forms.saying(sheet))):  # a column per class
        return False
    names: set[str] = set()
    for _, _, name in _named(sheet):  # most tables name a folder in their first row
        if name in names or name.casefold() in forms.BLANKS:
            continue
        names.add(name)
        if len(names) > MOST_COMPARED:
            break
        parts = [plain(part) for part in (name, *_parts(name, SEPARATORS))]
        if any(difflib.get_close_matches(part[:200], known, 1, NEARLY) for part in parts):
            return False
    return len(names) > 1 and not all(map(_is_number, names))  # numbers may be the folders, counted


def _is_number(name: str) -> bool:
    try:
        float(name)
    except ValueError:
        return False
    return True


def _times(sayings: Collection[Supervision]) -> Counter[str]:
    """Count the images of which each class is said, in their order."""
    images = Counter(map(id, sayings))
    times: Counter[str] = Counter()
    for one in {id(one): one for one in sayings}.values():
        for name in dict.fromkeys((*one.names, one.true_label)):
            if name:
                times[name] += images[id(one)]
    return times


def _check_separators(sheet: Sheet, style: Style, classes: Set[str]) -> None:
    """Refuse a class cat;dog where cat and dog are classes: somebody meant both."""
    # In a set, | is taken apart already; it is in a name only where somebody wrote a list to allow it.
    marks = OTHER_SEPARATORS if style == "candidates" else SEPARATORS
    parts = {name: _parts(name, marks) for name in classes}
    joined = {name for name in classes if len(parts[name]) > 1 and classes >= set(parts[name])}
    for number, column, name in _named(sheet) if joined else ():
        if name in joined:
            where = sheet.where(number) + (f": column {brief(column)}" if column else "")
            advice = _for_several(column, style, quoted(SEPARATOR.join(parts[name])))
            msg = f"{where}: {quoted(name)}: {advice}, or rename it if it is one class"
            raise UserError(msg)


def _parts(name: str, marks: str) -> list[str]:
    return [part.strip() for part in re.split(f"[{marks}]", name)]


def _for_several(column: str, style: Style, meant: str) -> str:
    """Say how a column of a table says several classes."""
    if column == forms.CANDIDATES:
        return f"write {meant}"
    if column == forms.TRUTH:
        return "leave one class or a blank"
    if style == "label":
        return f"write {meant} in a column `{forms.CANDIDATES}`"
    if style == "classes":
        return "write each class in a field of its own"
    return f"leave one class, or write rows of {FILE}, {forms.ANNOTATOR}, {forms.LABEL}, one for each class"


def _check_alike(sheet: Sheet, classes: Iterable[str]) -> None:
    """Refuse Cat beside cat where no folder says that these are two classes."""
    spellings: dict[str, set[str]] = {}
    for name in classes:
        spellings.setdefault(plain(name), set()).add(name)
    alike = next((names for names in spellings.values() if len(names) > 1), None)
    if alike is None:
        return
    rows: dict[str, int] = {}
    for number, _, name in _named(sheet):
        if name in alike:
            rows.setdefault(name, number)
    (first, _), (second, number) = list(rows.items())[:2]
    msg = (
        f"{sheet.where(number)}: {quoted(second)}, but {quoted(first)} on {sheet.where(rows[first])}: they differ "
        f"in capitals, spaces or invisible characters only; write both alike, or rename one if they are two classes"
    )
    raise UserError(msg)


def _perhaps_mistyped(times: Mapping[str, int]) -> dict[str, str]:
    """Find rare classes that are named nearly like a frequent one: that by theirs."""
    frequent = [name for name, count in times.items() if count >= TIMES_RARER]
    rare = {
        name: count for name, count in times.items() if count <= RARE and len(name) >= LONG_ENOUGH
    }
    if len(rare) > MOST_RARE:
        return {}
    meant = {}
    for name, count in rare.items():
        others = [other for other in frequent if times[other] >= TIMES_RARER * count]
        close = difflib.get_close_matches(name[:200], others, 1, NEARLY)
        close += [other for other in others if sorted(other) == sorted(name)]  # dgo is far from dog
        if close and DIGITS.sub("", close[0]) != DIGITS.sub("", name):
            meant[name] = close[0]
    return meant


def _warn_of_mistyped(sheet: Sheet, times: Mapping[str, int], meant: Mapping[str, str]) -> None:
    rows: dict[str, int] = {}
    for number, _, name in _named(sheet):
        if name in meant:
            rows.setdefault(name, number)
    questions = [
        f"{sheet.where(number)}: {quoted(name)} is a class of its own, of {times[name]} image{'s' * (times[name] > 1)}; "
        f"is {quoted(meant[name])} meant?"
        for name, number in rows.items()
    ]
    more = f" and {len(questions) - SHOWN} more" if len(questions) > SHOWN else ""
    say(f"warning: {' '.join(questions[:SHOWN])}{more}")


def _named(sheet: Sheet) -> Iterator[tuple[int, str, str]]:
    """Give row, column (blank where none has a name) and name of every class that a table names, true ones too."""
    columns = forms.saying(sheet)
    for number, _, values, true_cell in forms.rows(sheet):
        cells = zip(
            (*(columns or [""] * len(values)), forms.TRUTH), (*values, true_cell), strict=True
        )
        for column, cell in cells:
            if column != forms.ANNOTATOR:
                yield from ((number, column, name) for name in _apart(column, cell) if name)


def _apart(column: str, cell: Cell) -> Sequence[str]:
    """Give the texts of a cell: several where it is a list, or one as text."""
    if isinstance(cell, str):
        return cell.split(SEPARATOR) if column == forms.CANDIDATES else (cell,)
    return cell or ()


def plain(name: str) -> str:
    """Write a name without what people do not see as a difference: capitals, invisible characters, and how wide a space is."""
    seen = "".join(letter for letter in name if category(letter) != "Cf")
    # Small letters of the Turkish capital have a dot of its own; casefold would take Maße for Masse.
    return " ".join(seen.lower().replace("i\N{COMBINING DOT ABOVE}", "i").split())
