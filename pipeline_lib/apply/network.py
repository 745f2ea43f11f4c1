"""The predictor in the folder `models`, computed by torch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, TypeAlias

import torch

from pipeline_lib.apply.folding import fold_batch_norms
from pipeline_lib.apply.model import (
    LARGEST_BATCH,
    Loaded,
    batch_size_on_processor,
    too_many_images,
)
from pipeline_lib.control_groups import cores
from pipeline_lib.free_memory import enough_memory
from pipeline_lib.models.predictor import load_predictor

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

KEPT_BYTES = 31 << 20

Precision: TypeAlias = Literal["fp32", "bf16"]


def load_network(
    folder: Path, shape: tuple[int, int, int], device: torch.device, precision: Precision = "fp32"
) -> Loaded:
    """Read the predictor in `folder`.

    Args:
        folder: of predictor.json.
        shape: (H, W, C) of its images.
        device: where it runs.
        precision: of what it computes up to its embedding; the probabilities are fp32.

    Raises:
        UserError: See `load_predictor`.
    """
    network = load_predictor(folder)
    fold_batch_norms(network)
    network.to(device)
    # glibc gives back no more than twice the largest block that was freed; else every batch would fetch
    # its memory from the system anew.
    torch.empty(KEPT_BYTES, dtype=torch.uint8)

    def answer(images_BHWC: NDArray[np.uint8]) -> NDArray[np.float32]:
        images_BCHW = torch.from_numpy(images_BHWC).permute(0, 3, 1, 2)
        memory = enough_memory(too_many_images(len(images_BCHW), str(device)))
        with memory, torch.inference_mode():
            with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16"):
                embedding_BD = network.embed(images_BCHW.to(device))
            probabilities_BK: NDArray[np.float32]
            probabilities_BK = network.classify(embedding_BD.float()).cpu().numpy()
        return probabilities_BK

    if device.type != "cpu":
        return Loaded(answer, LARGEST_BATCH, at_once=1)
    return Loaded(answer, batch_size_on_processor(shape), cores())
