"""The command that says which images a person should label next; the library is imported within it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pipeline_lib.errors import UserError

FILES = ("index.html", "label_config.xml", "next.csv", "tasks.json")

Count = Annotated[int, typer.Option("-n", "--count", min=1, help="How many images.")]
Folder = Annotated[Path, typer.Option("-o", "--output", help="Folder for the files.")]
Prefix = Annotated[
    str | None,
    typer.Option(
        help="Where Label Studio finds the images, e.g. '/data/local-files/?d=photos/'; without, they are in the tasks."
    ),
]


def label_next(count: Count = 20, output: Folder = Path("to-label"), prefix: Prefix = None) -> None:
    """Choose which images to label next, with tasks for Label Studio and a page to look at.

    Among the training images without a class, or with several candidates: those that the trained model is unsure
    of, and unlike one another. `import-labels --add-to` takes the answers back.
    """
    _refuse_to_replace(output)
    from pipeline_lib.params.load import load
    from pipeline_lib.training.determinism import deterministic_torch, pin_processor

    params = load()
    train = params.train
    pin_processor(train.reproducible, train.threads)
    from pipeline_lib.doctor.snapshot import changed_table
    from pipeline_lib.labeling.picks import choose, write
    from pipeline_lib.labeling.pool import has_own_test, look, never_closes
    from pipeline_lib.training.device import choose_device

    if table := changed_table(Path()):
        print(
            f"warning: {table}: changed since its snapshot was taken; take a new one: `dvc repro --force download && dvc repro`"
        )
    deterministic_torch(train.threads)
    unsure = look(Path("data"), Path("models"), choose_device(train.device))
    picks = choose(unsure, count)
    write(output, unsure, picks, prefix)
    print(
        f"{output}: {len(picks)} of {len(unsure.ids_N)} images not yet of one class; look at {output}/index.html, "
        f"give tasks.json to a Label Studio project with label_config.xml"
    )
    if never_closes(Path("data"), params.split.annotations.rule):
        print(
            "warning: an image on which annotators have disagreed stays open whatever others say of it, as "
            "split.annotations.rule is union; at_least or weighted let a majority decide"
        )
    if not has_own_test(Path("data")):
        print(
            "warning: these data have no test images of their own, so that a share of the answers will be drawn for "
            "testing, which is then on images that the model is unsure of; put the present test images into a folder test/ first "
            "(beside class folders: into test/<class>/, and these into train/)"
        )


def _refuse_to_replace(output: Path) -> None:
    """Refuse a folder with files of the names of ours that no earlier call has written.

    Raises:
        UserError: There are such.
    """
    found = [name for name in FILES if (output / name).exists()]
    ours = ('"by": "label-next"', "images to label next</title>")
    texts = [(output / name).read_text(errors="replace") for name in found]
    if found and not any(mark in text for mark in ours for text in texts):
        msg = f"{output}: holds {', '.join(found)} of something else, to be replaced; choose another folder with -o"
        raise UserError(msg)
