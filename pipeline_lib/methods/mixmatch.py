"""MixMatch: guessed labels, sharpened, and MixUp of everything with everything.

Berthelot et al.: MixMatch: A Holistic Approach to Semi-Supervised Learning, NeurIPS 2019.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

import torch

from pipeline_lib.augment.mixing import mix
from pipeline_lib.losses.common import (
    entropy,
    linear_ramp,
    sharpen,
    soft_cross_entropy,
    telling,
    uniform_targets,
)
from pipeline_lib.losses.semi import brier_loss, mean_log_prediction
from pipeline_lib.methods.semi_supervised import SemiSupervised
from pipeline_lib.models.batch_norm import in_groups
from pipeline_lib.records import Batch, Clock, Drawn, Problem, StepOutput, Stream
from pipeline_lib.rng import generator

if TYPE_CHECKING:
    from torch import Tensor

    from pipeline_lib.models.classifier import Classifier
    from pipeline_lib.params import methods as params
    from pipeline_lib.rng import StepRng


class MixMatch(SemiSupervised):
    """Cross-entropy on mixed labeled images, squared error on mixed unlabeled ones.

    Guesses are made by the network as it is, with batch statistics that are not recorded and without
    gradient. Images are mixed as pixels: the normalisation inside the model is affine.
    """

    def __init__(self, params: params.MixMatch, problem: Problem, model: Classifier) -> None:
        super().__init__("mixmatch", problem, model)
        self.params = params

    @property
    def streams(self) -> dict[str, Stream]:
        """Labeled images in one weak view, unlabeled ones in several."""
        views = ("weak",) * self.params.guesses
        return {
            "labeled": self.labeled_stream("weak"),
            "unlabeled": self.unlabeled_stream(self.params.unlabeled_ratio, *views),
        }

    @property
    def variant(self) -> str:
        """Batch statistics (official code: interleaved), and what is mixed (paper: all)."""
        return f"bn={self.params.bn},mixup={self.params.mixup}"

    def draw(self, clock: Clock, rng: StepRng) -> Drawn:
        """Of every image its share and its partner (eqs. 8 to 10); the weight of the unlabeled term."""
        labeled, unlabeled = self.batch_size, self.params.unlabeled_ratio * self.batch_size
        unlabeled *= self.params.guesses
        # NumPy's: torch has no Beta distribution that takes a generator.
        alpha, draw = self.params.alpha, generator(rng.seed, "mixup", rng.step)
        share_N = torch.from_numpy(draw.beta(alpha, alpha, labeled + unlabeled)).float()
        order = rng("mixup partners")
        return {
            # The larger one, so that the first images are still mostly labeled.
            "share": torch.maximum(share_N, 1 - share_N),
            "partner": partners(self.params.mixup, labeled, unlabeled, order),
            "weight": torch.tensor(self.params.lambda_u * self.risen(clock)),
        }

    def risen(self, clock: Clock) -> float:
        """lambda_U(step) / lambda_U: linear from the first step."""
        return linear_ramp(clock.step, self.params.ramp_steps) if self.params.lambda_u else 1.0

    def training_step(self, batch: Batch, drawn: Drawn) -> StepOutput:
        """`L_X + lambda_U(step) L_U` (eqs. 2 to 5)."""
        labeled_BCHW, views = batch.views["labeled"][0], batch.views["unlabeled"]
        log_p_UK = self.guess(views)
        if self.some_partial:
            log_p_UK = self.possible(log_p_UK.exp(), batch).log()
        q_UK = sharpen(log_p_UK, self.params.temperature)
        self.remember(batch, q_UK)
        labeled = len(labeled_BCHW)
        images_NCHW = torch.cat([labeled_BCHW, *views]).float()
        # One view after the other, so the guesses are repeated as a whole.
        candidates_BK = batch.candidates["labeled"]
        labels_BK = telling(candidates_BK) * uniform_targets(candidates_BK)
        targets_NK = torch.cat([labels_BK, q_UK.repeat(len(views), 1)])
        share_N, partner_N = drawn["share"], drawn["partner"]
        images_NCHW = mix(images_NCHW, images_NCHW[partner_N], share_N)
        targets_NK = mix(targets_NK, targets_NK[partner_N], share_N)
        logits_NK = self.logits(images_NCHW, labeled)
        supervised = soft_cross_entropy(logits_NK[:labeled], targets_NK[:labeled])
        unlabeled = brier_loss(logits_NK[labeled:], targets_NK[labeled:])
        scalars = {
            "supervised_loss": supervised.detach(),
            "unlabeled_loss": unlabeled.detach(),
            "unlabeled_weight": drawn["weight"],
            "prediction_entropy": entropy(log_p_UK.exp().mean(dim=0)),
        }
        return StepOutput(supervised + drawn["weight"] * unlabeled, scalars)

    @torch.no_grad()
    def guess(self, views: tuple[Tensor, ...]) -> Tensor:
        """Logarithm of the mean prediction over the views of the unlabeled images (UK)."""
        with in_groups(self.model, len(views), recorded=0):
            return mean_log_prediction(self.model(torch.cat(views)).chunk(len(views)))

    def logits(self, images_NCHW: Tensor, size: int) -> Tensor:
        """Logits of all images: of batches of `size`, interleaved, or of all of them at once.

        The first batch alone moves the running statistics: it holds a part of every other one.
        """
        if self.params.bn == "joint":
            joint_NK: Tensor = self.model(images_NCHW)
            return joint_NK
        groups = len(images_NCHW) // size
        order_N = interleaved(groups, size, images_NCHW.device).flatten()
        with in_groups(self.model, groups, recorded=1):
            logits_NK: Tensor = self.model(images_NCHW[order_N])
        return logits_NK[order_N]  # the exchange undoes itself


def partners(mixup: str, labeled: int, unlabeled: int, generator: torch.Generator) -> Tensor:
    """With which image each one is mixed: a permutation of all, of one set, or of each (N,)."""
    if mixup == "all":
        return torch.randperm(labeled + unlabeled, generator=generator)

    def among(size: int, *, shuffled: bool) -> Tensor:
        return torch.randperm(size, generator=generator) if shuffled else torch.arange(size)

    return torch.cat(
        [
            among(labeled, shuffled=mixup in ("labeled", "separate")),
            among(unlabeled, shuffled=mixup in ("unlabeled", "separate")) + labeled,
        ]
    )


@functools.cache
def interleaved(groups: int, size: int, device: torch.device) -> Tensor:
    """Positions that make every batch of unlabeled images part labeled (GB).

    The first of the groups, the labeled one, is cut into as many blocks as there are groups; block g is
    exchanged with the same block of group g, as in the official code (whose longer blocks are the last ones, where
    they are not all alike; here the first). Applied twice, all is as before.
    """
    order_GB = torch.arange(groups * size, device=device).view(groups, size)
    place_B = torch.arange(size, device=device)
    group_B = place_B * groups // size
    order_GB[group_B, place_B] = place_B
    order_GB[0, place_B] = group_B * size + place_B
    return order_GB
