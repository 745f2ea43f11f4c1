"""The forms of a table: which columns it has, and what a row of each says."""

from __future__ import annotations

import difflib
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal, TypeAlias

from pipeline_lib.datasets.files.layout import composed
from pipeline_lib.datasets.files.sheet import FILE, Cell, Sheet, brief, quoted
from pipeline_lib.errors import UserError, listed

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence, Set

SEPARATOR = "|"
TOLERANCE = 0.02  # of a sum of probabilities
LABEL, CANDIDATES, ANNOTATOR = "label", "candidates", "annotator"
TRUTH = "true_label"
# Names of a single column that hardly anybody gives to an annotator.
MEANT = {
    "labels": LABEL, "class": LABEL, "classes": CANDIDATES, "category": LABEL, "target": LABEL,
    "candidate": CANDIDATES,
}  # fmt: skip
# Names of columns that hold the truth, which nobody is to train on, or no classes.
TRUE = {
    TRUTH, "true label", "truelabel", "true", "truth", "ground_truth", "ground truth", "groundtruth",
    "gt", "gold",
}  # fmt: skip
SPLIT_COLUMNS = {"split", "subset", "set", "partition"}
# Names of columns that say which images go together.
GROUPS = {
    "group", "patient", "subject", "individual", "site", "camera", "location", "burst", "sequence",
    "deployment",
}  # fmt: skip
GROUP_COLUMNS = (
    GROUPS | {f"{name}_id" for name in GROUPS} | {"animal_id"}
)  # `animal` may be the class
NOBODY = SPLIT_COLUMNS | GROUP_COLUMNS | {
    "fold", "id", "index", "unnamed: 0", "url", "width", "height", "size",
    "confidence", "score", "date", "time", "timestamp", "comment", "comments", "note", "notes",
}  # fmt: skip
# How programs and people write that there is nothing, in small letters.
BLANKS = {
    "na", "n/a", "#n/a", "<na>", "nan", "none", "null", "unlabeled", "unlabelled", "unknown", "-1", "-", "?",
}  # fmt: skip
Style: TypeAlias = Literal["label", "candidates", "long", "annotators", "classes", "names"]


@dataclass(frozen=True)
class Supervision:
    """What is said of one image; nothing but a true label means unlabeled."""

    label: str | None = None
    candidates: tuple[str, ...] | None = None
    annotations: tuple[tuple[str, str], ...] | None = None
    true_label: str | None = None

    @property
    def names(self) -> list[str]:
        """The classes that training may see, some of them more than once."""
        said = [name for _, name in self.annotations or ()]
        names = [self.label, *(self.candidates or ()), *said]
        return [name for name in names if name is not None]


def style_of(sheet: Sheet, classes: Set[str]) -> Style:
    """Tell which form a table has.

    Args:
        sheet: the table.
        classes: those that folders name.

    Raises:
        UserError: Its columns belong to none, or to several, or hold a number for each class.
    """
    if sheet.form != "columns":
        return sheet.form
    others = saying(sheet)
    for name in others:
        plain = name.strip().casefold()
        if plain in TRUE or _is_nearly(plain, TRUTH):
            msg = f"{_place(name, sheet)}: column {brief(name)}: is `{TRUTH}` meant? rename it, or remove it"
            raise UserError(msg)
    if not others:
        found = (
            f"columns `{FILE}` and `{TRUTH}`" if TRUTH in sheet.columns else f"a column `{FILE}`"
        )
        msg = f"{sheet.shown}: only {found}; add `label`, `candidates`, or one column per annotator"
        raise UserError(msg)
    if set(others) == {ANNOTATOR, LABEL}:
        return "long"
    for style in (LABEL, CANDIDATES):
        if style in others:
            _check_alone(style, others, sheet)
            return "label" if style == LABEL else "candidates"
    _check_annotators(others, sheet)
    if len(others) > 1:
        _check_no_classes(others, sheet, classes)
    return "annotators"


def saying(sheet: Sheet) -> list[str]:
    """Name the columns that say what training may see."""
    return [name for name in sheet.columns if name not in {FILE, TRUTH}]


def _is_nearly(name: str, meant: str) -> bool:
    return bool(difflib.get_close_matches(name, (meant,), 1, 0.8))


def _place(name: str, sheet: Sheet) -> str:
    return sheet.where(sheet.columns[name]) if sheet.is_text else sheet.shown


def _check_alone(style: str, others: Sequence[str], sheet: Sheet) -> None:
    surplus = [name for name in others if name != style]
    if ANNOTATOR in surplus and style == LABEL:
        surplus.remove(ANNOTATOR)
    for name in surplus:
        if style == LABEL and ANNOTATOR not in others and _is_nearly(name.casefold(), ANNOTATOR):
            msg = f"{_place(name, sheet)}: column {brief(name)}: is `{ANNOTATOR}` meant? rename it, or remove it"
            raise UserError(msg)
    if surplus:
        columns = listed(
            f"{brief(name)} ({sheet.where(sheet.columns[name])})"
            if sheet.columns[name] > min(sheet.columns.values())
            else brief(name)
            for name in surplus
        )
        beside = f"`file` and `{ANNOTATOR}`" if ANNOTATOR in others and style == LABEL else "`file`"
        msg = f"{sheet.shown}: `{style}` stands alone beside {beside}; remove the columns {columns}{_otherwise(surplus)}{_on_people(style, surplus)}"
        raise UserError(msg)


def _check_annotators(others: Sequence[str], sheet: Sheet) -> None:
    """Refuse a column that is hardly named after an annotator."""
    for name in others:
        plain = name.strip().casefold()
        where = _place(name, sheet)
        if plain in NOBODY:
            msg = f"{where}: column {brief(name)}: would be taken for an annotator; remove it{_otherwise([name])}"
            raise UserError(msg)
        known = plain if plain in {LABEL, CANDIDATES, ANNOTATOR} else None
        meant = known or (MEANT.get(plain) if len(others) == 1 else None)
        if not meant and len(others) == 1:
            meant = next(iter(difflib.get_close_matches(plain, (LABEL, CANDIDATES), 1, 0.75)), None)
        if meant:
            wanted = "file, annotator, label" if meant == ANNOTATOR else f"`{meant}`"
            msg = (
                f"{where}: column {brief(name)}: is {wanted} meant? rename it; "
                f"a column per annotator is named otherwise"
            )
            raise UserError(msg)


def _on_people(style: str, columns: Sequence[str]) -> str:
    """Say how else to tell who said what, where sets of candidates were to have annotators."""
    if style != CANDIDATES or ANNOTATOR not in columns:
        return ""
    return ", or write file, annotator, label with a row for each class that somebody named"


def _otherwise(columns: Sequence[str]) -> str:
    """Say how else to tell what is for testing, or which images go together, where columns were meant to."""
    said = {name.strip().casefold() for name in columns}
    advice = ""
    if said & SPLIT_COLUMNS:
        advice = ", and put the files into folders train and test: these tell what is for testing"
    if said & GROUP_COLUMNS:
        advice += ", and write groups into the paths of the files, where split.group_by finds them"
    return advice


def _check_no_classes(columns: Sequence[str], sheet: Sheet, classes: Set[str]) -> None:
    """Refuse a column per class: with votes or marks, probabilities, or 0 and 1, of which each row may have several.

    Its columns are named after classes; those of annotators may be too, by numbers, if their answers name classes and
    some class has no column. Probabilities of an image sum to 1, and annotators' grades do not. Annotators may say 0
    and 1 where these are two classes: then most columns are not named after classes, and some row has no 1, or several.
    """
    written: set[str] = set()
    said: set[str] = set()  # the same as numbers, from 0 to 1
    truths: set[Cell] = set()
    are_numbers, sums_to_1, is_one_hot = True, True, len(columns) > 2
    for _, _, values, truth in rows(sheet):
        truths.add(truth)
        cells = [cell for cell in values if cell]
        written.update(cell for cell in cells if isinstance(cell, str))
        shares = [share for share in map(_share, cells) if share is not None]
        said.update(f"{share:g}" for share in shares)
        are_numbers &= len(shares) == len(cells)
        if shares:
            sums_to_1 &= abs(sum(shares) - 1) <= TOLERANCE
            is_one_hot &= len(shares) == len(values) and shares.count(1) == 1
    has_fractions = not said <= {"0", "1"}
    known = {name for name in (*classes, *truths) if isinstance(name, str) and name}
    # where nobody says which classes there are, they may be counted, from 0 or 1
    likely = known or (set(map(str, range(len(columns) + 1))) if are_numbers else set())
    are_named = 2 * sum(name in likely for name in columns) > len(columns)
    are_others = are_shares = False
    found = "votes or marks for each class"
    if are_numbers:
        are_others = bool(known) and known.isdisjoint(said | written)
        are_shares = sums_to_1 and (has_fractions or is_one_hot)
        found = "probabilities" if has_fractions else "a 1 or a 0 for each class"
    elif written <= known:
        are_named &= known <= set(columns)
    if written and (are_shares or are_named or are_others):
        named = listed(map(brief, columns), 4)
        example = SEPARATOR.join(map(brief, columns[:2]))
        by_names = not (are_shares or are_others)  # only then do other names help
        renamed = f", or call the columns otherwise, as {ANNOTATOR}_{brief(columns[0])}" * by_names
        msg = (
            f"{sheet.shown}: the columns {named} hold {found}, which are not read; write the names of the classes in a "
            f"column `{LABEL}` or `{CANDIDATES}`, {example} (of annotators: in rows of {FILE}, {ANNOTATOR}, {LABEL}{renamed})"
        )
        raise UserError(msg)


def _share(cell: Cell) -> float | None:
    """Read a number from 0 to 1, or whether something is so."""
    if not isinstance(cell, str):
        return None
    try:
        number = float({"true": "1", "false": "0"}.get(cell.casefold(), cell))
    except ValueError:
        return None
    return number if 0 <= number <= 1 else None


def as_label(columns: Sequence[str], values: Sequence[Cell], where: str) -> Supervision:
    """One class, or nothing."""
    del columns
    return Supervision(label=one_text(values[0], where) or None)


def as_candidates(columns: Sequence[str], values: Sequence[Cell], where: str) -> Supervision:
    """Several classes: a list, or with `|` between; null says nothing, a blank names no class."""
    del columns
    if values[0] is None:
        return Supervision()
    return Supervision(candidates=split_candidates(values[0], f"{where}: column candidates"))


def as_annotators(columns: Sequence[str], values: Sequence[Cell], where: str) -> Supervision:
    """One class per annotator, or nothing of some."""
    texts = (one_text(value, where) for value in values)
    pairs = ((who, text) for who, text in zip(columns, texts, strict=True) if text)
    return Supervision(annotations=tuple(sorted(pairs)))


def as_classes(columns: Sequence[str], values: Sequence[Cell], where: str) -> Supervision:
    """Any number of classes: one is a label, several are candidates."""
    del columns
    names = tuple(dict.fromkeys(text for value in values if (text := one_text(value, where))))
    if len(names) > 1:
        return Supervision(candidates=names)
    return Supervision(label=names[0] if names else None)


def as_annotation(values: Sequence[Cell], where: str) -> tuple[str, str] | None:
    """One annotator's one class, or nothing.

    Raises:
        UserError: A class that nobody has named.
    """
    who, name = (one_text(value, where) for value in values)
    if name and not who:
        msg = f"{where}: {quoted(name)} has no annotator; name whoever said it"
        raise UserError(msg)
    return (who, name) if who and name else None


def with_truth(said: Supervision, truth: str | None) -> Supervision:
    """Add what is true beside what is said, where a table has a column for it.

    A label becomes a candidate set of one where the truth is blank: by itself it would count as the truth.
    """
    if truth is None and said.label is not None:
        return replace(said, label=None, candidates=(said.label,))
    return replace(said, true_label=truth)


def split_candidates(value: Cell, where: str) -> tuple[str, ...]:
    """Take a candidate set apart.

    Raises:
        UserError: There are holes or spaces between the classes, or it is a list as Python writes it.
    """
    if isinstance(value, str) and value[:1] + value[-1:] in {"[]", "{}", "()"}:
        msg = f"{where}: {quoted(value)}: write class names with {SEPARATOR} between, not as a list in text"
        raise UserError(msg)
    names = value.split(SEPARATOR) if isinstance(value, str) and value else value or ()
    if "" in names or any(name != name.strip() for name in names):
        msg = f"{where}: {quoted(value)}: write class names with {SEPARATOR} between, no spaces"
        raise UserError(msg)
    return tuple(dict.fromkeys(names))


def one_text(value: Cell, where: str) -> str | None:
    """Take the text of a cell that holds one class.

    Raises:
        UserError: It is a list.
    """
    if isinstance(value, tuple):
        msg = f"{where}: a list of classes outside of the column `candidates`; rename the column"
        raise UserError(msg)
    return value


def rows(sheet: Sheet) -> Iterator[tuple[int, Cell, tuple[Cell, ...], Cell]]:
    """Give number, file, what is said, and the true label of each row."""
    columns = list(sheet.columns)
    at = columns.index(FILE) if columns else 0
    true_at = columns.index(TRUTH) if TRUTH in columns else None
    for number, cells in sheet.rows():
        said = tuple(_composed(c) for i, c in enumerate(cells) if i not in {at, true_at})
        yield number, cells[at], said, None if true_at is None else _composed(cells[true_at])


def _composed(cell: Cell) -> Cell:
    if isinstance(cell, tuple):
        return tuple(map(composed, cell))
    return cell and composed(cell)
