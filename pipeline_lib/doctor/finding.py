"""What a check has to say."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

KIB = 1024


@dataclass(frozen=True)
class Finding:
    """Something that is not as it should be.

    Attributes:
        where: the file, process or setting.
        what: is wrong with it.
        todo: what to do about it; empty where the rest says so.
        repair: does it, and says what it did. None where a person has to decide.
        problem: False for what may be meant so.
    """

    where: str
    what: str
    todo: str
    repair: Callable[[], str] | None = None
    problem: bool = True

    def __str__(self) -> str:
        return "; ".join(filter(None, (f"{self.where}: {self.what}", self.todo)))


@dataclass(frozen=True)
class Checked:
    """An area that was looked at.

    Attributes:
        summary: what was looked at, in one line.
        findings: what is not as it should be.
    """

    summary: str
    findings: tuple[Finding, ...] = ()


def human(size: float) -> str:
    """`size` bytes for people."""
    for unit in ("bytes", "KiB", "MiB"):
        if size < KIB:
            return f"{size:.3g} {unit}" if unit != "bytes" else f"{size:.0f} bytes"
        size /= KIB
    return f"{size:.1f} GiB"


def counted(number: int, one: str, many: str | None = None) -> str:
    """As `1 file` or `2 files`."""
    return f"{number} {one if number == 1 else many or one + 's'}"
