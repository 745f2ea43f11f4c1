"""Recorded steps, on a processor: the recorder of these tests only remembers what to do again."""

from __future__ import annotations

import pytest
import torch

from pipeline_lib.records import Batch
from pipeline_lib.training.replay import PLAIN_STEPS, Replayed


def make_batch(value: int) -> Batch:
    index_B = torch.tensor([value, value + 1])
    view_BCHW = torch.full((2, 1, 1, 1), value, dtype=torch.uint8)
    return Batch(
        {"train": index_B}, {"train": (view_BCHW, 2 * view_BCHW)}, {"train": torch.ones(2, 3)}
    )


class Recorder:
    def __init__(self) -> None:
        self.recorded = 0

    def __call__(self, work):
        self.recorded += 1
        return work


class Sums:
    """A step that changes its state in place."""

    def __init__(self) -> None:
        self.sums = torch.zeros(3)
        self.seen: list[int] = []

    def __call__(self, batch: Batch, drawn) -> None:
        first, second = batch.views["train"]
        self.seen.append(id(first))
        parts = [part.float().sum() for part in (batch.index["train"], first, second)]
        self.sums += drawn["weight"] * torch.stack(parts)


def run(step, steps: int) -> None:
    for number in range(steps):
        step(make_batch(number), {"weight": torch.tensor(float(number))})


def test_replayed_steps_do_what_plain_ones_do_in_one_place() -> None:
    plain, sums, record = Sums(), Sums(), Recorder()
    run(plain, 9)
    run(Replayed(sums, pytest.fail, record), 9)
    assert torch.equal(sums.sums, plain.sums)
    assert record.recorded == 1
    assert len(set(sums.seen[PLAIN_STEPS:])) == 1


def test_what_cannot_be_recorded_is_taken_plainly_and_said_once() -> None:
    plain, sums, said = Sums(), Sums(), []

    def record(_) -> None:
        try:
            message = "operation not permitted\nmore of it"
            raise RuntimeError(message)
        finally:  # as `torch.cuda.graph` ends a recording that was broken off
            message = "failed due to a previous error during capture"
            raise RuntimeError(message)

    run(plain, 9)
    run(Replayed(sums, said.append, record), 9)
    assert torch.equal(sums.sums, plain.sums)
    assert said == ["steps are launched kernel by kernel: operation not permitted"]


def test_a_batch_of_another_shape_is_an_error() -> None:
    step = Replayed(Sums(), pytest.fail, Recorder())
    run(step, PLAIN_STEPS + 1)
    larger = Batch({"train": torch.arange(3)}, make_batch(0).views, make_batch(0).candidates)
    with pytest.raises(RuntimeError):
        step(larger, {"weight": torch.tensor(1.0)})
