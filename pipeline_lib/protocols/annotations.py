"""From what several annotators said of an image to its candidate set: `split.annotations`."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from pipeline_lib.errors import UserError
from pipeline_lib.protocols import dawid_skene
from pipeline_lib.protocols.labels import marks

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from pipeline_lib.protocols.dawid_skene import Reliability
    from pipeline_lib.protocols.labels import Labels, Task, Votes

UNITS = 10**dawid_skene.DECIMALS


def candidate_sets(
    labels: Labels, votes: Votes, task: Task, cast: Callable[[Labels, Task], Votes]
) -> NDArray[np.bool_]:
    """Apply the rule; an image without votes has no candidate, (N, K).

    Args:
        labels: N images.
        votes: on these images.
        task: whose `split.annotations` is the rule.
        cast: gives the votes on other images, from which `weighted` learns.

    Raises:
        UserError: `weighted` is asked of too many annotators and classes.
    """
    options, shape = task.params.annotations, (len(labels), labels.num_classes)
    match options.rule:
        case "union":
            return marks(*shape, votes.image_V, votes.class_V)
        case "at_least":
            return _at_least(votes, shape, options.at_least)
        case "weighted":
            return _weighted(votes, shape, reliability(task, cast), options.mass)


@lru_cache(maxsize=1)
def reliability(task: Task, cast: Callable[[Labels, Task], Votes]) -> Reliability:
    """Estimate the annotators' error rates on the training images, once for all who ask.

    Raises:
        UserError: There are too many annotators, images and classes.
    """
    votes, classes = dawid_skene.voted(cast(task.training, task)), task.training.num_classes
    people, images = len(votes.annotators), int(votes.image_V.max(initial=-1)) + 1
    if not dawid_skene.fits(people, images, classes):
        msg = (
            f"split.annotations.rule: weighted would need {people} tables of {classes}x{classes}, one per "
            f"annotator, and one of {images}x{classes}, which is too much; take union or at_least"
        )
        raise UserError(msg)
    return dawid_skene.estimate(votes, images, classes)


def tally(
    votes: Votes, num_classes: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Count the votes: images, classes, and how many named that class for that image, once per pair."""
    at_V = votes.image_V * np.int64(num_classes) + votes.class_V
    pair_P, count_P = np.unique(at_V, return_counts=True)
    return *np.divmod(pair_P, num_classes), count_P


def most_votes(
    image_P: NDArray[np.int64], count_P: NDArray[np.int64], images: int
) -> NDArray[np.int64]:
    """Count the votes of the class with the most, for each image."""
    most_N = np.zeros(images, np.int64)
    np.maximum.at(most_N, image_P, count_P)
    return most_N


def _at_least(votes: Votes, shape: tuple[int, int], number: int) -> NDArray[np.bool_]:
    """Take what so many named; where no class has so many, those with the most."""
    image_P, class_P, count_P = tally(votes, shape[1])
    needed_N = np.minimum(most_votes(image_P, count_P, shape[0]), number)
    enough_P = count_P >= needed_N[image_P]
    return marks(*shape, image_P[enough_P], class_P[enough_P])


def _weighted(
    votes: Votes, shape: tuple[int, int], reliability: Reliability, mass: float
) -> NDArray[np.bool_]:
    """Take the fewest probable classes of the images that have votes."""
    voted_N = np.bincount(votes.image_V, minlength=shape[0]) > 0
    votes = dawid_skene.voted(votes)
    candidates_NK = np.zeros(shape, bool)
    posterior_MK = dawid_skene.posterior(votes, int(voted_N.sum()), reliability)
    candidates_NK[voted_N] = fewest(posterior_MK, mass)
    return candidates_NK


def fewest(posterior_NK: NDArray[np.float64], mass: float) -> NDArray[np.bool_]:
    """Take the fewest classes whose probabilities sum to `mass`, and all that tie with the last of them.

    Counted in whole millionths, so that sums are exact; no more is asked for than there is, nor is a
    class taken that has nothing.

    Args:
        posterior_NK: probabilities of DECIMALS decimals.
        mass: in (0, 1].
    """
    unit_NK = np.rint(posterior_NK * UNITS).astype(np.int64)
    falling_NK = -np.sort(-unit_NK, axis=1)
    sum_NK = falling_NK.cumsum(axis=1)
    needed_N = np.minimum(round(mass * UNITS), sum_NK[:, -1])
    last_N = (sum_NK >= needed_N[:, None]).argmax(axis=1)
    smallest_N = np.take_along_axis(falling_NK, last_N[:, None], axis=1)
    taken_NK: NDArray[np.bool_] = (unit_NK >= smallest_N) & (unit_NK > 0)
    return taken_NK
