"""The heads of PAWS, and predictors that come back from their files as they were."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from pipeline_lib.models.build import Architecture, build
from pipeline_lib.models.predictor import (
    Predictor,
    ProjectedSoftmax,
    SoftNeighbours,
    load_predictor,
    save_predictor,
)
from pipeline_lib.models.projection import (
    headless,
    prediction_head,
    projected_width,
    projection_head,
    takes_smaller,
)

CLASSES, SUPPORTS = 4, 7
ARCHITECTURE = Architecture(
    "small_cnn", 4, 1.0, 0.0, "auto", 0.1, 1, 8, 8, CLASSES, mean=(0.3,), std=(0.3,)
)
ABOUT = {"method": "paws", "variant": "official", "dataset": "toy", "seed": 1}
ABOUT |= {"classes": [str(k) for k in range(CLASSES)], "selected_epoch": 2, "snapshots": {}}
ABOUT |= {"resize": "stretch"}
IMAGES = torch.randint(0, 256, (5, 1, 8, 8), generator=torch.Generator().manual_seed(1)).byte()


def kinds(head: nn.Module) -> list[type[nn.Module]]:
    return [type(m) for m in head.modules() if not isinstance(m, nn.Sequential)]


@pytest.mark.parametrize("layers", [1, 2, 3])
def test_a_projection_head_has_a_norm_in_every_layer_but_the_last(layers) -> None:
    head = projection_head(16, layers, 6)
    assert kinds(head) == [nn.Linear, nn.BatchNorm1d, nn.ReLU] * (layers - 1) + [nn.Linear]
    assert head(torch.randn(3, 16)).shape == (3, 6)
    assert projected_width(16, head) == 6
    assert projection_head(16, layers, None)(torch.randn(3, 16)).shape == (3, 16)


def test_without_layers_the_features_stay_as_they_are() -> None:
    head, features = projection_head(16, 0, 6), torch.randn(3, 16)
    assert torch.equal(head(features), features)
    assert projected_width(16, head) == 16


def test_a_prediction_head_narrows_to_a_quarter() -> None:
    head = prediction_head(16)
    assert kinds(head) == [nn.BatchNorm1d, nn.Linear, nn.BatchNorm1d, nn.ReLU, nn.Linear]
    assert head[1].out_features == 4
    assert head(torch.randn(3, 16)).shape == (3, 16)


@pytest.mark.parametrize("training", [True, False])
def test_trying_a_smaller_image_leaves_no_trace(training) -> None:
    classifier = build(ARCHITECTURE).train(training)
    before = {name: tensor.clone() for name, tensor in classifier.state_dict().items()}
    assert takes_smaller(classifier, IMAGES)
    assert classifier.training is training
    assert all(torch.equal(t, before[n]) for n, t in classifier.state_dict().items())


def soft_neighbours(layers: int, width: int | None) -> Predictor:
    classifier = build(ARCHITECTURE)
    projection = projection_head(classifier.head.in_features, layers, width)
    supports = torch.randn(SUPPORTS, projected_width(classifier.head.in_features, projection))
    classes = torch.arange(SUPPORTS) % CLASSES
    return SoftNeighbours(classifier, projection, supports, classes, CLASSES, 0.05)


def projected_softmax(layers: int, width: int | None) -> Predictor:
    classifier = build(ARCHITECTURE)
    inputs = classifier.head.in_features
    projection = projection_head(inputs, layers, width)
    linear = nn.Linear(projected_width(inputs, projection), CLASSES)
    return ProjectedSoftmax(classifier, projection, linear)


@pytest.mark.parametrize("make", [soft_neighbours, projected_softmax])
@pytest.mark.parametrize(("layers", "width"), [(0, None), (0, 6), (1, 6), (2, None), (3, 6)])
def test_a_saved_predictor_predicts_the_same(make, layers, width, tmp_path: Path) -> None:
    predictor = make(layers, width).eval()
    save_predictor(tmp_path, predictor.state_dict(), predictor.description, ARCHITECTURE, ABOUT)
    with torch.no_grad():
        p_BK = predictor(IMAGES)
        torch.testing.assert_close(load_predictor(tmp_path)(IMAGES), p_BK, rtol=0, atol=0)
    torch.testing.assert_close(p_BK.sum(dim=1), torch.ones(len(IMAGES)))
    assert not any("classifier.head" in name for name in predictor.state_dict())


def test_a_support_image_is_its_own_nearest_neighbour() -> None:
    """At a low temperature, and so gets its own label."""
    classifier, projection = build(ARCHITECTURE).eval(), projection_head(16, 0, None)
    with torch.no_grad():
        supports = headless(classifier).features(IMAGES)
        classes = torch.tensor([3, 1, 0, 2, 1])
        predictor = SoftNeighbours(classifier, projection, supports, classes, CLASSES, 1e-5)
        assert torch.equal(predictor.eval()(IMAGES).argmax(dim=1), classes)


def test_neighbours_of_a_class_add_up() -> None:
    classifier, projection = build(ARCHITECTURE).eval(), projection_head(16, 0, None)
    with torch.no_grad():
        supports = headless(classifier).features(IMAGES)
        classes = torch.tensor([3, 1, 0, 3, 1])
        z = torch.nn.functional.normalize(supports)
        share = torch.softmax(z @ z.T / 0.1, dim=1)
        expected = share @ torch.eye(CLASSES)[classes]
        predictor = SoftNeighbours(classifier, projection, supports, classes, CLASSES, 0.1)
        torch.testing.assert_close(predictor.eval()(IMAGES), expected)
