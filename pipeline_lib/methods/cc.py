"""CC: the class-consistent method, maximum likelihood of the candidate set.

Feng, Lv, Han, Xu, Niu, Geng, An, Sugiyama: Provably Consistent Partial-Label Learning, NeurIPS 2020.
"""

from __future__ import annotations

from pipeline_lib.losses.partial import candidate_nll
from pipeline_lib.methods.base import SingleView
from pipeline_lib.records import Batch, Drawn, StepOutput


class Cc(SingleView):
    """Minimise `-log sum_{j in Y} p_j`: an image of which nothing is known adds nothing."""

    def training_step(self, batch: Batch, drawn: Drawn) -> StepOutput:
        """Negative log-likelihood of the candidate sets of the batch."""
        logits_BK = self.model(batch.views["train"][0])
        return StepOutput(candidate_nll(logits_BK, batch.candidates["train"]))
