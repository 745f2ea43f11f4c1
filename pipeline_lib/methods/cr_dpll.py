"""CR-DPLL: consistency regularization for deep partial-label learning.

Wu, Wang, Zhang: Revisiting Consistency Regularization for Deep Partial Label Learning, ICML 2022.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from pipeline_lib.losses.common import linear_ramp, uniform_targets
from pipeline_lib.losses.partial import complementary_loss, conformal_targets, consistency_loss
from pipeline_lib.methods.base import Method, all_images
from pipeline_lib.models.batch_norm import in_groups
from pipeline_lib.records import Batch, Clock, Drawn, Problem, StepOutput, Stream

if TYPE_CHECKING:
    from torch import Tensor

    from pipeline_lib.models.classifier import Classifier
    from pipeline_lib.params import methods as params
    from pipeline_lib.rng import StepRng

VIEWS = ("weak", "strong", "strong")


class CrDpll(Method):
    """Complementary loss on the weak view, and agreement of three views with a stored distribution.

    The distribution `targets_NK` that a step uses is the one written when the image was last seen; the
    step then writes the geometric mean of its three predictions over the candidates. All three views
    carry gradient.
    """

    targets_NK: Tensor

    def __init__(self, params: params.CrDpll, problem: Problem, model: Classifier) -> None:
        super().__init__(problem, model)
        self.params = params
        self.register_buffer("targets_NK", uniform_targets(problem.candidates_NK))

    @property
    def streams(self) -> dict[str, Stream]:
        """Every training image, in one weak and two strong views."""
        return {"train": Stream(all_images(self.problem), self.problem.batch_size, VIEWS)}

    @property
    def variant(self) -> str:
        """Where the article and the codes differ (official code: per_view, zero)."""
        return f"bn={self.params.bn},ramp_start={self.params.ramp_start}"

    def draw(self, clock: Clock, rng: StepRng) -> Drawn:
        """The weight of the consistency term."""
        del rng
        return {"weight": torch.tensor(self.params.lambda_max * self.risen(clock))}

    def training_step(self, batch: Batch, drawn: Drawn) -> StepOutput:
        """`L_sup + lambda(epoch) L_con`, then the label distributions of the batch."""
        index_B, candidates_BK = batch.index["train"], batch.candidates["train"]
        logits = self._logits(batch.views["train"])
        supervised = complementary_loss(logits[0], candidates_BK)
        consistency = consistency_loss(self.targets_NK[index_B], logits)
        self.targets_NK[index_B] = conformal_targets(logits, candidates_BK)
        return StepOutput(
            loss=supervised + drawn["weight"] * consistency,
            scalars={
                "complementary_loss": supervised.detach(),
                "consistency_loss": consistency.detach(),
                "consistency_weight": drawn["weight"],
            },
        )

    @property
    def recordings_per_step(self) -> int:
        """One for each group of the batch."""
        return len(VIEWS) if self.params.bn == "per_view" else 1

    def _logits(self, views: tuple[Tensor, ...]) -> list[Tensor]:
        """Batch statistics are those of each view, or of all of them."""
        with in_groups(self.model, self.recordings_per_step):
            return list(self.model(torch.cat(views)).chunk(len(views)))

    def risen(self, clock: Clock) -> float:
        """lambda(epoch) / lambda_max: linear from the first epoch, 1 at most."""
        if self.params.lambda_max == 0:
            return 1.0
        position = clock.epoch if self.params.ramp_start == "zero" else clock.epoch + 1
        return linear_ramp(position, self.params.ramp_epochs)

    def label_state(self) -> Tensor:
        """The stored label distributions."""
        return self.targets_NK
