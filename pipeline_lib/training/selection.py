"""Validation: what is measured on it, and which epoch's weights are kept.

Test images play no part. `covering_rate` and `approximated_accuracy` need no clean labels (Wang et
al., PLENCH, ICLR 2025); on images with one candidate both rank as the accuracy does, or nearly.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import torch

from pipeline_lib.errors import UserError
from pipeline_lib.models.predictor import in_passes

if TYPE_CHECKING:
    from torch import Tensor, nn

    from pipeline_lib.params.sections import Selection

Rule = Literal["val_accuracy", "covering_rate", "approximated_accuracy", "last"]
SMALLEST_PROBABILITY = 1e-12  # keeps the logarithm finite


@dataclass(frozen=True)
class Validation:
    """The validation images, uint8 (M, C, H, W), and on the device their candidate masks, float32 (M, K).

    The images may be mapped from a file, on the CPU (see `memory`).
    """

    images_MCHW: Tensor
    candidates_MK: Tensor


@dataclass(frozen=True)
class Verdict:
    """One evaluation: the measures by name, and the predicted class of every image, int16 (M,)."""

    measures: dict[str, float]
    labels_M: Tensor


def resolve_rule(select: Selection, candidates_MK: Tensor, patience: int | None) -> Rule:
    """Turn `auto` into the first rule that the validation labels allow.

    Raises:
        UserError: The rule asked for, or the patience, needs labels that the validation images do not
            have.
    """
    rule = _allowed_rule(select, candidates_MK)
    if patience is not None and rule == "last":
        msg = (
            "train.patience: the rule is to keep the last epoch, which none can fall behind; set "
            "train.patience to null, or split.val_labels to clean and train.select to auto"
        )
        raise UserError(msg)
    return rule


def _allowed_rule(select: Selection, candidates_MK: Tensor) -> Rule:
    counts_M = candidates_MK.sum(dim=1)
    clean = len(counts_M) > 0 and bool((counts_M == 1).all())
    telling = len(counts_M) > 0 and bool((counts_M < candidates_MK.shape[1]).any())
    if select == "auto":
        return "val_accuracy" if clean else "covering_rate" if telling else "last"
    if select == "val_accuracy" and not clean:
        msg = (
            "train.select: val_accuracy needs one label per validation image; set split.val_labels "
            "to clean, or select by covering_rate, approximated_accuracy or last"
        )
        raise UserError(msg)
    if select != "last" and not telling:
        msg = (
            f"train.select: {select} needs validation images with fewer candidates than classes; set "
            f"split.val_fraction above 0 and split.val_labels to clean, or select last"
        )
        raise UserError(msg)
    return select


@torch.no_grad()
def validate(predictor: nn.Module, validation: Validation) -> Verdict | None:
    """Measure a predictor in evaluation mode; None where there are no validation images."""
    if len(validation.images_MCHW) == 0:
        return None
    predictor.eval()
    y_MK = validation.candidates_MK
    batches = in_passes(validation.images_MCHW)
    p_MK = torch.cat([predictor(images_BCHW.to(y_MK.device)) for images_BCHW in batches])
    labels_M = p_MK.argmax(dim=1)
    return Verdict(_measure(p_MK, y_MK), labels_M.to(torch.int16).cpu())


def _measure(p_MK: Tensor, y_MK: Tensor) -> dict[str, float]:
    """The measures over the images whose candidates say anything; none where all say nothing."""
    telling_M = y_MK.sum(dim=1) < y_MK.shape[1]
    if not bool(telling_M.any()):
        return {}
    p_MK, y_MK = p_MK[telling_M], y_MK[telling_M]
    inside_M = (p_MK * y_MK).sum(dim=1).clamp_min(SMALLEST_PROBABILITY)
    top_M, labels_M = p_MK.max(dim=1)
    covered_M = y_MK.gather(1, labels_M[:, None])[:, 0]
    measures = {
        "val_loss": -inside_M.log().mean(),
        "val_covering_rate": covered_M.mean(),
        "val_approximated_accuracy": (covered_M * top_M / inside_M).mean(),
    }
    if bool((y_MK.sum(dim=1) == 1).all()):
        measures["val_accuracy"] = measures["val_covering_rate"]
    return {name: float(value) for name, value in measures.items()}


def score(rule: Rule, verdict: Verdict | None, epoch: int) -> float:
    """The number by which epochs are compared: the highest is kept."""
    if rule == "last" or verdict is None:
        return float(epoch)
    return verdict.measures[rule if rule.startswith("val_") else f"val_{rule}"]
