"""The predictor in the folder `models`, computed by torch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, TypeAlias

import torch

from pipeline_lib.apply.folding import fold_batch_norms
from pipeline_lib.apply.model import (
    LARGEST_BATCH,
    Model,
    batch_size_on_processor,
    too_many_images,
)
from pipeline_lib.datasets.decoding import Target, cores
from pipeline_lib.free_memory import enough_memory
from pipeline_lib.models.description import read_description
from pipeline_lib.models.predictor import load_predictor

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

KEPT_BYTES = 31 << 20

Precision: TypeAlias = Literal["fp32", "bf16"]


def load_network(folder: Path, device: torch.device, precision: Precision = "fp32") -> Model:
    """Read the predictor in `folder`, and how `ingest` prepared its images.

    Args:
        folder: of predictor.json.
        device: where it runs.
        precision: of what it computes up to its embedding; the probabilities are fp32.

    Raises:
        UserError: See `load_predictor`.
    """
    about = read_description(folder)
    architecture = about["architecture"]
    height, width, channels = (
        architecture[name] for name in ("image_height", "image_width", "channels")
    )
    # Images that are not square were never resized: data.image_size is one side.
    size = height if height == width else None
    target = Target("rgb" if channels == 3 else "gray", size, about["resize"], "pixels")
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

    shape, here = (height, width, channels), device.type == "cpu"
    batch_size = batch_size_on_processor(shape) if here else LARGEST_BATCH
    return Model(answer, about["classes"], shape, target, batch_size, cores() if here else 1)
