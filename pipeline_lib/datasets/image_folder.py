"""The user's own images: a folder or an archive, and an optional table of labels.

Folders are classes, unless a table has others. For a file that the table lists, the table is the supervision,
and the class of its folder, else the table's `true_label`, is kept to measure with. A file that the table does not
list keeps the class of its folder.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipeline_lib.artifacts import verify
from pipeline_lib.datasets.files import archives, fetch, user_table
from pipeline_lib.datasets.files.class_names import plain
from pipeline_lib.datasets.files.layout import (
    arrange,
    check_folders,
    endings,
    is_clutter,
    is_image,
    is_unlabeled,
    split_of,
)
from pipeline_lib.datasets.files.sheet import brief, quoted
from pipeline_lib.errors import UserError, listed
from pipeline_lib.own_data import reading_snapshot
from pipeline_lib.progress import say

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from pipeline_lib.datasets.files.forms import Supervision
    from pipeline_lib.datasets.files.layout import Place
    from pipeline_lib.params.sections import Data
    from pipeline_lib.records import Row

POLICY = "natural"
CHANNELS = "rgb"
ARCHIVE = "images.archive"


def download(data: Data, raw: Path) -> None:
    """Take a snapshot: the folder as one tar, or the archive as it is, and the table.

    Raises:
        UserError: Something is not there, not readable, not an archive, or not what its sha256 says.
    """
    fetch.take(data, raw / ARCHIVE)
    user_table.take(data, raw)


def read(raw: Path, data: Data) -> Iterator[Row]:
    """Give the images sorted by name, whatever the order in the archive.

    Raises:
        UserError: The archive or the table has a mistake (said before the first image is given).
    """
    shown = data.path or ""
    verify(raw / ARCHIVE)
    with reading_snapshot(data), archives.open_archive(raw / ARCHIVE, shown) as archive:
        names = [name for name in archive.names if not is_clutter(name)]
        places = user_table.classed(raw, data, arrange(filter(is_image, names), shown))
        check_folders((name for name in archive.folders if not is_clutter(name)), places)
        if others := [name for name in names if not is_image(name)]:
            say(
                f"{shown}: ignored {len(others)} files that are no images we read ({endings(others)})"
            )
        given = user_table.read(raw, data, places)
        if not data.table:
            _check_classes(places, shown)
        _tell_of_parts(places, shown)
        _tell_of_alike(places, shown)
        _tell_of_strays(places, given, shown)
        for place in places:
            image = archive.read(place.member)
            yield user_table.supervised(place, image, given.get(place.source), place.split)


def _check_classes(places: Sequence[Place], shown: str) -> None:
    """Refuse folders that name no two classes."""
    classes = {place.label for place in places if place.label is not None}
    if len(classes) > 1:
        return
    found = "no folders name classes"
    if classes:
        found = f"only one folder names a class ({brief(min(classes))})"
    elif places[0].member != places[0].source:
        found = f"all images lie in one folder ({brief(places[0].member.split('/')[0])})"
    msg = f"{shown}: {found}; use <class>/<file> with two classes or more, or give labels in data.table"
    raise UserError(msg)


def _tell_of_parts(places: Sequence[Place], shown: str) -> None:
    """Mention folders that are named like parts of the data, and are classes as others beside them."""
    classes = {place.label for place in places if place.label is not None}
    parts = sorted(filter(split_of, classes))
    if parts and len(parts) < len(classes):
        say(
            f"warning: {shown}: {listed(map(brief, parts))}: taken for a class, like the folders beside it; for parts of the "
            f"data arrange all as <split>/<class>/<file>"
        )


def _tell_of_alike(places: Sequence[Place], shown: str) -> None:
    """Mention folders Cat and cat: two classes, as some systems allow, or one that was written in two ways."""
    spellings: dict[str, list[str]] = {}
    for name in sorted({place.label for place in places if place.label is not None}):
        spellings.setdefault(plain(name), []).append(name)
    alike = [" and ".join(map(quoted, names)) for names in spellings.values() if len(names) > 1]
    if alike:
        say(
            f"warning: {shown}: {listed(alike, 3)} are classes of their own, by folders that differ in capitals, "
            f"spaces or invisible characters only; put the files into one folder if one class is meant"
        )


def _tell_of_strays(places: Sequence[Place], given: Mapping[str, Supervision], shown: str) -> None:
    """Mention images without a class beside those with one: they change what the default settings do."""
    if not any(place.label for place in places):
        return
    # Test images without a class are left out, and `split` says so.
    silent = [p for p in places if p.label is None and p.source not in given and p.split != "test"]
    strays = [brief(p.source) for p in silent if not any(map(is_unlabeled, p.source.split("/")))]
    if len(strays) < len(silent):
        say(
            f"{shown}: {len(silent) - len(strays)} images in a folder `unlabeled` have no class: "
            f"split.protocol auto means given"
        )
    if strays:
        say(
            f"{shown}: {len(strays)} images lie in no class folder ({listed(strays, limit=3)}): they are "
            f"unlabeled, and split.protocol auto means given; move them if that is not meant"
        )
