"""The predictor's probabilities on the test images."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from pipeline_lib.errors import UserError
from pipeline_lib.free_memory import enough_memory
from pipeline_lib.models.predictor import pass_size
from pipeline_lib.progress import progress

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor, nn


def predict(
    predictor: nn.Module, images_NCHW: Tensor, batch_size: int, device: torch.device
) -> NDArray[np.float32]:
    """Apply a predictor in evaluation mode.

    Args:
        predictor: uint8 images (B, C, H, W) -> float32 probabilities (B, K).
        images_NCHW: uint8, at least one; in memory or mapped from a file.
        batch_size: images per forward pass, fewer if they are large; more of them change no more than the last bits.
        device: where to compute.

    Returns:
        Probabilities, float32 (N, K).

    Raises:
        UserError: A probability is NaN or infinite, or the device has too little memory.
    """
    predictor = predictor.to(device).eval()
    size = min(batch_size, pass_size(images_NCHW))
    memory = enough_memory(f"evaluate.batch_size: {size} images do not fit on {device}; lower it")
    batches = []
    with memory, progress("testing", "images", len(images_NCHW)) as advance, torch.inference_mode():
        for images_BCHW in torch.split(images_NCHW, size):
            batches.append(predictor(images_BCHW.to(device)).cpu().numpy())
            advance(len(images_BCHW))
    probabilities_NK: NDArray[np.float32] = np.concatenate(batches)
    broken = int((~np.isfinite(probabilities_NK)).any(axis=1).sum())
    if broken:
        msg = (
            f"models: the predictor answers {broken} of {len(images_NCHW)} test images with NaN; "
            f"lower the learning rate (train.learning_rate, or the method's own) and train again"
        )
        raise UserError(msg)
    return probabilities_NK
