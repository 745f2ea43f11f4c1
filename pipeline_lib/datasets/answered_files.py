"""Which row of a table is of a file that was answered, whatever folder is in front of the one or the other."""

from __future__ import annotations

import contextlib
import itertools
from typing import TYPE_CHECKING

from pipeline_lib.datasets.files.layout import Place
from pipeline_lib.datasets.files.names import Names, as_path
from pipeline_lib.datasets.files.sheet import brief
from pipeline_lib.errors import UserError, listed
from pipeline_lib.progress import say

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping, Sequence, Set
    from pathlib import Path


def rows_of(
    files: Set[str],
    exact: Set[str],
    rows: Mapping[str, object],
    path: Path,
    sources: Collection[str] = (),
) -> dict[str, str]:
    """Find the files of an export that a table names too, with another folder in front or none.

    Args:
        files: of the export.
        exact: those of them that are named by their path in data.path.
        rows: whose keys are the files of the table.
        path: of the table.
        sources: all images in data.path, by their path there. Without them, what is named exactly is only
            found where the table names it so.

    Returns:
        Names in the table by names in the export.

    Raises:
        UserError: A file may be several of the table, or several may be one.
    """
    found = {file: file for file in files if file in rows}
    # What is named alike is meant, and is not looked for further.
    found |= _matched(files, rows, found, lambda name: [as_path(name)], path)
    left = exact - found.keys()
    if left and sources:
        by_source = _rows_by_source(rows, sources)
        found |= {file: by_source[file] for file in left if file in by_source}
    ends = _matched(files - exact, rows, found, _ends, path)
    if ends:
        file, row = min(ends.items())
        more = f", and {len(ends) - 1} more likewise" if len(ends) > 1 else ""
        say(f"{path}: {brief(file)} of the export is taken for {brief(row)}{more}")
    return found | ends


def _rows_by_source(rows: Iterable[str], sources: Collection[str]) -> dict[str, str]:
    """Which row is of an image, by the rule of `ingest`; a folder may be in front of all rows."""
    rows = list(rows)
    places = [Place(source, source, None, None) for source in sources]
    best: dict[str, str] = {}
    for folder in ["", *_folders_of_all(list(map(as_path, rows)))]:
        names = Names(places, folder)
        found: dict[str, str] = {}
        for row in rows:
            with contextlib.suppress(UserError):  # which `ingest` says
                found.setdefault(names.find(row, ""), row)
        best = max(best, found, key=len)
    return best


def _folders_of_all(names: Sequence[str]) -> list[str]:
    """The folders in which all files lie, the outermost first."""
    parts = [name.split("/")[:-1] for name in names]
    common = list(itertools.takewhile(lambda part: len(set(part)) == 1, zip(*parts, strict=False)))
    return ["/".join(part[0] for part in common[: depth + 1]) for depth in range(len(common))]


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
