"""The baseline of semi-supervised learning: the labeled images and nothing else."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipeline_lib.losses import soft_cross_entropy
from pipeline_lib.methods.base import Method, labeled_images
from pipeline_lib.records import Batch, Clock, Problem, StepOutput, Stream

if TYPE_CHECKING:
    from pipeline_lib.models.classifier import Classifier
    from pipeline_lib.params import methods as params
    from pipeline_lib.rng import StepRng


class Supervised(Method):
    """Cross-entropy on the labeled images."""

    def __init__(self, params: params.Supervised, problem: Problem, model: Classifier) -> None:
        super().__init__(problem, model)
        self.params = params
        self.pool_N = labeled_images(problem, "supervised")

    @property
    def streams(self) -> dict[str, Stream]:
        """The labeled images, in one view."""
        return {"labeled": Stream(self.pool_N, self.problem.batch_size, (self.params.view,))}

    def training_step(self, batch: Batch, clock: Clock, rng: StepRng) -> StepOutput:
        """Cross-entropy; the candidate mask of a labeled image is its one-hot label."""
        logits_BK = self.model(batch.views["labeled"][0])
        return StepOutput(soft_cross_entropy(logits_BK, batch.candidates["labeled"]))
