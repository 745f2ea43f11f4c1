"""The one exception that a user is meant to read."""

from __future__ import annotations

import difflib
import re
from typing import TYPE_CHECKING
from unicodedata import category

if TYPE_CHECKING:
    from collections.abc import Iterable


JOINERS = "\N{ZERO WIDTH JOINER}\N{ZERO WIDTH NON-JOINER}"  # within Persian words, and emoji


class UserError(Exception):
    """A mistake in the user's input or surroundings: what, where, and what to do, in one line.

    Every stage prints it without a traceback and exits with code 1.
    """

    exit_code = 1


class LabelsError(UserError):
    """A mistake in the user's own images and labels as a whole, which only their snapshot shows."""


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
    return "".join(c if is_shown(c) else "\N{REPLACEMENT CHARACTER}" for c in words[:limit])


def harmless(text: str) -> str:
    """Lines of text without what moves a terminal: names of files and classes come from anybody."""
    return "".join(
        c if is_shown(c) or c == "\n" or category(c) == "Zs" else "\N{REPLACEMENT CHARACTER}"
        for c in text
    )


def is_shown(letter: str) -> bool:
    """Whether a letter is shown as it is: it is printable, or joins others."""
    return letter.isprintable() or letter in JOINERS


def without_secrets(text: str) -> str:
    """Addresses without who logs in, by what password, token or signature: a log may be shown to anybody."""
    return re.sub(r"(https?://[^\s?]*)\?[^\s;,)]*", r"\1?...", re.sub(r"//[^/\s]*@", "//", text))


def closest(given: str, names: Iterable[str], most: int = 1) -> list[str]:
    """The names that one may stand for, whatever its capitals: mistyped, or else a part of them, or with one in it."""
    plain = {name.casefold(): name for name in names}
    written = given.casefold()
    most_slips = max(2, len(written) // 5)  # three in the long names of recipes
    mistyped = [name for name in plain if _slips(written, name, most_slips) <= most_slips]
    close = difflib.get_close_matches(written, mistyped, most, 0.5)  # `nb` is half of `bn`
    if not close and len(written) > 2:
        close = [name for name in plain if written in name][:most]
    if not close:
        close = [name for name in plain if name in written and 2 * len(name) >= len(written)][:most]
    return [plain[name] for name in close]


def _slips(written: str, meant: str, most: int) -> int:
    """How many letters are lost, added, replaced, or swapped with the next, if it can be at `most` so many."""
    if abs(len(written) - len(meant)) > most:
        return most + 1
    before, above = [0], list(range(len(meant) + 1))
    for i, letter in enumerate(written, 1):
        row = [i]
        for j, other in enumerate(meant, 1):
            row.append(min(above[j] + 1, row[-1] + 1, above[j - 1] + (letter != other)))
            if i > 1 and j > 1 and (letter, other) == (meant[j - 2], written[i - 2]):
                row[j] = min(row[j], before[j - 2] + 1)
        before, above = above, row
    return above[-1]


def did_you_mean(given: str, names: Iterable[str], most: int = 1) -> str:
    """The question that ends a message, with a space before; nothing if no name is like the given one."""
    close = closest(given, names, most)
    return f" (did you mean {' or '.join(map(repr, close))}?)" if close else ""
