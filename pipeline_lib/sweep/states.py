"""What is known of every job, and how it is shown."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Literal, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from rich.table import Table

State = Literal["waiting", "running", "retried", "done", "failed"]
COLOURS = {
    "waiting": "dim",
    "running": "cyan",
    "retried": "yellow",
    "done": "green",
    "failed": "red",
}
ENDED = ("done", "failed")


class Change(NamedTuple):
    """What an engine says of a job."""

    name: str
    state: State
    node: str = ""
    why: str = ""


class Row(NamedTuple):
    """Of the table of jobs."""

    name: str
    state: State = "waiting"
    node: str = ""
    why: str = ""
    retries: int = 0
    since: float | None = None
    """When it was first seen to run, in seconds of the clock; of an ended job it is how long it took since."""


class States:
    """The table of jobs, in the order in which they were given."""

    def __init__(self, names: Iterable[str]) -> None:
        self._rows = {name: Row(name) for name in names}

    def take(self, change: Change, now: float) -> Row | None:
        """Note a change; None if it is none.

        Args:
            change: as an engine yields it.
            now: seconds of a clock that only goes forward.
        """
        row = self._rows[change.name]
        if change.state == row.state != "retried":
            return None
        since = row.since
        if change.state in ENDED:
            since = None if since is None else now - since
        elif since is None and change.state == "running":
            since = now
        new = Row(
            change.name,
            change.state,
            change.node or row.node,
            change.why,
            row.retries + (change.state == "retried"),
            since,
        )
        self._rows[change.name] = new
        return new

    def rows(self) -> Iterator[Row]:
        """All of them."""
        return iter(self._rows.values())

    def left(self) -> list[str]:
        """Names of the jobs that are not done."""
        return [row.name for row in self.rows() if row.state != "done"]

    def failed(self) -> list[Row]:
        """Those that failed for good."""
        return [row for row in self.rows() if row.state == "failed"]

    def line(self, row: Row, now: float) -> str:
        """One change as plain text: how many are done, the job, its state, seconds, machine, and why."""
        done = sum(each.state == "done" for each in self.rows())
        took = _seconds(row, now)
        seconds = "" if took is None else f" {took:.0f} s"
        node = f" on {row.node}" if row.node else ""
        why = f": {row.why}" if row.why else ""
        return f"{done}/{len(self._rows)} {row.name} {row.state}{seconds}{node}{why}"

    def __rich__(self) -> Table:
        """The table, for a terminal."""
        from rich.table import Column, Table
        from rich.text import Text

        table = Table(
            "job", "state", Column("seconds", justify="right"), "retries", "machine", box=None
        )
        now = time.monotonic()
        for row in self.rows():
            took = _seconds(row, now)
            seconds = "" if took is None else f"{took:.0f}"
            state = Text(row.state, style=COLOURS[row.state])
            table.add_row(row.name, state, seconds, str(row.retries or ""), row.node)
        return table


def _seconds(row: Row, now: float) -> float | None:
    return row.since if row.since is None or row.state in ENDED else now - row.since
