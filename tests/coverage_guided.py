"""Inputs made up by a fuzzer that sees which lines it reaches (libFuzzer, by atheris).

    python -m tests.coverage_guided TARGET CORPUS [-max_total_time=60 ...]

An input is read, or refused by a UserError of one line; anything else ends the run and leaves the input in a file.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["pipeline_lib"]):
    from pipeline_lib.artifacts import read_json, verify
    from pipeline_lib.datasets.files.layout import arrange
    from pipeline_lib.datasets.files.supervision import read_supervision
    from pipeline_lib.datasets.label_studio import read_export
    from pipeline_lib.errors import UserError
    from pipeline_lib.models.description import read_description
    from pipeline_lib.models.predictor import load_predictor
    from pipeline_lib.params.load import load
    from pipeline_lib.parquet import read_table

from tests.fuzzing import check_message, seal

FLAT = arrange(["1.png", "2.png", "3.png"], "photos")


def params(path: Path) -> None:
    load(path)


def description(path: Path) -> None:
    path.rename(path.with_name("predictor.json"))
    read_description(path.parent)


def weights(path: Path) -> None:
    """Beside a description that is whole."""
    path.rename(path.with_name("predictor.safetensors"))
    seal(path.with_name("predictor.safetensors"))
    load_predictor(path.parent)


def sidecar(path: Path) -> None:
    path.rename(path.with_name("file.sha256"))
    path.with_name("file").write_bytes(b"content")
    verify(path.with_name("file"))


def manifest(path: Path) -> None:
    seal(path)
    read_json(path)


def table(path: Path) -> None:
    """A table of the pipeline's own."""
    seal(path)
    read_table(path)


def labels(path: Path) -> None:
    """A table of the user's: CSV, JSON lines or Parquet, told apart by its content."""
    read_supervision(path, "labels.csv", FLAT)


def export(path: Path) -> None:
    read_export(path)


TARGETS: dict[str, Callable[[Path], None]] = {
    one.__name__: one
    for one in (params, description, weights, sidecar, manifest, table, labels, export)
}
LINES = {"params": 10_000}  # of a message: params may have many mistakes


def main() -> None:
    name, corpus, *options = sys.argv[1:]
    read = TARGETS[name]
    beside = {p.name: p.read_bytes() for p in Path(f"{corpus}.beside").glob("*")}

    def once(content: bytes) -> None:
        with tempfile.TemporaryDirectory() as folder:
            for other, kept in beside.items():
                (Path(folder) / other).write_bytes(kept)
            path = Path(folder) / "input"
            path.write_bytes(content)
            try:
                read(path)
            except UserError as error:
                check_message(error, LINES.get(name, 1))

    atheris.Setup([sys.argv[0], corpus, *options], once)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
