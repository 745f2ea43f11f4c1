"""The baseline of partial-label learning: every candidate counts the same, for ever."""

from __future__ import annotations

from pipeline_lib.losses.common import soft_cross_entropy, telling, uniform_targets
from pipeline_lib.methods.base import SingleView
from pipeline_lib.records import Batch, Drawn, StepOutput


class Average(SingleView):
    """Cross-entropy against the uniform distribution on the candidates."""

    def training_step(self, batch: Batch, drawn: Drawn) -> StepOutput:
        """Mean over the candidates of their cross-entropies; 0 where all classes are some."""
        logits_BK = self.model(batch.views["train"][0])
        candidates_BK = batch.candidates["train"]
        targets_BK = telling(candidates_BK) * uniform_targets(candidates_BK)
        return StepOutput(soft_cross_entropy(logits_BK, targets_BK))
