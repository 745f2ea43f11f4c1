"""The values that travel between the layers. Plain data: no I/O, no maths, no torch at import.

Shape suffixes: B batch, N training images, K classes, C channels, H height, W width.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np
    from torch import Tensor

# What kind of labels a method learns from. `configure` resolves it, the split stage writes it.
Kind = Literal["partial", "few_shot", "clean"]

# From this probability on, a guessed label counts as confident: FixMatch's threshold, for every method.
CONFIDENT = 0.95
LIST_VALUES = 2**31 - 1  # of all rows of a list column: its offsets are int32
NO_GUESS = -1  # stands for the class of an image whose label is not guessed, or not confidently

# Which part an image plays in training. The last one is in the labeled and the unlabeled set.
Role = Literal["labeled", "partial", "unlabeled", "labeled_and_unlabeled"]


def validation_tells_more(roles: Mapping[str, Mapping[Role, int]]) -> bool:
    """Whether every validation image has one label, and not every training image.

    Args:
        roles: how many images play which part, by `train` and `val` (summary.json).
    """
    unsure = {"partial", "unlabeled"}
    return (
        bool(roles["val"]) and not unsure & set(roles["val"]) and bool(unsure & set(roles["train"]))
    )


@dataclass(frozen=True)
class Row:
    """One image as a dataset gives it: encoded bytes or raw pixels, and what is said of its class.

    `label` is the class it was given (the supervision), `candidates` a set of classes given instead,
    `annotations` pairs of an annotator and a class (none where nobody said anything). `true_label` is
    known only to measure with; it never reaches training. All classes are given by name.
    """

    source_id: str
    image: bytes | np.ndarray  # an encoded file, or uint8 HWC
    label: str | None = None
    candidates: tuple[str, ...] | None = None
    annotations: tuple[tuple[str, str], ...] | None = None
    true_label: str | None = None
    split: Literal["train", "val", "test"] | None = None


@dataclass(frozen=True)
class Stream:
    """A sequence of batches that a method asks for.

    Attributes:
        pool_N: positions of the training images to draw from, int64.
        batch_size: images per step.
        views: one name per view: `"weak"`, `"strong"`, `"global"`, `"small"`, `"flip"`, `"none"`.
        label_N: class of each image of the pool, int64, for a batch that holds equally many images of each
            of its classes, one class after the other; None draws whatever comes.
        classes: that such a batch draws.
    """

    pool_N: Tensor
    batch_size: int
    views: tuple[str, ...]
    label_N: Tensor | None = None
    classes: int = 0


@dataclass(frozen=True)
class Batch:
    """What one training step works on, per stream.

    Attributes:
        index: positions of the images in the training set, int64 (B,). The same position is the row
            of every per-image table that a method keeps.
        views: one uint8 BCHW tensor per view that the stream asked for; small views have sizes of their own.
        candidates: candidate masks, float32 (B, K).
    """

    index: Mapping[str, Tensor]
    views: Mapping[str, tuple[Tensor, ...]]
    candidates: Mapping[str, Tensor]


Drawn: TypeAlias = "Mapping[str, Tensor]"
"""What a step needs besides its images, by name: numbers that follow the clock, and random ones."""


@dataclass(frozen=True)
class Clock:
    """Where a phase of training is. Ramps and schedules are functions of it."""

    step: int
    total_steps: int
    steps_per_epoch: int

    @property
    def epoch(self) -> int:
        """0-based number of the epoch that this step belongs to."""
        return self.step // self.steps_per_epoch


@dataclass(frozen=True)
class StepOutput:
    """A scalar loss to minimise, and named scalar tensors for the log (detached, on the device)."""

    loss: Tensor
    scalars: Mapping[str, Tensor] = field(default_factory=dict)


@dataclass(frozen=True)
class Problem:
    """What a method may know of its task: nothing that training must not see.

    Attributes:
        candidates_NK: bool, the candidate set of every training image.
        roles: one per training image.
        class_names: K names.
        batch_size: `train.batch_size`; a method derives its streams' sizes from it.
        images_NCHW: the training images, uint8, for methods whose predictor holds some of them: on the device,
            or in a file; to be indexed, never moved whole.
    """

    candidates_NK: Tensor
    roles: tuple[Role, ...]
    class_names: tuple[str, ...]
    batch_size: int
    images_NCHW: Tensor

    @property
    def num_classes(self) -> int:
        """K."""
        return len(self.class_names)
