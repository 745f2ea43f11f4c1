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


class Log(Console):
    """Where work says how it goes. It goes on where nobody can read that any more."""

    def __init__(self, *, quiet: bool = False) -> None:
        super().__init__(highlight=False, soft_wrap=True, quiet=quiet)

    def tell(self, line: str) -> None:
        """Print it, if that is possible: a disk may be full, a terminal gone."""
        with contextlib.suppress(OSError):
            self.print(line, markup=False)

    def on_broken_pipe(self) -> None:
        """Let what follows go nowhere, and do not exit."""
        with contextlib.suppress(SystemExit):
            super().on_broken_pipe()


def say(line: str) -> None:
    """Print a line."""
    Log().tell(harmless(line))


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
    console = Log(quiet=quiet)
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
                console.tell(f"{what}: {done}{of} {unit}, {now - started:.0f} s")

        yield advance
