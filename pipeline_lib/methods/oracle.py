"""The upper bound: what the same network reaches with every true label.

The split stage gives it each true label as the only candidate; training itself never opens the
hidden labels.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipeline_lib.losses import soft_cross_entropy
from pipeline_lib.methods.base import Method, labeled_images
from pipeline_lib.records import Batch, Clock, Problem, StepOutput, Stream

if TYPE_CHECKING:
    from pipeline_lib.models.classifier import Classifier
    from pipeline_lib.params import methods as params
    from pipeline_lib.rng import StepRng


class Oracle(Method):
    """Cross-entropy on the true labels."""

    def __init__(self, params: params.Oracle, problem: Problem, model: Classifier) -> None:
        super().__init__(problem, model)
        self.params = params
        self.pool_N = labeled_images(problem, "oracle")

    @property
    def streams(self) -> dict[str, Stream]:
        """Every training image, in one view."""
        return {"train": Stream(self.pool_N, self.problem.batch_size, (self.params.view,))}

    def training_step(self, batch: Batch, clock: Clock, rng: StepRng) -> StepOutput:
        """Cross-entropy."""
        logits_BK = self.model(batch.views["train"][0])
        return StepOutput(soft_cross_entropy(logits_BK, batch.candidates["train"]))
