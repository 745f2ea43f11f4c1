"""The command that writes the predictor for other programs; the library is imported within it, so that --help answers at once."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated, Literal

import typer

from pipeline_lib.errors import UserError
from pipeline_lib.training.determinism import pin_processor

Form = Annotated[
    Literal["torch", "onnx", "both"],
    typer.Option("--format", help="A program of torch.export, ONNX, or both."),
]
Output = Annotated[Path, typer.Option("-o", "--output", help="The folder that gets the files.")]
Models = Annotated[Path, typer.Option(help="The folder of predictor.json.")]
Data = Annotated[Path, typer.Option(help="The folder of images.parquet, to compare with.")]


def export(
    form: Form = "both",
    output: Output = Path("exported"),
    models: Models = Path("models"),
    data: Data = Path("data"),
) -> None:
    """Write the predictor as predictor.pt2 and predictor.onnx, from uint8 images to probabilities.

    Each file is compared with the predictor on 256 images, and written only if it agrees.
    """
    if not models.is_dir():
        problem = "is a file" if models.exists() else "not found"
        msg = f"--models {models}: {problem}; give the folder of predictor.json"
        raise UserError(msg)
    pin_processor("this_machine", threads=1)
    # After the threads are set: it imports torch.
    from pipeline_lib.apply import export as library

    chosen = [name for name in library.NAMES if form in {"both", name}]
    for exported in library.export(models, data, output, chosen, partial(_commit, models)):
        print(exported)


def _commit(models: Path) -> str | None:
    """The commit that is checked out where the predictor lies, if a dvc.lock of it records just this folder."""
    from pipeline_lib.cells.cell import CELLS
    from pipeline_lib.doctor.commands import git_lines
    from pipeline_lib.doctor.recorded import md5_of

    place = models.resolve().parent
    try:
        commit = next(iter(git_lines(place, "rev-parse", "--verify", "HEAD")), None)
    except UserError:  # there is no Git
        return None
    if commit is None:
        return None
    # of a comparison whole cells are recorded
    kept = models.resolve().parent if place.parent.match(str(CELLS)) else models
    if git_lines(place, "grep", "-lF", md5_of(kept), commit, "--", ":/*dvc.lock"):
        return commit
    print(
        f"note: {models} is not what the commit that is checked out records: the files name no commit, and from them "
        "nobody will find this run again; commit it first, or `dvc checkout`"
    )
    return None
