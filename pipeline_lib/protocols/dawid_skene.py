"""How reliable are annotators, and what is the true class? Maximum likelihood from votes alone.

Dawid and Skene, Maximum Likelihood Estimation of Observer Error-Rates Using the EM Algorithm, Applied
Statistics 28 (1979). With votes n (annotator a named class l for image i: n_ial = 1), unknown true
classes T_ik, the classes' shares p_k and the annotators' error rates pi_akl = P(a says l | truth is k):

    E (2.5):  T_ik   = p_k prod_{a,l} pi_akl^n_ial / sum_k' (the same)
    M (2.3):  pi_akl = sum_i T_ik n_ial / sum_{i,l} T_ik n_ial
    M (2.4):  p_k    = sum_i T_ik / I

It starts with the share of votes for each class, as the paper does, and a class that nobody named keeps
the share 0. One thing is added, since an annotator may have voted a few times only: each row of pi holds
one vote more, shared out as the votes of all annotators are for that class (which hold one more
themselves, shared out evenly). Images without votes take no part: they would only slow it down.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from pipeline_lib.progress import progress

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from pipeline_lib.protocols.labels import Votes

ROUNDS = 100
TOLERANCE = 1e-6
DECIMALS = 6
LARGEST = 100_000_000  # entries of pi, and of T: 3 GB at the peak
QUICK = 20_000_000  # additions of a round


@dataclass(frozen=True)
class Reliability:
    """What was estimated.

    Attributes:
        prior_K: p.
        confusion_AKK: pi, by annotator, true class and named class.
    """

    prior_K: NDArray[np.float64]
    confusion_AKK: NDArray[np.float64]


def fits(annotators: int, images: int, num_classes: int) -> bool:
    """Whether error rates and posteriors have no more than LARGEST entries."""
    return max(annotators * num_classes, images) * num_classes <= LARGEST


def is_quick(votes: Votes, num_classes: int) -> bool:
    """Whether an estimate takes seconds, not minutes."""
    return num_classes * (len(votes) + len(votes.annotators) * num_classes) <= QUICK


def voted(votes: Votes) -> Votes:
    """The same votes, of images that are numbered without those that have none."""
    numbers_V = np.unique(votes.image_V, return_inverse=True)[1]
    return replace(votes, image_V=numbers_V.astype(np.int32))


def estimate(votes: Votes, images: int, num_classes: int) -> Reliability:
    """Alternate M and E until no posterior moves by more than TOLERANCE, ROUNDS times at most.

    Args:
        votes: on every one of the images.
        images: how many there are.
        num_classes: K.
    """
    posterior_NK = vote_shares(votes, images, num_classes)
    with progress("estimating the annotators' errors", "rounds at most", ROUNDS) as advance:
        for _ in range(ROUNDS):
            reliability = maximise(votes, posterior_NK)
            before_NK, posterior_NK = posterior_NK, expect(votes, images, reliability)
            before_NK -= posterior_NK
            advance(1)
            if max(before_NK.max(), -before_NK.min()) <= TOLERANCE:
                break
    return maximise(votes, posterior_NK)


def posterior(votes: Votes, images: int, reliability: Reliability) -> NDArray[np.float64]:
    """Probability of each class for each image, (N, K), rounded so that no processor's last bit counts."""
    rounded_NK: NDArray[np.float64] = expect(votes, images, reliability).round(DECIMALS)
    return rounded_NK


def vote_shares(votes: Votes, images: int, num_classes: int) -> NDArray[np.float64]:
    """Share of the votes on an image for each class, (N, K)."""
    at_V = votes.image_V * np.int64(num_classes) + votes.class_V
    count_NK = np.bincount(at_V, minlength=images * num_classes).reshape(images, num_classes)
    shares_NK: NDArray[np.float64] = count_NK / count_NK.sum(axis=1, keepdims=True)
    return shares_NK


def maximise(votes: Votes, posterior_NK: NDArray[np.float64]) -> Reliability:
    """Estimate error rates and shares from posteriors (2.3, 2.4)."""
    classes, people = posterior_NK.shape[1], len(votes.annotators)
    at_V = votes.annotator_V * np.int64(classes) + votes.class_V
    count_AKK = np.empty((people, classes, classes))
    for k in range(classes):
        weight_V = posterior_NK[votes.image_V, k]
        count_AK = np.bincount(at_V, weight_V, minlength=people * classes)
        count_AKK[:, k] = count_AK.reshape(people, classes)
    pooled_KK = _normalised(count_AKK.sum(axis=0) + 1 / classes)
    prior_K = _normalised(posterior_NK.sum(axis=0))
    return Reliability(prior_K, _normalised(count_AKK + pooled_KK))


def expect(votes: Votes, images: int, reliability: Reliability) -> NDArray[np.float64]:
    """Estimate the true classes (2.5)."""
    log_AKK = np.log(reliability.confusion_AKK)
    log_NK = np.empty((images, len(reliability.prior_K)))
    with np.errstate(divide="ignore"):  # a class that nobody named
        prior_K = np.log(reliability.prior_K)
    for k, prior in enumerate(prior_K):
        said_V = log_AKK[votes.annotator_V, k, votes.class_V]
        log_NK[:, k] = prior + np.bincount(votes.image_V, said_V, minlength=images)
    log_NK -= log_NK.max(axis=1, keepdims=True)
    likely_NK = np.exp(log_NK, out=log_NK)
    likely_NK /= likely_NK.sum(axis=1, keepdims=True)
    return likely_NK


def _normalised(values: NDArray[np.float64]) -> NDArray[np.float64]:
    scaled: NDArray[np.float64] = values / values.sum(axis=-1, keepdims=True)
    return scaled
