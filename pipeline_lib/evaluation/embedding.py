"""Where the test images lie among the labeled ones, for predictors that classify by embeddings.

The picture is a projection on two principal components. t-SNE and UMAP would pull classes further apart, but
start at random and amplify the last bits of a sum: another processor would draw another picture.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from pipeline_lib.models.predictor import ProjectedSoftmax, SoftNeighbours, pass_size

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray
    from torch import Tensor, nn

    from pipeline_lib.metrics import Floats, Integers

MOST_TEST, MOST_SUPPORT = 1000, 250  # points; more hide one another, and make a large file
DECIMALS = 4  # of a coordinate; a picture needs no more


def embedding(
    predictor: nn.Module,
    images_NCHW: Tensor,
    labels_N: Integers,
    predicted_N: Integers,
    classes: Sequence[str],
    batch_size: int,
    device: torch.device,
) -> list[dict[str, Any]]:
    """Points of test images and of the support, drawn evenly, in the plane of the test images.

    Args:
        predictor: in evaluation mode; one without embeddings has no points.
        images_NCHW: the test images, uint8; in memory or mapped from a file.
        labels_N: their classes.
        predicted_N: what they are taken for.
        classes: K names.
        batch_size: images per forward pass, fewer if they are large.
        device: where to compute.

    Returns:
        Rows of x, y, kind (test, support), class and predicted (names; None for the support).
    """
    if not isinstance(predictor, SoftNeighbours | ProjectedSoftmax):
        return []
    shown = evenly(len(images_NCHW), MOST_TEST)
    with torch.inference_mode():
        size = min(batch_size, pass_size(images_NCHW))
        batches = images_NCHW[torch.from_numpy(shown)].split(size)
        z_ND = _on_host([predictor.embed(images_BCHW.to(device)) for images_BCHW in batches])
    support_SD, class_S = _support(predictor, z_ND.shape[1])
    test_N2, support_S2 = plane(z_ND, support_SD)
    test = zip(test_N2.tolist(), labels_N[shown], predicted_N[shown], strict=True)
    support = zip(support_S2.tolist(), class_S, strict=True)
    return [_row(xy, "test", classes[k], classes[taken]) for xy, k, taken in test] + [
        _row(xy, "support", classes[k], None) for xy, k in support
    ]


def evenly(count: int, most: int) -> NDArray[np.int64]:
    """Positions of `most` of `count` things at equal distances, or of all where there are fewer."""
    drawn = min(count, most)
    return np.arange(drawn, dtype=np.int64) * count // max(drawn, 1)


def plane(z_ND: Floats, others_MD: Floats) -> tuple[Floats, Floats]:
    """Project on the two principal components of `z_ND`, in float64: (N, 2) and (M, 2).

    A component points to where its largest weight is positive; a missing one (one image, one dimension)
    is 0 everywhere.
    """
    centre_D = z_ND.mean(axis=0)
    _, _, components = np.linalg.svd(z_ND - centre_D, full_matrices=False)
    axes_2D = np.zeros((2, z_ND.shape[1]))
    axes_2D[: len(components)] = components[:2]
    largest_2 = np.abs(axes_2D).argmax(axis=1)
    axes_2D[axes_2D[[0, 1], largest_2] < 0] *= -1
    # Adding 0 makes a negative zero positive.
    x_N2, x_M2 = (np.round((z - centre_D) @ axes_2D.T, DECIMALS) + 0.0 for z in (z_ND, others_MD))
    return x_N2, x_M2


def _support(predictor: nn.Module, width: int) -> tuple[Floats, Integers]:
    """Embeddings (S, D) and classes of the labeled images that a predictor compares with, if any."""
    if not isinstance(predictor, SoftNeighbours):
        return np.zeros((0, width)), np.zeros(0, np.int64)
    shown = evenly(len(predictor.class_S), MOST_SUPPORT)
    class_S: Integers = predictor.class_S.cpu().numpy()[shown]
    return _on_host([predictor.supports_SD])[shown], class_S


def _on_host(batches: list[Tensor]) -> Floats:
    z_ND: Floats = np.concatenate([batch.cpu().numpy() for batch in batches]).astype(np.float64)
    return z_ND


def _row(xy: list[float], kind: str, name: str, predicted: str | None) -> dict[str, Any]:
    return {"x": xy[0], "y": xy[1], "kind": kind, "class": name, "predicted": predicted}
