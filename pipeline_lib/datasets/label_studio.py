"""What annotators said in Label Studio: from its JSON export to answers."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from pydantic import BaseModel, TypeAdapter, ValidationError

from pipeline_lib.datasets.answers import Answers
from pipeline_lib.datasets.files.forms import (
    BLANKS,
)
from pipeline_lib.datasets.files.layout import composed, is_image
from pipeline_lib.datasets.files.sheet import brief, quoted
from pipeline_lib.errors import UserError, in_one_line, listed
from pipeline_lib.images import SUFFIXES
from pipeline_lib.progress import say

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
    from pathlib import Path


MAX_BYTES = 1 << 28
# Label Studio puts 8 digits before the name of a file that was uploaded to it.
UPLOADED = re.compile(r"(?:^|/)upload/\d+/[0-9a-f]{8}-([^/]+)$")
SERVED = re.compile(r"(?:^|&)(?:d|filepath)=([^&]+)")
# What a task of label-next has.
BY = "label-next"
OURS = {"image", "file", "by"}
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


def read_export(
    path: Path,
    control: str | None = None,
    strip: str = "",
    annotator: str | None = None,
    no_answer: Collection[str] = (),
    sources: Collection[str] = (),
    classes: Collection[str] = (),
) -> Answers:
    """Read a JSON or JSON-MIN export of a project with choices.

    Args:
        path: the export.
        control: name of the choices that are meant, where a project has several.
        strip: what to leave out at the beginning of the paths of images.
        annotator: who has answered; None is whom the export names, by a number as a rule.
        no_answer: choices that say nothing of the class.
        sources: all images in data.path, by their path there, where they are known: other files of label-next are left out.
        classes: those of the data, where they are known.

    Raises:
        UserError: The file is no such export, or what is meant is not clear.
    """
    tasks = _tasks(_json(path), str(path))
    meant = _control(tasks, control, str(path))
    tasks = _still_there(tasks, sources, path)
    files = _files(tasks, strip, str(path))
    rows: dict[tuple[str, str, str], None] = {}
    for file, task in zip(files, tasks, strict=True):
        rows |= dict.fromkeys((file, who, name) for who, name in _said(task, meant))
    if annotator is not None:
        rows = _all_of(annotator, rows, path)
    nothing = {composed(name) for name in no_answer}
    none = {row for row in rows if not row[2] or composed(row[2]) in nothing}
    if unknown := nothing - {composed(name) for _, _, name in none}:
        say(f"{path}: nobody has chosen {listed(sorted(unknown))}, which --no-answer names")
    rows = {row: None for row in rows if row not in none}
    _check_no_blank({name for _, _, name in rows} - {*classes}, str(path))
    answered = {file for file, _, _ in rows}
    rows |= dict.fromkeys((file, "", "") for file in files if file not in answered)
    cancelled = sum(one.was_cancelled for task in tasks for one in task.annotations)
    ours = (_own_file(task.data) for task in tasks)
    return Answers(
        sorted(rows),
        cancelled,
        exact={_stripped(file, strip) for file in ours if file},
        retracted={(file, who) for file, who, _ in none} - {row[:2] for row in rows},
    )


def _all_of(
    annotator: str, rows: Iterable[tuple[str, str, str]], path: Path
) -> dict[tuple[str, str, str], None]:
    """The rows, as those of one person; who has only skipped images is none."""
    people = sorted({who for _, who, name in rows if name} or {who for _, who, _ in rows})
    if len(people) > 1:
        msg = f"{path}: --annotator {annotator}: has answers of several people ({listed(map(brief, people))}); leave it out"
        raise UserError(msg)
    if not annotator.strip():
        msg = "--annotator: is blank; name a person"
        raise UserError(msg)
    who = composed(annotator.strip())
    return {(file, who, name): None for file, other, name in rows if other in people}


def _check_no_blank(names: Iterable[str], shown: str) -> None:
    """Refuse what a table would be refused for, while its choices can still be told from classes."""
    if blank := [name for name in sorted(names) if name.casefold() in BLANKS]:
        msg = (
            f"{shown}: the choice {quoted(blank[0])} is a way to write a blank, and no class: "
            f"--no-answer {blank[0]} leaves such images without a label"
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
        or (isinstance(value, str) and not (_is_place(value) or (ours and key in OURS)))
    }
    result = [
        {"type": "choices", "from_name": key, "value": {"choices": names}}
        for key, names in choices.items()
    ]
    others = (value for key, value in data.items() if key not in choices)
    result += [{"type": "other"} for value in others if isinstance(value, list | dict)]
    said = {"completed_by": task.get("annotator"), "result": result}
    return {
        "data": {k: v for k, v in data.items() if k not in choices},
        "annotations": [said] if choices or "annotator" in task else [],
    }


def _still_there(tasks: list[Task], sources: Collection[str], path: Path) -> list[Task]:
    """Leave out tasks of label-next whose images were deleted since: an export goes on having them.

    Raises:
        UserError: Nothing is left.
    """
    files = [_own_file(task.data) for task in tasks]
    named = set(filter(None, files))
    gone = named.difference(sources) if sources else set()
    shown = listed(map(brief, sorted(gone)), 3)
    if gone and gone == named and all(files):
        msg = (
            f"{path}: the images that label-next has named ({shown}) are not those of data/labels.parquet, which is of other "
            "data, or they were deleted; set data.path to theirs, and `dvc repro ingest`"
        )
        raise UserError(msg)
    if gone:
        say(f"{path}: left out {len(gone)} images that are not in data.path any more ({shown})")
    return [task for task, file in zip(tasks, files, strict=True) if file not in gone]


def _control(tasks: Sequence[Task], wanted: str | None, shown: str) -> str:
    results = [one for task in tasks for said in task.annotations for one in said.result]
    names = sorted({one.from_name for one in results if one.type == "choices"})
    if wanted in names or (wanted is None and len(names) == 1):
        return wanted or names[0]
    if not results and any(task.annotations for task in tasks):
        return wanted or ""  # all were skipped, cancelled or emptied
    if not names:
        types = listed(sorted({brief(one.type) for one in results})) or "none at all"
        msg = f"{shown}: no answers of type choices (found {types}); this command imports classes only"
        raise UserError(msg)
    problem = f"no choices named {quoted(wanted)}" if wanted else "several choices"
    msg = f"{shown}: {problem}; say which are meant: --control {' | '.join(map(brief, names))}"
    raise UserError(msg)


def _said(task: Task, control: str) -> Iterator[tuple[str, str]]:
    """Give annotator and class of every answer; a blank class of one that was cancelled, skipped or emptied."""
    for annotation in task.annotations:
        who = composed(_annotator(annotation.completed_by))
        if annotation.was_cancelled:
            yield who, ""
            continue
        ours = [
            one for one in annotation.result if (one.type, one.from_name) == ("choices", control)
        ]
        names = {composed(name.strip()) for one in ours for name in one.value.choices} - {""}
        if not names and ours == annotation.result:  # else it answers another question
            names = {""}
        yield from ((who, name) for name in names)


def _annotator(who: int | str | Person | None) -> str:
    if isinstance(who, Person):
        # exports of one project have the number alone, or all of the person: a name must not depend on that
        who = who.email if who.id is None else who.id
    if isinstance(who, str) and who.strip():
        return who.strip()
    return f"annotator_{who}" if isinstance(who, int) else "unknown"


def _files(tasks: Sequence[Task], strip: str, shown: str) -> list[str]:
    """Name the image of every task, and see to it that two images keep two names."""
    urls = [_url(task, number, shown) for number, task in enumerate(tasks, start=1)]
    files = [_own_file(task.data) or _path(url) for task, url in zip(tasks, urls, strict=True)]
    if strip and files and not any(file.startswith(strip) for file in files):
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
    """Name the file of a task of label-next: it says so, or holds the image itself."""
    image, file = data.get("image"), data.get("file")
    embedded = isinstance(image, str) and image.startswith("data:")
    return file if isinstance(file, str) and (embedded or data.get("by") == BY) else None


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
