"""The choice of images against the k-means++ of its paper, on gradients written out."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from pipeline_lib.labeling.badge import badge

IMAGES, CLASSES, WIDTH = 60, 4, 5


def task(seed: int) -> tuple[np.ndarray, np.ndarray]:
    draw = np.random.default_rng(seed)
    logits_NK = draw.normal(size=(IMAGES, CLASSES)) * 2
    p_NK = np.exp(logits_NK) / np.exp(logits_NK).sum(axis=1, keepdims=True)
    return p_NK, draw.normal(size=(IMAGES, WIDTH))


def gradients(p_NK: np.ndarray, h_ND: np.ndarray) -> np.ndarray:
    """Of the cross-entropy with the likeliest class, by the weights of the last layer: (N, K D)."""
    likeliest_NK = np.eye(CLASSES)[p_NK.argmax(axis=1)]
    return np.einsum("nk,nd->nkd", p_NK - likeliest_NK, h_ND).reshape(len(p_NK), -1)


@given(seed=st.integers(0, 2**32 - 1), count=st.integers(1, 12))
def test_each_image_is_drawn_by_its_squared_distance_to_the_nearest_chosen(
    seed: int, count: int
) -> None:
    p_NK, h_ND = task(seed)
    g_NG = gradients(p_NK, h_ND)
    expected = [int((g_NG**2).sum(axis=1).argmax())]
    draw = np.random.default_rng(seed)
    while len(expected) < count:
        distance_N = ((g_NG[:, None] - g_NG[expected][None]) ** 2).sum(axis=2).min(axis=1)
        distance_N[expected] = 0
        place = draw.random() * distance_N.sum()
        expected.append(int(np.searchsorted(distance_N.cumsum(), place, side="right")))
    assert badge(p_NK, h_ND, count, np.random.default_rng(seed)).tolist() == expected


@given(seed=st.integers(0, 1000), count=st.integers(1, 2 * IMAGES))
def test_no_image_is_chosen_twice_and_all_where_there_are_fewer(seed: int, count: int) -> None:
    chosen = badge(*task(seed), count, np.random.default_rng(seed))
    assert len(set(chosen.tolist())) == len(chosen) == min(count, IMAGES)


def test_of_copies_and_of_sure_images_one_is_enough() -> None:
    p_NK, h_ND = task(1)
    p_NK = np.concatenate([p_NK, p_NK, np.eye(CLASSES)])
    h_ND = np.concatenate([h_ND, h_ND, h_ND[:CLASSES]])
    chosen = badge(p_NK, h_ND, IMAGES + 1, np.random.default_rng(1)).tolist()
    alike = [position % IMAGES if position < 2 * IMAGES else -1 for position in chosen]
    assert sorted(alike) == [-1, *range(IMAGES)]


def test_where_the_model_is_sure_of_all_any_will_do() -> None:
    chosen = badge(np.eye(CLASSES), np.ones((CLASSES, WIDTH)), 3, np.random.default_rng(1))
    assert len(set(chosen.tolist())) == 3


def test_nothing_comes_of_nothing() -> None:
    empty = np.zeros((0, CLASSES)), np.zeros((0, WIDTH))
    assert badge(*empty, 3, np.random.default_rng(1)).tolist() == []
