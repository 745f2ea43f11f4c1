"""What the cells of a comparison came to: one table per question, and whether they may be compared at all."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from pipeline_lib.artifacts import read_json, recorded_sha256, verify
from pipeline_lib.cells.cell import CELLS, Cell, cells, refuse_strays
from pipeline_lib.compare.course import course, naming
from pipeline_lib.errors import UserError, listed
from pipeline_lib.parquet import needs_columns, read_table
from pipeline_lib.records import validation_tells_more
from pipeline_lib.report.inputs import read_csv, read_plain_json

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from numpy.typing import NDArray

    from pipeline_lib.params.compare import Compare

SPLIT = "data/split"
# The upper bound learns from every true label, and is validated with them.
OTHER_LABELS = "oracle"
SAME = 1e-6  # metrics.json has six digits
# Measures of the test that metrics.json has only where snapshots were kept, or where there are more than five classes.
AT_TIMES = ("median_accuracy", "top5_accuracy")
MAY_LACK = (*AT_TIMES, "candidate_rate", "val_accuracy", "disambiguation_accuracy", "seconds")


@dataclass(frozen=True)
class Predictions:
    """What a cell says of its test images: ids, ids of their groups, true classes and predicted ones, each (N,)."""

    id_N: NDArray[np.int64]
    group_N: NDArray[np.int64]
    label_N: NDArray[np.int64]
    predicted_N: NDArray[np.int64]

    @property
    def right_N(self) -> NDArray[np.bool_]:  # noqa: N802 - a shape, as in the names of arrays
        """Which images are recognised."""
        right_N: NDArray[np.bool_] = self.label_N == self.predicted_N
        return right_N


@dataclass(frozen=True)
class Results:
    """Everything that a comparison is made from.

    Attributes:
        compare: the section of params.yaml.
        names: of the contenders on the page, by method-variant.
        classes: K names.
        cells: one row per cell: key, contender, method, variant, budget, seed, measures, length, labels.
        curves: rows of key, contender, budget, seed and `CURVES`.
        per_class: rows of key, contender, budget, seed, class, images, recall.
        predictions: by key.
        embeddings: by key; of methods that predict by neighbours: x, y, kind, class, predicted.
        range_tests: by key: learning_rate, loss and smoothed_loss of a search for the learning rate.
        phases: by key: what phases.json says.
        params: by key: the part of params.yaml that trained, see `cells.cell.concerning`.
    """

    compare: Compare
    names: dict[str, str]
    classes: list[str]
    cells: pl.DataFrame
    curves: pl.DataFrame
    per_class: pl.DataFrame
    predictions: dict[str, Predictions]
    embeddings: dict[str, pl.DataFrame]
    range_tests: dict[str, pl.DataFrame]
    phases: dict[str, dict[str, Any]]
    params: dict[str, dict[str, Any]]

    def keys(self, contender: str, budget: str) -> list[str]:
        """The cells of a contender, by seed in the order of params.yaml."""
        return [f"{contender}-{budget}-{seed}" for seed in self.compare.seeds]

    def of(self, contender: str, budget: str) -> list[Predictions]:
        """The predictions of these cells."""
        return [self.predictions[key] for key in self.keys(contender, budget)]


def read_results(compare: Compare, classes: Path, folder: Path = CELLS) -> Results:
    """Read every cell that params.yaml lists, and nothing else.

    Args:
        compare: the section of params.yaml.
        classes: data/classes.json.
        folder: of the cells.

    Raises:
        UserError: A cell is missing or damaged, its metrics are not those of its predictions, the folder holds one that
            is not listed, or methods were given different images or labels.
    """
    listed_cells = list(cells(compare))
    keys = [cell.key for cell in listed_cells]
    _refuse_other_cells(folder, set(keys))
    _refuse_unequal(folder, listed_cells)
    names = display_names(compare)
    predictions = {key: _predictions(folder / key) for key in keys}
    for key in keys:
        _refuse_other_accuracy(folder / key, predictions[key])
    phases = {key: read_json(folder / key / "reports/train/phases.json") for key in keys}
    courses = {
        cell.key: course(
            folder / cell.key / "reports",
            _named(cell, names),
            phases[cell.key],
            compare.ms_per_step.get(cell.contender, {}),
        )
        for cell in listed_cells
    }
    return Results(
        compare=compare,
        names=names,
        classes=read_json(classes)["classes"],
        cells=pl.DataFrame(
            [_row(folder, cell, names, courses[cell.key]) for cell in listed_cells],
            infer_schema_length=None,
            schema_overrides=dict.fromkeys(MAY_LACK, pl.Float64),
        ),
        curves=pl.concat(courses.values()),
        per_class=pl.concat(_per_class(folder, cell, names) for cell in listed_cells),
        predictions=predictions,
        embeddings=_where_there_is(folder, listed_cells, "reports/evaluate/embedding.csv"),
        range_tests=_where_there_is(folder, listed_cells, "reports/train/range_test.csv"),
        phases=phases,
        params={key: read_json(folder / key / "cell.json")["params"] for key in keys},
    )


def display_names(compare: Compare) -> dict[str, str]:
    """What contenders are called: by what sets them apart."""
    methods, variants = len(compare.methods), len(compare.variants)
    return {
        f"{method}-{variant}": method
        if variants == 1
        else variant
        if methods == 1
        else f"{method} {variant}"
        for method in compare.methods
        for variant in compare.variants
    }


def _refuse_other_cells(folder: Path, keys: set[str]) -> None:
    there = {path.name for path in folder.iterdir()} if folder.is_dir() else set()
    if missing := sorted(keys - there):
        msg = (
            f"{folder}: {len(missing)} of {len(keys)} cells are missing: {listed(missing)}; run "
            f"`make compare`"
        )
        raise UserError(msg)
    refuse_strays(folder, keys)


def _refuse_unequal(folder: Path, listed_cells: Iterable[Cell]) -> None:
    """All methods of a budget and seed must have the same images, labels, and validation.

    `oracle` has labels of its own by design, but the same test images.
    """
    first: dict[tuple[str, ...], tuple[str, str]] = {}
    for cell in listed_cells:
        parts = ("test",) if cell.method == OTHER_LABELS else ("train", "val", "test")
        for part in parts:
            path = folder / cell.key / SPLIT / f"{part}.parquet"
            verify(path)
            digest = recorded_sha256(path)
            key, other = first.setdefault((cell.budget, str(cell.seed), part), (cell.key, digest))
            if other != digest:
                msg = (
                    f"{path}: not the same {part} images or labels as those of {key}; a comparison would not be "
                    f"fair: give compare.budgets.{cell.budget} a split.protocol that suits all methods"
                )
                raise UserError(msg)


def _predictions(folder: Path) -> Predictions:
    path = folder / "reports/evaluate/predictions.parquet"
    table, names = read_table(path), ("id", "group", "label", "predicted")
    needs_columns(path, table, names, "make compare")
    return Predictions(*(table[name].to_numpy().astype(np.int64) for name in names))


def _refuse_other_accuracy(cell: Path, predictions: Predictions) -> None:
    """metrics.json has no checksum of its own: it must say what the predictions say."""
    path = cell / "reports/metrics.json"
    said, found = read_plain_json(path)["test"]["accuracy"], float(predictions.right_N.mean())
    if said is None or not abs(said - found) <= SAME:  # NaN is refused too
        msg = (
            f"{path}: test.accuracy is {said}, but the predictions beside it come to {found:.6f}; delete {cell} and run "
            "`make compare` again"
        )
        raise UserError(msg)


def _named(cell: Cell, names: Mapping[str, str]) -> dict[str, Any]:
    return {
        "key": cell.key,
        "contender": names[cell.contender],
        "budget": cell.budget,
        "seed": cell.seed,
    }


def _row(
    folder: Path, cell: Cell, names: Mapping[str, str], course: pl.DataFrame
) -> dict[str, Any]:
    """A row of the table of cells."""
    metrics = read_plain_json(folder / cell.key / "reports/metrics.json")
    summary = read_json(folder / cell.key / SPLIT / "summary.json")
    test, train = metrics["test"], metrics["train"]
    roles = summary["roles"]["train"]
    both = roles.get("labeled_and_unlabeled", 0)
    last = course.row(-1, named=True)
    return {
        **_named(cell, names),
        "method": cell.method,
        "variant": cell.variant,
        "dataset": metrics["dataset"],
        "protocol": metrics["protocol"],
        "labeled": roles.get("labeled", 0) + both,
        "partial": roles.get("partial", 0),
        "unlabeled": roles.get("unlabeled", 0) + both,
        # Of labeled and unlabeled images it would be a number about no label.
        "candidate_rate": summary["empirical_rate"] if roles.get("partial") else None,
        **{
            name: test[name]
            for name in ("accuracy", "balanced_accuracy", "macro_f1", "nll", "brier", "ece")
        },
        **{name: test.get(name) for name in AT_TIMES},
        "test_images": test["images"],
        "val_accuracy": metrics["val"]["accuracy"],
        "val_images": metrics["val"]["images"],
        "val_tells_more": validation_tells_more(summary["roles"]),
        "disambiguation_accuracy": train["disambiguation_accuracy"],
        "steps": last["step"],
        "views": last["views"],
        "seconds": last["seconds"],
    }


def _per_class(folder: Path, cell: Cell, names: Mapping[str, str]) -> pl.DataFrame:
    table = read_csv(folder / cell.key / "reports/evaluate/per_class.csv")
    return table.select(
        *naming(_named(cell, names)),
        "class",
        pl.col("images").cast(pl.Int64),
        pl.col("recall").cast(pl.Float64, strict=False),
    )


def _where_there_is(
    folder: Path, listed_cells: Iterable[Cell], name: str
) -> dict[str, pl.DataFrame]:
    """The tables of the cells that have one with rows; a search that was spared leaves an empty file."""
    found = {
        cell.key: read_csv(folder / cell.key / name)
        for cell in listed_cells
        if (folder / cell.key / name).is_file()
    }
    return {key: table for key, table in found.items() if not table.is_empty()}
