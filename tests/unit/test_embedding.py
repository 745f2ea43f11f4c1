"""The picture of the embeddings: which points, where, and the same everywhere."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA

from pipeline_lib.evaluation import embedding as module
from pipeline_lib.evaluation.embedding import embedding, evenly, plane
from pipeline_lib.models.build import Architecture, build
from pipeline_lib.models.predictor import Predictor, ProjectedSoftmax, SoftNeighbours
from pipeline_lib.models.projection import projection_head

CPU = torch.device("cpu")
CLASSES = ["ant", "bee", "cow"]
ARCHITECTURE = Architecture(
    "small_cnn", 4, 1.0, 0.0, "auto", 0.1, 1, 8, 8, 3, mean=(0.3,), std=(0.3,)
)


@pytest.mark.parametrize(
    ("count", "most", "expected"),
    [(0, 3, []), (2, 3, [0, 1]), (3, 3, [0, 1, 2]), (7, 3, [0, 2, 4]), (10, 4, [0, 2, 5, 7])],
)
def test_points_are_drawn_at_equal_distances(count, most, expected) -> None:
    assert evenly(count, most).tolist() == expected


def test_the_plane_of_points_on_two_axes_is_these_axes() -> None:
    """Spread most along the third dimension, then along the first; centred at (1, 5, 2)."""
    z_ND = np.array([[1, 5, 6], [1, 5, -2], [2, 5, 2], [0, 5, 2.0]])
    test_N2, others_M2 = plane(z_ND, np.array([[4, 99, 3.0], [1, 5, 2]]))
    assert test_N2.tolist() == [[4, 0], [-4, 0], [0, 1], [0, -1]]
    assert others_M2.tolist() == [[1, 3], [0, 0]]
    assert not np.signbit(others_M2).any()  # 0 and -0 are written differently
    turned, _ = plane(-z_ND, z_ND[:0])
    assert turned.tolist() == [[-4, 0], [4, 0], [0, -1], [0, 1]]  # the largest weight is positive


def test_the_plane_is_that_of_another_implementation() -> None:
    draw = np.random.default_rng(6)
    z_ND = draw.normal(size=(40, 9)) * np.arange(1, 10)
    others_MD = draw.normal(size=(7, 9))
    pca = PCA(2, svd_solver="full").fit(z_ND)
    signs = np.sign(pca.components_[[0, 1], np.abs(pca.components_).argmax(axis=1)])
    for ours, theirs in zip(plane(z_ND, others_MD), (z_ND, others_MD), strict=True):
        np.testing.assert_allclose(ours, pca.transform(theirs) * signs, atol=1e-4)


@pytest.mark.parametrize("shape", [(1, 5), (3, 1), (1, 1)])
def test_a_component_that_is_missing_is_zero(shape) -> None:
    z_ND = np.arange(np.prod(shape), dtype=float).reshape(shape)
    test_N2, others_M2 = plane(z_ND, z_ND)
    assert (test_N2.shape, others_M2.shape) == ((shape[0], 2), (shape[0], 2))
    assert not test_N2[:, 1].any()


def test_equal_images_are_one_point() -> None:
    test_N2, _ = plane(np.full((4, 3), 0.7), np.zeros((0, 3)))
    assert not test_N2.any()


def neighbours(layers: int = 2) -> SoftNeighbours:
    torch.manual_seed(3)
    classifier = build(ARCHITECTURE)
    width = classifier.head.in_features
    supports_SD, class_S = torch.randn(9, width), torch.arange(9) % 3
    head = projection_head(width, layers, None)
    return SoftNeighbours(classifier, head, supports_SD, class_S, 3, 0.1).eval()


def linear() -> ProjectedSoftmax:
    torch.manual_seed(3)
    classifier = build(ARCHITECTURE)
    width = classifier.head.in_features
    return ProjectedSoftmax(classifier, projection_head(width, 2, None), torch.nn.Linear(width, 3)).eval()  # fmt: skip


IMAGES = torch.randint(0, 256, (11, 1, 8, 8), generator=torch.Generator().manual_seed(1)).byte()
LABELS = np.arange(11) % 3
PREDICTED = np.arange(11) % 2


def points(predictor, batch_size=4):
    return embedding(predictor, IMAGES, LABELS, PREDICTED, CLASSES, batch_size, CPU)


@pytest.mark.parametrize("layers", [0, 2])
def test_points_are_test_images_and_the_support_of_the_predictor(layers) -> None:
    predictor = neighbours(layers)
    found = points(predictor)
    assert [row["kind"] for row in found] == ["test"] * 11 + ["support"] * 9
    assert [row["class"] for row in found] == [CLASSES[n % 3] for n in (*range(11), *range(9))]
    assert [row["predicted"] for row in found] == [CLASSES[n % 2] for n in range(11)] + [None] * 9
    with torch.no_grad():
        z_ND = predictor.projection(predictor.classifier.features(IMAGES)).double().numpy()
    z_ND /= np.linalg.norm(z_ND, axis=1, keepdims=True)
    expected = np.concatenate(plane(z_ND, predictor.supports_SD.double().numpy()))
    xy = np.array([[row["x"], row["y"]] for row in found])
    np.testing.assert_allclose(xy, expected, atol=2e-4)


def test_what_a_linear_layer_sees_has_no_support() -> None:
    predictor = linear()
    found = points(predictor)
    assert [row["kind"] for row in found] == ["test"] * 11
    with torch.no_grad():
        z_ND = predictor.first(predictor.classifier.features(IMAGES)).double().numpy()
    xy = np.array([[row["x"], row["y"]] for row in found])
    np.testing.assert_allclose(xy, plane(z_ND, z_ND)[0], atol=2e-4)


def test_a_plain_classifier_has_no_points() -> None:
    assert points(Predictor(build(ARCHITECTURE)).eval()) == []


@pytest.mark.parametrize("make", [neighbours, linear])
def test_points_do_not_depend_on_the_batches(make) -> None:
    """But for the last bits: here the spread is that of an untrained network."""
    found = [points(make(), batch_size=size) for size in (4, 4, 1, 11)]
    assert found[0] == found[1]
    xy = [[(row["x"], row["y"]) for row in rows] for rows in found]
    for others in xy[2:]:
        np.testing.assert_allclose(others, xy[0], atol=5e-4)


def test_of_many_some_are_drawn_evenly(monkeypatch) -> None:
    monkeypatch.setattr(module, "MOST_TEST", 5)
    monkeypatch.setattr(module, "MOST_SUPPORT", 4)
    found = points(neighbours())
    assert [row["class"] for row in found[:5]] == [CLASSES[n % 3] for n in (0, 2, 4, 6, 8)]
    assert [row["class"] for row in found[5:]] == [CLASSES[n % 3] for n in (0, 2, 4, 6)]
