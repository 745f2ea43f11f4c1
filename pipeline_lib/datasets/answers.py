"""Answers of annotators, and the tables of labels that they are added to."""

from __future__ import annotations

import csv
import io
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pipeline_lib.datasets.answered_files import rows_of
from pipeline_lib.datasets.files.csv_table import USUAL, Written, written
from pipeline_lib.datasets.files.forms import (
    ANNOTATOR,
    CANDIDATES,
    LABEL,
    SEPARATOR,
    TRUTH,
    as_annotation,
    one_text,
    split_candidates,
)
from pipeline_lib.datasets.files.layout import composed
from pipeline_lib.datasets.files.sheet import FILE, brief, quoted
from pipeline_lib.datasets.files.tables import read_sheet
from pipeline_lib.errors import UserError, in_one_line, listed
from pipeline_lib.progress import say

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence, Set
    from pathlib import Path

    from pipeline_lib.datasets.files.sheet import Cell


LONG, PLAIN, SETS = (FILE, ANNOTATOR, LABEL), (FILE, LABEL), (FILE, CANDIDATES)
FORMS = (LONG, PLAIN, SETS, (*LONG, TRUTH), (*PLAIN, TRUTH), (*SETS, TRUTH))


@dataclass(frozen=True)
class Answers:
    """What an export says.

    Attributes:
        rows: file, annotator and class; the class is blank for a file of which nobody said anything, the
            annotator there too, and where a table names none.
        cancelled: annotations that were skipped or cancelled.
        columns: one of `FORMS`. Without annotators the table has one row for each file.
        truths: true class by file, of those that a table tells.
        exact: files that label-next has named, by their path in data.path.
        retracted: file and annotator of answers that are none: skipped, cancelled, emptied, or no class.
        written: how the table is to be written as CSV.
    """

    rows: Sequence[tuple[str, str, str]]
    cancelled: int
    columns: tuple[str, ...] = LONG
    truths: Mapping[str, str] = field(default_factory=dict)
    exact: Set[str] = frozenset()
    retracted: Set[tuple[str, str]] = frozenset()
    written: Written = USUAL

    def as_csv(self) -> str:
        """Write the rows as a table for `data.table`."""
        text = io.StringIO()
        text.write("\ufeff" * self.written.mark)
        writer = csv.writer(
            text, delimiter=self.written.delimiter, lineterminator=self.written.ending
        )
        writer.writerow(self.columns)
        for row in self.rows if ANNOTATOR in self.columns else self._by_file():
            truth = [self.truths.get(row[0], "")] if TRUTH in self.columns else []
            writer.writerow([*row, *truth])
        return text.getvalue()

    def _by_file(self) -> Iterator[tuple[str, str]]:
        names: dict[str, dict[str, None]] = {}
        for file, _, name in self.rows:
            # A file that is not in a table of candidates is an unlabeled image.
            if name or CANDIDATES not in self.columns:
                names.setdefault(file, {})[name] = None
        return ((file, SEPARATOR.join(found)) for file, found in names.items())

    def added_to(self, path: Path, sources: Collection[str] = ()) -> Answers:
        """With the rows of an earlier table, but for what the export says anew.

        That are blank rows and candidates of files that are answered now, and what a person has said of them before,
        or has taken back.
        The table keeps its form, also as a file: labels in one without annotators are known ones, rows per annotator are not.
        It keeps the names of its files too, whatever folder is in front of them there or in the export.

        Args:
            path: of the table.
            sources: all images in data.path, by their path there, where they are known.

        Raises:
            UserError: That is none of `FORMS`, it takes one label for a file that has two, or a file may be
                several of it.
        """
        earlier = _earlier(path)
        names = self._rows_in(earlier, path, sources)
        new = [(names.get(file, file), who, name) for file, who, name in self.rows]
        answered = {file for file, _, name in new if name}
        in_sets = CANDIDATES in earlier.columns
        kept = [row for row in earlier.rows if row[0] not in answered or (row[2] and not in_sets)]
        if in_sets and (odd := [name for _, _, name in (*kept, *new) if SEPARATOR in name]):
            msg = f"{path}: a class called {quoted(odd[0], 40)} cannot stand in a set of candidates; rename it"
            raise UserError(msg)
        retracted = {(names.get(file, file), who) for file, who in self.retracted}
        if ANNOTATOR in earlier.columns:
            kept = _without_replaced(kept, new, retracted, path)
        else:
            _tell_of_kept(kept, {file for file, _ in retracted} - answered, path)
        known = {file for file, _, _ in kept}
        new = [row for row in new if row[2] or row[0] not in known]
        if LABEL in earlier.columns and ANNOTATOR not in earlier.columns:
            _check_one_label(kept, new, path)
        rows = sorted(dict.fromkeys([*kept, *new]))
        return Answers(
            rows, self.cancelled, earlier.columns, earlier.truths, written=earlier.written
        )

    def _rows_in(self, table: Answers, path: Path, sources: Collection[str]) -> dict[str, str]:
        files = {file for file, _, _ in self.rows}
        rows = {file: None for file, _, _ in table.rows}
        return rows_of(files, self.exact, rows, path, sources)

    def refuse_loss(self, path: Path, sources: Collection[str] = ()) -> None:
        """Refuse to take the place of a table that tells what the rows do not, or of another form.

        Raises:
            UserError: It does, or is no table.
        """
        earlier = _earlier(path)
        names = self._rows_in(earlier, path, sources)
        alike = {*earlier.columns, TRUTH} == {*self.columns, TRUTH}
        said = {(names.get(file, file), who, name) for file, who, name in self.rows if alike}
        lost = dict.fromkeys(row[0] for row in earlier.rows if row[2] and row not in said)
        truths = {names.get(file, file): truth for file, truth in self.truths.items()}
        lost |= dict.fromkeys(f for f, truth in earlier.truths.items() if truths.get(f) != truth)
        if lost:
            msg = (
                f"{path}: says of {len(lost)} files what the new table would not ({listed(map(brief, lost), 3)}), and "
                f"would be replaced: give --add-to {path} to keep it, or choose another name"
            )
            raise UserError(msg)

    def summary(self) -> str:
        """Count in one line what there is."""
        files, silent = ({f for f, _, c in self.rows if bool(c) is said} for said in (True, False))
        classes = {name for _, _, name in self.rows if name}
        people = {who for _, who, name in self.rows if name and who}
        return (
            f"{len(files | silent)} images, {len(silent)} of them unlabeled; {len(people)} annotators; "
            f"{len(classes)} classes ({listed(brief(name) for name in sorted(classes))}); "
            f"{self.cancelled} skipped or cancelled annotations left out"
        )


def _without_replaced(
    earlier: Sequence[tuple[str, str, str]],
    new: Sequence[tuple[str, str, str]],
    retracted: Set[tuple[str, str]],
    path: Path,
) -> list[tuple[str, str, str]]:
    """Rows of a table less what the same person says otherwise of the same file now, or says nothing of."""
    said = {(file, who) for file, who, name in new if name} | retracted
    now = set(new)
    replaced = [row for row in earlier if row[:2] in said and row not in now]
    if replaced:
        file, who, name = replaced[0]
        more = f", and {len(replaced) - 1} more likewise" if len(replaced) > 1 else ""
        say(
            f"{path}: what {brief(who)} said of {brief(file)}, {quoted(name, 40)}, gives way to what the export says{more}"
        )
    gone = set(replaced)
    return [row for row in earlier if row not in gone]


def _tell_of_kept(rows: Sequence[tuple[str, str, str]], silent: Set[str], path: Path) -> None:
    """Mention files of one class of which somebody has taken an answer back: nothing tells whether it was that one."""
    times = Counter(file for file, _, name in rows if name and file in silent)
    if kept := sorted(file for file, count in times.items() if count == 1):
        say(
            f"{path}: {len(kept)} images keep their class, though the export skips them or takes an answer back "
            f"({listed(map(brief, kept), 3)}): nothing tells whose it is without a column `{ANNOTATOR}`; change it if it was that one"
        )


def _earlier(path: Path) -> Answers:
    """Read a table of any format, accents as part of their letters; an empty file is one of file and label without rows."""
    try:
        if not path.stat().st_size:
            return Answers([], 0, PLAIN)
        sheet = read_sheet(path, str(path))
    except OSError as error:
        msg = f"{path}: cannot be read ({in_one_line(error.strerror or error)}); check the path"
        raise UserError(msg) from error
    columns = _form(list(sheet.columns), path)
    rows: list[tuple[str, str, str]] = []
    truths: dict[str, str] = {}
    for number, cells in sheet.rows():
        row, where = dict(zip(sheet.columns, cells, strict=True)), sheet.where(number)
        file = row[FILE]
        if not file or not isinstance(file, str):
            msg = f"{where}: no file name; remove the row or name its file"
            raise UserError(msg)
        rows += [(file, composed(who), composed(name)) for who, name in _pairs(row, where)]
        truth = composed(one_text(row.get(TRUTH), f"{where}: column {TRUTH}") or "")
        if truth and CANDIDATES in row and row[CANDIDATES] is None:
            msg = f"{where}: null, which CSV cannot say, beside a true label; name all classes as candidates"
            raise UserError(msg)
        if truth and truths.setdefault(file, truth) != truth:
            msg = (
                f"{where}: column {TRUTH}: {quoted(truth)}, but {quoted(truths[file])} above, "
                f"of the same {brief(file)}; correct one of them"
            )
            raise UserError(msg)
    return Answers(rows, 0, columns, truths, written=written(path))


def _form(names: Sequence[str], path: Path) -> tuple[str, ...]:
    found = next((form for form in FORMS if sorted(form) == sorted(names)), None)
    if found is None:
        has = f"columns {listed(sorted(map(brief, names)))}" if names else "no columns with names"
        msg = (
            f"{path}: {has}; labels are added to a table of file and label, "
            f"with or without annotator, or of file and candidates, each with or without {TRUTH}"
        )
        raise UserError(msg)
    return found


def _pairs(row: Mapping[str, Cell], where: str) -> list[tuple[str, str]]:
    """Take annotator (blank where a table names none) and class (blank for nothing) from a row: several of a set."""
    if CANDIDATES in row and row[CANDIDATES] is None:
        return []
    if CANDIDATES in row:
        names = split_candidates(row[CANDIDATES], f"{where}: column {CANDIDATES}")
        if not names:
            msg = f"{where}: no candidates; name all classes there if nothing is known"
            raise UserError(msg)
        return [("", name) for name in names]
    if ANNOTATOR in row:
        return [as_annotation((row[ANNOTATOR], row[LABEL]), where) or ("", "")]
    return [("", one_text(row[LABEL], where) or "")]


def _check_one_label(
    kept: Sequence[tuple[str, str, str]], new: Sequence[tuple[str, str, str]], path: Path
) -> None:
    """Refuse two labels for a file: which one is right only a person knows."""
    first: dict[str, tuple[str, str]] = {}
    for rows, place in ((kept, "in the table"), (new, "in the export")):
        for file, _, name in rows:
            other, there = first.setdefault(file, (name, place))
            if name != other:
                msg = (
                    f"{path}: {brief(file)} has two labels, {quoted(other)} {there} and {quoted(name)} {place}; "
                    f"correct one of them, or give the table a column `{ANNOTATOR}`"
                )
                raise UserError(msg)
