"""The tables of docs/explanation/scale.md, written between its markers."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks import scale_check
from benchmarks import scale_model as model
from benchmarks.scale_gpus import (
    MEASURED,
    days,
    exchange,
    hours,
    photo_gpus,
    photo_ratio,
    small_gpus,
    small_ratio,
    views,
)
from benchmarks.scale_words import CLASSES, GPUS, IMAGES, amount, count, size, table
from pipeline_lib.records import LIST_VALUES

if TYPE_CHECKING:
    from collections.abc import Callable

PAGE = Path(__file__).resolve().parents[1] / "docs/explanation/scale.md"
PICTURE = PAGE.with_suffix(".svg")
CANDIDATES = 10  # per image, where a set is small
CORES = (2, 16, 64)


def write() -> None:
    """Rewrite page and picture."""
    PAGE.write_text(page(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
    PICTURE.write_bytes(scale_check.picture())


def page(text: str) -> str:
    """The page with its tables made anew."""
    for name, lines in TABLES.items():
        block = f"<!-- {name} -->\n{chr(10).join(lines())}\n<!-- end -->"
        pattern = f"<!-- {name} -->\n.*?<!-- end -->"
        text, found = re.subn(pattern, lambda _, b=block: b, text, flags=re.DOTALL)  # type: ignore[misc]
        assert found == 1, name  # noqa: S101
    return text


def stored() -> list[str]:
    """Images, by their number and kind."""
    rows = [
        [
            count(n),
            kind.name,
            size(n * kind.stored),
            size(2 * n * kind.stored),
            size(n * kind.decoded),
            size(n * (kind.stored + kind.decoded)),
        ]
        for n in IMAGES
        for kind in model.kinds()
    ]
    head = ["images", "kind", "`images.parquet`", "with DVC's cache, copied", "decoded"]
    return table([*head, "read and written per start"], rows)


def times() -> list[str]:
    """Hours of ingest and of each start, by cores."""
    rows = []
    for n in IMAGES:
        for kind in model.kinds():
            hours = n * kind.ingest / 3600
            cells = [amount(hours), *(amount(hours / cores) for cores in CORES)]
            cells += [amount(n * kind.start(cores) / 3600) for cores in CORES]
            rows.append([count(n), kind.name, *cells])
    head = ["images", "kind", "ingest, core hours", *(f"h on {cores} cores" for cores in CORES)]
    return table([*head, *(f"each start, h on {cores} cores" for cores in CORES)], rows)


def sizes() -> list[tuple[int, int]]:
    """Images and classes."""
    return [(n, k) for n in IMAGES for k in CLASSES]


def labels() -> list[str]:
    """What labels take on the host and on disk: dense, and of `CANDIDATES` classes per image."""
    rows = []
    for n, k in sizes():
        state = model.state_bytes(1, n, k, best=True)
        sparse = model.sparse_bytes(n, CANDIDATES)
        parts = (model.MASK * n * k, model.FLOAT * n * k, 2 * state, sparse)
        rows.append([count(n), f"{k:,}", *(size(part) for part in parts)])
    head = ["images", "classes", "candidates", "a float32 table"]
    return table([*head, "two resume states", f"a table of {CANDIDATES} classes"], rows)


def tables() -> list[str]:
    """What candidates and tables take on the device, by method."""
    rows = []
    for own, best in dict.fromkeys(model.TABLES.values()):
        names = [name for name, kept in model.TABLES.items() if kept == (own, best)]
        each = round(model.table_bytes(own, 1, 1, best=best))
        cells = [size(model.table_bytes(own, n, k, best=best)) for n, k in sizes()]
        said = ", ".join(f"`{name}`" for name in names)
        rows.append([said, str(each), *cells])
    head = ["methods", "bytes per image and class"]
    return table([*head, *(f"{count(n)} x {k:,}" for n, k in sizes())], rows)


def limits() -> list[tuple[str, Callable[[int], float]]]:
    """What ends, and at how many images of so many classes."""
    photos = model.kinds()[1]
    day = 86_400 * model.CORES
    dense, small = model.TABLES["cr_dpll"], model.TABLES["supervised"]
    host = model.MASK + 2 * model.FLOAT

    def device(of: tuple[int, bool]) -> Callable[[int], float]:
        return lambda k: model.DEVICE_BYTES / model.table_bytes(of[0], 1, k, best=of[1])

    return [
        ("list column of `train.parquet`, few labels: all classes of each image", ends),
        (
            "list column of `train.parquet`, 10 candidates each",
            lambda _: LIST_VALUES / CANDIDATES,
        ),
        ("list column of `label_state.parquet`, every method", ends),
        (
            "list column of `label_history.parquet`, 200 evaluations",
            lambda _: LIST_VALUES / model.CURVE,
        ),
        ("device memory, one table and the best evaluation's copy", device(dense)),
        ("device memory, candidates alone", device(small)),
        ("128 GiB of memory, while one table is made", lambda k: model.HOST_BYTES / (host * k)),
        ("8 TB of disk for decoded photos", lambda _: model.DISK_BYTES / photos.decoded),
        ("a day of ingest of photos on 16 cores", lambda _: day / photos.ingest),
        ("a day to start with photos on 16 cores", lambda _: 86_400 / photos.start(model.CORES)),
        ("ids of 32 bits", lambda _: 2.0**31),
    ]


def ends(classes: int) -> float:
    """Images at which a list column of all classes has no offset any more."""
    return LIST_VALUES / classes


def breaks() -> list[str]:
    """Limits in the order in which images reach them at the larger number of classes."""
    ordered = sorted(limits(), key=lambda limit: limit[1](CLASSES[1]))
    rows = [[name, *(count(reached(k)) for k in CLASSES)] for name, reached in ordered]
    return table(["what ends", *(f"at images, {k:,} classes" for k in CLASSES)], rows)


def constants() -> list[str]:
    """What the model takes from the results."""
    rows = [
        [
            kind.name,
            f"{kind.stored:,.0f}",
            f"{kind.decoded:,}",
            amount(1e6 * kind.ingest),
            amount(1e6 * kind.decoding),
            amount(1e6 * kind.rest),
        ]
        for kind in model.kinds()
    ]
    head = ["kind", "bytes stored", "bytes decoded", "ingest, µs of a core"]
    return table([*head, "decoding at a start, µs of a core", "rest of a start, µs"], rows)


def expect() -> list[str]:
    """What the tables say, in a few sentences."""
    table_of = model.TABLES["cr_dpll"]
    fits = [model.DEVICE_BYTES / model.table_bytes(table_of[0], 1, k, best=True) for k in CLASSES]
    many, photos = IMAGES[1], model.kinds()[1]
    hours = many * photos.ingest / model.CORES / 3600
    start = many * photos.start(model.CORES) / 3600
    launches = model.launching("wrn_28_2", 32)
    small = max(small_ratio(method, GPUS[-1], launches) for method in MEASURED)
    *others, paws = MEASURED
    ratios = {n: [photo_ratio(method, n) for method in others] for n in (8, GPUS[-1])}
    eight, most = (f"{amount(min(r))} to {amount(max(r))}" for r in ratios.values())
    return [
        f"""- **Classes break first, not images.** Labels are dense tables of images by classes. The list columns of the Parquet files
  end at {count(ends(CLASSES[0]))} images of {CLASSES[0]:,} classes, or at {count(ends(CLASSES[1]))} of {CLASSES[1]:,}. The memory of a GPU ends at {count(fits[0])}, or at {count(fits[1])}, with a method
  that keeps a table.
- **Photos are cheap to bring in, and expensive to start with.** {count(many)} ({photos.name}) take {amount(hours)} hours
  of {model.CORES} cores and {size(many * photos.stored)}, once. Each start decodes them again: {amount(start)} hours, and {size(many * photos.decoded)} of disk. Larger photos take more:
  one of 12 megapixels is about {model.decoding_of_large():.0f} times as much decoding.
- **Small images need one GPU.** With a small network several are {amount(small)} times as fast at most, or slower: they launch kernels one
  by one.
- **Photos through ResNet-50 gain.** 8 GPUs are {eight} times as fast as one, and 64 are {most} times. Each repeats the
  augmentation of the whole batch, and there are launches. Beyond 8, GPUs are better spent on more experiments.
- **PAWS hardly gains.** With photos, 64 GPUs are {amount(photo_ratio(paws, GPUS[-1]))} times as fast, until its views take less than was measured."""
    ]


TABLES: dict[str, Callable[[], list[str]]] = {
    "expect": expect,
    "check": scale_check.rows,
    "constants": constants,
    "breaks": breaks,
    "stored": stored,
    "times": times,
    "labels": labels,
    "tables": tables,
    "hours": hours,
    "views": views,
    "small gpus": small_gpus,
    "photo gpus": photo_gpus,
    "days": days,
    "exchange": exchange,
}
