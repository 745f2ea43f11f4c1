"""How every stage is started: one command, user errors as one line on stderr, exit code 1."""

from __future__ import annotations

import atexit
import errno
import gc
import io
import os
import signal
import sys
from typing import TYPE_CHECKING

import typer

from pipeline_lib.errors import UserError, harmless, in_one_line
from pipeline_lib.parent import end_with_dvc

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

# What a full disk, a quota, a limit of size, and a folder that may not be written to answer.
DISK = {
    *(errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO),
    *(errno.EROFS, errno.EACCES, errno.EPERM),
}


def say(line: str) -> None:
    """Tell the user something now, not when the buffer is full."""
    print(harmless(line), flush=True)


def print_table(rows: Sequence[Sequence[str]]) -> None:
    """Print rows, the first of which is the head: as a table on a terminal, tab-separated elsewhere."""
    if not sys.stdout.isatty():
        # a cell is one line, without a tab
        print(*("\t".join(map(in_one_line, row)) for row in rows), sep="\n")
        return
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    head, *others = rows
    table = Table(*head)
    for row in others:
        table.add_row(*(Text(harmless(cell)) for cell in row))  # as it is, not as rich's markup
    Console().print(table)


def run(stage: Callable[..., None]) -> None:
    """Run `stage` as a command-line program, which ends when the DVC that started it does."""
    end_with_dvc()
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command()(stage)
    start(app)


def _open_streams() -> None:
    """Let neither a closed output nor a name that the terminal cannot show end anything."""
    if sys.stdout is None:
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115, PTH123  # until the end
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _use_utf8() -> None:
    """Begin anew in UTF-8 mode where the locale has another encoding: names of files, and so of classes, would be misread.

    Raises:
        UserError: That does not help.
    """
    if (found := sys.getfilesystemencoding()) == "utf-8":
        return
    if os.environ.get("PYTHONUTF8") == "1":
        msg = f"Python takes names of files for {found}; let it have UTF-8 (without -X utf8=0)"
        raise UserError(msg)
    os.execve(sys.executable, sys.orig_argv, os.environ | {"PYTHONUTF8": "1"})  # noqa: S606  # itself


def end_tidily() -> None:
    """From now on let SIGTERM end this as Ctrl-C does: what is half-written is removed."""
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))


def _leave_garbage() -> None:
    """Spare Python the last look for garbage, with torch a third of a second; without it, triton calls that a leak."""
    if "triton" not in sys.modules:
        gc.freeze()


def start(app: typer.Typer) -> None:
    """Run a command-line program; a mistake of the user or trouble with the disk is one line, no traceback."""
    _open_streams()
    atexit.register(_leave_garbage)
    try:
        _use_utf8()
        app()
    except UserError as error:
        print(harmless(str(error)), file=sys.stderr)
        sys.exit(error.exit_code)
    except (MemoryError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and "can't allocate memory" not in str(error):  # torch's
            raise
        print(
            "there is not enough memory; close other programs or take a machine with more, then run again",
            file=sys.stderr,
        )
        sys.exit(1)
    except OSError as error:
        if error.errno not in DISK:
            raise
        where = f"{error.filename}: " if error.filename else ""
        print(
            f"{where}{error.strerror}; free space or fix the rights, then run again",
            file=sys.stderr,
        )
        sys.exit(1)
