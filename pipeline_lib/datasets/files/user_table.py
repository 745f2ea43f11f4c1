"""The table beside the user's images: in the snapshot, and what it says of each image."""

from __future__ import annotations

from dataclasses import replace
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from pipeline_lib.artifacts import publish, verify
from pipeline_lib.datasets.files import fetch
from pipeline_lib.datasets.files.class_names import names_none_of
from pipeline_lib.datasets.files.forms import Supervision
from pipeline_lib.datasets.files.layout import split_of
from pipeline_lib.datasets.files.sheet import brief
from pipeline_lib.datasets.files.supervision import read_supervision
from pipeline_lib.errors import listed
from pipeline_lib.own_data import resolve
from pipeline_lib.progress import say
from pipeline_lib.records import Row

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path
    from typing import Literal

    from pipeline_lib.datasets.files.layout import Place
    from pipeline_lib.params.sections import Data

TABLE = "table"


def take(data: Data, raw: Path) -> None:
    """Copy the table into the snapshot, if there is one.

    Raises:
        UserError: It is not there, or not readable.
    """
    if data.table:
        with publish(raw / TABLE) as temporary:
            fetch.copy(resolve(data.table), temporary, data.table)


def classed(raw: Path, data: Data, places: list[Place]) -> list[Place]:
    """Take their class from images whose folders are no classes of the table, and say so: these only hold files.

    One of them that is called `test` then is for testing, as it would be without folders beside it.

    Raises:
        UserError: It is no table.
    """
    folders = {place.label for place in places if place.label is not None}
    if not (data.table and folders):
        return places
    verify(raw / TABLE)
    if not names_none_of(raw / TABLE, data.table, folders):
        return places
    found = listed(map(brief, sorted(folders)))
    parts = listed(map(brief, sorted(filter(split_of, folders))))
    say(
        f"{data.path}: the folders {found} are no classes of {data.table}: only the table says what an image is"
        f"{f'; as parts are taken: {parts}' if parts else ''}"
    )
    return [
        replace(place, label=None, split=place.split or split_of(place.label or ""))
        for place in places
    ]


def read(raw: Path, data: Data, places: Iterable[Place]) -> dict[str, Supervision]:
    """Give what the table says, by `Place.source`: nothing where there is none.

    Raises:
        UserError: The table has a mistake.
    """
    if not data.table:
        return {}
    verify(raw / TABLE)
    folder = PurePosixPath(data.path or "").name
    return read_supervision(raw / TABLE, data.table, list(places), folder)


def supervised(
    place: Place,
    image: bytes,
    said: Supervision | None,
    split: Literal["train", "val", "test"] | None,
) -> Row:
    """Take the supervision from the table, else from the folder, and the truth from the folder, else the table."""
    given = said or Supervision(label=place.label)
    return Row(
        source_id=place.source,
        image=image,
        label=given.label,
        candidates=given.candidates,
        annotations=given.annotations,
        true_label=place.label or given.true_label,
        split=split,
    )
