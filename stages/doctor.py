"""The command that looks a checkout over; the library is imported within it, so that --help answers at once."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pipeline_lib.errors import UserError, in_one_line

if TYPE_CHECKING:
    from pipeline_lib.doctor.finding import Finding

Fix = Annotated[bool, typer.Option("--fix", help="Put right what can be without losing anything.")]


def doctor(*, fix: Fix = False) -> None:
    """Look for what is wrong: environment, damaged files, changed images, remotes, locks, hanging experiments.

    Exits with 1 if a problem is left. With --fix, damaged copies of what DVC can fetch or make again, stale
    locks and the leftovers of killed runs are deleted, and the cache of DVC gets back what only the workspace has.
    """
    from pipeline_lib.doctor.examine import examine
    from pipeline_lib.doctor.finding import counted

    problems = fixed = 0
    for area, checked in examine(Path.cwd()):
        _print(f"{area}: {checked.summary}", "bold", area)
        for finding in checked.findings:
            done = _repaired(finding) if fix else None
            _tell(finding, done)
            problems += finding.problem and done is None
            fixed += done is not None
    left = counted(problems, "problem") if problems else "no problem"
    print(f"{fixed} fixed, {left} left" if fixed else left)
    if problems:
        raise typer.Exit(1)


def _repaired(finding: Finding) -> str | None:
    """What was done about it; None if nothing can be, or it did not work, which a line says."""
    try:
        return finding.repair() if finding.repair else None
    except (OSError, UserError) as error:
        print(f"  --fix: {finding.where}: {in_one_line(error)}", flush=True)
        return None


def _tell(finding: Finding, done: str | None) -> None:
    if done is not None:
        _print(f"  fixed: {finding.where}: {finding.what}; {done}", "green", "  fixed")
    elif finding.problem:
        _print(f"  problem: {finding}", "red", "  problem")
    else:
        _print(f"  note: {finding}", "yellow", "  note")


def _print(line: str, style: str, head: str) -> None:
    """Print a line, with its head in colour on a terminal."""
    if not sys.stdout.isatty():
        print(line, flush=True)
        return
    from rich.console import Console
    from rich.text import Text

    text = Text(line)
    text.stylize(style, 0, len(head))
    Console().print(text)
