"""From the stored split to a trained predictor: the train stage without its command line."""

from __future__ import annotations

import contextlib
import time
from dataclasses import asdict
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import torch

from pipeline_lib.artifacts import recorded_sha256
from pipeline_lib.errors import UserError, in_one_line, listed
from pipeline_lib.free_memory import enough_memory
from pipeline_lib.methods.phases import SEARCH
from pipeline_lib.training.device import choose_device, device_name
from pipeline_lib.training.distributed import from_rank, met, refuse_own_randomness, stop_if_other
from pipeline_lib.training.finders import Findings, find
from pipeline_lib.training.interruption import Interruption, noticed
from pipeline_lib.training.loop import Trainer
from pipeline_lib.training.outputs import publish_training
from pipeline_lib.training.prepare import CLASSES, IMAGES, TRAIN, VAL, Prepared, prepare
from pipeline_lib.training.progress import TrainingProgress
from pipeline_lib.training.resume import Slot, loaded_code, packed, resume_root, unpacked
from pipeline_lib.training.selection import Rule, resolve_rule
from pipeline_lib.training.state import restore
from pipeline_lib.training.unfinished import unfinished

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from torch import Tensor

    from pipeline_lib.methods.base import Method
    from pipeline_lib.methods.phases import Phase
    from pipeline_lib.models.ranks import Ranks
    from pipeline_lib.params.load import Params
    from pipeline_lib.training.record import Record


def train(
    params: Params, say: Callable[[str], None], confirm: Callable[[], None] | None = None
) -> Record:
    """Train the chosen method on data/split/train.parquet and publish what it learned.

    Reads the images, the class names, and the training and validation split; no test image and no
    hidden label. Continues from the resume state of the same configuration, if there is one.

    Args:
        params: all of them.
        say: see `prepare`.
        confirm: called before anything is published; what it raises ends the training, which keeps its state.

    Raises:
        UserError: See `prepare`; or the loss is not finite, the memory does not suffice, or, with several
            processes, another one trains the same configuration.
        InterruptedRunError: SIGINT or SIGTERM came; the state is saved.
    """
    device = choose_device(params.train.device)
    memory = enough_memory(
        f"train.batch_size: steps of {params.train.batch_size} images (or of the method's own batch size) do not fit in "
        f"the memory of {device}; lower it, or train.memory_budget"
    )
    with met(device) as ranks, memory:
        return _train(params, ranks, say, confirm)


def _train(
    params: Params,
    ranks: Ranks | None,
    say: Callable[[str], None],
    confirm: Callable[[], None] | None,
) -> Record:
    first = ranks is None or ranks.rank == 0
    ready = prepare(params, say if first else None)
    refuse_own_randomness(ready.method, ranks)
    candidates_MK = ready.validation.candidates_MK
    rule = resolve_rule(params.train.select, candidates_MK, params.train.patience)
    slot = Slot(resume_root(), _identity(params, ready.device))
    if ranks:
        stop_if_other(slot.identity, ranks)
    # Of several processes only one could wait: the others would take it for lost.
    held = slot.held(None if ranks else say) if first else contextlib.nullcontext()
    with held, noticed() as interruption:
        started = time.monotonic()
        trainer, findings = _run(params, ready, rule, slot, interruption, ranks)
        if first:
            seconds = time.monotonic() - started
            _refuse_other_code(slot.identity["code"])
            if confirm:
                confirm()
            ids_N = ready.training.ids_N
            publish_training(
                params, ready.classes, ready.architecture, ids_N, trainer, findings, seconds
            )
            slot.remove()
    return trainer.record


def _refuse_other_code(trained: Mapping[str, Any]) -> None:
    """DVC records the files of the code as they are when a stage ends, as those that ran.

    Raises:
        UserError: One was edited during training.
    """
    now = loaded_code()
    if changed := [name for name, digest in trained.items() if now.get(name) != digest]:
        msg = (
            f"{listed(changed, 3)}: edited during training, and DVC would record that as the code that ran; run dvc repro again, "
            "which trains with it, or, with the files as they were, goes on from the last saved state"
        )
        raise UserError(msg)


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
    steps_per_epoch = _settled(params, ready, find(method, pool, params.train))
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
    since = time.monotonic()
    # A resumed run goes on with what was found: another search might meet a fuller GPU.
    findings = (
        Findings.restored(state[1].get("findings"))
        if state
        else find(method, pool, params.train, ranks, interruption)
    )
    searched = 1000 * (time.monotonic() - since)
    steps_per_epoch = _settled(params, ready, findings)
    if findings:
        notes += [f"{name}: {why}" for name, why in findings.found.reasons.items()]
    trainer = Trainer(
        method,
        pool,
        ready.validation,
        params.train,
        rule,
        steps_per_epoch,
        slot,
        ranks,
        interruption,
    )
    trainer.extra_notes["findings"] = asdict(findings) if findings else None
    if findings and state is None and findings.found.sought:
        trainer.ms_per_step[SEARCH] = searched
    if state is not None:
        _restore(trainer, *state)
        notes.append(f"resuming after step {trainer.done} of {trainer.most_steps}")
    quiet = ranks is not None and ranks.rank > 0
    warnings = [f"warning: {why}" for why in unfinished(params, trainer, trainer.phases)]
    with TrainingProgress(trainer.most_steps, trainer.done, steps_per_epoch, quiet) as progress:
        for note in [method.notice, *notes, *_repetitions(method), *warnings]:
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
    content = from_rank(0, lambda: packed(*state) if (state := slot.load(say)) else b"", ranks)
    return unpacked(content) if content else None


def _restore(trainer: Trainer, tensors: Mapping[str, Tensor], notes: Mapping[str, Any]) -> None:
    """Let the training go on from a state.

    Raises:
        UserError: The state is of another one: nobody but a person can have put it there.
    """
    try:
        restore(trainer, tensors, notes)
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


def _settled(params: Params, ready: Prepared, findings: Findings | None) -> int:
    """Let the method use what was found, if anything was sought; gives the steps of an epoch."""
    images, batch_size = len(ready.pool.images_NCHW), params.train.batch_size
    if findings:
        ready.method.use(findings.found)
        batch_size = findings.found.batch_size
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
        "inputs": {str(path): recorded_sha256(path) for path in (IMAGES, CLASSES, TRAIN, VAL)},
        "code": loaded_code(),
        "environment": {
            "torch": torch.__version__,
            "torchvision": version("torchvision"),
            "device": device_name(device),
            "instructions": torch.backends.cpu.get_cpu_capability(),
        },
    }
