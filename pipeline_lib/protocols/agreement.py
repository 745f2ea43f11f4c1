"""What the split stage tells of annotators: how far they agree, and how reliable each of them is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline_lib.protocols import dawid_skene
from pipeline_lib.protocols.annotations import most_votes, reliability, tally
from pipeline_lib.protocols.labels import UNKNOWN
from pipeline_lib.protocols.summary import histogram, share

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from pipeline_lib.protocols.labels import Labels, Task, Votes

SHOWN = 20


def describe(task: Task, cast: Callable[[Labels, Task], Votes]) -> dict[str, Any]:
    """Describe the annotators of the training images (see `summary`); the estimates come from votes alone.

    Args:
        task: with the training images.
        cast: gives the votes on them.
    """
    votes, classes = cast(task.training, task), task.training.num_classes
    votes_per_image = np.bincount(votes.image_V, minlength=len(task.training))
    labels, votes = task.training.where(votes_per_image > 0), dawid_skene.voted(votes)
    votes_N = votes_per_image[votes_per_image > 0]
    image_P, class_P, count_P = tally(votes, classes)
    posterior_NK = None
    # Nothing shows how good annotators are where no image has two of them. A description alone is not worth minutes.
    quick = task.params.annotations.rule == "weighted" or dawid_skene.is_quick(votes, classes)
    image_Q = np.unique(np.stack([votes.image_V, votes.annotator_V]), axis=1)[0]
    if quick and np.bincount(image_Q).max(initial=0) > 1:
        posterior_NK = dawid_skene.posterior(votes, len(labels), reliability(task, cast))
    wrong = {"expected": None, "actual": _share_wrong(votes, labels)}
    if posterior_NK is not None:
        wrong["expected"] = _expected_wrong(image_P, class_P, count_P, posterior_NK)
    best, worst = _ranked(votes, labels, posterior_NK)
    return {
        **task.params.annotations.model_dump(),
        "count": len(np.unique(votes.annotator_V)),
        "images": len(labels),
        "votes": len(votes),
        "votes_per_image": histogram(votes_per_image),
        "agreement": agreement(votes_N, count_P),
        "krippendorff_alpha": krippendorff_alpha(image_P, class_P, count_P, votes_N, classes),
        "majority_wrong": wrong,
        "best": best,
        "worst": worst,
    }


def agreement(votes_N: NDArray[np.int64], count_P: NDArray[np.int64]) -> float | None:
    """Share of the pairs of votes on one image that name the same class."""
    return share((count_P * (count_P - 1)).sum(), (votes_N * (votes_N - 1)).sum())


def krippendorff_alpha(
    image_P: NDArray[np.int64],
    class_P: NDArray[np.int64],
    count_P: NDArray[np.int64],
    votes_N: NDArray[np.int64],
    num_classes: int,
) -> float | None:
    """Agreement beyond chance, for nominal data and any number of votes per image.

    alpha = 1 - D_o / D_e with D_o = 1 - sum_ik n_ik (n_ik - 1) / (m_i - 1) / n and D_e = 1 - sum_k n_k
    (n_k - 1) / (n (n - 1)), over images of m_i > 1 votes, n in all (Krippendorff, Computing
    Krippendorff's Alpha-Reliability, 2011). Null where all votes are for one class.
    """
    paired_P = votes_N[image_P] > 1
    image_P, class_P, count_P = image_P[paired_P], class_P[paired_P], count_P[paired_P]
    total = int(count_P.sum())
    class_K = np.bincount(class_P, count_P, minlength=num_classes)
    by_chance = total * (total - 1) - float((class_K * (class_K - 1)).sum())
    if not by_chance:
        return None
    agreed = float((count_P * (count_P - 1) / (votes_N[image_P] - 1)).sum())
    return round(1 - (total - agreed) * (total - 1) / by_chance, 6)


def _majority(
    image_P: NDArray[np.int64], count_P: NDArray[np.int64], images: int
) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
    """Mark the winning pairs of image and class, and give each its weight: classes that tie share one."""
    winning_P = count_P == most_votes(image_P, count_P, images)[image_P]
    winners_N = np.bincount(image_P[winning_P], minlength=images)
    return winning_P, 1 / winners_N[image_P[winning_P]]


def _expected_wrong(
    image_P: NDArray[np.int64],
    class_P: NDArray[np.int64],
    count_P: NDArray[np.int64],
    posterior_NK: NDArray[np.float64],
) -> float:
    """Mean probability that the majority is wrong."""
    winning_P, weight_W = _majority(image_P, count_P, len(posterior_NK))
    right_W = posterior_NK[image_P[winning_P], class_P[winning_P]]
    return round(float(1 - (weight_W * right_W).sum() / len(posterior_NK)), 6)


def _share_wrong(votes: Votes, labels: Labels) -> float | None:
    """Share of wrong majorities, over the images whose true label is known."""
    image_P, class_P, count_P = tally(votes, labels.num_classes)
    known_P = labels.truth_N[image_P] != UNKNOWN
    image_P, class_P, count_P = image_P[known_P], class_P[known_P], count_P[known_P]
    winning_P, weight_W = _majority(image_P, count_P, len(labels))
    right_W = labels.truth_N[image_P[winning_P]] == class_P[winning_P]
    total = len(np.unique(image_P))
    return round(float(1 - weight_W[right_W].sum() / total), 6) if total else None


def _ranked(
    votes: Votes, labels: Labels, posterior_NK: NDArray[np.float64] | None
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Describe the annotators of the best and the worst estimated accuracy; those without votes in neither.

    Where nothing was estimated, of the known accuracy, and of those without one first those with more votes.
    """
    people = len(votes.annotators)
    count_A = np.bincount(votes.annotator_V, minlength=people)
    truth_V = labels.truth_N[votes.image_V]
    known_A = np.bincount(votes.annotator_V[truth_V != UNKNOWN], minlength=people)
    right_A = np.bincount(votes.annotator_V[truth_V == votes.class_V], minlength=people)
    rank_A = np.where(known_A > 0, right_A / np.maximum(known_A, 1), -1 / (count_A + 1))
    if posterior_NK is not None:
        right_V = posterior_NK[votes.image_V, votes.class_V]
        sum_A = np.bincount(votes.annotator_V, right_V, minlength=people)
        rank_A = (sum_A / np.maximum(count_A, 1)).round(6)
    order_A = np.lexsort((np.arange(people), -rank_A))
    order_A = order_A[count_A[order_A] > 0]

    def describe_one(a: int) -> dict[str, Any]:
        return {
            "name": votes.annotators[a],
            "votes": int(count_A[a]),
            "estimated_accuracy": None if posterior_NK is None else float(rank_A[a]),
            "accuracy": share(right_A[a], known_A[a]),
        }

    described = [describe_one(a) for a in (*order_A[:SHOWN], *order_A[SHOWN:][-SHOWN:])]
    return described[:SHOWN], described[SHOWN:]
