"""What annotators said in Label Studio: from its JSON export to a table of labels."""

from __future__ import annotations

import csv
import io
import itertools
import json
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from pydantic import BaseModel, TypeAdapter, ValidationError

from pipeline_lib.datasets.files.forms import (
    ANNOTATOR,
    BLANKS,
    CANDIDATES,
    LABEL,
    SEPARATOR,
    TRUTH,
    as_annotation,
    one_text,
    split_candidates,
)
from pipeline_lib.datasets.files.layout import is_image
from pipeline_lib.datasets.files.names import as_path
from pipeline_lib.datasets.files.sheet import FILE, brief, quoted
from pipeline_lib.datasets.files.tables import read_sheet
from pipeline_lib.datasets.progress import say
from pipeline_lib.errors import UserError, in_one_line, listed
from pipeline_lib.images import SUFFIXES

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence, Set
    from pathlib import Path

    from pipeline_lib.datasets.files.sheet import Cell

MAX_BYTES = 1 << 28
# Label Studio puts 8 digits before the name of a file that was uploaded to it.
UPLOADED = re.compile(r"(?:^|/)upload/\d+/[0-9a-f]{8}-([^/]+)$")
SERVED = re.compile(r"(?:^|&)(?:d|filepath)=([^&]+)")
# What the short export (JSON-MIN) adds to the data of a task.
ABOUT = {"id", "annotator", "annotation_id", "created_at", "updated_at", "lead_time", "agreement"}


class Person(BaseModel):
    """An annotator, where the export says more than a number."""

    id: int | None = None
    email: str | None = None


class Value(BaseModel):
    """What was chosen; answers of other types hold something else."""

    choices: list[str] = []


class Result(BaseModel):
    """One answer."""

    type: str = ""
    from_name: str = ""
    value: Value = Value()


class Annotation(BaseModel):
    """The answers of one person to one task."""

    completed_by: int | str | Person | None = None
    result: list[Result] = []
    was_cancelled: bool = False


class Task(BaseModel):
    """One image; predictions and all else are left alone."""

    data: dict[str, Any]
    annotations: list[Annotation]


LONG, PLAIN, SETS = (FILE, ANNOTATOR, LABEL), (FILE, LABEL), (FILE, CANDIDATES)
FORMS = (LONG, PLAIN, SETS, (*LONG, TRUTH), (*PLAIN, TRUTH), (*SETS, TRUTH))


@dataclass(frozen=True)
class Imported:
    """What an export says.

    Attributes:
        rows: file, annotator and class; the class is blank for a file of which nobody said anything, the
            annotator there too, and where a table names none.
        cancelled: annotations that were skipped or cancelled.
        columns: one of `FORMS`. Without annotators the table has one row for each file.
        truths: true class by file, of those that a table tells.
        exact: files that label-next has named, by their path in data.path.
    """

    rows: Sequence[tuple[str, str, str]]
    cancelled: int
    columns: tuple[str, ...] = LONG
    truths: Mapping[str, str] = field(default_factory=dict)
    exact: Set[str] = frozenset()

    def as_csv(self) -> str:
        """Write the rows as a table for `data.table`."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
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

    def added_to(self, path: Path) -> Imported:
        """With the rows of an earlier table, but for what the export says anew.

        That are blank rows and candidates of files that are answered now, and what a person has said of them before.
        The table keeps its form: labels in one without annotators are known ones, rows per annotator are not.
        It keeps the names of its files too, whatever folder is in front of them there or in the export.

        Raises:
            UserError: That is none of `FORMS`, it takes one label for a file that has two, or a file may be
                several of it.
        """
        earlier = _earlier(path)
        names = _as_in_table(self, earlier, path)
        new = [(names.get(file, file), who, name) for file, who, name in self.rows]
        answered = {file for file, _, name in new if name}
        in_sets = CANDIDATES in earlier.columns
        kept = [row for row in earlier.rows if row[0] not in answered or (row[2] and not in_sets)]
        if in_sets and (odd := [name for _, _, name in (*kept, *new) if SEPARATOR in name]):
            msg = f"{path}: a class called {quoted(odd[0], 40)} cannot stand in a set of candidates; rename it"
            raise UserError(msg)
        known = {file for file, _, _ in kept}
        new = [row for row in new if row[2] or row[0] not in known]
        if ANNOTATOR in earlier.columns:
            kept = _without_replaced(kept, new, path)
        elif not in_sets:
            _check_one_label(kept, new, path)
        rows = sorted(dict.fromkeys([*kept, *new]))
        return Imported(rows, self.cancelled, earlier.columns, earlier.truths)

    def refuse_loss(self, path: Path) -> None:
        """Refuse to take the place of a table that tells what the rows do not, or of another form.

        Raises:
            UserError: It does, or is no table.
        """
        earlier = _earlier(path)
        names = _as_in_table(self, earlier, path)
        alike = {*earlier.columns, TRUTH} == {*self.columns, TRUTH}
        said = {(names.get(file, file), who, name) for file, who, name in self.rows if alike}
        lost = dict.fromkeys(row[0] for row in earlier.rows if row[2] and row not in said)
        lost |= dict.fromkeys(file for file in earlier.truths if file not in self.truths)
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


def read_export(
    path: Path,
    control: str | None = None,
    strip: str = "",
    annotator: str | None = None,
    no_answer: Collection[str] = (),
) -> Imported:
    """Read a JSON or JSON-MIN export of a project with choices.

    Args:
        path: the export.
        control: name of the choices that are meant, where a project has several.
        strip: what to leave out at the beginning of the paths of images.
        annotator: who has answered; None is whom the export names, by a number as a rule.
        no_answer: choices that say nothing of the class.

    Raises:
        UserError: The file is no such export, or what is meant is not clear.
    """
    tasks = _tasks(_json(path), str(path))
    meant = _control(tasks, control, str(path))
    files = _files(tasks, strip, str(path))
    rows: dict[tuple[str, str, str], None] = {}
    for file, task in zip(files, tasks, strict=True):
        rows |= dict.fromkeys(
            (file, who, name) for who, name in _said(task, meant) if name not in no_answer
        )
    _check_no_blank({name for _, _, name in rows}, str(path))
    if annotator is not None:
        people = {who for _, who, _ in rows}
        if len(people) > 1:
            msg = f"{path}: --annotator {annotator}: has answers of several people ({listed(sorted(people))}); leave it out"
            raise UserError(msg)
        rows = {(file, annotator, name): None for file, _, name in rows}
    answered = {file for file, _, _ in rows}
    rows |= dict.fromkeys((file, "", "") for file in files if file not in answered)
    cancelled = sum(one.was_cancelled for task in tasks for one in task.annotations)
    ours = (_own_file(task.data) for task in tasks)
    return Imported(
        sorted(rows), cancelled, exact={_stripped(file, strip) for file in ours if file}
    )


def _check_no_blank(names: Iterable[str], shown: str) -> None:
    """Refuse what a table would be refused for, while its choices can still be told from classes."""
    if blank := [name for name in sorted(names) if name.casefold() in BLANKS]:
        msg = (
            f"{shown}: the choice {quoted(blank[0])} is a way to write a blank, and no class: "
            f"--no-answer {blank[0]} leaves such images without a label"
        )
        raise UserError(msg)


def _without_replaced(
    earlier: Sequence[tuple[str, str, str]], new: Sequence[tuple[str, str, str]], path: Path
) -> list[tuple[str, str, str]]:
    """Rows of a table less what the same person says otherwise of the same file now."""
    said = {(file, who) for file, who, name in new if name}
    now = set(new)
    replaced = [row for row in earlier if row[:2] in said and row not in now]
    if replaced:
        file, who, name = replaced[0]
        more = f", and {len(replaced) - 1} more likewise" if len(replaced) > 1 else ""
        say(
            f"{path}: what {brief(who)} said of {brief(file)}, {quoted(name, 40)}, is replaced by the answer in the "
            f"export{more}"
        )
    gone = set(replaced)
    return [row for row in earlier if row not in gone]


def _as_in_table(export: Imported, table: Imported, path: Path) -> dict[str, str]:
    """Find the files of an export that a table names too, with another folder in front or none: its names by theirs.

    Raises:
        UserError: A file may be several of the table, or several may be one.
    """
    files = {file for file, _, _ in export.rows}
    rows = dict.fromkeys(file for file, _, _ in table.rows)
    found = {file: file for file in files if file in rows}
    # What is named alike is meant, and is not looked for further.
    found |= _matched(files, rows, found, lambda name: [as_path(name)], path)
    ends = _enclosed(export.exact - found.keys(), export.exact, rows, path)
    ends |= _matched(files - export.exact, rows, found | ends, _ends, path)
    if ends:
        file, row = min(ends.items())
        more = f", and {len(ends) - 1} more likewise" if len(ends) > 1 else ""
        say(f"{path}: {brief(file)} of the export is taken for {brief(row)}{more}")
    return found | ends


def _enclosed(
    files: Iterable[str], exact: Collection[str], rows: Iterable[str], path: Path
) -> dict[str, str]:
    """Match paths in data.path with rows, where all of the one kind lie in a folder that those of the other leave out.

    Another folder in front would be that of another image of the same name.

    Raises:
        UserError: A file may be several rows.
    """
    by_path = {as_path(row): row for row in rows}
    above_rows, above_files = (
        _folders_of_all(list(map(as_path, names))) for names in (by_path, exact)
    )
    found: dict[str, str] = {}
    for file in sorted(files):
        name = as_path(file)
        ways = [folder + name for folder in above_rows]
        ways += [name.removeprefix(folder) for folder in above_files]
        meant = [by_path[way] for way in ways if way in by_path]
        if len(meant) > 1:
            raise _unclear(
                path, f"{brief(file)} in the export may be {listed(map(brief, meant))} here"
            )
        if meant:
            found[file] = meant[0]
    return found


def _folders_of_all(names: Sequence[str]) -> list[str]:
    """The folders in which all files lie, the outermost first."""
    parts = [name.split("/")[:-1] for name in names]
    common = list(itertools.takewhile(lambda part: len(set(part)) == 1, zip(*parts, strict=False)))
    return ["/".join(part[0] for part in common[: depth + 1]) + "/" for depth in range(len(common))]


def _matched(
    files: Iterable[str],
    rows: Iterable[str],
    found: Mapping[str, str],
    keys: Callable[[str], Sequence[str]],
    path: Path,
) -> dict[str, str]:
    """Match what was not found so far, where the path of the one is among the keys of the other.

    Raises:
        UserError: A file may be several rows, or several may be one.
    """
    taken = set(found.values())
    by_path: dict[str, list[str]] = {}
    by_key: dict[str, list[str]] = {}
    for row in rows:
        if row not in taken:
            by_path.setdefault(as_path(row), []).append(row)
            for key in keys(row):
                by_key.setdefault(key, []).append(row)
    first: dict[str, str] = {}
    for file in sorted(set(files) - set(found)):
        longer = by_key.get(as_path(file), ())
        meant = dict.fromkeys(
            (*longer, *(row for key in keys(file) for row in by_path.get(key, ())))
        )
        if len(meant) > 1:
            raise _unclear(
                path, f"{brief(file)} in the export may be {listed(map(brief, meant))} here"
            )
        for row in meant:
            if (other := first.setdefault(row, file)) != file:
                both = f"{brief(other)} or {brief(file)}"
                raise _unclear(path, f"{brief(row)} may be {both} in the export")
    return {file: row for row, file in first.items()}


def _ends(name: str) -> list[str]:
    """Give the path of a file, and that without folders at its beginning."""
    parts = as_path(name).split("/")
    return ["/".join(parts[start:]) for start in range(len(parts))]


def _unclear(path: Path, which: str) -> UserError:
    return UserError(f"{path}: {which}; write its folder too")


def _earlier(path: Path) -> Imported:
    """Read a table of any format; an empty file is one of file and label without rows."""
    try:
        if not path.stat().st_size:
            return Imported([], 0, PLAIN)
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
        rows += [(file, who, name) for who, name in _pairs(row, where)]
        truth = one_text(row.get(TRUTH), f"{where}: column {TRUTH}")
        if truth and truths.setdefault(file, truth) != truth:
            msg = (
                f"{where}: column {TRUTH}: {quoted(truth)}, but {quoted(truths[file])} above, "
                f"of the same {brief(file)}; correct one of them"
            )
            raise UserError(msg)
    return Imported(rows, 0, columns, truths)


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


def _json(path: Path) -> object:
    try:
        if path.stat().st_size > MAX_BYTES:
            msg = f"{path}: more than {MAX_BYTES} bytes; export the project in parts"
            raise UserError(msg)
        text = path.read_bytes().decode("utf-8-sig")
        content = json.loads(text)
        if "\\ud" in text.lower():  # half a character can be escaped, but not written
            json.dumps(content, ensure_ascii=False).encode()
    except OSError as error:
        msg = f"{path}: cannot be read ({error.strerror or error}); check the path"
        raise UserError(msg) from error
    except (ValueError, RecursionError) as error:
        msg = f"{path}: no JSON ({str(error).splitlines()[0]}); export the project as JSON again"
        raise UserError(msg) from error
    return content


def _tasks(content: object, shown: str) -> list[Task]:
    if not isinstance(content, list) or not content:
        found = "an empty list" if content == [] else f"it begins with {quoted(content, 40)}"
        msg = f"{shown}: no list of tasks ({found}); export the project as JSON"
        raise UserError(msg)
    short = all(isinstance(task, dict) and "annotations" not in task for task in content)
    try:
        return TypeAdapter(list[Task]).validate_python(
            [_from_short(task) for task in content] if short else content
        )
    except ValidationError as error:
        first = error.errors()[0]
        number, *keys = first["loc"]
        place = f"task {int(number) + 1}{''.join(f', {key}' for key in keys)}"
        what = in_one_line(f"{place}: {first['msg']}")
        msg = f"{shown}: {what}; export the project as JSON again"
        raise UserError(msg) from error


def _from_short(task: dict[str, Any]) -> dict[str, Any]:
    """Turn a task of the short export, with one annotation and all on one level, into a full one."""
    data = {key: value for key, value in task.items() if key not in ABOUT}
    ours = _own_file(data) is not None
    choices = {
        key: value["choices"] if isinstance(value, dict) else [value]
        for key, value in data.items()
        if (isinstance(value, dict) and "choices" in value)
        or (
            isinstance(value, str) and not (_is_place(value) or (ours and key in {"image", "file"}))
        )
    }
    result = [
        {"type": "choices", "from_name": key, "value": {"choices": names}}
        for key, names in choices.items()
    ]
    said = {"completed_by": task.get("annotator"), "result": result}
    return {"data": {k: v for k, v in data.items() if k not in choices}, "annotations": [said]}


def _control(tasks: Sequence[Task], wanted: str | None, shown: str) -> str:
    results = [one for task in tasks for said in task.annotations for one in said.result]
    names = sorted({one.from_name for one in results if one.type == "choices"})
    if wanted in names or (wanted is None and len(names) == 1):
        return wanted or names[0]
    if not names:
        types = listed(sorted({brief(one.type) for one in results})) or "none at all"
        msg = f"{shown}: no answers of type choices (found {types}); this command imports classes only"
        raise UserError(msg)
    problem = f"no choices named {quoted(wanted)}" if wanted else "several choices"
    msg = f"{shown}: {problem}; say which are meant: --control {' | '.join(map(brief, names))}"
    raise UserError(msg)


def _said(task: Task, control: str) -> Iterator[tuple[str, str]]:
    """Give annotator and class of every answer that was not taken back."""
    for annotation in task.annotations:
        for one in () if annotation.was_cancelled else annotation.result:
            if one.type == "choices" and one.from_name == control:
                who = _annotator(annotation.completed_by)
                yield from ((who, name.strip()) for name in one.value.choices if name.strip())


def _annotator(who: int | str | Person | None) -> str:
    if isinstance(who, Person):
        who = who.email or who.id
    if isinstance(who, str) and who.strip():
        return who.strip()
    return f"annotator_{who}" if isinstance(who, int) else "unknown"


def _files(tasks: Sequence[Task], strip: str, shown: str) -> list[str]:
    """Name the image of every task, and see to it that two images keep two names."""
    urls = [_url(task, number, shown) for number, task in enumerate(tasks, start=1)]
    files = [_path(url) for url in urls]
    if strip and not any(file.startswith(strip) for file in files):
        msg = (
            f"{shown}: --strip {strip}: no path begins like that; they are like {quoted(files[0])}"
        )
        raise UserError(msg)
    files = [_stripped(file, strip) for file in files]
    first: dict[str, str] = {}
    for url, file in zip(urls, files, strict=True):
        if first.setdefault(file, url) != url:
            msg = (
                f"{shown}: {quoted(first[file])} and {quoted(url)} would both be {quoted(file)}; "
                f"give images different names before you upload them"
            )
            raise UserError(msg)
    return files


def _stripped(file: str, strip: str) -> str:
    return file.removeprefix(strip).lstrip("/")


def _url(task: Task, number: int, shown: str) -> str:
    """Find the image of a task: `image`, else the only text that is the path of one."""
    if file := _own_file(task.data):
        return file
    paths = {
        key: value
        for key, value in task.data.items()
        if isinstance(value, str) and is_image(_path(value))
    }
    if "image" in paths or len(paths) == 1:
        return paths.get("image") or next(iter(paths.values()))
    found = listed(f"{brief(key)}: {quoted(value, 40)}" for key, value in task.data.items())
    problem = "several values are" if paths else "no value is"
    advice = "name it `image`" if paths else f"paths of images end in {' '.join(SUFFIXES)}"
    msg = f"{shown}: task {number}: {problem} the path of an image ({found or 'it has none'}); {advice}"
    raise UserError(msg)


def _own_file(data: Mapping[str, Any]) -> str | None:
    """Name the file of a task of label-next, which holds the image itself or an address that ends in its path."""
    image, file = data.get("image"), data.get("file")
    if not isinstance(image, str) or not isinstance(file, str):
        return None
    ends = image.startswith("data:") or unquote(image).endswith(file) or image.endswith(file)
    return file if ends else None


def _is_place(text: str) -> bool:
    """Whether a text says where something is, so that nobody has chosen it."""
    return text.startswith("data:") or "://" in text or is_image(_path(text))


def _path(url: str) -> str:
    """Take the path of an image out of what Label Studio calls it."""
    try:
        parts = urlsplit(url)
    except ValueError:  # a bracket that opens no address
        return url
    served = SERVED.search(parts.query)
    remote = parts.scheme and parts.netloc
    # A name may hold # or ?, where nothing says that it is an address.
    path = unquote(served[1] if served else parts.path) if served or remote else unquote(url)
    uploaded = UPLOADED.search(path)
    return uploaded[1] if uploaded else path.lstrip("/")
