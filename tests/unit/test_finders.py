"""The search for batch size and learning rate: what it finds, that it repeats, and that it leaves no trace."""

from __future__ import annotations

import copy
import dataclasses
import json
from typing import TYPE_CHECKING

import pytest
import torch

from pipeline_lib.errors import UserError
from pipeline_lib.methods.phases import Found, Search
from pipeline_lib.params.sections import Train
from pipeline_lib.training import finders
from pipeline_lib.training.finders import batch_for, choose_rate, find
from pipeline_lib.training.pool import Pool
from tests.toy_methods import PARAMS, Quiet, make_images, make_method, make_trainer
from tests.views import shifted

if TYPE_CHECKING:
    from pathlib import Path

    from pipeline_lib.methods.base import Method

TRAIN = Train.model_validate(PARAMS.train.model_dump() | {"learning_rate": 0.0321})
CPU = torch.device("cpu")


def make_pool(method: Method) -> Pool:
    candidates_NK = method.problem.candidates_NK
    return Pool(make_images(), candidates_NK, lambda _: shifted(20), 1, CPU)


def findings(method: Method, train: Train = TRAIN) -> finders.Findings:
    found = find(method, make_pool(method), train)
    assert found is not None
    return found


def search(largest: int = 1024, smallest: int = 16) -> Search:
    return Search("labeled", None, smallest, largest, None)


@pytest.mark.parametrize("changes", [{}, {"semi_supervised": "fixmatch"}, {"student": "fresh"}])
def test_the_search_leaves_the_method_and_the_random_numbers_as_they_were(
    changes: dict[str, object],
) -> None:
    method = make_method("two_phase", **changes).train()
    method.enter(method.phases(TRAIN, 3)[1])
    before = {name: tensor.clone() for name, tensor in method.state_dict().items()}
    settings = method.phase, method.batch_size, method.learning_rate
    generator = torch.random.get_rng_state()

    findings(method)

    assert (method.phase, method.batch_size, method.learning_rate) == settings
    assert method.training
    assert all(parameter.grad is None for parameter in method.parameters())
    assert torch.equal(torch.random.get_rng_state(), generator)
    after = method.state_dict()
    assert after.keys() == before.keys()
    assert all(torch.equal(after[name], before[name]) for name in before)


def test_the_same_settings_are_found_twice_and_make_sense() -> None:
    first, again = (findings(make_method("two_phase")) for _ in range(2))
    assert first == again
    assert first.found.batch_size == 16
    assert 1e-3 <= first.found.learning_rate <= 1
    assert first.found.reasons["batch_size"].startswith(
        "16, the smallest tried: 12 labeled images give about 1 steps"
    )
    assert "where the loss fell fastest" in first.found.reasons["learning_rate"]
    assert [row["step"] for row in first.curve] == list(range(len(first.curve)))


def test_given_settings_are_not_sought(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(finders, "take_step", lambda *_: pytest.fail("took a step"))
    method = make_method("two_phase", batch_size=24, learning_rate=0.3)
    result = findings(method)
    assert result.found == Found(24, 0.3, {"batch_size": "given", "learning_rate": "given"})
    assert result.curve == []


def test_a_method_without_a_search_is_left_alone() -> None:
    method = make_method("supervised")
    assert find(method, make_pool(method), TRAIN) is None


def test_pinning_what_was_found_gives_the_same_weights(tmp_path: Path) -> None:
    def weights(**pinned: object) -> tuple[dict[str, torch.Tensor], Found]:
        trainer = make_trainer("two_phase", tmp_path)  # a training of a few steps
        method = trainer.method
        method.params = method.params.model_copy(update=pinned)
        found = findings(method).found
        method.use(found)
        trainer.__init__(  # type: ignore[misc]  # the phases are those of the settings found
            method, trainer.pool, trainer.validation, trainer.train, "last", 3, trainer.slot
        )
        trainer.run(Quiet())
        return trainer.record.kept.weights, found

    sought, found = weights()
    given, _ = weights(batch_size=found.batch_size, learning_rate=found.learning_rate)
    other, _ = weights(batch_size=found.batch_size, learning_rate=found.learning_rate / 2)
    assert all(torch.equal(sought[name], given[name]) for name in sought)
    assert not all(torch.equal(sought[name], other[name]) for name in sought)


@pytest.mark.parametrize(
    ("images", "expected"),
    [(1, 16), (50, 16), (452, 16), (453, 32), (5000, 256), (100_000, 1024)],
)
def test_the_batch_is_the_power_of_two_nearest_to_a_twentieth_of_the_labels(
    images: int, expected: int
) -> None:
    """5,000 labels give 256, which is what the trainer it is modelled on found."""
    assert batch_for(images, search()) == expected


def test_the_batch_stays_below_the_largest() -> None:
    assert batch_for(5000, search(largest=100)) == 100
    assert batch_for(5000, search(largest=8, smallest=8)) == 8


class FullGpu:
    """Stands for a GPU whose memory ends above so many labeled images per step; each takes a byte."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, limit: int) -> None:
        self.tried: list[tuple[str, int]] = []
        self.limit = limit
        monkeypatch.setattr(finders, "take_step", self.take_step)
        monkeypatch.setattr(Pool, "batch", lambda *_: None)
        monkeypatch.setattr(torch.cuda, "empty_cache", lambda: None)
        monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", lambda: None)
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda: (limit - 1, 2 * limit))
        monkeypatch.setattr(torch.cuda, "memory_allocated", lambda: 1)
        monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda: self.tried[-1][1])

    def take_step(self, method: Method, *_: object) -> None:
        self.tried.append((method.phase, method.batch_size))
        if method.batch_size > self.limit:
            message = "out of memory"
            raise torch.OutOfMemoryError(message)

    def find(self) -> finders.Findings:
        method = make_method("two_phase", learning_rate=0.1)
        method.labeled_N = torch.arange(12).repeat(100)  # 1,200 images: 64 is the nearest
        pool = make_pool(method)
        pool.device = torch.device("cuda")
        found = find(method, pool, TRAIN)
        assert found is not None
        return found


def test_doubling_ends_where_a_step_of_the_largest_phase_does_not_fit(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    gpu = FullGpu(monkeypatch, limit=40)
    found = gpu.find().found
    assert gpu.tried == [("semi_supervised", size) for size in (16, 32, 64)]
    assert found.batch_size == 32
    assert found.reasons["batch_size"] == "32: twice as many do not fit in the memory of the GPU"


def test_a_step_leaves_memory_for_evaluations(monkeypatch: pytest.MonkeyPatch) -> None:
    assert FullGpu(monkeypatch, limit=39).find().found.batch_size == 16  # 32 are over 0.8 of 39


def test_doubling_ends_where_an_epoch_keeps_twenty_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    gpu = FullGpu(monkeypatch, limit=10_000)
    assert gpu.find().found.batch_size == 64


def test_a_smallest_batch_that_does_not_fit_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match=r"16 labeled images does not fit in the memory of the GPU"):
        FullGpu(monkeypatch, limit=8).find()


def test_a_loss_that_never_falls_leaves_the_rate_to_the_train_section() -> None:
    method = make_method("two_phase")
    with torch.no_grad():  # nothing can be learned from constant features
        for parameter in method.model.encoder.parameters():
            parameter.zero_().requires_grad_(False)
    method.teacher = copy.deepcopy(method.model)
    found = findings(method).found
    assert found.learning_rate == 0.0321
    assert found.reasons["learning_rate"].startswith("0.0321: that of train.learning_rate")


def test_a_loss_that_is_not_finite_at_once_leaves_the_rate_to_the_train_section() -> None:
    assert choose_rate([], 0.05)[0] == 0.05
    row = {"step": 0, "learning_rate": 1e-6, "loss": 2.0, "smoothed_loss": 2.0}
    assert choose_rate([row], 0.05)[0] == 0.05


def test_what_was_found_survives_the_resume_state() -> None:
    found = finders.Findings(Found(32, 0.12, {"batch_size": "given"}), [{"step": 0.0, "loss": 2.3}])
    assert finders.Findings.restored(json.loads(json.dumps(dataclasses.asdict(found)))) == found
    assert finders.Findings.restored(None) is None
