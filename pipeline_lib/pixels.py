"""Reading data/images.parquet: some images, as one array."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from pipeline_lib.artifacts import verify
from pipeline_lib.errors import UserError

if TYPE_CHECKING:
    from pathlib import Path

    import pyarrow as pa
    from numpy.typing import NDArray


def read_pixels(
    path: Path, ids: NDArray[np.integer], shape: tuple[int, int, int]
) -> NDArray[np.uint8]:
    """Read the images `ids`, in that order, one row group at a time.

    Args:
        path: data/images.parquet, whose row i is image i.
        ids: N image ids.
        shape: (height, width, channels) of every image.

    Returns:
        uint8 (N, H, W, C).

    Raises:
        UserError: The file is missing or damaged, or has no image of such an id.
    """
    import pyarrow.parquet as pq

    verify(path)
    pixels_NHWC = np.empty((len(ids), *shape), np.uint8)
    order_N = np.argsort(ids, kind="stable")
    sorted_N = np.asarray(ids)[order_N]
    with pq.ParquetFile(path) as file:
        if len(ids) and not 0 <= sorted_N[0] <= sorted_N[-1] < file.metadata.num_rows:
            msg = f"{path}: no image {sorted_N[-1]} among its {file.metadata.num_rows}; run `dvc repro`"
            raise UserError(msg)
        start = 0
        for group in range(file.num_row_groups):
            stop = start + file.metadata.row_group(group).num_rows
            low, high = np.searchsorted(sorted_N, [start, stop])
            if low < high:
                column = file.read_row_group(group, columns=["image"])["image"]
                images_BHWC = _as_array(column.combine_chunks(), shape)
                pixels_NHWC[order_N[low:high]] = images_BHWC[sorted_N[low:high] - start]
            start = stop
    return pixels_NHWC


def _as_array(column: pa.Array, shape: tuple[int, int, int]) -> NDArray[np.uint8]:
    """View a binary column of equally long values as (B, H, W, C), without a copy."""
    column = column.chunk(0) if hasattr(column, "chunk") else column
    _, _, data = column.buffers()
    size = int(np.prod(shape))
    flat = np.frombuffer(data, np.uint8, count=len(column) * size, offset=column.offset * size)
    return flat.reshape(-1, *shape)
