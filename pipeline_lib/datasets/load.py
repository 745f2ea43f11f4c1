"""What a dataset module offers, and how it is found: by its name."""

from __future__ import annotations

import importlib
import shutil
from typing import TYPE_CHECKING, Literal, Protocol, cast

from pipeline_lib.artifacts import TEMPORARY_PREFIX, refuse_strangers
from pipeline_lib.errors import UserError
from pipeline_lib.own_data import resolve

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from pipeline_lib.params.sections import Data
    from pipeline_lib.records import Row


class Dataset(Protocol):
    """A module of this package.

    Attributes:
        POLICY: what kind of pictures these are; `auto` augmentation follows from it.
        CHANNELS: what `data.channels: auto` means for them.
        SUPERCLASSES: classes by superclass, in modules whose classes have such; it is looked up by name.
    """

    POLICY: Literal["digits", "natural", "characters", "numbers"]
    CHANNELS: Literal["rgb", "gray"]

    def download(self, data: Data, raw: Path) -> None:
        """Bring everything that `read` needs to the folder `raw`."""

    def read(self, raw: Path, data: Data) -> Iterator[Row]:
        """Verify `raw`, then give every image with what is said of its class, in a fixed order."""


def load_dataset(name: str) -> Dataset:
    """Import the module of `data.name`."""
    return cast("Dataset", importlib.import_module(f"pipeline_lib.datasets.{name}"))


def snapshot(data: Data, raw: Path) -> None:
    """Let the dataset `data.name` fill the folder `raw` anew; an older one stays if that fails.

    Raises:
        UserError: `raw` holds files that no download has put there, or is to be a snapshot of itself; or see the
            dataset's `download`.
    """
    refuse_strangers(raw)
    for key in ("path", "table"):
        given = getattr(data, key)
        if given and raw.resolve() in (inside := resolve(given).resolve(), *inside.parents):
            msg = f"data.{key}: {given}: {raw} is replaced by a snapshot of it; move your files elsewhere"
            raise UserError(msg)
    fresh = raw.with_name(TEMPORARY_PREFIX + raw.name)
    shutil.rmtree(fresh, ignore_errors=True)
    try:
        load_dataset(data.name).download(data, fresh)
        if raw.is_symlink():
            raw.unlink()
        elif raw.exists():
            shutil.rmtree(raw)
        fresh.rename(raw)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
