"""Opening a text that may be anything: checked as bytes first, so that whoever parses it meets text."""

from __future__ import annotations

import codecs
import gzip
import io
import zlib
from typing import IO, TYPE_CHECKING, cast

from pipeline_lib.errors import UserError

if TYPE_CHECKING:
    from pathlib import Path

MAX_BYTES = 1 << 30
MAX_LINE_BYTES = 1 << 20
BLOCK = 1 << 20
GZIP = b"\x1f\x8b"
# How files begin that people take for tables, and what to do with them.
OTHERS = {
    b"PK\x03\x04": "an Excel workbook or a zip archive; save the sheet as CSV",
    b"\xd0\xcf\x11\xe0": "an old Excel workbook; save the sheet as CSV",
    b"SQLite format 3": "an SQLite database; export the table as CSV",
    b"ARROW1": "an Arrow file; save it as Parquet",
    b"PAR1": "a Parquet file inside gzip; unpack it",
    b"\xff\xfe": "text in UTF-16; save it as UTF-8",
    b"\xfe\xff": "text in UTF-16; save it as UTF-8",
    b"<": "a web page or XML; download the table itself, as CSV",
    b"[": "a JSON array; write one object a line, as {\"file\": \"cat/1.jpg\", \"label\": \"cat\"}",
}  # fmt: skip


def open_text(path: Path) -> io.TextIOWrapper:
    """Open a text, plain or gzipped, that `check_text` has passed."""
    return io.TextIOWrapper(_open(path), "utf-8-sig", newline="")


def check_text(path: Path, shown: str) -> str:
    """Read a text once, to be sure that it is one.

    Returns:
        Its first character that is no space.

    Raises:
        UserError: It is another kind of file, damaged, not UTF-8, or larger than any table.
    """
    head, line, size, in_line = b"", 1, 0, 0
    decoder = codecs.getincrementaldecoder("utf-8")()
    try:
        with _open(path) as file:
            while block := file.read(BLOCK):
                head = head or _checked_head(block, shown)
                decoder.decode(block)
                line += block.count(b"\n")
                size += len(block)
                in_line = _longest(block, in_line)
                _check_size(size, in_line, f"{shown}:{line}")
            decoder.decode(b"", final=True)
    except UnicodeDecodeError as error:
        line += error.object[: error.start].count(b"\n")
        byte = error.object[error.start]
        msg = f"{shown}:{line}: not UTF-8 (byte {byte:#04x}); save the table as UTF-8"
        raise UserError(msg) from error
    except (OSError, EOFError, zlib.error) as error:
        msg = f"{shown}: damaged gzip file ({error}); pack it again"
        raise UserError(msg) from error
    return head.decode(errors="replace")[:1]


def _open(path: Path) -> IO[bytes]:
    with path.open("rb") as file:
        packed = file.read(2) == GZIP
    return cast("IO[bytes]", gzip.open(path)) if packed else path.open("rb")


def _checked_head(block: bytes, shown: str) -> bytes:
    head = block.removeprefix(codecs.BOM_UTF8).lstrip()[:64]
    for start, kind in OTHERS.items():
        if head.startswith(start):
            msg = f"{shown}: not a table of labels but {kind}"
            raise UserError(msg)
    return head


def _longest(block: bytes, before: int) -> int:
    """Count the bytes of the last line, or of all if a line within is too long already."""
    first, last = block.find(b"\n"), block.rfind(b"\n")
    if first < 0:
        return before + len(block)
    return before + first if before + first > MAX_LINE_BYTES else len(block) - last - 1


def _check_size(size: int, in_line: int, where: str) -> None:
    if size > MAX_BYTES:
        msg = f"{where}: more than {MAX_BYTES} bytes of text; save the table as Parquet"
        raise UserError(msg)
    if in_line > MAX_LINE_BYTES:
        msg = (
            f"{where}: a line of more than {MAX_LINE_BYTES} bytes; begin a new line for each image"
        )
        raise UserError(msg)
