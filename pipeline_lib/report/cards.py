"""Images with their labels, as the page shows them: text stays text, on a phone too."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pipeline_lib.figures import tiles

if TYPE_CHECKING:
    import polars as pl

CHIPS = 8  # candidates shown per image
# Longest side in pixels of an image on the page, by how many there are: the file stays small.
SIDE_FEW, SIDE_MANY, MANY = 112, 56, 50


@dataclass(frozen=True)
class Chip:
    """One candidate label of an image."""

    name: str
    chosen: bool
    true: bool


@dataclass(frozen=True)
class TrainingCard:
    """A training image, its candidates, and the label that the method chose."""

    id: int
    png: bytes
    chips: list[Chip]
    more: int  # candidates that are not shown
    any_class: bool
    label: str
    confidence: float
    true_label: str | None
    right: bool | None
    given: bool  # there was nothing to choose, and nobody knows better

    @property
    def names(self) -> list[str]:
        """The classes that are named on it."""
        chips = [] if self.any_class else [chip.name for chip in self.chips]
        return [*chips, self.label, *([self.true_label] if self.true_label is not None else [])]


@dataclass(frozen=True)
class MistakeCard:
    """A test image that was taken for something else."""

    id: int
    png: bytes
    true_label: str
    predicted: str
    confidence: float
    true_probability: float


def training_cards(frame: pl.DataFrame, num_classes: int) -> list[TrainingCard]:
    """One card per row of the training images' frame."""
    return [_training_card(row, num_classes, _side(frame)) for row in frame.rows(named=True)]


def mistake_cards(frame: pl.DataFrame) -> list[MistakeCard]:
    """One card per row of the mistakes' frame."""
    names = ("id", "true_label", "predicted", "confidence", "true_probability")
    return [
        MistakeCard(
            png=tiles.as_png(tiles.image_of(row), _side(frame)),
            **{name: row[name] for name in names},
        )
        for row in frame.rows(named=True)
    ]


def _side(frame: pl.DataFrame) -> int:
    return SIDE_FEW if len(frame) <= MANY else SIDE_MANY


def _training_card(row: dict[str, Any], num_classes: int, side: int) -> TrainingCard:
    candidates: list[str] = row["candidates"]
    marked = {row["label"], row["true_label"]}
    # The chosen and the true label are always among those shown; the order stays that of the classes.
    ranked = sorted(candidates, key=lambda name: name not in marked)[:CHIPS]
    shown = [name for name in candidates if name in set(ranked)]
    chips = [Chip(name, name == row["label"], name == row["true_label"]) for name in shown]
    return TrainingCard(
        id=row["id"],
        png=tiles.as_png(tiles.image_of(row), side),
        chips=chips,
        more=len(candidates) - len(chips),
        any_class=len(candidates) >= num_classes,
        label=row["label"],
        confidence=row["confidence"],
        true_label=row["true_label"],
        right=row["right"],
        given=len(candidates) == 1 and row["right"] is not False,
    )
