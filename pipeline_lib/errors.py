"""The one exception that a user is meant to read."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable


class UserError(Exception):
    """A mistake in the user's input or surroundings: what, where, and what to do, in one line.

    Every stage prints it without a traceback and exits with code 1.
    """

    exit_code = 1


class InterruptedRunError(UserError):
    """The run was told to end by a signal, and says how to go on.

    Args:
        message: as of every UserError.
        number: of the signal; the exit code is the one that shells give to a process it ended.
    """

    def __init__(self, message: str, number: int) -> None:
        super().__init__(message)
        self.exit_code = 128 + number


def listed(items: Iterable[object], limit: int = 10) -> str:
    """Join `items` with commas, at most `limit` of them, and say how many were left out."""
    texts = [str(item) for item in items]
    shown = ", ".join(texts[:limit])
    return shown if len(texts) <= limit else f"{shown} and {len(texts) - limit} more"


def in_one_line(text: object, limit: int = 200) -> str:
    """What a file or a library said, fit for a message: cut to `limit`, and nothing that moves a terminal."""
    words = " ".join(str(text).split())
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in words[:limit])
