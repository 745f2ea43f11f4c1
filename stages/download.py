"""Stage 2: take a snapshot of the images and the table of labels in data/raw."""

from __future__ import annotations

from pathlib import Path

from pipeline_lib.datasets.load import snapshot
from pipeline_lib.params.load import load
from stages.cli import run

RAW = Path("data/raw")


def main() -> None:
    """Fill data/raw."""
    data = load().data
    snapshot(data, RAW)
    files = [path for path in RAW.rglob("*") if path.is_file() and path.suffix != ".sha256"]
    print(f"{data.name}: {sum(path.stat().st_size for path in files)} bytes in {RAW}")


if __name__ == "__main__":
    run(main)
