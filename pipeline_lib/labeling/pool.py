"""The training images whose class nobody has said, and what the model takes them for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch

from pipeline_lib.artifacts import read_json, read_table
from pipeline_lib.errors import UserError
from pipeline_lib.losses.common import restrict
from pipeline_lib.models.description import read_description
from pipeline_lib.models.predictor import load_predictor
from pipeline_lib.pixels import Stored, check_images, pixel_blocks, read_pixels

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
        UserError: A file is missing or damaged, the model is of other classes, or every image has its class.
    """
    about, described = read_description(models), read_json(data / "classes.json")
    classes = described["classes"]
    if about["classes"] != classes:
        msg = (
            f"{models}: the model knows other classes than {data}/classes.json has; run `dvc repro`"
        )
        raise UserError(msg)
    training = read_table(data / "split/train.parquet")
    check_images(data / "split/train.parquet", training, data / "images.parquet")
    ids_N, candidates_NK = _open(training, len(classes))
    if len(ids_N) == 0:
        msg = f"{data}/split/train.parquet: every training image has its class; add images without one"
        raise UserError(msg)
    stored = Stored.described_by(described)
    images = data / "images.parquet"
    p_NK, embedding_ND = _applied(load_predictor(models).to(device), images, ids_N, stored)
    p_NK = restrict(torch.from_numpy(p_NK), torch.from_numpy(candidates_NK)).numpy()
    names = read_table(data / "labels.parquet").select(["id", "source"])
    rows = pc.index_in(pa.array(ids_N, pa.int32()), value_set=names["id"].combine_chunks())
    sources = names["source"].take(rows).to_pylist()
    return Unsure(about, classes, ids_N, sources, p_NK, embedding_ND, images, stored)


def has_own_test(data: Path) -> bool:
    """Whether the data say themselves what is for testing; else every new label may change the test images."""
    return "test" in read_table(data / "labels.parquet")["split"].unique().to_pylist()


def _open(table: pa.Table, num_classes: int) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Ids and candidate masks of the images with more than one candidate."""
    table = table.filter(pc.greater(pc.list_value_length(table["candidates"]), 1))
    candidates_NK = np.zeros((len(table), num_classes), np.float32)
    lists = table["candidates"].combine_chunks()
    candidates_NK[pc.list_parent_indices(lists).to_numpy(), pc.list_flatten(lists).to_numpy()] = 1
    return table["id"].to_numpy().astype(np.int64), candidates_NK


@torch.inference_mode()
def _applied(
    predictor: Predictor, images: Path, ids_N: NDArray[np.int64], stored: Stored
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Probabilities (N, K) and embeddings (N, D); images are read block by block."""
    device = next(predictor.parameters()).device
    found: list[tuple[NDArray[np.intp], NDArray[np.float32], NDArray[np.float32]]] = []
    for positions_B, images_BHWC in pixel_blocks(images, ids_N, stored):
        for part in np.array_split(np.arange(len(positions_B)), -(-len(positions_B) // BATCH)):
            images_BCHW = torch.from_numpy(images_BHWC[part]).permute(0, 3, 1, 2).contiguous()
            embedding_BD = predictor.embed(images_BCHW.to(device))
            p_BK = predictor.classify(embedding_BD)
            found.append(
                (positions_B[part], p_BK.cpu().numpy(), embedding_BD.float().cpu().numpy())
            )
    order_N = np.argsort(np.concatenate([positions for positions, _, _ in found]))
    p_NK = np.concatenate([p for _, p, _ in found])[order_N]
    return p_NK, np.concatenate([h for _, _, h in found])[order_N]
