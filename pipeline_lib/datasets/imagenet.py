"""ImageNet, ILSVRC 2012: photographs of 1,000 classes, 1,281,167 to train; its 50,000 validation images test.

They are not offered for download without an account, so `data.path` says where they are: a folder or an
archive of `train/<wnid>/` and `val/<wnid>/`, or a folder of the official archives. Russakovsky et al. (2015),
ImageNet Large Scale Visual Recognition Challenge.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipeline_lib.artifacts import publish_json, read_json, verify
from pipeline_lib.datasets.files import archives, fetch, official, user_table
from pipeline_lib.datasets.files.layout import arrange, is_clutter, is_image
from pipeline_lib.errors import UserError
from pipeline_lib.own_data import reading_snapshot, resolve

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from pipeline_lib.datasets.files.forms import Supervision
    from pipeline_lib.datasets.files.layout import Place
    from pipeline_lib.params.sections import Data
    from pipeline_lib.records import Row

POLICY = "natural"
CHANNELS = "rgb"
ARCHIVE = "images.archive"
OFFICIAL = "official.json"


def download(data: Data, raw: Path) -> None:
    """Take a snapshot of the folder or archive; of the official archives, of their sha256 alone.

    Those are 150 GB, their terms forbid to pass them on, and nobody changes them: they stay where they are,
    and are compared before they are read.

    Raises:
        UserError: Something is not there, not readable, not an archive, or not what its sha256 says.
    """
    shown = data.path or ""
    if not shown.startswith("https://") and (resolve(shown) / official.TRAIN).exists():
        if data.sha256:
            msg = f"data.sha256: {shown} is a folder, which has none; set it to null"
            raise UserError(msg)
        publish_json(raw / OFFICIAL, official.describe(resolve(shown), shown))
    else:
        fetch.take(data, raw / ARCHIVE)
    user_table.take(data, raw)


def read(raw: Path, data: Data) -> Iterator[Row]:
    """Give the images by split, class and name: the same rows, whatever they come in.

    Raises:
        UserError: An archive or the table has a mistake (said before the first image is given).
    """
    yield from (_official if (raw / OFFICIAL).exists() else _folders)(raw, data)


def _official(raw: Path, data: Data) -> Iterator[Row]:
    shown = data.path or ""
    folder = resolve(shown)
    official.verify(folder, read_json(raw / OFFICIAL), shown)
    with reading_snapshot(data):
        places = (image.place for image in official.images(folder, shown))
        given = user_table.read(raw, data, places)
        for image in official.images(folder, shown):
            yield _row(image.place, image.read(), given)


def _folders(raw: Path, data: Data) -> Iterator[Row]:
    shown = data.path or ""
    verify(raw / ARCHIVE)
    with reading_snapshot(data), archives.open_archive(raw / ARCHIVE, shown) as archive:
        names = (name for name in archive.names if is_image(name) and not is_clutter(name))
        places = arrange(names, shown)
        stray = next(
            (p for p in places if p.label is None or p.split not in {"train", "val"}), None
        )
        if stray:
            msg = f"{shown}: {stray.source}: arrange ImageNet as train/<wnid>/<file> and val/<wnid>/<file>"
            raise UserError(msg)
        given = user_table.read(raw, data, places)
        for place in places:
            yield _row(place, archive.read(place.member), given)


def _row(place: Place, image: bytes, given: dict[str, Supervision]) -> Row:
    said = given.get(place.source)
    return user_table.supervised(place, image, said, "train" if place.split == "train" else "test")
