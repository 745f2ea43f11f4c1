"""Soft nearest neighbours learned on the labels alone: what PAWS is without unlabeled images.

The SuNCEt loss of Assran et al.: Supervision Accelerates Pre-training in Contrastive Semi-Supervised
Learning of Visual Representations, 2020.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipeline_lib.losses.paws import suncet_loss
from pipeline_lib.methods.support import SupportMethod
from pipeline_lib.records import Batch, Drawn, Problem, StepOutput, Stream

if TYPE_CHECKING:
    from pipeline_lib.models.classifier import Classifier
    from pipeline_lib.params import methods as params


class Snn(SupportMethod):
    """Bring images of one class together, and apart from the others."""

    def __init__(self, params: params.Snn, problem: Problem, model: Classifier) -> None:
        super().__init__("snn", params, 1, problem, model)

    @property
    def streams(self) -> dict[str, Stream]:
        """Equally many labeled images of each class, in one view."""
        return {"support": self.support_stream("weak")}

    def training_step(self, batch: Batch, drawn: Drawn) -> StepOutput:
        """SuNCEt loss of the support."""
        embedding_SD = self.embed(batch.views["support"][0])
        return StepOutput(suncet_loss(embedding_SD, self.class_S, self.temperature))
