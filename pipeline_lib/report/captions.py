"""What a chart shows, where that differs from run to run."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipeline_lib.figures import accuracy, confusion, loss

if TYPE_CHECKING:
    import polars as pl


def loss_words(frame: pl.DataFrame) -> str:
    """Of the chart of losses: which of them there are."""
    shown = set(frame["series"])
    parts = " and its parts, before they are weighted" if shown - set(loss.TOTALS.values()) else ""
    val = (
        "; beside it, the loss on the validation images" if loss.TOTALS["val_loss"] in shown else ""
    )
    return f"What was minimised{parts}{val}."


def accuracy_words(frame: pl.DataFrame) -> str:
    """Of the chart of the validation images: accuracy, criteria without it, or both."""
    shown = set(frame["series"])
    kinds = [
        ("accuracy", accuracy.TRUE),
        ("the criteria that need no true labels", accuracy.CRITERIA),
    ]
    said = " and ".join(words for words, names in kinds if shown & set(names.values()))
    return f"{said[0].upper()}{said[1:]}." if said else ""


def confusion_words(num_classes: int) -> str:
    """Of the confusion matrix: what its colours mean, and which of many classes it shows."""
    said = [
        "Rows are true classes, columns predictions.",
        "Blue is right, orange is wrong; deeper means a larger share of the row.",
    ]
    if num_classes > confusion.CLASSES:
        said.append(
            f"Shown are the {confusion.CLASSES} of {num_classes:,} classes with the most mistakes, as true class or as "
            f"prediction."
        )
    return " ".join(said)
