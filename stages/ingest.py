"""Stage 3: decode every image once, and write down what is said of it."""

from __future__ import annotations

from pathlib import Path

from pipeline_lib.datasets.ingest import ingest
from pipeline_lib.params.load import load
from stages.cli import run

RAW, OUT = Path("data/raw"), Path("data")


def main() -> None:
    """Write images.parquet, labels.parquet, classes.json and rejected.parquet."""
    data = load().data
    print(f"{data.name}: {ingest(RAW, data, OUT)}")


if __name__ == "__main__":
    run(main)
