"""PRODEN: progressive identification of true labels.

Lv, Xu, Feng, Niu, Geng, Sugiyama: Progressive Identification of True Labels for Partial-Label
Learning, ICML 2020.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipeline_lib.losses.common import soft_cross_entropy, uniform_targets
from pipeline_lib.losses.partial import candidate_posterior
from pipeline_lib.methods.base import SingleView
from pipeline_lib.records import Batch, Drawn, Problem, StepOutput

if TYPE_CHECKING:
    from torch import Tensor

    from pipeline_lib.models.classifier import Classifier
    from pipeline_lib.params import methods as params


class Proden(SingleView):
    """Cross-entropy against weights on the candidates, which follow the network's own predictions."""

    targets_NK: Tensor

    def __init__(self, params: params.Proden, problem: Problem, model: Classifier) -> None:
        super().__init__(params, problem, model)
        self.register_buffer("targets_NK", uniform_targets(problem.candidates_NK))

    def training_step(self, batch: Batch, drawn: Drawn) -> StepOutput:
        """Cross-entropy against the stored weights, then new weights from this prediction."""
        index_B = batch.index["train"]
        logits_BK = self.model(batch.views["train"][0])
        loss = soft_cross_entropy(logits_BK, self.targets_NK[index_B])
        self.targets_NK[index_B] = candidate_posterior(logits_BK, batch.candidates["train"])
        return StepOutput(loss)

    def label_state(self) -> Tensor:
        """The stored weights."""
        return self.targets_NK
