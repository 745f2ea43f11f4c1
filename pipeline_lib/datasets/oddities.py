"""Images that may be of no use, counted for a person while they go by."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipeline_lib.datasets.decoding import ODDITIES
from pipeline_lib.datasets.files.sheet import brief

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


class Oddities:
    """What was odd about images so far: how many, and the first of them."""

    def __init__(self) -> None:
        self._found: dict[str, tuple[int, str]] = {}

    def add(self, odd: Mapping[str, Sequence[int]], names: Sequence[str]) -> None:
        """Count those of a chunk.

        Args:
            odd: positions in the chunk, by what is odd (see `decoding.Decoded`).
            names: what the user calls the images of the chunk.
        """
        for what, positions in odd.items():
            count, first = self._found.get(what, (0, names[positions[0]]))
            self._found[what] = (count + len(positions), first)

    def warning(self) -> str | None:
        """Say all of it in one line; None where nothing was odd."""
        found = ((what, *self._found[what]) for what in ODDITIES if what in self._found)
        parts = [f"{count} {what} ({brief(first, 200)})" for what, count, first in found]
        return f"images that may be of no use: {', '.join(parts)}" if parts else None
