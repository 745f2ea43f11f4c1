"""A trainer of two phases: supervised until stable, then semi-supervised until stable.

After the Masterful trainer, whose code is closed: what is public of it is its course (warm-up, the two
phases, settings found beforehand) and its second phase, Noisy Student (Xie et al., CVPR 2020). How the
settings are found, and what "stable" means, are this project's.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Self

import torch

from pipeline_lib.losses.common import confident_classes, entropy, soft_cross_entropy
from pipeline_lib.losses.partial import candidate_nll
from pipeline_lib.methods.phases import Phase, Search, Stability
from pipeline_lib.methods.semi_supervised import Consistency
from pipeline_lib.records import Batch, Drawn, Problem, StepOutput, Stream

if TYPE_CHECKING:
    from torch import Tensor

    from pipeline_lib.methods.phases import Found
    from pipeline_lib.models.classifier import Classifier
    from pipeline_lib.params import methods as params
    from pipeline_lib.params.sections import Train

SMALLEST_BATCH = 16
SECOND = "semi_supervised"
FIXMATCH_THRESHOLD = 0.95  # Sohn et al., NeurIPS 2020


class TwoPhase(Consistency):
    """Warm-up and a supervised phase on the labeled images, then pseudo-labels for the others.

    `noisy_student`: the teacher, a frozen copy of the network at the end of the supervised phase, labels the
    images as they are, softly; the student learns that of strong views. `fixmatch`: the network in training
    labels weak views, and learns that class of strong ones.

    The guesses of the second phase are remembered to tell how good they are, but they are no label table: no
    image is guessed in the first phase, and the final network says more than the teacher.
    """

    def __init__(self, params: params.TwoPhase, problem: Problem, model: Classifier) -> None:
        super().__init__("two_phase", params.unlabeled_ratio, params.lambda_u, problem, model)
        self.params = params
        self.learning_rate = params.learning_rate
        taught = params.semi_supervised == "noisy_student"
        usual = 0.0 if taught else FIXMATCH_THRESHOLD
        self.threshold = usual if params.threshold is None else params.threshold
        self.teacher = copy.deepcopy(model).requires_grad_(False).eval() if taught else None
        # A fresh student starts where the training did: weights that a resumed run draws again.
        fresh = taught and params.student == "fresh"
        self.first_weights = copy.deepcopy(model.state_dict()) if fresh else None

    @property
    def streams(self) -> dict[str, Stream]:
        """The labeled images in a weak view; later the others, to be guessed and to be learned."""
        streams = {"labeled": self.labeled_stream("weak")}
        if self.phase == SECOND:
            guessed = "none" if self.teacher else "weak"
            streams["unlabeled"] = self.unlabeled_stream(self.unlabeled_ratio, guessed, "strong")
        return streams

    @property
    def variant(self) -> str:
        """What the second phase does."""
        if self.teacher is None:
            return "fixmatch"
        return f"noisy_student,student={self.params.student}"

    def search(self) -> Search:
        """Batch size and learning rate, where they are not given."""
        given = self.params
        smallest = min(SMALLEST_BATCH, given.largest_batch)
        return Search(
            "labeled", given.batch_size, smallest, given.largest_batch, given.learning_rate
        )

    def use(self, found: Found) -> None:
        """Take over batch size and learning rate."""
        self.batch_size, self.learning_rate = found.batch_size, found.learning_rate

    def phases(self, train: Train, steps_per_epoch: int) -> tuple[Phase, ...]:
        """Warm-up, supervised, semi-supervised; the rate is constant but for warm-up and plateaus."""
        chosen = self.params
        rate = self.learning_rate or train.learning_rate
        constant = {"schedule": "constant", "learning_rate": rate, "warmup_start": 0.0}
        warm_up = constant | {"warmup_epochs": chosen.warmup_steps / steps_per_epoch}
        steady = train.model_copy(update=constant | {"warmup_epochs": 0.0})
        rising = train.model_copy(update=warm_up)
        stable = Stability(
            chosen.patience, chosen.tolerance, chosen.reductions, chosen.reduction_factor
        )
        return (
            Phase("warm_up", chosen.warmup_steps, rising, refresh_statistics=True),
            Phase("supervised", chosen.supervised_steps, steady, stable),
            Phase(SECOND, chosen.semi_supervised_steps, rising, stable),
        )

    @torch.no_grad()
    def enter(self, phase: Phase) -> None:
        """Begin a phase; the second one makes the network a teacher."""
        super().enter(phase)
        if phase.name == SECOND and self.teacher:
            self.teacher.load_state_dict(self.model.state_dict())
            if self.first_weights:
                self.model.load_state_dict(self.first_weights)

    def train(self, mode: bool = True) -> Self:
        """The teacher always predicts as in evaluation."""
        super().train(mode)
        if self.teacher:
            self.teacher.eval()
        return self

    def weigh(self, p_UK: Tensor) -> Tensor:
        """1 where the confidence is high enough, else 0."""
        return (p_UK.amax(dim=1) >= self.threshold).float()

    def training_step(self, batch: Batch, drawn: Drawn) -> StepOutput:
        """Cross-entropy on the labeled images; in the second phase on the pseudo-labels too."""
        if self.phase != SECOND:
            logits_BK = self.model(batch.views["labeled"][0])
            return StepOutput(candidate_nll(logits_BK, batch.candidates["labeled"]))
        if self.teacher is None:
            return super().training_step(batch, drawn)
        return self._learn_from(self.teacher, batch)

    def _learn_from(self, teacher: Classifier, batch: Batch) -> StepOutput:
        """Cross-entropy on the labeled images, and of the strong views against the teacher's predictions."""
        labeled_BCHW = batch.views["labeled"][0]
        plain_UCHW, strong_UCHW = batch.views["unlabeled"]
        with torch.no_grad():
            p_UK = self.possible(torch.softmax(teacher(plain_UCHW), dim=1), batch)
            weights_U = self.weigh(p_UK)
            self.remember(batch, p_UK)
        logits = self.model(torch.cat([labeled_BCHW, strong_UCHW]))
        labeled_BK, strong_UK = logits.split([len(labeled_BCHW), len(strong_UCHW)])
        supervised = candidate_nll(labeled_BK, batch.candidates["labeled"])
        unlabeled = soft_cross_entropy(strong_UK, p_UK * weights_U[:, None])
        return StepOutput(
            loss=supervised + self.lambda_u * unlabeled,
            scalars={
                "supervised_loss": supervised.detach(),
                "unlabeled_loss": unlabeled.detach(),
                "pseudo_label_rate": weights_U.mean(),
                "prediction_entropy": entropy(p_UK.mean(dim=0)),
            },
        )

    def label_state(self) -> None:
        """None: the labels of the training images are then the final network's predictions."""

    def confident_guesses(self) -> Tensor | None:
        """Those of the second phase."""
        return confident_classes(self.guesses_NK) if self.phase == SECOND else None
