"""Where images are while they are worked on: in memory, or in a file if they are too many.

Both are one uint8 tensor with the same values, so that nothing else depends on it. The file is mapped into
memory: the system keeps as much of it there as there is room for, and reads the rest when it is asked for.
"""

from __future__ import annotations

import errno
import math
import os
import shutil
import tempfile
from typing import TYPE_CHECKING

import numpy as np
import torch

from pipeline_lib.decoders import DECODERS
from pipeline_lib.errors import UserError
from pipeline_lib.free_memory import GIB, free_bytes
from pipeline_lib.pixels import pixel_blocks
from pipeline_lib.progress import progress

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray
    from torch import Tensor

    from pipeline_lib.pixels import Stored


ASIDE = 2 * GIB  # for the rest of a training, which shares the host's memory with the images


class ImageMemory:
    """Takes images in: on the device as long as the budget lasts, in files after that.

    Args:
        budget: `train.memory_budget`: GiB, or None for half of what is free; of the host's memory, `ASIDE` is left
            out first.
        device: where images live that fit.
        folder: for the others. A file there has no name, so that nothing is left of it however the process
            ends.
        say: tells the user of such a file; None where another process tells, which shows progress, too.
    """

    def __init__(
        self,
        budget: float | None,
        device: torch.device,
        folder: Path,
        say: Callable[[str], None] | None,
    ) -> None:
        self.room = _half_of_what_is_free(device) if budget is None else budget * GIB
        self.device, self.folder, self.say = device, folder, say

    def load(self, path: Path, ids_N: NDArray[np.integer], stored: Stored, what: str) -> Tensor:
        """Read the images `ids_N` of data/images.parquet.

        Args:
            path: of that file.
            ids_N: N image ids.
            stored: how they are stored.
            what: they are, for messages.

        Returns:
            uint8 (N, C, H, W), in that order: on the device, or a mapped file, which is to be indexed and
            never moved whole.

        Raises:
            UserError: There is neither memory nor disk for them, or see `pixel_blocks`.
        """
        height, width, channels = stored.shape
        images_NCHW = self._empty((len(ids_N), channels, height, width), what)
        with progress(f"reading {what}", "images", len(ids_N), quiet=self.say is None) as advance:
            for positions_B, images_BHWC in pixel_blocks(path, ids_N, stored, DECODERS):
                images_BCHW = torch.from_numpy(images_BHWC).permute(0, 3, 1, 2)
                images_NCHW[torch.from_numpy(positions_B)] = images_BCHW.to(images_NCHW.device)
                advance(len(positions_B))
        return images_NCHW

    def _empty(self, shape: tuple[int, ...], what: str) -> Tensor:
        size = math.prod(shape)
        if size > self.room:
            return self._mapped(shape, f"{size / GIB:.3g} GiB of {what} images")
        self.room -= size
        try:
            return torch.empty(shape, dtype=torch.uint8, device=self.device)
        except RuntimeError as error:  # an OutOfMemoryError of a GPU is one, too
            msg = f"train.memory_budget: {size / GIB:.3g} GiB of {what} images do not fit on {self.device}; lower it"
            raise UserError(msg) from error

    def _mapped(self, shape: tuple[int, ...], images: str) -> Tensor:
        """A nameless file of that size as a tensor on the CPU."""
        left = f"train.memory_budget leaves {self.room / GIB:.3g} GiB"
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=self.folder) as file:
                _reserve(file.fileno(), math.prod(shape), shutil.disk_usage(self.folder).free)
                pixels_NCHW = np.memmap(file, np.uint8, "r+", shape=shape)
        except OSError as error:
            msg = (
                f"{self.folder}: no room for {images} ({error.strerror}), and {left}; free space, raise "
                f"it, or set PIPELINE_RESUME_DIR to a folder on another disk"
            )
            raise UserError(msg) from error
        if self.say:
            self.say(f"{images} are read from a temporary file in {self.folder}: {left}")
        return torch.from_numpy(pixels_NCHW)


def _half_of_what_is_free(device: torch.device) -> float:
    free = free_bytes(device)
    if device.type == "cuda":
        return free / 2
    return max((free - ASIDE) / 2, free / 8)  # where little is free, small datasets stay in memory


def _reserve(descriptor: int, size: int, free: int) -> None:
    """Claim the disk space now: a write to a mapped file that finds none ends the process without a word."""
    if size > free:
        raise OSError(errno.ENOSPC, f"{os.strerror(errno.ENOSPC)}: {free / GIB:.3g} GiB free")
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(descriptor, 0, size)
