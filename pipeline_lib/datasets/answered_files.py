"""Which row of a table is of a file that was answered, whatever folder is in front of the one or the other."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

from pipeline_lib.datasets.files.names import as_path
from pipeline_lib.datasets.files.sheet import brief
from pipeline_lib.datasets.progress import say
from pipeline_lib.errors import UserError, listed

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping, Sequence, Set
    from pathlib import Path


def rows_of(
    files: Set[str], exact: Set[str], rows: Mapping[str, object], path: Path
) -> dict[str, str]:
    """Find the files of an export that a table names too, with another folder in front or none.

    Args:
        files: of the export.
        exact: those of them that are named by their path in data.path.
        rows: whose keys are the files of the table.
        path: of the table.

    Returns:
        Names in the table by names in the export.

    Raises:
        UserError: A file may be several of the table, or several may be one.
    """
    found = {file: file for file in files if file in rows}
    # What is named alike is meant, and is not looked for further.
    found |= _matched(files, rows, found, lambda name: [as_path(name)], path)
    ends = _enclosed(exact - found.keys(), exact, rows, path)
    ends |= _matched(files - exact, rows, found | ends, _ends, path)
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
