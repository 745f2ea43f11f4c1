"""What the methods that learn from a labeled and an unlabeled set share."""

from __future__ import annotations

import abc
from typing import TYPE_CHECKING

import torch

from pipeline_lib.errors import UserError
from pipeline_lib.losses.common import (
    entropy,
    restrict,
    uniform_targets,
    wide,
)
from pipeline_lib.losses.partial import candidate_nll
from pipeline_lib.losses.semi import pseudo_label_loss
from pipeline_lib.methods.base import Method, images_with_role
from pipeline_lib.records import StepOutput, Stream

if TYPE_CHECKING:
    from torch import Tensor

    from pipeline_lib.models.classifier import Classifier
    from pipeline_lib.records import Batch, Drawn, Problem


class SemiSupervised(Method):
    """A labeled and an unlabeled stream, and a table of the labels guessed last.

    A partially labeled image belongs to both, and as an unlabeled one it is taken for one of its candidates.

    Args:
        name: of the method, for its messages.
        problem: see `Method`.
        model: see `Method`.

    Raises:
        UserError: One of the two sets is empty.
    """

    guesses_NK: Tensor
    partial_N: Tensor

    def __init__(self, name: str, problem: Problem, model: Classifier) -> None:
        super().__init__(problem, model)
        self.batch_size = problem.batch_size
        self.labeled_N = images_with_role(problem, "labeled", "partial", "labeled_and_unlabeled")
        self.unlabeled_N = images_with_role(
            problem, "unlabeled", "partial", "labeled_and_unlabeled"
        )
        partial_N = torch.zeros(len(problem.roles), dtype=torch.bool)
        partial_N[images_with_role(problem, "partial")] = True
        self.some_partial = bool(partial_N.any())
        self.register_buffer("partial_N", partial_N, persistent=False)
        if len(self.labeled_N) == 0 or len(self.unlabeled_N) == 0:
            advice = "use split.protocol few_shot"
            if len(self.labeled_N):
                advice += " with fewer labels (or a higher data.limit, or split.few_shot.unlabeled)"
            msg = (
                f"method: {name} learns from labeled and unlabeled images; of {len(problem.roles)} training "
                f"images {len(self.labeled_N)} are labeled or partial and {len(self.unlabeled_N)} unlabeled or "
                f"partial: {advice}, leave labels blank in the table, or take another method"
            )
            raise UserError(msg)
        self.register_buffer("guesses_NK", uniform_targets(problem.candidates_NK))

    def labeled_stream(self, *views: str) -> Stream:
        """A batch of labeled images."""
        return Stream(self.labeled_N, self.batch_size, views)

    def unlabeled_stream(self, ratio: int, *views: str) -> Stream:
        """`ratio` times as many unlabeled ones."""
        return Stream(self.unlabeled_N, ratio * self.batch_size, views)

    def possible(self, p_UK: Tensor, batch: Batch) -> Tensor:
        """Predictions on the unlabeled batch, of partially labeled images restricted to their candidates.

        Those of the labeled set are treated as if they had no label, as in FixMatch.
        """
        if not self.some_partial:
            return p_UK
        partial_U1 = self.partial_N[batch.index["unlabeled"], None]
        return torch.where(partial_U1, restrict(p_UK, batch.candidates["unlabeled"]), p_UK)

    @torch.no_grad()
    def remember(self, batch: Batch, guesses_BK: Tensor) -> None:
        """Store the guessed labels of the unlabeled batch, restricted to the candidates of its images."""
        inside_BK = restrict(guesses_BK, batch.candidates["unlabeled"])
        self.guesses_NK[batch.index["unlabeled"]] = inside_BK

    def label_state(self) -> Tensor | None:
        """The labels guessed last; the candidates where none was."""
        return self.guesses_NK


class Consistency(SemiSupervised):
    """The class that is predicted for a weak view is the label of the strong one, with a weight.

    A subclass says the weights. One forward pass over all images and views shares its batch statistics;
    the weak views carry no gradient.

    Args:
        name: of the method, for its messages.
        unlabeled_ratio: unlabeled images per labeled one.
        lambda_u: weight of the unlabeled term.
        problem: see `Method`.
        model: see `Method`.
    """

    def __init__(
        self, name: str, unlabeled_ratio: int, lambda_u: float, problem: Problem, model: Classifier
    ) -> None:
        super().__init__(name, problem, model)
        self.unlabeled_ratio = unlabeled_ratio
        self.lambda_u = lambda_u

    @property
    def streams(self) -> dict[str, Stream]:
        """Labeled images in a weak view, unlabeled ones in a weak and a strong one."""
        return {
            "labeled": self.labeled_stream("weak"),
            "unlabeled": self.unlabeled_stream(self.unlabeled_ratio, "weak", "strong"),
        }

    @abc.abstractmethod
    def weigh(self, p_UK: Tensor) -> Tensor:
        """Weights of the pseudo-labels (U,), from the predictions on the weak views; no gradient."""

    def regularizer(self, strong_UK: Tensor, weights_U: Tensor) -> Tensor:
        """What is added to the loss, from the logits of the strong views; nothing by default."""
        return torch.zeros((), device=strong_UK.device)

    def training_step(self, batch: Batch, drawn: Drawn) -> StepOutput:
        """Cross-entropy on the labeled images, and on the pseudo-labels.

        Of a partial image the likelihood of its candidates: a target spread over them would hold the
        confidence below every threshold.
        """
        parts = (*batch.views["labeled"], *batch.views["unlabeled"])
        logits = self.model(torch.cat(parts)).split([len(part) for part in parts])
        labeled_BK, weak_UK, strong_UK = logits
        with torch.no_grad():
            p_UK = self.possible(torch.softmax(wide(weak_UK), dim=1), batch)
            weights_U = self.weigh(p_UK)
            self.remember(batch, p_UK)
        supervised = candidate_nll(labeled_BK, batch.candidates["labeled"])
        unlabeled = pseudo_label_loss(strong_UK, p_UK, weights_U)
        loss = supervised + self.lambda_u * unlabeled + self.regularizer(strong_UK, weights_U)
        scalars = {
            "supervised_loss": supervised.detach(),
            "unlabeled_loss": unlabeled.detach(),
            "pseudo_label_rate": weights_U.mean(),
            "prediction_entropy": entropy(p_UK.mean(dim=0)),
        }
        return StepOutput(loss, scalars)
