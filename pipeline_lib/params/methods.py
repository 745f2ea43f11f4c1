"""The hyper-parameters of each method, and which kind of labels it learns from.

One class per module of `pipeline_lib/methods/`; the field of `Methods`, the section of params.yaml and
the module share their name.
"""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from pipeline_lib.params.section import Section
from pipeline_lib.records import Kind


class CrDpll(Section):
    """Consistency regularization for deep partial-label learning (Wu, Wang, Zhang; ICML 2022)."""

    KIND: ClassVar[Kind] = "partial"
    lambda_max: float = Field(ge=0)
    """Final weight of the consistency term (paper: 1)."""
    ramp_epochs: int = Field(ge=0)
    """Epochs over which the weight grows linearly; 0 = full weight from the start (official code: 100)."""
    ramp_start: Literal["zero", "one_step"]
    """Weight in the first epoch: `zero`, as the official code, or `one_step`, (epoch + 1) / ramp_epochs."""
    bn: Literal["per_view", "joint"]
    """Batch statistics of each of the three views (official code), or of all of them together."""


class Proden(Section):
    """Progressive identification of true labels (Lv et al.; ICML 2020)."""

    KIND: ClassVar[Kind] = "partial"
    view: Literal["weak", "strong"]
    """Augmentation of the single view."""


class Average(Section):
    """Mean over the candidates: cross-entropy against the uniform distribution on them."""

    KIND: ClassVar[Kind] = "partial"
    view: Literal["weak", "strong"]
    """Augmentation of the single view."""


class Supervised(Section):
    """Cross-entropy on the labeled images only; the others are never looked at."""

    KIND: ClassVar[Kind] = "few_shot"
    view: Literal["weak", "strong"]
    """Augmentation of the single view."""


class Oracle(Section):
    """The upper bound: cross-entropy on the true label of every training image."""

    KIND: ClassVar[Kind] = "clean"
    view: Literal["weak", "strong"]
    """Augmentation of the single view."""


class Methods(Section):
    """One section per method; only the chosen one is a dependency of training."""

    cr_dpll: CrDpll
    proden: Proden
    average: Average
    supervised: Supervised
    oracle: Oracle


KINDS: dict[str, Kind] = {
    name: field.annotation.KIND  # type: ignore[union-attr]  # every field's annotation is a Section
    for name, field in Methods.model_fields.items()
}
