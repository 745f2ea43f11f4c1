"""The user's own images in Parquet files, as the Hugging Face Hub keeps them.

A column `label` is what training sees, and what is measured with. With a column `candidates`, that is
what training sees, and `label` is for measuring only.
"""

from __future__ import annotations

import re
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Literal
from urllib.parse import urlsplit

from pipeline_lib.artifacts import publish, verify
from pipeline_lib.datasets.files import fetch
from pipeline_lib.datasets.files.forms import split_candidates
from pipeline_lib.datasets.files.layout import SPLITS, composed, is_clutter, is_unlabeled
from pipeline_lib.datasets.files.shards import Columns, Said, open_shard, read_rows, read_said
from pipeline_lib.datasets.files.sheet import brief, quoted
from pipeline_lib.errors import UserError, listed
from pipeline_lib.own_data import reading_snapshot, resolve
from pipeline_lib.progress import progress, say
from pipeline_lib.records import Row

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from pipeline_lib.params.sections import Data

POLICY = "natural"
CHANNELS = "rgb"
ENDING = ".parquet"
NOTHING = (None, -1, "")


def download(data: Data, raw: Path) -> None:
    """Take a snapshot: copy the Parquet file, or all of them in a folder.

    Raises:
        UserError: Something is not there, not Parquet, has no clear columns, or is not what its sha256 says.
    """
    shown = data.path or ""
    files = sources(data)
    with progress("copying", "files", len(files)) as advance:
        for name, source in files.items():
            label = shown if len(files) == 1 else name
            with publish(raw / name) as temporary:
                if isinstance(source, str):
                    fetch.fetch(source, data.sha256 or "", temporary, raw)
                else:
                    fetch.copy(source, temporary, label)
                if data.sha256:
                    fetch.check_sha256(temporary, data.sha256, shown)
                with open_shard(temporary, label):
                    pass
            advance(1)


def read(raw: Path, data: Data) -> Iterator[Row]:
    """Give the images in the order of the files' names, then of their rows.

    Raises:
        UserError: A file has a mistake (one in a label is said before the first image is given).
    """
    shards = {path.relative_to(raw).as_posix(): path for path in raw.rglob(f"*{ENDING}")}
    names = sorted(shards)
    for name in names:
        verify(shards[name])
    with reading_snapshot(data):
        _check(shards, names)
        for name in names:
            split = _split(name)
            with open_shard(shards[name], name) as (file, columns):
                for number, (image, label, candidates) in enumerate(read_rows(file, columns, name)):
                    source = f"{name}:{number}"
                    yield _row(source, image, label, candidates, columns, split)


def sources(data: Data) -> dict[str, Path | str]:
    """Name each file as in the snapshot, and say where it comes from.

    Raises:
        UserError: A folder holds none, or is given a sha256.
    """
    shown = data.path or ""
    if shown.startswith("https://"):
        name = PurePosixPath(urlsplit(shown).path).name
        return {name if name.endswith(ENDING) else f"images{ENDING}": shown}
    place = resolve(shown)
    if not place.is_dir():
        return {place.name if place.name.endswith(ENDING) else f"images{ENDING}": place}
    if data.sha256:
        msg = f"data.sha256: {shown} is a folder, which has none; set it to null"
        raise UserError(msg)
    found = {path.relative_to(place).as_posix(): path for path in place.rglob(f"*{ENDING}")}
    # Links to files are followed: the Hub's own cache consists of them, and only Parquet is taken.
    files: dict[str, Path | str] = {n: found[n] for n in sorted(found) if not is_clutter(n)}
    if not files:
        msg = f"{shown}: holds no file that ends in {ENDING}; for folders of images use data.name: image_folder"
        raise UserError(msg)
    return files


def _check(shards: dict[str, Path], names: list[str]) -> None:
    """Read every label once, so that a mistake shows before images are decoded."""
    empty: list[str] = []
    ignored: set[str] = set()
    forms: dict[str, str] = {}
    declared: dict[str, None] = {}
    seen: set[str | None] = set()
    for name in names:
        with open_shard(shards[name], name) as (file, columns):
            ignored.update(columns.ignored)
            for told in columns.names.values():
                declared |= dict.fromkeys(name for name in told if not is_unlabeled(name))
            for number, (label, candidates) in enumerate(read_said(file, columns, name)):
                _note_form(label, columns.label, columns, name, forms)
                _note_form(candidates, columns.candidates, columns, name, forms)
                row = _row(f"{name}:{number}", b"", label, candidates, columns, None)
                seen |= {row.true_label, *(row.candidates or ())}
                if row.candidates == ():
                    empty.append(row.source_id)
    if empty:
        msg = (
            f"{len(empty)} rows with an empty candidate set ({listed(empty)}); "
            "name all classes there, or write null, if nothing is known"
        )
        raise UserError(msg)
    if len(forms) > 1:
        places = " and ".join(f"{form} in {place}" for form, place in sorted(forms.items()))
        msg = f"classes are {places}; write the names of the classes everywhere"
        raise UserError(msg)
    if ignored:
        say(f"ignored the columns {listed(map(brief, sorted(ignored)))}")
    if absent := [brief(name) for name in declared if name not in seen]:
        say(f"warning: declared classes without an image are left out: {listed(absent)}")


def _note_form(
    said: Said, column: str | None, columns: Columns, name: str, forms: dict[str, str]
) -> None:
    """Note where classes are numbers that nothing names, and where they have names."""
    one = next(iter(said), None) if isinstance(said, list) else said
    if column and one not in NOTHING:
        bare = isinstance(one, int) and column not in columns.names
        forms.setdefault("numbers" if bare else "names", f"{name}: column {brief(column)}")


def _row(
    source: str,
    image: bytes,
    label: Said,
    candidates: Said,
    columns: Columns,
    split: Literal["train", "val", "test"] | None,
) -> Row:
    truth = _class(label, columns.names.get(columns.label or ""), source, "label")
    if columns.candidates is None:
        return Row(source, image, label=truth, true_label=truth, split=split)
    names = columns.names.get(columns.candidates)
    chosen = _candidates(candidates, names, source)
    return Row(source, image, candidates=chosen, true_label=truth, split=split)


def _candidates(said: Said, names: tuple[str, ...] | None, source: str) -> tuple[str, ...] | None:
    if said is None:
        return None
    several = (
        split_candidates(said, f"{source}: column candidates") if isinstance(said, str) else said
    )
    chosen = [
        _class(one, names, source, "candidates")
        for one in ([several] if isinstance(several, int) else several)
    ]
    if chosen == [None]:
        return None
    if None in chosen:
        msg = f"{source}: column candidates: {quoted(said)}: a hole between the classes; remove it"
        raise UserError(msg)
    return tuple(dict.fromkeys(name for name in chosen if name is not None))


def _class(said: Said, names: tuple[str, ...] | None, source: str, column: str) -> str | None:
    """Name the class that a number or a text stands for; None for nothing."""
    if said in NOTHING:
        return None
    if isinstance(said, int):
        if said < 0 or (names is not None and said >= len(names)):
            allowed = f"0 to {len(names) - 1}" if names is not None else "0 and above"
            msg = f"{source}: column {column}: {said} is not a class; they are {allowed}, -1 is unlabeled"
            raise UserError(msg)
        name = str(said) if names is None else names[said]
    elif not isinstance(said, str) or said != said.strip():
        msg = f"{source}: column {column}: {quoted(said)} begins or ends with a space; remove it"
        raise UserError(msg)
    else:
        name = composed(said)
    return None if is_unlabeled(name) else name


def _split(name: str) -> Literal["train", "val", "test"] | None:
    """Read the split off a name like `data/train-00000-of-00002.parquet`, `test/0000.parquet`, `x_test.parquet`."""
    path = PurePosixPath(name.lower())
    words = [*path.parts[:-1], *re.split(r"[-_. ]", path.stem)]
    return next((SPLITS[word] for word in words if word in SPLITS), None)
