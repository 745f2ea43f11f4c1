"""What a training has to show: its history, and the weights that are kept."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor, nn

    from pipeline_lib.training.selection import Verdict

PARTS = ("train", "val", "unlabeled")
MOST_CURVE_POINTS = 200
NOTES = ("rows", "best_score", "best_of_phase", "without_better", "collapsed", "phases")


@dataclass(frozen=True)
class Kept:
    """A predictor at one evaluation.

    Attributes:
        epoch: of the evaluation.
        description: what kind of predictor it is, see `models.predictor`.
        weights: its state, on the CPU.
    """

    epoch: int
    description: dict[str, Any]
    weights: dict[str, Tensor]

    @classmethod
    def of(cls, epoch: int, predictor: nn.Module) -> Kept:
        """Copy a predictor's state."""
        state = predictor.state_dict().items()
        weights = {name: tensor.detach().to("cpu", copy=True) for name, tensor in state}
        return cls(epoch, predictor.description, weights)  # type: ignore[arg-type]


@dataclass
class Record:
    """The history of a training, and what is kept of it."""

    rows: list[dict[str, float]] = field(default_factory=list)
    # Predicted class of every image by part and epoch; no "train" without a label table. "unlabeled": of
    # the training images that have all classes for candidates, the one that the method is sure of.
    labels: dict[str, dict[int, Tensor]] = field(default_factory=lambda: {p: {} for p in PARTS})
    best: Kept | None = None
    best_labels_NK: Tensor | None = None  # the method's label table at that time, if it keeps one
    best_score: float = -float("inf")
    best_of_phase: float | None = None  # what patience compares with
    without_better: int = 0
    collapsed: int = 0  # evaluations in a row whose mean prediction had almost no entropy
    last: list[Kept] = field(default_factory=list)
    ends: dict[str, Kept] = field(default_factory=dict)  # by the phase that they ended
    phases: list[dict[str, Any]] = field(default_factory=list)  # which ones ran, and why they ended

    @property
    def kept(self) -> Kept:
        """The best evaluation; there is one as soon as training has begun."""
        assert self.best is not None  # noqa: S101 - the loop evaluates before its first step
        return self.best

    def begin_phase(self) -> None:
        """Forget what is compared within a phase only: another predictor, another loss."""
        self.best_of_phase, self.without_better, self.collapsed = None, 0, 0
        self.last = []

    def keep(self, kept: Kept, score: float, labels_NK: Tensor | None) -> None:
        """Keep a predictor, with the label table of its time, if none had a higher score."""
        # A tie goes to the later epoch: its learning rate is lower.
        if score >= self.best_score:
            self.best, self.best_score = kept, score
            self.best_labels_NK = None if labels_NK is None else labels_NK.clone()
        if self.best_of_phase is None or score > self.best_of_phase:
            self.best_of_phase, self.without_better = score, 0
        else:
            self.without_better += 1

    def note_labels(
        self,
        epoch: int,
        verdict: Verdict | None,
        table_NK: Tensor | None,
        guesses_U: Tensor | None,
    ) -> None:
        """Note what the images are taken for: only here do the labels leave the device.

        Args:
            epoch: of the evaluation.
            verdict: on the validation images.
            table_NK: the label table of the training images, if the method keeps one.
            guesses_U: classes of those without a candidate set, -1 where the method is not sure.
        """
        if verdict:
            self.add_labels("val", epoch, verdict.labels_M)
        if table_NK is not None:
            self.add_labels("train", epoch, table_NK.argmax(dim=1).to(torch.int16).cpu())
        if guesses_U is not None:
            self.add_labels("unlabeled", epoch, guesses_U.cpu())

    def add_labels(self, part: str, epoch: int, labels_N: Tensor) -> None:
        """Note the predicted class of every image of a part, int16.

        Of the training images, which may be a million, every second epoch is forgotten once there are many:
        a curve needs no more.
        """
        known = self.labels[part]
        known[epoch] = labels_N
        if part != "val" and len(known) > MOST_CURVE_POINTS:
            for old in list(known)[1:-1:2]:
                del known[old]

    def tensors(self) -> dict[str, Tensor]:
        """All tensors, for the resume state; a predictor kept for two reasons is there once."""
        named: dict[str, Tensor] = {}
        for epoch, kept in self._by_epoch().items():
            named |= prefixed(str(epoch), kept.weights)
        if self.best_labels_NK is not None:
            named["best_labels"] = self.best_labels_NK
        stacks = {p: torch.stack([*known.values()]) for p, known in self.labels.items() if known}
        return named | prefixed("labels", stacks)

    def notes(self) -> dict[str, Any]:
        """Everything else."""
        descriptions = {str(epoch): kept.description for epoch, kept in self._by_epoch().items()}
        return {name: getattr(self, name) for name in NOTES} | {
            "descriptions": descriptions,
            "label_epochs": {part: list(known) for part, known in self.labels.items()},
            "best": self.kept.epoch,
            "last": [kept.epoch for kept in self.last],
            "ends": {phase: kept.epoch for phase, kept in self.ends.items()},
        }

    def _by_epoch(self) -> dict[int, Kept]:
        return {kept.epoch: kept for kept in (self.kept, *self.last, *self.ends.values())}

    @classmethod
    def restored(cls, tensors: Mapping[str, Tensor], notes: Mapping[str, Any]) -> Record:
        """Undo `tensors` and `notes`."""
        kept = {
            int(epoch): Kept(int(epoch), description, below(epoch, tensors))
            for epoch, description in notes["descriptions"].items()
        }
        labels = {
            part: dict(zip(epochs, tensors.get(f"labels.{part}", ()), strict=True))
            for part, epochs in notes["label_epochs"].items()
        }
        return cls(
            **{name: notes[name] for name in NOTES},
            labels=labels,
            best=kept[notes["best"]],
            best_labels_NK=tensors.get("best_labels"),
            last=[kept[epoch] for epoch in notes["last"]],
            ends={phase: kept[epoch] for phase, epoch in notes["ends"].items()},
        )


def prefixed(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The same tensors with `prefix.` before their names."""
    return {f"{prefix}.{name}": tensor for name, tensor in tensors.items()}


def below(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Undo `prefixed`."""
    start = f"{prefix}."
    return {n.removeprefix(start): t for n, t in tensors.items() if n.startswith(start)}
