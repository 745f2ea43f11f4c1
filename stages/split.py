"""Stage 4: decide which images train, validate and test, and what is left of their labels."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline_lib.artifacts import as_json, publish_together, read_json
from pipeline_lib.errors import LabelsError, listed
from pipeline_lib.own_data import reading_snapshot
from pipeline_lib.params.load import load
from pipeline_lib.parquet import read_table, write_table
from pipeline_lib.pixels import Stored, naming_images, pixel_blocks
from pipeline_lib.progress import progress
from pipeline_lib.protocols.split import split
from stages.cli import run, say

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy as np
    from numpy.typing import NDArray

DATA = Path("data")
OUT = DATA / "split"
PARTS = ("train", "val", "test", "oracle")


def main() -> None:
    """Write train, val, test and oracle.parquet, and summary.json."""
    params = load()
    classes = read_json(DATA / "classes.json")

    def pixels(ids_N: NDArray[np.int32]) -> Iterator[tuple[NDArray[np.intp], NDArray[np.uint8]]]:
        stored = Stored.described_by(classes)
        with progress("looking at", "images", len(ids_N)) as advance:
            for positions_B, images_BHWC in pixel_blocks(DATA / "images.parquet", ids_N, stored):
                yield positions_B, images_BHWC
                advance(len(positions_B))

    with reading_snapshot(params.data, LabelsError):
        tables = split(
            read_table(DATA / "labels.parquet"),
            classes,
            read_json(DATA / "supervision.json")["kind"],
            params.split,
            params.seed,
            params.data.limit,
            pixels,
        )
    # Together: a new train beside an old val could have images in common.
    names = [*(f"{part}.parquet" for part in PARTS), "summary.json"]
    with publish_together(*(OUT / name for name in names)) as (*files, summary):
        for part, file in zip(PARTS, files, strict=True):
            write_table(file, naming_images(getattr(tables, part), DATA / "images.parquet"))
        summary.write_text(as_json(tables.summary), encoding="utf-8")
    say("\n".join([described(tables.summary), *tables.warnings]))
    if params.split.val_fraction and not tables.summary["images"]["val"]:
        say(
            "warning: no validation images: no class has enough of them, or of groups (split.group_by)"
        )


def described(summary: dict[str, Any]) -> str:
    """Sum up summary.json in a line, and warn of what cannot be validated or tested."""
    images = ", ".join(f"{count} {part}" for part, count in summary["images"].items())
    roles = ", ".join(f"{count} {role}" for role, count in summary["roles"]["train"].items())
    warnings = []
    if untold := summary["untold_classes"]:
        warnings.append(
            f"warning: no label or candidate set of a training image names {listed(untold)}: it will hardly be recognised; "
            "label some (where those that are labeled are tested or validated with, take another seed)"
        )
    warnings += [
        f"warning: no {part} image of {listed(names)}"
        for part, names in summary["missing_classes"].items()
        if names
    ]
    if untested := summary["left_out"]["test"]:
        warnings.append(
            f"warning: {untested} of the data's own test images left out: their class is not known"
        )
    if (groups := summary["groups"]) and groups["left_out"]:
        warnings.append(
            f"warning: {groups['left_out']} images left out: others of their groups are tested with"
        )
    dropped = summary["duplicates"]["dropped"]
    copies = f"; {dropped} dropped as copies of others" if dropped else ""
    kept = f"; {groups['train']}, {groups['val']} and {groups['test']} groups" if groups else ""
    return "\n".join([f"{summary['protocol']}: {images} (train: {roles}){kept}{copies}", *warnings])


if __name__ == "__main__":
    run(main)
