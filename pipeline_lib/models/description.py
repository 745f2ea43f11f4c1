"""What predictor.json may say: nothing in it can ask for another file, or for more than a network takes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import Field, StringConstraints, ValidationError, model_validator

from pipeline_lib.artifacts import read_json, recorded_sha256
from pipeline_lib.errors import UserError, in_one_line
from pipeline_lib.params.sections import Model, Section

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

SCHEMA_VERSION = 3
DESCRIPTION = "predictor.json"
WEIGHTS = "predictor.safetensors"
MOST_BYTES = 1 << 26  # of predictor.json; 32,767 classes of 300 letters take a fifth of it
MOST_CLASSES = 32_767  # int16
SIDE = 1024  # pixels: see data.image_size

Name = Annotated[str, StringConstraints(pattern="^[a-z]+-[A-Za-z0-9_-]+$", max_length=100)]
Numbers = Annotated[tuple[float, ...], Field(strict=False)]  # JSON has lists only


class Stored(Model):
    """The fields of an `Architecture`, with their bounds."""

    channels: Literal[1, 3]
    image_height: int = Field(ge=1, le=SIDE)
    image_width: int = Field(ge=1, le=SIDE)
    num_classes: int = Field(ge=1, le=MOST_CLASSES)
    mean: Numbers
    std: Numbers

    @model_validator(mode="after")
    def _one_of_each_per_channel(self) -> Self:
        if {len(self.mean), len(self.std)} != {self.channels} or min(self.std) <= 0:
            msg = "mean and std: not one number per channel, or a deviation that is not above 0"
            raise ValueError(msg)
        return self


class Softmax(Section):
    """A `Predictor`."""

    kind: Literal["softmax"]


class Projected(Section):
    """A `ProjectedSoftmax`."""

    kind: Literal["projected_softmax"]
    projection_layers: int = Field(ge=0, le=1000)
    projection_width: int = Field(ge=1, le=1 << 20)


class Neighbours(Section):
    """A `SoftNeighbours`."""

    kind: Literal["soft_neighbours"]
    supports: int = Field(ge=1, le=1 << 31)
    temperature: float = Field(gt=0)
    projection_layers: int = Field(ge=0, le=1000)
    projection_width: int = Field(ge=1, le=1 << 20)


Kind = Annotated[Softmax | Projected | Neighbours, Field(discriminator="kind")]


class Snapshot(Section):
    """Another predictor of the same training; its name is part of a path."""

    of: Literal["evaluation", "phase"]
    epoch: int
    predictor: Kind


class Description(Section, extra="ignore"):
    """What is read of predictor.json."""

    method: str
    variant: str
    dataset: str
    seed: int
    classes: list[str]
    resize: Literal["stretch", "center_crop", "pad"]
    selected_epoch: int
    architecture: Stored
    predictor: Kind
    snapshots: dict[Name, Snapshot]

    @model_validator(mode="after")
    def _classes_are_those_of_the_network(self) -> Self:
        if len(self.classes) != self.architecture.num_classes:
            msg = f"{len(self.classes)} names for {self.architecture.num_classes} classes"
            raise ValueError(msg)
        return self


def read_description(folder: Path) -> dict[str, Any]:
    """The content of predictor.json.

    Raises:
        UserError: It is missing, damaged, of another version of the project, or out of all bounds.
    """
    path = folder / DESCRIPTION
    content = read_json(path, MOST_BYTES)
    version = content.get("schema_version")
    if version != SCHEMA_VERSION:
        msg = (
            f"{path}: schema_version {in_one_line(version, 20)}, this version reads {SCHEMA_VERSION}; "
            f"train again or use the version that wrote it"
        )
        raise UserError(msg)
    try:
        Description.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))[:100]
        what = in_one_line(first["msg"], 300)  # which may quote the file
        msg = f"{path}: {where!r}: {what}; it is not as training writes it: train again"
        raise UserError(msg) from error
    return content


def weights_sha256(folder: Path) -> str:
    """What is recorded of the weights beside predictor.json; loading them compares them with it.

    Raises:
        UserError: It is missing.
    """
    return recorded_sha256(folder / WEIGHTS)


def stop_if_replaced(folder: Path, about: Mapping[str, Any], weights: str) -> None:
    """Whoever has read the description and then loaded the weights, must have seen one and the same model.

    Args:
        folder: of both.
        about: see `read_description`.
        weights: see `weights_sha256`; read after `about`, and before the weights.

    Raises:
        UserError: Another model has taken its place meanwhile: `dvc repro`, `dvc checkout` and their like were at work.
    """
    if weights_sha256(folder) != weights or read_description(folder) != about:
        msg = f"{folder}: was replaced by another model meanwhile; run again"
        raise UserError(msg)


def image_shape(about: Mapping[str, Any]) -> tuple[int, int, int]:
    """(H, W, C) of the images that a predictor so described takes."""
    network = about["architecture"]
    return network["image_height"], network["image_width"], network["channels"]


def read_with_task(folder: Path, classes: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Read predictor.json and classes.json, which must be of the same classes and shape of images.

    Raises:
        UserError: They are not, or see `read_description`.
    """
    about, task = read_description(folder), read_json(classes)
    for ours, theirs, what in (
        (about["classes"], task["classes"], "classes"),
        (image_shape(about), (task["height"], task["width"], task["channels"]), "sizes of images"),
    ):
        if ours != theirs:
            msg = f"{folder / DESCRIPTION}: trained on other {what} than {classes} has; run `dvc repro`"
            raise UserError(msg)
    return about, task
