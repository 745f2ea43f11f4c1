"""The file that `export` wrote, computed by onnxruntime: it starts in a fraction of the time that torch takes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, Self

from pydantic import BaseModel, Field, Json, ValidationError, model_validator

from pipeline_lib.apply.model import (
    Loaded,
    Model,
    batch_size_on_processor,
    target_of,
    too_many_images,
)
from pipeline_lib.artifacts import recorded_sha256, sha256, sidecar_of
from pipeline_lib.control_groups import cores
from pipeline_lib.errors import UserError, in_one_line
from pipeline_lib.models.description import MOST_CLASSES, SCHEMA_VERSION, SIDE

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray
    from onnxruntime import InferenceSession

SUFFIX = ".onnx"
FATAL = 4  # of onnxruntime's levels of logging: what it raises needs no second telling


class About(BaseModel):
    """What `export` says of the predictor in the metadata; all values there are text."""

    schema_version: int
    image_height: int = Field(ge=1, le=SIDE)
    image_width: int = Field(ge=1, le=SIDE)
    channels: int
    resize: Literal["stretch", "center_crop", "pad"]
    classes: Json[list[str]]

    @model_validator(mode="after")
    def _is_of_this_version(self) -> Self:
        if self.schema_version != SCHEMA_VERSION:
            msg = f"schema_version {self.schema_version}, this version reads {SCHEMA_VERSION}"
            raise ValueError(msg)
        if self.channels not in {1, 3} or not 1 <= len(self.classes) <= MOST_CLASSES:
            msg = f"{self.channels} channels or {len(self.classes)} classes"
            raise ValueError(msg)
        return self


def load_onnx(path: Path) -> Model:
    """Read a predictor.onnx, and what is written in it of its images. It runs on the processor.

    Raises:
        UserError: onnxruntime is not installed, or the file is missing, damaged or not one of `export`.
    """
    session = _session(path)
    about = _about(path, session)
    shape = (about.image_height, about.image_width, about.channels)

    def answer(images_BHWC: NDArray[np.uint8]) -> NDArray[np.float32]:
        images_BCHW = images_BHWC.transpose(0, 3, 1, 2)
        try:
            probabilities_BK: NDArray[np.float32]
            (probabilities_BK,) = session.run(["probabilities"], {"images": images_BCHW})
        except Exception as error:  # onnxruntime has a dozen kinds, which share no parent
            if "allocate memory" in str(error):
                raise UserError(too_many_images(len(images_BCHW), "the processor")) from error
            raise _unusable(path, error) from error
        return probabilities_BK

    loaded = Loaded(answer, batch_size_on_processor(shape), cores())
    return Model(about.classes, shape, target_of(shape, about.resize), lambda: loaded)


def _session(path: Path) -> InferenceSession:
    """Onnxruntime with the graph, each call of which is computed by the thread that makes it."""
    try:
        import onnxruntime
    except ImportError as error:
        msg = f"{path}: an ONNX file needs onnxruntime: pip install onnxruntime, or give --models a folder"
        raise UserError(msg) from error
    if not path.is_file():
        msg = f"{path}: not found; python -m stages.app export --format onnx writes one"
        raise UserError(msg)
    if sidecar_of(path).exists() and sha256(path) != recorded_sha256(path):
        raise _unusable(path, "it is not what its sha256 says")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = FATAL
    try:
        session: InferenceSession = onnxruntime.InferenceSession(
            path, options, providers=["CPUExecutionProvider"]
        )
    except Exception as error:  # as above
        raise _unusable(path, str(error).rpartition(" : ")[2]) from error
    return session


def _about(path: Path, session: InferenceSession) -> About:
    try:
        about = About.model_validate(session.get_modelmeta().custom_metadata_map)
    except ValidationError as error:
        first = error.errors()[0]
        where = "".join(f" {name}" for name in first["loc"])
        words = f"metadata{where}: {first['msg'].removeprefix('Value error, ')}"
        raise _unusable(path, words) from error
    sizes = {
        "images": [about.channels, about.image_height, about.image_width],
        "probabilities": [len(about.classes)],
    }
    for end in (*session.get_inputs(), *session.get_outputs()):
        if end.shape[1:] != sizes.get(end.name):
            raise _unusable(path, f"{end.name} of shape {end.shape}")
    return about


def _unusable(path: Path, problem: object) -> UserError:
    return UserError(f"{path}: not usable ({in_one_line(problem)}); write it again with `export`")
