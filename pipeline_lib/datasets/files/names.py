"""Which image a name in a table means."""

from __future__ import annotations

import re
from functools import cached_property
from typing import TYPE_CHECKING

from pipeline_lib.datasets.files.layout import composed
from pipeline_lib.datasets.files.sheet import quoted
from pipeline_lib.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pipeline_lib.datasets.files.layout import Place
    from pipeline_lib.datasets.files.sheet import Cell


class NoSuchImageError(UserError):
    """A name of a table is of no image."""


class Names:
    """Finds images by their path, or by its last part where a single image has it.

    A path may begin with the enclosing folder, which `Place.source` leaves out. An accent is the same whether
    it is a character of its own, as in folders of a Mac, or part of its letter.
    """

    def __init__(self, places: Sequence[Place], folder: str = "") -> None:
        """Take the images; `folder` encloses them where none does in an archive."""
        self._places = places
        self._sources = {place.source: place.source for place in places}
        for name, source in list(self._sources.items()):
            self._sources.setdefault(composed(name), source)
        renamed = [place for place in places if place.member != place.source]
        if renamed and not renamed[0].member.endswith(f"/{renamed[0].source}"):
            self._sources |= {
                place.member: place.source for place in renamed
            }  # of official archives
        elif renamed:
            folder = renamed[0].member.split("/")[0]
        self._enclosing = f"{composed(folder)}/" if folder else ""

    @cached_property
    def _tails(self) -> tuple[dict[str, str], dict[str, str]]:
        """Map the last part of each path to the first image that has it, and to a second one."""
        first: dict[str, str] = {}
        second: dict[str, str] = {}
        for place in self._places:
            tail = composed(place.source.rsplit("/", 1)[-1])
            if first.setdefault(tail, place.source) != place.source:
                second.setdefault(tail, place.source)
        return first, second

    def find(self, cell: Cell, where: str) -> str:
        """Give the `Place.source` of the image that a table names.

        Raises:
            UserError: More than one image has this name, or none (`NoSuchImageError`).
        """
        name = cell if isinstance(cell, str) and cell in self._sources else self._path(cell, where)
        return self._within(name, cell, where) or self._by_tail(name, cell, where)

    def lacks(self, cell: Cell) -> bool:
        """Whether no image has this name."""
        try:
            self.find(cell, "")
        except UserError as error:
            return isinstance(error, NoSuchImageError)
        return False

    def _path(self, cell: Cell, where: str) -> str:
        if not cell or not isinstance(cell, str):
            msg = f"{where}: no file name; remove the row or name its file"
            raise UserError(msg)
        name = as_path(cell)
        if name.startswith("/") or name[1:3] == ":/" or ".." in name.split("/"):
            msg = (
                f"{where}: {quoted(cell)}: name files by their path inside data.path, "
                f"as in {quoted(self._example)}"
            )
            raise UserError(msg)
        return name

    def _within(self, name: str, cell: Cell, where: str) -> str | None:
        """Find a path as it is, or below the enclosing folder; nobody can tell which where both are there."""
        found = self._sources.get(name)
        if self._enclosing and name.startswith(self._enclosing):
            below = self._sources.get(name.removeprefix(self._enclosing))
            if found and below:
                raise self._several(cell, where, found, below)
            return found or below
        return found

    def _several(self, cell: Cell, where: str, first: str, second: str) -> UserError:
        return UserError(
            f"{where}: {quoted(cell)} is the name of several images ({first}, {second}); "
            f"write its folder too"
        )

    def _by_tail(self, name: str, cell: Cell, where: str) -> str:
        first, second = self._tails
        tail = name.rsplit("/", 1)[-1]
        if name not in first:
            hint = f"names are like {self._example}"
            if tail in first:
                hint = f"did you mean {first[tail]}?"
            elif uploaded := self._uploaded_as(tail):
                hint = f"is {quoted(uploaded)} meant? Label Studio renames files (spaces become _); correct the name"
            msg = f"{where}: {quoted(cell)} is not one of the images in data.path; {hint}"
            raise NoSuchImageError(msg)
        if name in second:
            raise self._several(cell, where, first[name], second[name])
        return first[name]

    def _uploaded_as(self, tail: str) -> str | None:
        """Find the only image that has this name once it was uploaded to Label Studio."""
        found = self._uploads.get(tail, ())
        return found[0] if len(found) == 1 else None

    @cached_property
    def _uploads(self) -> dict[str, list[str]]:
        found: dict[str, list[str]] = {}
        for place in self._places:
            name = place.source.rsplit("/", 1)[-1]
            found.setdefault(composed(_as_uploaded(name)), []).append(name)
        return found

    @property
    def _example(self) -> str:
        return next(iter(self._sources))


def as_path(cell: str) -> str:
    """Write a path with slashes, without a dot in front, and with accents as part of their letters."""
    return composed(cell.replace("\\", "/").removeprefix("./"))


def _as_uploaded(name: str) -> str:
    """Write a name as Label Studio stores it: by Django's `get_valid_filename` (django.utils.text)."""
    return re.sub(r"[^-\w.]", "", name.strip().replace(" ", "_"))
