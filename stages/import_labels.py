"""The command that takes over labels from other programs; the library is imported within it."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from pipeline_lib.errors import UserError


class Source(StrEnum):
    """Programs whose exports are read."""

    LABEL_STUDIO = "label-studio"


Export = Annotated[Path, typer.Argument(help="The file that the program has exported.")]
Table = Annotated[Path, typer.Option("-o", "--output", help="The table to write, for data.table.")]
From = Annotated[Source, typer.Option("--from", help="Which program it was.")]
Control = Annotated[str | None, typer.Option(help="Which choices, if the project has several.")]
Earlier = Annotated[
    Path | None,
    typer.Option(
        "--add-to",
        help="An earlier table, to add the answers to in its form; its candidates are replaced.",
    ),
]
Strip = Annotated[str, typer.Option(help="What to leave out at the beginning of the paths.")]
Annotator = Annotated[
    str | None,
    typer.Option(help="Who answered; two Label Studios number their people alike."),
]
NoAnswer = Annotated[
    list[str] | None,
    typer.Option(help="A choice that is no class, as `unsure`; may be given several times."),
]


def import_labels(
    export: Export,
    output: Table,
    source: From = Source.LABEL_STUDIO,
    control: Control = None,
    strip: Strip = "",
    add_to: Earlier = None,
    annotator: Annotator = None,
    no_answer: NoAnswer = None,
) -> None:
    """Turn what annotators said elsewhere into a table of file, annotator, label."""
    from pipeline_lib.artifacts import publish_text
    from pipeline_lib.datasets.label_studio import read_export

    del source  # there is one so far
    if output.resolve() == export.resolve():
        msg = f"{output}: is the export itself; choose another name for the table"
        raise UserError(msg)
    if output.suffix.lower() != ".csv":
        msg = f"{output}: the table is CSV; choose a name that ends in .csv"
        raise UserError(msg)
    if (
        output.is_symlink()
    ):  # would become a file of its own, and what it leads to would stay as it is
        msg = f"{output}: is a link; name the file that it leads to, {output.resolve()}"
        raise UserError(msg)
    sources = _sources(Path("data/labels.parquet"))
    classes = _classes(Path("data/classes.json"))
    imported = read_export(export, control, strip, annotator, no_answer or (), sources, classes)
    if add_to is not None:
        imported = imported.added_to(add_to, sources)
    if output.exists() and (add_to is None or not output.samefile(add_to)):
        imported.refuse_loss(output, sources)
    publish_text(output, imported.as_csv(), sidecar=False)
    print(f"{output}: {imported.summary()}")
    print("where it is data.table already: dvc repro --force download && dvc repro")


def _sources(labels: Path) -> list[str]:
    """All images in data.path, where the pipeline has seen them."""
    from pipeline_lib.parquet import read_table

    if not labels.exists():
        return []
    sources: list[str] = read_table(labels)["source"].to_pylist()
    return sources


def _classes(about: Path) -> list[str]:
    """The classes of the data, where the pipeline has seen them."""
    from pipeline_lib.artifacts import read_json

    if not about.exists():
        return []
    classes: list[str] = read_json(about)["classes"]
    return classes
