"""What every method promises of a whole training. A new one is tested here without a new test."""

from __future__ import annotations

import contextlib
import functools
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

from pipeline_lib.models.build import build
from pipeline_lib.params.methods import KINDS
from pipeline_lib.params.model_names import OWN_MODELS
from pipeline_lib.records import Batch
from pipeline_lib.training import loop
from pipeline_lib.training.ema import Ema
from pipeline_lib.training.loop import Trainer
from pipeline_lib.training.meter import Meter
from pipeline_lib.training.optimizer import build_optimizer
from pipeline_lib.training.outputs import history_csv
from pipeline_lib.training.progress import TrainingProgress
from pipeline_lib.training.replay import Replayed
from pipeline_lib.training.state import restore
from pipeline_lib.training.steps import draw
from tests.toy_methods import ARCHITECTURE, KilledError, Quiet, make_trainer

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


CPU, META = torch.device("cpu"), torch.device("meta")


def outcome(trainer: Trainer) -> tuple[object, ...]:
    record = trainer.record
    tensors = [*record.kept.weights.values(), *trainer.method.state_dict().values()]
    tensors += [label for part in record.labels.values() for label in part.values()]
    if record.best_labels_NK is not None:
        tensors.append(record.best_labels_NK)
    blob = b"".join(t.contiguous().numpy().tobytes() for t in tensors)
    return history_csv(record.rows), record.phases, list(record.ends), blob


@pytest.mark.parametrize("name", KINDS)
def test_stopping_anywhere_changes_nothing(name: str, tmp_path: Path) -> None:
    whole = make_trainer(name, tmp_path / "whole")
    whole.run(Quiet())
    total = whole.done
    for stop_after in sorted({1, total // 2, total - 4, total - 1}):
        folder = tmp_path / f"stop{stop_after}"
        first = make_trainer(name, folder, checkpoint_steps=1)
        with first.slot.held(), pytest.raises(KilledError):
            first.run(Quiet(stop_after))
        second = make_trainer(name, folder)
        state = second.slot.load(print)
        assert state is not None
        restore(second, *state)
        second.run(Quiet())
        assert outcome(second) == outcome(whole), f"stopped after step {stop_after} of {total}"


@pytest.mark.parametrize("name", KINDS)
def test_replayed_steps_change_nothing(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All that changes from step to step reaches a step through the tensors it is given."""
    recorded = []

    def record(work: Callable[[], None]) -> Callable[[], None]:
        recorded.append(work)
        return work

    plain = make_trainer(name, tmp_path, epochs=4)
    plain.run(Quiet())
    monkeypatch.setattr(loop, "Replayed", functools.partial(Replayed, record=record))
    trainer = make_trainer(name, tmp_path, epochs=4)
    trainer.replayed = True
    trainer.equip(0)
    trainer.run(Quiet())
    assert recorded
    assert outcome(trainer) == outcome(plain)


@pytest.mark.parametrize("name", KINDS)
def test_guesses_are_noted_at_every_evaluation_that_has_them(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of the images that have all classes for candidates, and in the phases that guess."""
    trainer = make_trainer(name, tmp_path)
    unlabeled = [i for i, row in enumerate(trainer.method.problem.candidates_NK) if all(row)]
    expected = {}
    evaluate = trainer._evaluate

    def noting(progress: TrainingProgress) -> dict[str, float]:
        row = evaluate(progress)
        guesses_N = trainer.method.confident_guesses()
        if unlabeled and guesses_N is not None:
            expected[row["epoch"]] = guesses_N[unlabeled].tolist()
        return row

    monkeypatch.setattr(trainer, "_evaluate", noting)
    record = trainer.run(Quiet())
    noted = {epoch: guesses_U.tolist() for epoch, guesses_U in record.labels["unlabeled"].items()}
    assert noted == expected


class OnOneDevice(TorchDispatchMode):
    """Refuses what a GPU would have to wait for or could not record, and what is not the same there twice.

    On the `meta` device, which has shapes and no values: a look at a value fails by itself.
    """

    # A GPU copies from the processor for the first; `meta` refuses most of the others by itself.
    WAITING = ("lift_fresh", "_local_scalar_dense", "nonzero", "_unique2", "masked_select")
    # Of the operations that deterministic torch refuses on a GPU, those that a network or a loss might use.
    CHANGING = (
        *(
            "_adaptive_avg_pool2d_backward",
            "adaptive_max_pool2d_backward",
            "grid_sampler_2d_backward",
        ),
        *(
            "reflection_pad2d_backward",
            "upsample_bilinear2d_backward",
            "upsample_bicubic2d_backward",
        ),
        *("bincount", "histc", "kthvalue", "median", "nll_loss2d_forward", "put_"),
    )

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.overloadpacket.__name__
        assert name not in self.CHANGING, func  # before the call, which `meta` may not know
        output = func(*args, **(kwargs or {}))
        for value in tree_leaves((args, kwargs, output)):
            assert not isinstance(value, torch.Tensor) or value.device == META, func
        assert name not in self.WAITING, func
        if name in ("index", "index_put_", "index_put"):
            assert all(i is None or i.dtype == torch.int64 for i in args[1]), "a mask as an index"
        assert name != "cumsum" or not output.is_floating_point(), func
        return output


@pytest.mark.parametrize("name", KINDS)
def test_a_step_stays_on_its_device(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch, "autocast", lambda *_, **__: contextlib.nullcontext())
    trainer = make_trainer(name, tmp_path)
    trainer.method.to(META)
    for phase in trainer.phases:
        trainer.method.enter(phase)
        trainer.optimizer = build_optimizer(phase.train, trainer.method.parameters())
        trainer.ema, trainer.meter = Ema(trainer.method, 0.5), Meter(META, 0)
        for step in range(2):  # the optimizer makes its state in the first
            batch = vars(trainer.pool.batch(trainer.method.streams, step))
            drawn = draw(trainer.method, trainer.clock, trainer.pool, step)
            batch, drawn = tree_map(lambda t: t.to(META), (batch, drawn))
            with OnOneDevice():
                trainer._advance(Batch(**batch), drawn)


@pytest.mark.parametrize("name", OWN_MODELS)
def test_a_network_stays_on_its_device(name: str) -> None:
    model = build(replace(ARCHITECTURE, name=name, image_height=32, image_width=32)).to(META)
    images = torch.zeros(4, ARCHITECTURE.channels, 32, 32, dtype=torch.uint8, device=META)
    with OnOneDevice():
        model(images).sum().backward()


@pytest.mark.parametrize("name", KINDS)
def test_the_history_tells_what_the_collapse_alarm_needs(name: str, tmp_path: Path) -> None:
    """Methods with an unlabeled stream report the entropy of their mean prediction."""
    trainer = make_trainer(name, tmp_path)
    streams = set()
    for phase in trainer.phases:
        trainer.method.enter(phase)
        streams |= set(trainer.method.streams)
    trainer.method.enter(trainer.phases[0])
    trainer.run(Quiet())
    reported = any("prediction_entropy" in row for row in trainer.record.rows)
    assert reported == ("unlabeled" in streams)
