"""The baseline of all labels: what the same network reaches with every true label.

The split stage gives it each true label as the only candidate; training itself never opens the
hidden labels.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipeline_lib.methods.base import LabeledMethod

if TYPE_CHECKING:
    from pipeline_lib.models.classifier import Classifier
    from pipeline_lib.params import methods as params
    from pipeline_lib.records import Problem


class Oracle(LabeledMethod):
    """Cross-entropy on the true labels."""

    def __init__(self, params: params.Oracle, problem: Problem, model: Classifier) -> None:
        super().__init__(params, problem, model, "oracle")
