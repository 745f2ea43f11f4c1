"""Instance-dependent candidates of the digits: confusable classes, the right rate, the same on any cores."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.datasets import load_digits
from threadpoolctl import threadpool_limits

from pipeline_lib.protocols import small_model
from pipeline_lib.protocols.instance_candidates import scaled
from tests.label_tables import classes, mask, run, table, truth_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

TRUTH = load_digits().target.astype(np.int16)
IMAGES = (load_digits().images * 15).astype(np.uint8)[..., None]
ABOUT = classes([str(k) for k in range(10)])


def pixels_of(images: np.ndarray) -> Callable:
    def pixels(ids: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        for start in range(0, len(ids), 500):
            yield np.arange(start, min(start + 500, len(ids))), images[ids[start : start + 500]]

    return pixels


def weaken(rate: float = 0.4, **options):
    rows = table({"label": TRUTH, "true_label": TRUTH}, len(TRUTH))
    return run(
        rows,
        ABOUT,
        protocol="instance_candidates",
        pixels=pixels_of(IMAGES),
        instance_candidates={"rate": rate},
        **options,
    )


@pytest.fixture(scope="module")
def result():
    return weaken()


def test_the_truth_is_in_every_set_and_the_mean_rate_is_met(result):
    assert result.summary["noisy"] == {"train": 0, "val": 0}
    wrong = 9 * result.train.num_rows
    assert result.summary["empirical_rate"] == pytest.approx(0.4, abs=5 * (0.24 / wrong) ** 0.5)


def test_classes_that_look_alike_are_candidates_more_often_than_others(result):
    marks, truth = mask(result.train, 10), truth_of(result)
    rate_KK = np.array([marks[truth == k].mean(axis=0) for k in range(10)])
    for one, other in ((9, 5), (3, 2), (3, 9), (4, 7), (8, 1)):
        assert rate_KK[one, other] > 0.45
        assert rate_KK[other, one] > 0.4
    for one, other in ((0, 1), (6, 9), (6, 7), (4, 3)):
        assert rate_KK[one, other] < 0.4


def test_it_depends_on_the_image_not_on_its_class_alone(result):
    """Images whose second most likely class is j have it as a candidate more often than the class on average."""
    model = small_model.learn(
        pixels_of(IMAGES), np.arange(1347, dtype=np.int32), TRUTH[:1347], 10, seed=5
    )
    ids = np.array(result.train["id"].to_pylist(), np.int32)
    guess = np.concatenate([g for _, g in small_model.probabilities(model, pixels_of(IMAGES), ids)])
    guess[np.arange(len(ids)), TRUTH[ids]] = 0
    marks = mask(result.train, 10)
    assert marks[np.arange(len(ids)), guess.argmax(axis=1)].mean() > 0.8
    assert guess.argmax(axis=1).max() == 9


def test_the_same_bytes_on_one_and_on_two_cores():
    summaries = []
    for threads in (1, 2):
        with threadpool_limits(threads):
            summaries.append(weaken().summary)
    assert summaries[0] == summaries[1]


def test_cores_and_blocks_move_probabilities_by_their_last_bits_only(monkeypatch):
    ids = np.arange(400, dtype=np.int32)

    def guess() -> np.ndarray:
        model = small_model.learn(pixels_of(IMAGES), ids, TRUTH[:400], 10, seed=1)
        return np.concatenate(
            [g for _, g in small_model.probabilities(model, pixels_of(IMAGES), ids)]
        )

    with threadpool_limits(1):
        one = guess()
    monkeypatch.setattr(small_model, "BLOCK", 7)
    with threadpool_limits(2):
        assert np.abs(guess() - one).max() < 1e-10


def test_a_limit_keeps_the_candidates_and_seeds_differ(result):
    everything = {row["id"]: row for row in result.train.to_pylist()}
    limited = weaken(limit=100).train.to_pylist()
    assert all(everything[row["id"]] == row for row in limited)
    assert weaken(seed=2).summary["sha256"] != result.summary["sha256"]


@pytest.mark.parametrize(
    "shape", [(3, 9, 3), (4, 4, 1), (9, 30, 1), (32, 32, 3), (130, 70, 3), (224, 224, 1)]
)
def test_images_of_any_size_are_told_apart(shape: tuple[int, int, int]):
    rng = np.random.default_rng(0)
    truth = np.arange(60) % 2
    ramp = np.linspace(0, 200, shape[1])[None, :, None]
    images = np.where(truth[:, None, None, None] == 0, ramp, ramp[:, ::-1])
    images = np.broadcast_to(images, (60, *shape)) + rng.integers(0, 30, (60, *shape))
    pixels, ids = pixels_of(images.astype(np.uint8)), np.arange(60, dtype=np.int32)
    model = small_model.learn(pixels, ids, truth, 2, seed=1)
    guess = np.concatenate([g for _, g in small_model.probabilities(model, pixels, ids)])
    assert (guess.argmax(axis=1) == truth).all()
    assert np.allclose(guess.sum(axis=1), 1)


def test_images_of_one_pixel_are_no_reason_to_stop():
    images, ids = np.arange(60, dtype=np.uint8).reshape(60, 1, 1, 1), np.arange(60, dtype=np.int32)
    model = small_model.learn(pixels_of(images), ids, np.arange(60) % 3, 3, seed=1)
    guess = np.concatenate([g for _, g in small_model.probabilities(model, pixels_of(images), ids)])
    np.testing.assert_allclose(guess.sum(axis=1), 1)


@settings(max_examples=200)
@given(st.integers(2, 12), st.floats(0.001, 1), st.integers(0, 2**31))
def test_probabilities_are_scaled_to_the_rate_cut_at_one_and_keep_their_order(number, rate, seed):
    rng = np.random.default_rng(seed)
    guess = rng.dirichlet(np.full(number, rng.choice([0.05, 1.0, 20.0])), size=20)
    truth = rng.integers(number, size=20)
    chance = scaled(guess, truth, rate)
    assert chance[np.arange(20), truth].max() == 0
    assert chance.min() >= 0
    assert chance.max() <= 1
    np.testing.assert_allclose(chance.sum(axis=1) / (number - 1), rate, rtol=1e-9)
    below = (chance > 0) & (chance < 1)
    for row, said, free in zip(chance, guess.clip(1e-12), below, strict=True):
        ratio = row[free] / said[free]  # one factor for all that are not cut
        np.testing.assert_allclose(ratio, ratio[:1].repeat(len(ratio)), rtol=1e-9)
