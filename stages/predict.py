"""The command that applies a trained predictor; the library is imported within it, so that --help answers at once."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from pipeline_lib.errors import UserError
from pipeline_lib.training.determinism import deterministic_torch, pin_processor
from stages.cli import end_tidily

if TYPE_CHECKING:
    from pipeline_lib.apply.model import Loaded, Model

Inputs = Annotated[
    list[Path],
    typer.Argument(
        metavar="IMAGES...",
        help="Image files, folders, archives, Parquet tables.",
        readable=False,  # need not be: it is a row of the table then
    ),
]
Output = Annotated[
    Path,
    typer.Option("-o", "--output", help="The table to write, of a name that ends in .parquet."),
]
Models = Annotated[
    Path, typer.Option(help="The folder of predictor.json, or a predictor.onnx that export wrote.")
]
TopK = Annotated[int, typer.Option(min=1, help="How many of the likeliest classes to name.")]
Abstain = Annotated[
    float, typer.Option(min=0, max=1, help="Give no label if the likeliest class is less so.")
]
BatchSize = Annotated[
    int | None,
    typer.Option(
        min=1,
        help="Images per pass; by default 256; on a processor 128 of 32 pixels, fewer if they are larger.",
    ),
]
Device = Annotated[
    Literal["auto", "cpu", "cuda", "mps"], typer.Option(help="Where the network runs.")
]
Precision = Annotated[
    Literal["fp32", "bf16"],
    typer.Option(
        help="bf16 moves probabilities a little; faster on GPUs, and on processors with avx512_bf16 or AMX."
    ),
]


def predict(
    images: Inputs,
    output: Output,
    models: Models = Path("models"),
    top_k: TopK = 5,
    abstain_below: Abstain = 0.0,
    batch_size: BatchSize = None,
    device: Device = "auto",
    precision: Precision = "fp32",
) -> None:
    """Say what is on images: the trained classifier's labels, with probabilities.

    Images that cannot be read are listed in the table, in the column `problem`.
    """
    if os.path.realpath(output) in map(os.path.realpath, images):
        msg = f"{output}: is one of the inputs; choose another name for the table"
        raise UserError(msg)
    if output.is_dir():
        msg = f"{output}: is a folder; name the table in it, as {output}/predictions.parquet"
        raise UserError(msg)
    if output.suffix != ".parquet":
        msg = f"{output}: predictions are a Parquet table; give it a name that ends in .parquet"
        raise UserError(msg)
    if output.is_symlink():
        output = Path(os.path.realpath(output))
        if output.exists() and not output.stat().st_mode & 0o222:
            msg = f"{output}: must not be written, and the name for the table is a link to it (if DVC made it: `dvc unprotect`)"
            raise UserError(msg)
    if output.exists() and not output.is_file():
        msg = f"{output}: is no plain file; choose another name for the table"
        raise UserError(msg)
    end_tidily()
    from pipeline_lib.apply.predict import Settings
    from pipeline_lib.apply.predict import predict as apply
    from pipeline_lib.apply.sources import open_images

    scratch = next(folder for folder in output.absolute().parents if folder.is_dir())
    with open_images(images, scratch) as found:
        model = _known(models, device, precision)
        counts = apply(found, model, Settings(top_k, abstain_below, batch_size), output)
    print(f"{output}: {counts}")


def _known(models: Path, device: str, precision: Literal["fp32", "bf16"]) -> Model:
    """What the predictor takes, and how it is loaded: with torch, or an exported one without it.

    Raises:
        UserError: It is missing or damaged, or an exported one is not for this device or precision.
    """
    from pipeline_lib.apply.model import described
    from pipeline_lib.apply.onnx_file import SUFFIX, load_onnx

    if models.suffix.lower() == SUFFIX and not models.is_dir():
        if device not in {"auto", "cpu"} or precision != "fp32":
            given = "--precision bf16" if precision != "fp32" else f"--device {device}"
            msg = f"{given}: {models} is computed on the processor, in fp32; leave it out, or give --models a folder"
            raise UserError(msg)
        return load_onnx(models)
    if models.is_file():
        msg = f"--models {models}: give the folder of predictor.json, or a predictor.onnx that export wrote"
        raise UserError(msg)

    def load(shape: tuple[int, int, int]) -> Loaded:
        pin_processor("this_machine", threads=1)
        # After the threads are set: these import torch.
        from pipeline_lib.apply.network import load_network
        from pipeline_lib.training.device import choose_device

        deterministic_torch(threads=1)
        return load_network(models, shape, choose_device(device, "--device"), precision)

    return described(models, load)
