"""Two thousand broken tables of labels: supervision or one line of complaint, soon and in little memory."""

from __future__ import annotations

import hashlib
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline_lib.datasets import image_parquet
from pipeline_lib.datasets.files.layout import arrange
from pipeline_lib.datasets.files.shards import open_shard
from pipeline_lib.datasets.files.supervision import read_supervision
from pipeline_lib.errors import UserError
from pipeline_lib.params.load import load
from tests.faults.broken_tables import (
    CSV,
    FILES,
    JSON,
    SHARDS,
    TABLES,
    TOKENS,
    WORDS,
    stored,
    typed,
)
from tests.fuzzing import check_message, in_little_memory, soon

CASES = 500  # of each of the four kinds
DATA = load(Path(__file__).parents[2] / "params.yaml").data
FOLDERS = arrange(FILES, "photos")
FLAT = arrange(["1.png", "2.png", "3.png"], "photos")

fuzzing = settings(
    max_examples=CASES,
    derandomize=True,
    database=None,
    suppress_health_check=list(HealthCheck),
)


def read_table(content: bytes, folder: Path, shown: str = "labels.csv") -> int:
    """Read and attach a table; count what it says."""
    (folder / "table").write_bytes(content)
    known = {place.source: place.label for place in FOLDERS}
    said = read_supervision(folder / "table", shown, FOLDERS)
    assert said.keys() <= known.keys()
    for source, one in said.items():
        assert one.true_label in {None, known[source]}
        named = {one.label, *(one.candidates or ()), *(name for _, name in one.annotations or ())}
        assert named <= {"cat", "dog", None}
        assert one.candidates != ()
    return len(said)


def read_flat(content: bytes, folder: Path) -> int:
    """The same where only the table names classes."""
    (folder / "table").write_bytes(content)
    return len(read_supervision(folder / "table", "labels.csv", FLAT))


def read_shard(content: bytes, folder: Path) -> int:
    """Read a Parquet file of images, as `download` and `ingest` do."""
    path = folder / "raw/train.parquet"
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(content)
    path.with_name("train.parquet.sha256").write_text(hashlib.sha256(content).hexdigest())
    with open_shard(path, "train.parquet"):
        pass
    rows = list(image_parquet.read(path.parent, DATA))
    assert all(isinstance(row.image, bytes) and row.split == "train" for row in rows)
    return len(rows)


def check(read: Callable[[], int], counts: dict[str, int]) -> None:
    try:
        with soon():
            counts["read"] += read() > 0
    except UserError as error:
        counts["refused"] += 1
        check_message(error)


COLUMNS = [
    "file",
    "file",
    "label",
    "candidates",
    "annotator",
    "true_label",
    "ann",
    "bob",
    "lable",
    "",
]
KINDS = {
    "CSV": (typed(CSV, WORDS), CSV, read_table),
    "JSON lines": (typed(JSON, [*TOKENS, *map(json.dumps, WORDS)]), JSON, read_table),
    "Parquet": (stored(TABLES, COLUMNS), TABLES, read_table),
    "Parquet of images": (stored(SHARDS, ["image", *COLUMNS]), SHARDS, read_shard),
}


@pytest.mark.parametrize("kind", KINDS)
def test_broken_tables_are_read_or_refused_in_one_line(kind: str, capsys):
    broken, seeds, read = KINDS[kind]
    counts = {"refused": 0, "read": 0}

    @fuzzing
    @given(broken, st.sampled_from(["labels.csv"] * 4 + ["few.txt", "flat"]))
    def run(content: bytes, shown: str) -> None:
        with tempfile.TemporaryDirectory() as folder:
            if read is read_shard:
                check(lambda: read_shard(content, Path(folder)), counts)
            elif shown == "flat":
                check(lambda: read_flat(content, Path(folder)), counts)
            else:
                check(lambda: read_table(content, Path(folder), shown), counts)

    with tempfile.TemporaryDirectory() as folder:
        for seed in seeds:
            whole = seed.encode() if isinstance(seed, str) else seed
            check(lambda whole=whole: read(whole, Path(folder)), counts)
    assert counts["read"] == len(seeds), "they are whole before they are broken"
    started = time.monotonic()
    with in_little_memory():
        run()
    with capsys.disabled():
        print(f"{kind}: {counts}, {time.monotonic() - started:.1f} s")
    assert sum(counts.values()) >= CASES // 2
    assert min(counts.values()) > CASES // 20, "all are read, or all refused: nothing is tested"
