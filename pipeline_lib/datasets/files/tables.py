"""Reading a table of labels: its first bytes tell the format."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipeline_lib.datasets.files.csv_table import read_csv
from pipeline_lib.datasets.files.json_lines import read_json_lines
from pipeline_lib.datasets.files.parquet_table import read_parquet
from pipeline_lib.datasets.files.text import check_text

if TYPE_CHECKING:
    from pathlib import Path

    from pipeline_lib.datasets.files.sheet import Sheet


def read_sheet(path: Path, shown: str) -> Sheet:
    """Read CSV or JSON lines (plain or gzipped), Parquet, or a list of names.

    Args:
        path: the file.
        shown: what messages call it; `.txt` says that it is a list of names.

    Raises:
        UserError: Not a table, or one with a mistake: file, line, and what to do.
    """
    with path.open("rb") as file:
        is_parquet = file.read(4) == b"PAR1"
    if is_parquet:
        return read_parquet(path, shown)
    if check_text(path, shown) == "{":
        return read_json_lines(path, shown)
    return read_csv(path, shown)
