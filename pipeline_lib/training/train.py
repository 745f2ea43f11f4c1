"""From the stored split to a trained predictor: the train stage without its command line."""

from __future__ import annotations

import contextlib
import functools
import importlib
import time
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow.compute as pc
import torch

from pipeline_lib.artifacts import SIDECAR, read_json, read_table
from pipeline_lib.augment.policies import policy, resolve
from pipeline_lib.errors import UserError, in_one_line
from pipeline_lib.memory import ImageMemory
from pipeline_lib.models.build import Architecture, build
from pipeline_lib.pixels import Stored
from pipeline_lib.records import LIST_VALUES, Problem
from pipeline_lib.rng import seeded_layers
from pipeline_lib.training.device import choose_device, enough_memory
from pipeline_lib.training.distributed import from_first, met, refuse_random_depth, say_nothing
from pipeline_lib.training.finders import Findings, find
from pipeline_lib.training.interruption import Interruption, noticed
from pipeline_lib.training.loop import Trainer
from pipeline_lib.training.outputs import publish_training
from pipeline_lib.training.pool import Pool
from pipeline_lib.training.progress import TrainingProgress
from pipeline_lib.training.resume import Slot, loaded_code, packed, resume_root, unpacked
from pipeline_lib.training.selection import Rule, Validation, resolve_rule

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from torch import Tensor

    from pipeline_lib.augment.policies import View
    from pipeline_lib.methods.base import Method
    from pipeline_lib.methods.phases import Phase
    from pipeline_lib.models.ranks import Ranks
    from pipeline_lib.params.load import Params
    from pipeline_lib.records import Role
    from pipeline_lib.training.record import Record

IMAGES = Path("data/images.parquet")
CLASSES = Path("data/classes.json")
TRAIN = Path("data/split/train.parquet")
VAL = Path("data/split/val.parquet")
BLOCK = (
    8192  # images whose candidates are read at a time: all classes of all images are many numbers
)


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


def prepare(params: Params, say: Callable[[str], None]) -> Prepared:
    """Read the images, the class names and both parts of the split, and build the method.

    Args:
        params: all of them.
        say: tells the user of images that do not fit in memory.

    Raises:
        UserError: An input is missing or damaged, the method cannot use the labels, the device is not
            there, or there is neither memory nor disk for the images.
    """
    device = choose_device(params.train.device)
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


def train(params: Params, say: Callable[[str], None]) -> Record:
    """Train the chosen method on data/split/train.parquet and publish what it learned.

    Reads the images, the class names, and the training and validation split; no test image and no
    hidden label. Continues from the resume state of the same configuration, if there is one.

    Args:
        params: all of them.
        say: see `prepare`.

    Raises:
        UserError: See `prepare`; or the loss is not finite, the memory does not suffice, or another
            process trains the same configuration.
        InterruptedRunError: SIGINT or SIGTERM came; the state is saved.
    """
    with met(choose_device(params.train.device)) as ranks:
        return _train(params, ranks, say)


def _train(params: Params, ranks: Ranks | None, say: Callable[[str], None]) -> Record:
    first = ranks is None or ranks.rank == 0
    ready = prepare(params, say if first else say_nothing)
    refuse_random_depth(ready.method, ranks)
    candidates_MK = ready.validation.candidates_MK
    rule = resolve_rule(params.train.select, candidates_MK, params.train.patience)
    slot = Slot(resume_root(), _identity(params, ready.device))
    started = time.monotonic()
    memory = enough_memory(params.train.batch_size, ready.device)
    held = slot.held() if first else contextlib.nullcontext()
    with held, noticed() as interruption, memory:
        trainer, findings = _run(params, ready, rule, slot, interruption, ranks)
        if first:
            seconds = time.monotonic() - started
            ids_N = ready.training.ids_N
            publish_training(
                params, ready.classes, ready.architecture, ids_N, trainer, findings, seconds
            )
            slot.remove()
    return trainer.record


def course(params: Params, say: Callable[[str], None]) -> list[tuple[Phase, int]]:
    """The phases of the training to come, each with the views that one of its steps looks at.

    Settings that are to be found before training are found here too.

    Args:
        params: all of them.
        say: see `prepare`.

    Raises:
        UserError: See `prepare`.
    """
    ready = prepare(params, say)
    method, pool = ready.method, ready.pool
    findings = find(method, pool, params.train, params.seed)
    if findings:
        method.use(findings.found)
    batch_size = findings.found.batch_size if findings else params.train.batch_size
    steps_per_epoch = _steps_per_epoch(params, len(pool.images_NCHW), batch_size)
    planned = []
    for phase in method.phases(params.train, steps_per_epoch):
        method.enter(phase)
        planned.append((phase, method.views_per_step))
    return planned


def _run(
    params: Params,
    ready: Prepared,
    rule: Rule,
    slot: Slot,
    interruption: Interruption,
    ranks: Ranks | None,
) -> tuple[Trainer, Findings | None]:
    """Train, from the resume state if there is one; also gives the settings that were sought."""
    method, pool = ready.method, ready.pool
    notes: list[str] = slot.strangers()
    state = _state(slot, ranks, notes.append)
    # A resumed run goes on with what was found: another search might meet a fuller GPU.
    findings = (
        Findings.restored(state[1].get("findings"))
        if state
        else find(method, pool, params.train, params.seed, ranks)
    )
    if findings:
        method.use(findings.found)
        notes += [f"{name}: {why}" for name, why in findings.found.reasons.items()]
    batch_size = findings.found.batch_size if findings else params.train.batch_size
    steps_per_epoch = _steps_per_epoch(params, len(pool.images_NCHW), batch_size)
    trainer = Trainer(
        method,
        pool,
        ready.validation,
        params.train,
        rule,
        steps_per_epoch,
        slot,
        params.seed,
        ranks,
    )
    trainer.interruption = interruption
    trainer.extra_notes["findings"] = asdict(findings) if findings else None
    if state is not None:
        _restore(trainer, *state)
        notes.append(f"resuming after step {trainer.done} of {trainer.most_steps}")
    quiet = ranks is not None and ranks.rank > 0
    with TrainingProgress(trainer.most_steps, trainer.done, steps_per_epoch, quiet) as progress:
        for note in [method.notice, *notes, *_repetitions(method)]:
            if note:
                progress.say(note)
        trainer.run(progress)
    return trainer, findings


def _state(
    slot: Slot, ranks: Ranks | None, say: Callable[[str], None]
) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
    """The resume state, which rank 0 reads for all."""
    if ranks is None:
        return slot.load(say)
    content = from_first(lambda: packed(*state) if (state := slot.load(say)) else b"", ranks)
    return unpacked(content) if content else None


def _restore(trainer: Trainer, tensors: Mapping[str, Tensor], notes: Mapping[str, Any]) -> None:
    """Let the training go on from a state.

    Raises:
        UserError: The state is of another one: nobody but a person can have put it there.
    """
    try:
        trainer.restore(tensors, notes)
    except (AttributeError, LookupError, RuntimeError, TypeError, ValueError) as error:
        msg = f"{trainer.slot.folder}: no state of this training ({in_one_line(error)}); delete the folder"
        raise UserError(msg) from error


def _repetitions(method: Method) -> list[str]:
    """One line per stream whose pool does not fill a batch."""
    return [
        f"{name}: {len(stream.pool_N)} images, fewer than the {stream.batch_size} of a batch, are "
        f"repeated within it"
        for name, stream in method.streams.items()
        if len(stream.pool_N) < stream.batch_size
    ]


def _read_part(path: Path, classes: dict[str, Any], memory: ImageMemory, what: str) -> Part:
    table = read_table(path)
    ids_N = table["id"].to_numpy()
    num_classes = len(classes["classes"])
    if len(ids_N) * num_classes > LIST_VALUES:  # said now, and not once all is trained
        msg = (
            f"data.limit: {len(ids_N):,} {what} images of {num_classes:,} classes have more than {LIST_VALUES:,} soft "
            f"labels, which is what a table can list; set it to {LIST_VALUES // num_classes:,} or less"
        )
        raise UserError(msg)
    candidates_NK = np.zeros((len(ids_N), num_classes), bool)
    for start in range(0, len(ids_N), BLOCK):
        lists = table["candidates"].slice(start, BLOCK).combine_chunks()
        rows = start + pc.list_parent_indices(lists).to_numpy()
        candidates_NK[rows, pc.list_flatten(lists).to_numpy()] = True
    return Part(
        torch.from_numpy(ids_N.astype(np.int64)),
        memory.load(IMAGES, ids_N, Stored.described_by(classes), what),
        torch.from_numpy(candidates_NK),
        tuple(table["role"].to_pylist()),
    )


def _architecture(params: Params, classes: dict[str, Any], images_NCHW: Tensor) -> Architecture:
    mean, std = _pixel_statistics(images_NCHW)
    model = params.model
    return Architecture(
        name=model.name,
        width=model.width,
        alpha=model.alpha,
        dropout=model.dropout,
        stem=model.stem,
        bn_momentum=model.bn_momentum,
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


def _steps_per_epoch(params: Params, images: int, batch_size: int) -> int:
    if images == 0:
        msg = f"{TRAIN}: holds no image; look at the split section of params.yaml"
        raise UserError(msg)
    return params.train.steps_per_epoch or max(images // batch_size, 1)


def _identity(params: Params, device: torch.device) -> dict[str, dict[str, Any]]:
    """All that determines the bits of the result."""
    values = params.model_dump(include={"seed", "method", "model", "train"})
    flat = {
        f"{section}.{name}": value
        for section, content in values.items()
        for name, value in (content.items() if isinstance(content, dict) else [("", content)])
    }
    # How often the state is saved, and where images are kept, does not change the result; the number of
    # processes only by rounding.
    for name in ("checkpoint_seconds", "checkpoint_steps", "memory_budget", "devices"):
        flat.pop(f"train.{name}")
    return {
        "params": flat | {f"methods.{k}": v for k, v in params.method_params.model_dump().items()},
        "inputs": {
            str(path): path.with_name(path.name + SIDECAR).read_text().split()[0]
            for path in (IMAGES, CLASSES, TRAIN, VAL)
        },
        "code": loaded_code(),
        "environment": {
            "torch": torch.__version__,
            "torchvision": version("torchvision"),
            "device": torch.cuda.get_device_name() if device.type == "cuda" else device.type,
            "instructions": torch.backends.cpu.get_cpu_capability(),
        },
    }
