"""Batches that hold equally many images of each class: the support of PAWS."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from pipeline_lib.records import Stream
from pipeline_lib.training.pool import Pool
from tests.views import PLAIN

CPU = torch.device("cpu")
# Positions of labeled images among others, in no order, and how many classes and images are drawn.
sizes = st.lists(st.integers(1, 9), min_size=1, max_size=7)


def make_stream(sizes_K: list[int], classes: int, per_class: int, seed: int = 0) -> Stream:
    label_N = torch.repeat_interleave(torch.arange(len(sizes_K)), torch.tensor(sizes_K))
    shuffle = torch.Generator().manual_seed(seed)
    label_N = label_N[torch.randperm(len(label_N), generator=shuffle)]
    pool_N = torch.randperm(3 * len(label_N), generator=shuffle)[: len(label_N)]
    return Stream(pool_N, classes * per_class, ("none",), label_N, classes)


def make_pool(seed: int = 1) -> Pool:
    images = torch.zeros(200, 1, 4, 4, dtype=torch.uint8)
    return Pool(images, torch.ones(200, 2).bool(), lambda _: PLAIN, seed, CPU)


def labels_of(stream: Stream, index_B: torch.Tensor) -> torch.Tensor:
    """Class of each image of a batch, by looking its position up."""
    place = {int(position): n for n, position in enumerate(stream.pool_N)}
    return torch.stack([stream.label_N[place[int(position)]] for position in index_B])


@given(sizes, st.data(), st.integers(1, 6), st.integers(0, 50))
def test_every_class_has_exactly_its_images_one_class_after_the_other(
    sizes_K: list[int], data: st.DataObject, per_class: int, step: int
) -> None:
    classes = data.draw(st.integers(1, len(sizes_K)))
    stream = make_stream(sizes_K, classes, per_class)
    index_B = make_pool().batch({"support": stream}, step).index["support"]
    labels_CM = labels_of(stream, index_B).view(classes, per_class)
    assert (labels_CM == labels_CM[:, :1]).all(), "one class after the other"
    assert (labels_CM[:, 0].diff() > 0).all(), "each class once"
    for k, index_M in zip(labels_CM[:, 0], index_B.view(classes, per_class), strict=True):
        times = index_M.unique(return_counts=True)[1]
        if per_class <= sizes_K[k]:
            assert (times == 1).all(), "no image twice where there are enough"
        else:
            fewest = 0 if len(times) < sizes_K[k] else int(times.min())
            assert times.max() - fewest <= 1 + 1, "and about equally often where there are not"


def test_classes_and_images_take_turns() -> None:
    """Four of six classes a step, two of six images of each: over many steps all are seen alike."""
    stream, pool = make_stream([6] * 6, classes=4, per_class=2), make_pool()
    index = torch.stack([pool.batch({"support": stream}, s).index["support"] for s in range(300)])
    classes = labels_of(stream, index[:, ::2].flatten()).bincount()
    assert classes.min() > 170, "of 200 visits on average"
    images = index.flatten().bincount()[stream.pool_N]
    assert images.min() > 45, "of 67"


def test_all_images_of_a_class_are_seen_before_one_comes_again() -> None:
    stream, pool = make_stream([6, 6], classes=2, per_class=2), make_pool()
    for first in (0, 3, 27):
        steps = [pool.batch({"support": stream}, first + s).index["support"] for s in range(3)]
        assert sorted(torch.cat(steps).tolist()) == sorted(stream.pool_N.tolist())


def test_a_batch_does_not_depend_on_what_was_asked_before() -> None:
    stream, busy = make_stream([5, 3, 4], classes=2, per_class=3), make_pool()
    for step in (0, 9, 3):
        busy.batch({"support": stream}, step)
    fresh = make_pool().batch({"support": stream}, 7).index["support"]
    assert torch.equal(busy.batch({"support": stream}, 7).index["support"], fresh)
    other = make_pool(seed=2).batch({"support": stream}, 7).index["support"]
    assert not torch.equal(other, fresh)
