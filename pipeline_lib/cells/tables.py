"""The tables of a comparison that has run."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipeline_lib.errors import UserError
from pipeline_lib.parquet import read_table

if TYPE_CHECKING:
    from pathlib import Path

    import pyarrow as pa


def table_of(comparison: Path, name: str) -> pa.Table:
    """A table behind the page.

    Args:
        comparison: its folder, `reports/compare`.
        name: of the table, without the ending.

    Raises:
        UserError: The comparison has not run, or the table is damaged.
    """
    path = comparison / f"tables/{name}.parquet"
    if not path.is_file():
        msg = f"{path}: missing; `make compare` makes it (or `make pull` fetches it)"
        raise UserError(msg)
    return read_table(path)
