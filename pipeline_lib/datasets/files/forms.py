"""The forms of a table: which columns it has, and what a row of each says."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias

from pipeline_lib.datasets.files.sheet import FILE, Cell, Sheet, brief, quoted
from pipeline_lib.errors import UserError, listed

if TYPE_CHECKING:
    from collections.abc import Sequence

SEPARATOR = "|"
LABEL, CANDIDATES, ANNOTATOR = "label", "candidates", "annotator"
# Names of a single column that hardly anybody gives to an annotator.
MEANT = {
    "labels": LABEL, "class": LABEL, "classes": CANDIDATES, "category": LABEL, "target": LABEL,
    "candidate": CANDIDATES,
}  # fmt: skip
# Names of columns that hold no classes, or those that nobody is to train on.
NOBODY = {
    "true_label", "true", "truth", "ground_truth", "groundtruth", "gt", "gold",
    "split", "fold", "subset", "id", "index", "unnamed: 0", "url", "width", "height", "size",
    "confidence", "score", "date", "time", "timestamp", "comment", "comments", "note", "notes",
}  # fmt: skip
Style: TypeAlias = Literal["label", "candidates", "long", "annotators", "classes", "names"]


@dataclass(frozen=True)
class Supervision:
    """What is said of one image; nothing at all means unlabeled."""

    label: str | None = None
    candidates: tuple[str, ...] | None = None
    annotations: tuple[tuple[str, str], ...] | None = None


def style_of(sheet: Sheet) -> Style:
    """Tell which form a table has.

    Raises:
        UserError: Its columns belong to none, or to several.
    """
    if sheet.form != "columns":
        return sheet.form
    others = [name for name in sheet.columns if name != FILE]
    if not others:
        msg = f"{sheet.shown}: only a column `file`; add `label`, `candidates`, or one column per annotator"
        raise UserError(msg)
    if set(others) == {ANNOTATOR, LABEL}:
        return "long"
    for style in (LABEL, CANDIDATES):
        if style in others:
            _check_alone(style, others, sheet)
            return "label" if style == LABEL else "candidates"
    _check_annotators(others, sheet)
    return "annotators"


def _check_alone(style: str, others: Sequence[str], sheet: Sheet) -> None:
    surplus = [name for name in others if name != style]
    if ANNOTATOR in surplus and style == LABEL:
        surplus.remove(ANNOTATOR)
    if surplus:
        columns = listed(
            f"{brief(name)} ({sheet.where(sheet.columns[name])})"
            if sheet.columns[name] > min(sheet.columns.values())
            else brief(name)
            for name in surplus
        )
        beside = f"`file` and `{ANNOTATOR}`" if ANNOTATOR in others and style == LABEL else "`file`"
        msg = f"{sheet.shown}: `{style}` stands alone beside {beside}; remove the columns {columns}"
        raise UserError(msg)


def _check_annotators(others: Sequence[str], sheet: Sheet) -> None:
    """Refuse a column that is hardly named after an annotator."""
    for name in others:
        plain = name.strip().casefold()
        where = sheet.where(sheet.columns[name]) if sheet.is_text else sheet.shown
        if plain in NOBODY:
            msg = (
                f"{where}: column {brief(name)}: would be taken for an annotator; remove it "
                f"(true labels are the classes of the folders)"
            )
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


def as_label(columns: Sequence[str], values: Sequence[Cell], where: str) -> Supervision:
    """One class, or nothing."""
    del columns
    return Supervision(label=_text(values[0], where) or None)


def as_candidates(columns: Sequence[str], values: Sequence[Cell], where: str) -> Supervision:
    """Several classes: a list, or with `|` between; null says nothing, a blank names no class."""
    del columns
    if values[0] is None:
        return Supervision()
    return Supervision(candidates=split_candidates(values[0], f"{where}: column candidates"))


def as_annotators(columns: Sequence[str], values: Sequence[Cell], where: str) -> Supervision:
    """One class per annotator, or nothing of some."""
    texts = (_text(value, where) for value in values)
    pairs = ((who, text) for who, text in zip(columns, texts, strict=True) if text)
    return Supervision(annotations=tuple(sorted(pairs)))


def as_classes(columns: Sequence[str], values: Sequence[Cell], where: str) -> Supervision:
    """Any number of classes: one is a label, several are candidates."""
    del columns
    names = tuple(dict.fromkeys(text for value in values if (text := _text(value, where))))
    if len(names) > 1:
        return Supervision(candidates=names)
    return Supervision(label=names[0] if names else None)


def as_annotation(values: Sequence[Cell], where: str) -> tuple[str, str] | None:
    """One annotator's one class, or nothing.

    Raises:
        UserError: A class that nobody has named.
    """
    who, name = (_text(value, where) for value in values)
    if name and not who:
        msg = f"{where}: {quoted(name)} has no annotator; name whoever said it"
        raise UserError(msg)
    return (who, name) if who and name else None


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


def _text(value: Cell, where: str) -> str | None:
    if isinstance(value, tuple):
        msg = f"{where}: a list of classes outside of the column `candidates`; rename the column"
        raise UserError(msg)
    return value
