"""Every row of the table of faults has a test that is named after it: `test_row_7_...`, `test_rows_33_34_...`."""

from __future__ import annotations

import re
from pathlib import Path

ROWS = set(range(1, 41))
_TEST = re.compile(r"^ *def test_rows?((?:_(?:\d+|and))+)_[a-z]", re.MULTILINE)


def test_every_row_has_a_test_of_its_name() -> None:
    files = Path(__file__).parents[1].rglob("test_*.py")
    names = [name for file in files for name in _TEST.findall(file.read_text(encoding="utf-8"))]
    tested = {int(number) for name in names for number in re.findall(r"\d+", name)}
    assert sorted(ROWS - tested) == [], "rows without a test"
    assert sorted(tested - ROWS) == [], "no such rows"
