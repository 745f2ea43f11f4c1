"""LWS: leveraged weighted loss.

Wen, Cui, Hang, Liu, Wang, Lin: Leveraged Weighted Loss for Partial Label Learning, ICML 2021.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from pipeline_lib.losses.common import uniform_targets
from pipeline_lib.losses.partial import candidate_posterior, leveraged_loss
from pipeline_lib.methods.base import SingleView
from pipeline_lib.records import Batch, Drawn, Problem, StepOutput

if TYPE_CHECKING:
    from torch import Tensor

    from pipeline_lib.models.classifier import Classifier
    from pipeline_lib.params import methods as params


class Lws(SingleView):
    """Candidates are pushed up and the other classes down, each by a weight of its own.

    The weights follow the network's predictions, normalised on the candidates and on the other classes. They
    start uniform on either; the official code starts all of them at 1/K, and takes the new ones from a
    second pass, after the step. An image whose candidates are all classes has nothing to push down: it is left
    out of the loss, which would otherwise raise whatever is predicted, until all is one class.
    """

    inside_NK: Tensor
    outside_NK: Tensor

    def __init__(self, params: params.Lws, problem: Problem, model: Classifier) -> None:
        super().__init__(params, problem, model)
        self.params = params
        self.register_buffer("inside_NK", uniform_targets(problem.candidates_NK))
        # Where every class is a candidate the others are none, and their weights stay 0.
        others_NK = (~problem.candidates_NK).float()
        self.register_buffer(
            "outside_NK", others_NK / others_NK.sum(dim=1, keepdim=True).clamp_min(1)
        )

    @property
    def variant(self) -> str:
        """Weight of the non-candidates: the paper reports the better of 1 and 2."""
        return f"beta={self.params.beta:g}"

    def training_step(self, batch: Batch, drawn: Drawn) -> StepOutput:
        """The loss by the stored weights, then new weights from this prediction."""
        index_B, candidates_BK = batch.index["train"], batch.candidates["train"]
        logits_BK = self.model(batch.views["train"][0])
        others_BK = 1 - candidates_BK
        some_B1 = others_BK.amax(dim=1, keepdim=True)
        inside_BK, outside_BK = self.inside_NK[index_B], self.outside_NK[index_B]
        loss = leveraged_loss(logits_BK, some_B1 * inside_BK, outside_BK, self.params.beta)
        self.inside_NK[index_B] = candidate_posterior(logits_BK, candidates_BK)
        # All classes stand in where there are no others, so that nothing is 0/0.
        posterior_BK = candidate_posterior(logits_BK, torch.where(some_B1 > 0, others_BK, 1))
        self.outside_NK[index_B] = some_B1 * posterior_BK
        return StepOutput(loss)

    def label_state(self) -> Tensor:
        """The weights of the candidates."""
        return self.inside_NK
