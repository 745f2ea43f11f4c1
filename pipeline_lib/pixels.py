"""Reading data/images.parquet: some images, block by block or as one array."""

from __future__ import annotations

import hashlib
import warnings
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from pipeline_lib.artifacts import recorded_sha256, verify
from pipeline_lib.control_groups import cores
from pipeline_lib.errors import UserError
from pipeline_lib.images import UnreadableImageError, decode

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    import pyarrow as pa
    import pyarrow.parquet as pq
    from numpy.typing import NDArray

    from pipeline_lib.images import Channels, Resize

    Decoder = Callable[[bytes, Channels, int | None, Resize], NDArray[np.uint8]]

IMAGES = "images.parquet"  # key in the metadata of a table of ids
BLOCK_BYTES = 1 << 26  # of decoded images in flight, whatever their number
THREADS = min(16, cores())  # that decode


@dataclass(frozen=True)
class Stored:
    """What data/classes.json says of the images.

    Attributes:
        shape: (height, width, channels) of every image as training sees it.
        store: what data/images.parquet holds: raw `pixels`, or the original `files`.
        resize: how a file came to that shape.
    """

    shape: tuple[int, int, int]
    store: Literal["pixels", "files"]
    resize: Resize

    @classmethod
    def described_by(cls, classes: Mapping[str, Any]) -> Stored:
        """Take what matters from the content of classes.json."""
        shape = (classes["height"], classes["width"], classes["channels"])
        return cls(shape, classes["store"], classes["resize"])

    @property
    def image_bytes(self) -> int:
        """Of one decoded image."""
        height, width, channels = self.shape
        return height * width * channels


def naming_images(table: pa.Table, images: Path) -> pa.Table:
    """A table of ids that says which images they number: those of this data/images.parquet."""
    return table.replace_schema_metadata({IMAGES: recorded_sha256(images)})


def check_images(path: Path, table: pa.Table, images: Path) -> None:
    """Refuse ids of other images: a split that is older than what `ingest` wrote would give them others' labels.

    Raises:
        UserError: `table`, read from `path`, says that it numbers others.
    """
    named = (table.schema.metadata or {}).get(IMAGES.encode())
    if named is not None and named.decode("ascii", "replace") != recorded_sha256(images):
        msg = f"{path}: of other images than {images} has by now; run `dvc repro split`"
        raise UserError(msg)


def read_pixels(path: Path, ids_N: NDArray[np.integer], stored: Stored) -> NDArray[np.uint8]:
    """Read the images `ids_N`, in that order, as one array (see `pixel_blocks`).

    Returns:
        uint8 (N, H, W, C).
    """
    pixels_NHWC = np.empty((len(ids_N), *stored.shape), np.uint8)
    for positions_B, images_BHWC in pixel_blocks(path, ids_N, stored):
        pixels_NHWC[positions_B] = images_BHWC
    return pixels_NHWC


def pixel_blocks(
    path: Path,
    ids_N: NDArray[np.integer],
    stored: Stored,
    decoders: Sequence[Decoder] = (decode,),
) -> Iterator[tuple[NDArray[np.intp], NDArray[np.uint8]]]:
    """Read the images `ids_N` in the order of the file, with memory that does not grow with their number.

    Args:
        path: data/images.parquet, whose row i is image i.
        ids_N: N image ids.
        stored: how they are stored.
        decoders: of files; an image is what the first of them makes of it that agrees with its sha256.

    Yields:
        Positions in `ids_N` (B,), and the images there, uint8 (B, H, W, C).

    Raises:
        UserError: The file is missing or damaged, has no image of such an id, or holds one that no
            decoder reads as `ingest` did.
    """
    import pyarrow.parquet as pq

    verify(path)
    order_N = np.argsort(ids_N, kind="stable")
    columns = ["image"] if stored.store == "pixels" else ["image", "sha256"]
    most = max(1, BLOCK_BYTES // stored.image_bytes)
    with pq.ParquetFile(path) as file, ThreadPoolExecutor(THREADS) as threads:
        for group, rows_M, order_M in _row_groups(path, file, np.asarray(ids_N)[order_N], order_N):
            table = file.read_row_group(group, columns)
            for low in range(0, len(rows_M), most):
                rows_B, order_B = rows_M[low : low + most], order_M[low : low + most]
                if stored.store == "pixels":
                    images_BHWC = _as_array(table["image"], stored.shape)[rows_B]
                else:
                    files = [[table[name][i].as_py() for name in columns] for i in rows_B.tolist()]
                    images_BHWC = _all_decoded(path, files, stored, decoders, threads)
                yield order_B, images_BHWC


def _row_groups(
    path: Path, file: pq.ParquetFile, ids_N: NDArray[np.integer], order_N: NDArray[np.intp]
) -> Iterator[tuple[int, NDArray[np.integer], NDArray[np.intp]]]:
    """The row groups that have any of the ascending `ids_N`: which rows of them, and that part of `order_N`."""
    rows = file.metadata.num_rows
    if len(ids_N) and not 0 <= ids_N[0] <= ids_N[-1] < rows:
        odd = ids_N[0] if ids_N[0] < 0 else ids_N[-1]
        msg = f"{path}: no image {odd} among its {rows}; run `dvc repro`"
        raise UserError(msg)
    start = 0
    for group in range(file.num_row_groups):
        stop = start + file.metadata.row_group(group).num_rows
        first, last = np.searchsorted(ids_N, [start, stop])
        if first < last:
            yield group, ids_N[first:last] - start, order_N[first:last]
        start = stop


def _as_array(column: pa.ChunkedArray, shape: tuple[int, int, int]) -> NDArray[np.uint8]:
    """View a binary column of equally long values as (B, H, W, C), without a copy."""
    column = column.combine_chunks()
    column = column.chunk(0) if hasattr(column, "chunk") else column
    _, _, data = column.buffers()
    size = int(np.prod(shape))
    flat = np.frombuffer(data, np.uint8, count=len(column) * size, offset=column.offset * size)
    return flat.reshape(-1, *shape)


def _all_decoded(
    path: Path,
    files: Sequence[Sequence[Any]],
    stored: Stored,
    decoders: Sequence[Decoder],
    threads: ThreadPoolExecutor,
) -> NDArray[np.uint8]:
    """Decode files, each given with the sha256 of its pixels, to (B, H, W, C)."""

    def decoded(file: Sequence[Any]) -> NDArray[np.uint8]:
        return _decoded(path, file[0], file[1], stored, decoders)

    # Pillow warns of odd metadata, which does not change a pixel.
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="PIL")
        return np.stack(list(threads.map(decoded, files)))


def _decoded(
    path: Path, encoded: bytes, digest: str, stored: Stored, decoders: Sequence[Decoder]
) -> NDArray[np.uint8]:
    """Decode one file to the pixels that `ingest` saw."""
    height, width, channels = stored.shape
    # Images that are not square were never resized: data.image_size is one side.
    size = height if height == width else None
    for decoder in decoders:
        try:
            pixels_HWC = decoder(encoded, "rgb" if channels == 3 else "gray", size, stored.resize)
        except UnreadableImageError:
            continue
        if hashlib.sha256(pixels_HWC.tobytes()).hexdigest() == digest:
            return pixels_HWC
    msg = (
        f"{path}: the image with sha256 {digest[:16]}... is decoded to other pixels than when it was read; "
        f"another version of Pillow? `dvc repro --force ingest` reads all anew"
    )
    raise UserError(msg)
