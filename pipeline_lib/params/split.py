"""The section `split` of params.yaml: parts, label protocols, and what becomes of annotators' labels."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from pipeline_lib.params.sections import Section

if TYPE_CHECKING:
    from collections.abc import Mapping


def check_probabilities(key: str, rows: Mapping[str, Mapping[str, float]]) -> None:
    """Refuse what is no probability, in a table by true class and other class.

    Raises:
        ValueError: One is not in 0 to 1.
    """
    for true, row in rows.items():
        for other, chance in row.items():
            if not 0 <= chance <= 1:
                msg = f"{key}.{true}.{other}: {chance:g} is no probability; take 0 to 1"
                raise ValueError(msg)


def _pattern(text: str) -> str:
    try:
        re.compile(text)
    except re.error as error:
        msg = f"no regular expression ({error}); e.g. 'animal_[0-9]+'"
        raise ValueError(msg) from error
    return text


class UniformCandidates(Section):
    """Every wrong label joins the candidate set with the same probability."""

    rate: float = Field(ge=0, le=1)
    """That probability, q in the papers."""
    force_ambiguous: bool
    """At least one wrong candidate in every set (CR-DPLL's official code) or not (PiCO, GLWS)."""


class ClassDependent(Section):
    """Wrong labels join the candidate set with probabilities that depend on the true class."""

    similar: Literal["superclasses", "matrix"]
    """Where these probabilities come from."""
    rate: float = Field(ge=0, le=1)
    """superclasses: q for the classes of the same superclass; the others never join (PiCO's CIFAR-100-H)."""
    superclasses: dict[str, list[str]] | None
    """Classes by superclass, each in one; null = the dataset's own (cifar100)."""
    matrix: dict[str, dict[str, float]] | None
    """matrix: by true class, the probability of each wrong class; what is not named is 0."""
    force_ambiguous: bool
    """At least one wrong candidate in every set that can have one."""

    @model_validator(mode="after")
    def _probabilities_by_name(self) -> Self:
        key = "split.class_dependent.matrix"
        if self.similar == "matrix" and self.matrix is None:
            msg = f"{key}: similar: matrix needs the probabilities, as {{cat: {{dog: 0.4}}}}"
            raise ValueError(msg)
        check_probabilities(key, self.matrix or {})
        diagonal = [name for name, row in (self.matrix or {}).items() if name in row]
        if diagonal:
            msg = f"{key}.{diagonal[0]}.{diagonal[0]}: the true class is always a candidate; leave it out"
            raise ValueError(msg)
        return self


class InstanceCandidates(Section):
    """Wrong labels join where a small model, trained on the true ones, finds an image ambiguous."""

    rate: float = Field(gt=0, le=1)
    """Mean probability of the wrong labels of an image (Xu et al. 2021: 0.4)."""


class Annotators(Section):
    """People who label every image, each with errors of their own, simulated."""

    count: int = Field(ge=1, le=100)
    """How many label each image."""
    accuracy: float = Field(ge=0, le=1)
    """Probability of the true class; the others are equally likely."""
    confusion: dict[str, dict[str, float]] | None
    """Instead: by true class, the probability of each class that they name; rows sum to 1."""

    @model_validator(mode="after")
    def _rows_sum_to_one(self) -> Self:
        key = "split.annotators.confusion"
        check_probabilities(key, self.confusion or {})
        for name, row in (self.confusion or {}).items():
            if abs(sum(row.values()) - 1) > 1e-6:
                msg = f"{key}.{name}: probabilities sum to {sum(row.values()):g}, must sum to 1"
                raise ValueError(msg)
        return self


class Annotations(Section):
    """How several annotators' labels of an image become its candidate set."""

    rule: Literal["union", "at_least", "weighted"]
    """All that anybody named; what enough of them named; or the most probable classes by the annotators'
    estimated reliability (Dawid and Skene 1979)."""
    at_least: int = Field(ge=1)
    """at_least: how many must agree; where no class has so many, those with the most."""
    mass: float = Field(gt=0, le=1)
    """weighted: the fewest classes that hold so much of the probability."""


class Mixed(Section):
    """Some images keep their label, some get candidates, the rest has neither."""

    labeled: float = Field(ge=0, le=1)
    """Share of the training images that keep their label."""
    partial: float = Field(ge=0, le=1)
    """Share that gets candidate sets; the rest is unlabeled."""
    rate: float = Field(ge=0, le=1)
    """Of those: probability with which each wrong label joins."""

    @model_validator(mode="after")
    def _shares(self) -> Self:
        if self.labeled + self.partial > 1:
            msg = "split.mixed: labeled and partial are shares of all; together at most 1"
            raise ValueError(msg)
        return self


class FewShot(Section):
    """A few images keep their label, the rest lose it."""

    labels: int | None = Field(ge=1)
    """Labeled images in total, shared evenly among the classes."""
    labels_per_class: int | None = Field(ge=1)
    """Instead of `labels`: labeled images of each class (with `stratified`: on average; with `long_tailed`: of the largest)."""
    balance: Literal["balanced", "stratified", "long_tailed"]
    """Equally many of each class, in proportion to the classes, or falling geometrically from the first class
    to the last."""
    imbalance: float = Field(ge=1)
    """long_tailed: labels of the largest class over those of the smallest, as nearly as whole ones, at least one of each, allow."""
    unlabeled: int | None = Field(ge=0)
    """Unlabeled images; null = all the rest."""

    @model_validator(mode="after")
    def _one_count(self) -> Self:
        if (self.labels is None) == (self.labels_per_class is None):
            msg = "split.few_shot: set either labels or labels_per_class, and the other to null"
            raise ValueError(msg)
        return self


class Split(Section):
    """Which images train, validate and test, and what is left of their labels."""

    protocol: Literal[
        "auto",
        "uniform_candidates",
        "class_dependent",
        "instance_candidates",
        "annotators",
        "few_shot",
        "mixed",
        "given",
    ]
    """How labels are weakened; `auto` = `given` where a table supervises, else what the method needs."""
    test_fraction: float = Field(gt=0, lt=1)
    """Share of the images set aside for testing where the data have no test split of their own."""
    val_fraction: float = Field(ge=0, lt=1)
    """Share of the remaining images set aside for validation."""
    val_labels: Literal["like_train", "clean"]
    """Validation images get labels as training images do (with a table: as the data give them, where a file of `val/`
    that it does not name keeps its folder's class), or cost one true label each (`clean`)."""
    allow_noisy_candidates: bool
    """Accept candidate sets that miss the true label (they are counted either way)."""
    duplicates: Literal["auto", "error", "drop", "allow"]
    """Images with the same pixels in two of training, validation and test: refused, all but one dropped
    wherever they are, or only counted; `auto` = `error` for own images, `allow` for public datasets."""
    group_by: Annotated[str, AfterValidator(_pattern)] | None
    """Images for which this regular expression finds the same in their paths stay in one part: several photos of one
    individual, patient, place or burst, as `animal_\\d+`; null = every image by itself."""
    labeled_in_unlabeled: bool
    """The labeled images are in the unlabeled set too (FixMatch, PAWS) or not (MixMatch), where there are
    unlabeled images at all. It changes nothing for methods for candidate sets."""
    annotations: Annotations
    uniform_candidates: UniformCandidates
    class_dependent: ClassDependent
    instance_candidates: InstanceCandidates
    annotators: Annotators
    few_shot: FewShot
    mixed: Mixed
