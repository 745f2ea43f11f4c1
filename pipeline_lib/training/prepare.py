"""What a training needs before it starts: images, class names, both parts of the split, and the method."""

from __future__ import annotations

import functools
import importlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow.compute as pc
import torch

from pipeline_lib.artifacts import read_json
from pipeline_lib.augment.policies import policy, resolve
from pipeline_lib.errors import UserError
from pipeline_lib.memory import ImageMemory
from pipeline_lib.models.build import Architecture, build
from pipeline_lib.parquet import read_table
from pipeline_lib.pixels import Stored, check_images
from pipeline_lib.records import LIST_VALUES, Problem
from pipeline_lib.rng import seeded_layers
from pipeline_lib.training.determinism import emulated_bf16
from pipeline_lib.training.device import choose_device
from pipeline_lib.training.pool import Pool
from pipeline_lib.training.resume import resume_root
from pipeline_lib.training.selection import Validation

if TYPE_CHECKING:
    from collections.abc import Callable

    import pyarrow as pa
    from numpy.typing import NDArray
    from torch import Tensor

    from pipeline_lib.augment.policies import View
    from pipeline_lib.methods.base import Method
    from pipeline_lib.params.load import Params
    from pipeline_lib.records import Role

IMAGES = Path("data/images.parquet")
CLASSES = Path("data/classes.json")
TRAIN = Path("data/split/train.parquet")
VAL = Path("data/split/val.parquet")
BLOCK = 8192  # images whose candidates are read at a time: all classes of all images are many


@dataclass(frozen=True)
class Part:
    """The training or validation images: ids (N,), pixels (N, C, H, W), candidates (N, K), roles."""

    ids_N: Tensor
    images_NCHW: Tensor
    candidates_NK: Tensor
    roles: tuple[Role, ...]


@dataclass(frozen=True)
class Prepared:
    """What a training needs: the images, the method, and what both are of."""

    device: torch.device
    classes: dict[str, Any]
    training: Part
    validation: Validation
    architecture: Architecture
    method: Method
    pool: Pool


def prepare(params: Params, say: Callable[[str], None] | None) -> Prepared:
    """Read the images, the class names and both parts of the split, and build the method.

    Args:
        params: all of them.
        say: tells the user of images that do not fit in memory, and of a precision that is slow here;
            None where another process does.

    Raises:
        UserError: An input is missing or damaged, the method cannot use the labels, the device is not
            there, or there is neither memory nor disk for the images.
    """
    device = choose_device(params.train.device)
    half = device.type == "cpu" and params.train.precision == "bf16"
    if say and half and (emulated := emulated_bf16(params.train.reproducible)):
        say(emulated)
    classes = read_json(CLASSES)
    memory = ImageMemory(params.train.memory_budget, device, resume_root(), say)
    training = _read_part(TRAIN, classes, memory, "training")
    validation = _read_part(VAL, classes, memory, "validation")
    architecture = _architecture(params, classes, training.images_NCHW)
    method = _build_method(params, classes, training, architecture).to(device)
    checked = Validation(validation.images_NCHW, validation.candidates_NK.to(device).float())
    pool = Pool(
        training.images_NCHW,
        training.candidates_NK,
        _views(params, classes, architecture),
        params.seed,
        device,
    )
    return Prepared(device, classes, training, checked, architecture, method, pool)


def _read_part(path: Path, classes: dict[str, Any], memory: ImageMemory, what: str) -> Part:
    table = read_table(path)
    check_images(path, table, IMAGES)
    ids_N = table["id"].to_numpy()
    num_classes = len(classes["classes"])
    if len(ids_N) * num_classes > LIST_VALUES:  # said now, and not once all is trained
        msg = (
            f"data.limit: {len(ids_N):,} {what} images of {num_classes:,} classes have more than {LIST_VALUES:,} soft "
            f"labels, which is what a table can list; set it to {LIST_VALUES // num_classes:,} or less"
        )
        raise UserError(msg)
    return Part(
        torch.from_numpy(ids_N.astype(np.int64)),
        memory.load(IMAGES, ids_N, Stored.described_by(classes), what),
        torch.from_numpy(candidate_masks(table, num_classes)),
        tuple(table["role"].to_pylist()),
    )


def candidate_masks(table: pa.Table, num_classes: int) -> NDArray[np.bool_]:
    """Which classes are candidates of each image of a split table: (N, K)."""
    masks_NK = np.zeros((len(table), num_classes), bool)
    for start in range(0, len(table), BLOCK):
        lists = table["candidates"].slice(start, BLOCK).combine_chunks()
        rows = start + pc.list_parent_indices(lists).to_numpy()
        masks_NK[rows, pc.list_flatten(lists).to_numpy()] = True
    return masks_NK


def _architecture(params: Params, classes: dict[str, Any], images_NCHW: Tensor) -> Architecture:
    mean, std = _pixel_statistics(images_NCHW)
    return Architecture(
        **params.model.model_dump(),
        channels=classes["channels"],
        image_height=classes["height"],
        image_width=classes["width"],
        num_classes=len(classes["classes"]),
        mean=mean,
        std=std,
    )


def _pixel_statistics(images_NCHW: Tensor) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation per channel in [0, 1], exact sums over the training images."""
    channels = images_NCHW.shape[1]
    counts = np.zeros((channels, 256), np.int64)
    for block in images_NCHW.split(1024):
        for channel in range(channels):
            flat = block[:, channel].flatten().cpu().numpy()
            counts[channel] += np.bincount(flat, minlength=256)
    levels = np.arange(256) / 255
    total = counts.sum(axis=1)
    mean = (counts * levels).sum(axis=1) / total
    variance = (counts * (levels - mean[:, None]) ** 2).sum(axis=1) / total
    # Rounded, so that the last bit of a sum cannot change the weights; flat images are not divided by 0.
    std = np.maximum(np.sqrt(variance), 1e-3)
    return tuple(np.round(mean, 6).tolist()), tuple(np.round(std, 6).tolist())


def _build_method(
    params: Params, classes: dict[str, Any], training: Part, architecture: Architecture
) -> Method:
    """Build the method: the class named as its params' class, in the module named as the method."""
    problem = Problem(
        candidates_NK=training.candidates_NK,
        roles=training.roles,
        class_names=tuple(classes["classes"]),
        batch_size=params.train.batch_size,
        images_NCHW=training.images_NCHW,
    )
    section = params.method_params
    module = importlib.import_module(f"pipeline_lib.methods.{params.method}")
    with seeded_layers(params.seed, "weights"):
        method: Method = getattr(module, type(section).__name__)(
            section, problem, build(architecture)
        )
    return method


def _views(
    params: Params, classes: dict[str, Any], architecture: Architecture
) -> Callable[[str], View]:
    """What the name of a view means for this data; a name that is not of params is a policy's own."""
    shape = (architecture.channels, architecture.image_height, architecture.image_width)
    kind, train = classes["policy"], params.train
    chosen = {
        "weak": resolve(train.weak_augment, kind, "weak"),
        "strong": resolve(train.strong_augment, kind, "strong"),
        "global": resolve(train.global_augment, kind, "global"),
        "small": resolve(train.small_augment, kind, "small"),
    }

    @functools.cache
    def view(name: str) -> View:
        return policy(chosen.get(name, name), shape)

    return view
