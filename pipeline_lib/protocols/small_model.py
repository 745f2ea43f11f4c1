"""A small classifier that tells which classes an image could be taken for; no torch, seconds on a CPU.

One layer after Coates, Lee and Ng, An Analysis of Single-Layer Networks in Unsupervised Feature
Learning, AISTATS 2011: filters are whitened random patches of the training images; a patch x,
normalised and whitened, is encoded as max(0, d'x - ALPHA) for each filter d (Coates and Ng, ICML 2011)
and pooled over the four quadrants of the image. On that a linear classifier by ridge regression, in
closed form; softmax makes probabilities of its scores.

All is float64 and continuous in its inputs, so that another number of cores, whose sums differ in the
last bits, changes probabilities by some 1e-12 only. Images come in blocks; memory does not grow with
their number.
"""

from __future__ import annotations

import dataclasses
import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy.linalg import eigh, solve
from scipy.special import log_softmax, softmax

from pipeline_lib.rng import generator

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

    Blocks = Iterator[tuple[NDArray[np.intp], NDArray[np.uint8]]]
    Pixels = Callable[[NDArray[np.int32]], Blocks]

SIDE = 32  # larger images are averaged down to less than twice that
FILTERS = 128
SAMPLE = 2000  # images that filters are taken from, and on which the temperature is chosen
PATCHES = 10  # per such image
ALPHA = 0.25
BLOCK = 32  # small enough for a processor's cache
TEMPERATURES = 2.0 ** np.arange(-8, 1.5, 0.5)


@dataclass(frozen=True)
class SmallModel:
    """Filters and weights.

    Attributes:
        patch: side of a patch, and `stride` between patches.
        filter_PF: what a normalised patch is multiplied with, whitening included.
        offset_F: what is taken from the result, ALPHA included.
        weight_DK, bias_K: of the linear classifier on the pooled features.
        temperature: that the scores are divided by.
    """

    patch: int
    stride: int
    filter_PF: NDArray[np.float64]
    offset_F: NDArray[np.float64]
    weight_DK: NDArray[np.float64]
    bias_K: NDArray[np.float64]
    temperature: float


def learn(
    pixels: Pixels,
    id_N: NDArray[np.int32],
    class_N: NDArray[np.integer],
    num_classes: int,
    seed: int,
) -> SmallModel:
    """Learn from images and their classes.

    The temperature is the one of TEMPERATURES that makes the true classes of a sample most likely
    (Guo et al., On Calibration of Modern Neural Networks, ICML 2017).

    Args:
        pixels: gives images by their ids, in blocks.
        id_N: of the images.
        class_N: their classes.
        num_classes: K.
        seed: of the sample and the patches.
    """
    order_N = generator(seed, "small_model", "images").permutation(len(id_N))
    sample_S = np.sort(order_N[:SAMPLE])
    model = _with_filters(pixels, id_N[sample_S], num_classes, seed)
    weight_DK, bias_K = _regression(model, pixels, id_N, class_N)
    model = dataclasses.replace(model, weight_DK=weight_DK, bias_K=bias_K)
    score_SK = np.empty((len(sample_S), num_classes))
    for positions_B, scores_BK in scores(model, pixels, id_N[sample_S]):
        score_SK[positions_B] = scores_BK
    return dataclasses.replace(model, temperature=_temperature(score_SK, class_N[sample_S]))


def scores(
    model: SmallModel, pixels: Pixels, id_N: NDArray[np.int32]
) -> Iterator[tuple[NDArray[np.intp], NDArray[np.float64]]]:
    """Give positions in `id_N` (B,) and the scores of their classes (B, K), block by block."""
    for positions_B, features_BD in _features(model, pixels, id_N):
        yield positions_B, features_BD @ model.weight_DK + model.bias_K


def probabilities(
    model: SmallModel, pixels: Pixels, id_N: NDArray[np.int32]
) -> Iterator[tuple[NDArray[np.intp], NDArray[np.float64]]]:
    """Give positions in `id_N` (B,) and the probabilities of their classes (B, K), block by block."""
    for positions_B, scores_BK in scores(model, pixels, id_N):
        yield positions_B, softmax(scores_BK / model.temperature, axis=1)


def _with_filters(
    pixels: Pixels, id_S: NDArray[np.int32], num_classes: int, seed: int
) -> SmallModel:
    """Take random patches, whiten them, and let some of them be the filters."""
    blocks = [images_BHWC for _, images_BHWC in _shrunk(pixels, id_S)]
    side = min(blocks[0].shape[1:3])
    patch = min(side, max(3, min(6, side // 5)))
    stride = 1 if side < SIDE // 2 else patch // 2
    random = generator(seed, "small_model", "patches")
    chosen = []
    for images_BHWC in blocks:
        grid_BYXP = _grid(images_BHWC, patch, 1)
        patches_BQP = grid_BYXP.reshape(len(grid_BYXP), -1, grid_BYXP.shape[-1])
        which_BJ = random.integers(patches_BQP.shape[1], size=(len(images_BHWC), PATCHES))
        chosen.append(np.take_along_axis(patches_BQP, which_BJ[:, :, None], axis=1))
    patch_MP = np.concatenate(chosen).reshape(-1, chosen[0].shape[2])
    brightness_M1, contrast_M1 = _brightness_and_contrast(patch_MP)
    patch_MP = (patch_MP - brightness_M1) / contrast_M1
    mean_P = patch_MP.mean(axis=0)
    variance_E, vector_PE = eigh(np.cov(patch_MP, rowvar=False, ddof=0).reshape(len(mean_P), -1))
    whiten_PP = vector_PE / np.sqrt(variance_E + 0.1) @ vector_PE.T
    picked = random.choice(len(patch_MP), FILTERS, replace=len(patch_MP) < FILTERS)
    filter_FP = (patch_MP[picked] - mean_P) @ whiten_PP
    filter_FP /= np.linalg.norm(filter_FP, axis=1, keepdims=True) + 1e-9
    filter_PF = whiten_PP @ filter_FP.T
    nothing_DK = np.zeros((4 * FILTERS, num_classes))
    offset_F = mean_P @ filter_PF + ALPHA
    return SmallModel(patch, stride, filter_PF, offset_F, nothing_DK, nothing_DK[0], 1.0)


def _regression(
    model: SmallModel, pixels: Pixels, id_N: NDArray[np.int32], class_N: NDArray[np.integer]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Minimise the squared error of one-hot targets, plus a penalty on the weights of scaled features.

    The penalty weighs as much as one image per feature, so that few images are not learned by heart.
    """
    width, classes = model.weight_DK.shape
    product_DD, sum_D = np.zeros((width, width)), np.zeros(width)
    target_DK = np.zeros((width, classes))
    for positions_B, features_BD in _features(model, pixels, id_N):
        product_DD += features_BD.T @ features_BD
        sum_D += features_BD.sum(axis=0)
        for k in np.unique(class_N[positions_B]):
            target_DK[:, k] += features_BD[class_N[positions_B] == k].sum(axis=0)
    number = len(id_N)
    mean_D = sum_D / number
    share_K = np.bincount(class_N, minlength=classes) / number
    covariance_DD = product_DD / number - np.outer(mean_D, mean_D)
    scale_D = np.sqrt(covariance_DD.diagonal().clip(0)) + 1e-6
    scaled_DD = covariance_DD / np.outer(scale_D, scale_D) + width / number * np.eye(width)
    scaled_DK = (target_DK / number - np.outer(mean_D, share_K)) / scale_D[:, None]
    weight_DK = solve(scaled_DD, scaled_DK, assume_a="pos") / scale_D[:, None]
    return weight_DK, share_K - mean_D @ weight_DK


def _temperature(score_SK: NDArray[np.float64], class_S: NDArray[np.integer]) -> float:
    loss_T = [
        -log_softmax(score_SK / temperature, axis=1)[np.arange(len(class_S)), class_S].mean()
        for temperature in TEMPERATURES
    ]
    return float(TEMPERATURES[np.argmin(loss_T)])


def _features(
    model: SmallModel, pixels: Pixels, id_N: NDArray[np.int32]
) -> Iterator[tuple[NDArray[np.intp], NDArray[np.float64]]]:
    """Encode and pool: four quadrants of every filter's response, (B, D)."""
    sum_F = model.filter_PF.sum(axis=0)
    for positions_B, images_BHWC in _shrunk(pixels, id_N):
        patches_BYXP = _grid(images_BHWC, model.patch, model.stride)
        mean_BYX1, scale_BYX1 = _brightness_and_contrast(patches_BYXP)
        # (patches - mean) / scale @ filters, without a copy of the patches
        response_BYXF = patches_BYXP @ model.filter_PF
        response_BYXF -= mean_BYX1 * sum_F
        response_BYXF /= scale_BYX1
        response_BYXF -= model.offset_F
        np.maximum(response_BYXF, 0.0, out=response_BYXF)
        quadrants = itertools.product(*(_halves(side) for side in response_BYXF.shape[1:3]))
        pooled = [response_BYXF[:, ys, xs].mean(axis=(1, 2)) for ys, xs in quadrants]
        yield positions_B, np.concatenate(pooled, axis=1)


def _halves(length: int) -> tuple[slice, slice]:
    """Cut in two; both are all of it where there is one only."""
    return slice(0, max(1, length // 2)), slice(length // 2, None)


def _shrunk(
    pixels: Pixels, id_N: NDArray[np.int32]
) -> Iterator[tuple[NDArray[np.intp], NDArray[np.float64]]]:
    """Give images of less than twice SIDE, by averaging squares of pixels; float64 in 0 to 1."""
    for positions_B, images_BHWC in pixels(id_N):
        for start in range(0, len(positions_B), BLOCK):
            part_BHWC = images_BHWC[start : start + BLOCK]
            _, height, width, depth = part_BHWC.shape
            factor = max(1, min(height, width) // SIDE)
            rows, columns = height // factor, width // factor
            cut_BHWC = part_BHWC[:, : rows * factor, : columns * factor]
            squares = cut_BHWC.reshape(-1, rows, factor, columns, factor, depth)
            yield positions_B[start : start + BLOCK], squares.mean(axis=(2, 4)) / 255


def _grid(images_BHWC: NDArray[np.float64], patch: int, stride: int) -> NDArray[np.float64]:
    """Cut patches of all channels, (B, Y, X, P)."""
    windows = np.lib.stride_tricks.sliding_window_view(images_BHWC, (patch, patch), axis=(1, 2))
    grid_BYXCpp = windows[:, ::stride, ::stride]
    return grid_BYXCpp.reshape(*grid_BYXCpp.shape[:3], -1)


def _brightness_and_contrast(
    patches_P: NDArray[np.float64],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean and deviation of each patch; 10 of 255 squared, as the paper, so that flat ones stay faint."""
    mean = patches_P.mean(axis=-1, keepdims=True)
    square = np.einsum("...p,...p->...", patches_P, patches_P)[..., None] / patches_P.shape[-1]
    return mean, np.sqrt((square - mean**2).clip(0) + 10 / 255**2)
