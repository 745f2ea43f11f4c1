"""The training images whose class nobody has said, and what the model takes them for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch

from pipeline_lib.artifacts import read_json
from pipeline_lib.errors import UserError
from pipeline_lib.losses.common import restrict
from pipeline_lib.models.description import read_with_task, stop_if_replaced, weights_sha256
from pipeline_lib.models.predictor import load_predictor, pass_size
from pipeline_lib.parquet import read_table
from pipeline_lib.pixels import Stored, check_images, pixel_blocks, read_pixels
from pipeline_lib.progress import progress
from pipeline_lib.training.prepare import candidate_masks

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from pipeline_lib.models.predictor import Predictor

BATCH = 256


@dataclass(frozen=True)
class Unsure:
    """N training images with more than one candidate.

    Attributes:
        about: content of predictor.json.
        classes: K names.
        ids_N: of the images.
        sources: what the user calls them.
        p_NK: probabilities, within the candidates of each.
        embedding_ND: what the last layer of the model sees.
        images: data/images.parquet.
        stored: how it holds them.
    """

    about: dict[str, Any]
    classes: Sequence[str]
    ids_N: NDArray[np.int64]
    sources: Sequence[str]
    p_NK: NDArray[np.float32]
    embedding_ND: NDArray[np.float32]
    images: Path
    stored: Stored

    def pixels(self, positions: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Some of the images, uint8 (M, H, W, C)."""
        return read_pixels(self.images, self.ids_N[positions], self.stored)


def look(data: Path, models: Path, device: torch.device) -> Unsure:
    """Apply the trained model to the images whose class is open.

    Raises:
        UserError: A file is missing or damaged, the model is of other classes or sizes of images, or every image has its class; or
            see `stop_if_replaced`.
    """
    about, described = read_with_task(models, data / "classes.json")
    weights = weights_sha256(models)
    classes = described["classes"]
    training = read_table(data / "split/train.parquet")
    check_images(data / "split/train.parquet", training, data / "images.parquet")
    training = training.filter(pc.greater(pc.list_value_length(training["candidates"]), 1))
    ids_N = training["id"].to_numpy().astype(np.int64)
    if len(ids_N) == 0:
        msg = f"{data}/split/train.parquet: every training image has its class; add images without one"
        raise UserError(msg)
    stored = Stored.described_by(described)
    images = data / "images.parquet"
    predictor = load_predictor(models)
    stop_if_replaced(models, about, weights)
    p_NK, embedding_ND = _applied(predictor.to(device), images, ids_N, stored)
    candidates_NK = torch.from_numpy(candidate_masks(training, len(classes)))
    p_NK = restrict(torch.from_numpy(p_NK), candidates_NK).numpy()
    names = read_table(data / "labels.parquet").select(["id", "source"])
    rows = pc.index_in(pa.array(ids_N, pa.int32()), value_set=names["id"].combine_chunks())
    sources = names["source"].take(rows).to_pylist()
    return Unsure(about, classes, ids_N, sources, p_NK, embedding_ND, images, stored)


def has_own_test(data: Path) -> bool:
    """Whether the data say themselves what is for testing; else every new label may change the test images."""
    return "test" in read_table(data / "labels.parquet")["split"].unique().to_pylist()


def never_closes(data: Path, rule: str) -> bool:
    """Whether further answers can leave an image no fewer candidates than it has."""
    summary = read_json(data / "split/summary.json")
    return rule == "union" and "annotators" in summary and "partial" in summary["roles"]["train"]


@torch.inference_mode()
def _applied(
    predictor: Predictor, images: Path, ids_N: NDArray[np.int64], stored: Stored
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Probabilities (N, K) and embeddings (N, D); images are read block by block."""
    device = next(predictor.parameters()).device
    found: list[tuple[NDArray[np.intp], NDArray[np.float32], NDArray[np.float32]]] = []
    with progress("looked at", "images", len(ids_N)) as advance:
        for positions_B, images_BHWC in pixel_blocks(images, ids_N, stored):
            size = min(BATCH, pass_size(torch.from_numpy(images_BHWC).permute(0, 3, 1, 2)))
            for part in np.split(np.arange(len(positions_B)), range(size, len(positions_B), size)):
                images_BCHW = torch.from_numpy(images_BHWC[part]).permute(0, 3, 1, 2).contiguous()
                embedding_BD = predictor.embed(images_BCHW.to(device))
                p_BK = predictor.classify(embedding_BD)
                found.append(
                    (positions_B[part], p_BK.cpu().numpy(), embedding_BD.float().cpu().numpy())
                )
                advance(len(part))
    order_N = np.argsort(np.concatenate([positions for positions, _, _ in found]))
    p_NK = np.concatenate([p for _, p, _ in found])[order_N]
    return p_NK, np.concatenate([h for _, _, h in found])[order_N]
