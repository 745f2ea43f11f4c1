"""The section `compare` of params.yaml: which trainings are compared with each other."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from pipeline_lib.params.methods import KINDS, why_no_method
from pipeline_lib.params.sections import Section

if TYPE_CHECKING:
    from collections.abc import Iterator


def _plain_name(name: str) -> str:
    """A cell is a folder called method-variant-budget-seed, so that no name may hold a hyphen."""
    if not re.fullmatch(r"[a-z0-9_]{1,40}", name):
        msg = f"{name!r}: names are made of lower-case letters, digits and underscores, 40 at most"
        raise ValueError(msg)
    return name


Name = Annotated[str, AfterValidator(_plain_name)]
OF_METHODS = ("model", "train", "methods")
OF_BUDGETS = ("split", "data.limit")


def _about_training(overlay: dict[str, Any]) -> dict[str, Any]:
    """Refuse what would give a method other images or other labels than the others."""
    for section in overlay:
        if section not in OF_METHODS:
            msg = (
                f"{section}: may change {', '.join(OF_METHODS)} only, so that all methods get the same images "
                f"and labels; labels belong in compare.budgets"
            )
            raise ValueError(msg)
    return overlay


def _about_labels(overlay: dict[str, Any]) -> dict[str, Any]:
    """Refuse what is not the same for all methods by its nature."""
    for section, content in overlay.items():
        in_data = section == "data" and isinstance(content, dict)
        for key in [f"data.{name}" for name in content] if in_data else [section]:
            if key not in OF_BUDGETS:
                msg = f"{key}: may change {' and '.join(OF_BUDGETS)} only; what trains belongs in compare.variants"
                raise ValueError(msg)
    return overlay


class Contender(Section):
    """A method that is compared."""

    tried: int = Field(ge=0)
    """Settings of this method that were tried on validation images before; 0 = none was chosen by a result."""
    params: Annotated[dict[str, Any], AfterValidator(_about_training)]
    """What it changes in `model`, `train` and `methods`."""


class Compare(Section):
    """`make compare`: every method in every variant, with every budget and seed."""

    methods: dict[Name, Contender] = Field(min_length=1)
    """Which methods, by name, each with `tried`, how many settings of it were tried on validation images before,
    and `params`, what it changes in `model`, `train` and `methods`."""
    variants: dict[Name, Annotated[dict[str, Any], AfterValidator(_about_training)]] = Field(
        min_length=1
    )
    """Names for what is changed in `model`, `train` and `methods`, for every method: `{standard: {}}`."""
    budgets: dict[Name, Annotated[dict[str, Any], AfterValidator(_about_labels)]] = Field(
        min_length=1
    )
    """Names for what is changed in `split` (and `data.limit`): how many labels, or which candidate rate."""
    seeds: list[Annotated[int, Field(ge=0, lt=2**63)]] = Field(min_length=1)
    """One training each, 0 or more; the same images, labels and validation for all methods of a seed."""
    pairs: Literal["all", "first", "previous"]
    """Which are tested against each other: all pairs, each with the first, or each with the one before it. Fewer
    pairs find smaller differences."""
    equal: Literal["steps", "images", "seconds"]
    """What every method gets the same `amount` of: optimizer steps, views that the network looks at, or seconds."""
    amount: float | None = Field(gt=0)
    """How much of it; lengths are stretched to that. null = as `train`, `methods` and the overlays say."""
    ms_per_step: dict[str, dict[str, Annotated[float, Field(gt=0)]]]
    """By method-variant and phase, above 0, for the charts over time and for `equal: seconds`; a search for settings
    is a phase of one step. Written by `python -m stages.app compare-times`, from the cells that ran on this machine."""

    @model_validator(mode="after")
    def _methods_are_known(self) -> Self:
        for name in self.methods:
            if name not in KINDS:
                msg = f"compare.methods.{name}: {why_no_method(name)}"
                raise ValueError(msg)
            for other in self.methods[name].params.get("methods") or {}:
                if other != name:
                    msg = (
                        f"compare.methods.{name}.params.methods.{other}: {name} does not read it; what {other} "
                        f"changes belongs in compare.methods.{other}"
                    )
                    raise ValueError(msg)
        return self

    @model_validator(mode="after")
    def _seeds_are_different(self) -> Self:
        twice = sorted({seed for seed in self.seeds if self.seeds.count(seed) > 1})
        if twice:
            msg = f"compare.seeds: {', '.join(map(str, twice))} is there twice"
            raise ValueError(msg)
        return self

    @model_validator(mode="after")
    def _times_are_of_contenders(self) -> Self:
        known = list(self.contenders())
        for name in self.ms_per_step:
            if name not in known:
                msg = (
                    f"compare.ms_per_step.{name}: is no method-variant of this comparison; take it out, or name "
                    f"one of {', '.join(known)}"
                )
                raise ValueError(msg)
        missing = [name for name in known if name not in self.ms_per_step]
        if self.equal == "seconds" and self.amount and missing:
            msg = (
                f"compare.ms_per_step: lacks {', '.join(missing)}, which equal: seconds needs; run the comparison "
                f"with equal: steps first, then `python -m stages.app compare-times`"
            )
            raise ValueError(msg)
        return self

    def contenders(self) -> Iterator[str]:
        """Every method-variant, in the order of the file."""
        for method in self.methods:
            for variant in self.variants:
                yield f"{method}-{variant}"
