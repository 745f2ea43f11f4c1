"""The baseline of semi-supervised learning: the labeled images and nothing else."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipeline_lib.methods.base import LabeledMethod

if TYPE_CHECKING:
    from pipeline_lib.models.classifier import Classifier
    from pipeline_lib.params import methods as params
    from pipeline_lib.records import Problem


class Supervised(LabeledMethod):
    """Cross-entropy on the labeled images."""

    def __init__(self, params: params.Supervised, problem: Problem, model: Classifier) -> None:
        super().__init__(params, problem, model, "supervised")
