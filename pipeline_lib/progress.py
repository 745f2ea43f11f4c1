"""What a person sees while data move: a bar on a terminal, a plain line now and then elsewhere."""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from pipeline_lib.errors import harmless

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SECONDS_BETWEEN_LINES = 5.0


def say(line: str) -> None:
    """Print a line."""
    Console(highlight=False, soft_wrap=True).print(harmless(line), markup=False)


@contextlib.contextmanager
def progress(
    what: str, unit: str, total: int | None = None, quiet: bool = False
) -> Iterator[Callable[[int], None]]:
    """Yield `advance(count)`, to be called as work gets done.

    Args:
        what: what is going on, e.g. `reading`.
        unit: what is counted, e.g. `images`.
        total: how many there are, where that is known.
        quiet: show nothing: another process does.
    """
    console = Console(highlight=False, soft_wrap=True, quiet=quiet)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.completed:.0f} " + unit),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    done, started = 0, time.monotonic()
    last_line = started
    disabled = not console.is_terminal or console.is_dumb_terminal
    with Progress(*columns, console=console, disable=disabled, transient=True) as bar:
        task = bar.add_task(what, total=total)

        def advance(count: int) -> None:
            nonlocal done, last_line
            done += count
            bar.update(task, completed=done)
            now = time.monotonic()
            if bar.disable and now - last_line >= SECONDS_BETWEEN_LINES:
                last_line = now
                of = f" of {total}" if total else ""
                console.print(f"{what}: {done}{of} {unit}, {now - started:.0f} s", markup=False)

        yield advance
