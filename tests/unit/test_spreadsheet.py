"""Lists of classes in CSV files."""

from __future__ import annotations

import polars as pl

from pipeline_lib.spreadsheet import MOST, joined


def test_few_classes_are_named_and_many_counted() -> None:
    most = [f"class {k}" for k in range(MOST)]
    cells = [["cat"], ["cat", "dog"], [], None, most, [*most, "one more"]]
    assert pl.DataFrame({"c": cells}).select(joined("c"))["c"].to_list() == [
        "cat",
        "cat|dog",
        "",
        None,
        "|".join(most),
        "101 classes",
    ]
