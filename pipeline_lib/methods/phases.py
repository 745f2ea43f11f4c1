"""What a method may ask of the training loop: phases one after the other, and settings to be found."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pipeline_lib.params.sections import Train


@dataclass(frozen=True)
class Stability:
    """When a phase is over before its last step: its loss has stopped falling.

    The loss is that of the validation images, or of training where none of them tells its class. Without
    progress for `patience` evaluations it is on a plateau. The first `reductions` plateaus lower the
    learning rate; the next one ends the phase.

    Attributes:
        patience: evaluations.
        tolerance: a loss lower by this share of the best one is progress.
        reductions: plateaus that lower the learning rate.
        factor: by which they multiply it.
    """

    patience: int
    tolerance: float
    reductions: int
    factor: float


@dataclass(frozen=True)
class Phase:
    """A stretch of training with streams, optimizer and learning rate of its own.

    Attributes:
        name: what the method knows it by.
        steps: its length, at most.
        train: its optimizer and the schedule of its learning rate.
        stability: ends it before.
        refresh_statistics: at its end, measure the batch statistics anew with the final weights.
        evaluate_every: steps between evaluations; None = as `train.evaluate_every` says, in epochs.
    """

    name: str
    steps: int
    train: Train
    stability: Stability | None = None
    refresh_statistics: bool = False
    evaluate_every: int | None = None


@dataclass(frozen=True)
class Search:
    """Settings that are found before training, or given.

    Attributes:
        stream: whose batch size is sought.
        batch_size: given, or None.
        smallest_batch: where the doubling starts.
        largest_batch: where it ends.
        learning_rate: given, or None.
    """

    stream: str
    batch_size: int | None
    smallest_batch: int
    largest_batch: int
    learning_rate: float | None


GIVEN = "given"
"""The reason for a setting that was not looked for."""
SEARCH = "search"
"""What the time of a search is noted under, beside the phases: as that of one step."""


@dataclass(frozen=True)
class Found:
    """What the search came to.

    Attributes:
        batch_size: labeled images per step.
        learning_rate: the peak.
        reasons: by name of the setting, why it is that.
    """

    batch_size: int
    learning_rate: float
    reasons: Mapping[str, str] = field(default_factory=dict)

    @property
    def sought(self) -> bool:
        """Whether a setting was looked for."""
        return any(why != GIVEN for why in self.reasons.values())
