"""How every stage is started: one command, user errors as one line on stderr, exit code 1."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import typer

from pipeline_lib.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Callable


def say(line: str) -> None:
    """Tell the user something now, not when the buffer is full."""
    print(line, flush=True)


def run(stage: Callable[..., None]) -> None:
    """Run `stage` as a command-line program."""
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command()(stage)
    try:
        app()
    except UserError as error:
        print(error, file=sys.stderr)
        sys.exit(error.exit_code)
