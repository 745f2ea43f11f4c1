"""Numbers and tables as docs/explanation/scale.md shows them, and the sizes that it is about."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

IMAGES, CLASSES, GPUS = (1_000_000, 100_000_000), (1000, 21_000), (1, 2, 4, 8, 16, 32, 64)


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Markdown."""
    return [
        "| " + " | ".join(head) + " |",
        "|" + "---|" * len(head),
        *("| " + " | ".join(row) + " |" for row in rows),
    ]


def amount(number: float) -> str:
    """Three digits, with commas."""
    if not number:
        return "0"
    if number >= 100:
        return f"{round(number, 3 - len(str(int(number)))):,.0f}"
    return f"{number:.3g}" if number >= 0.001 else f"{number:.1e}"


def size(number: float) -> str:
    """Bytes in a unit that suits them; of 1,000 as on disks."""
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if number < 1000:
            return f"{number:.3g} {unit}"
        number /= 1000
    return f"{number:.3g} PB"


def count(number: float) -> str:
    """Images."""
    for unit, step in ((" M", 1e6), (" k", 1e3)):
        if number >= step:
            return f"{amount(number / step)}{unit}"
    return f"{number:.0f}"
