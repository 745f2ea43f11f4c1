"""Images to measure with."""

from __future__ import annotations

import io
import tarfile
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray


def cifar_images(archive: Path | None, count: int) -> NDArray[np.uint8]:
    """The first images of an archive of 32x32 image files, or noise: uint8 (N, 32, 32, 3)."""
    if archive is None:
        return np.random.default_rng(1).integers(0, 256, (count, 32, 32, 3), np.uint8)
    images = []
    with tarfile.open(archive) as tar:
        for member in tar:
            file = tar.extractfile(member) if member.isfile() else None
            if file is not None:
                images.append(np.asarray(Image.open(io.BytesIO(file.read())).convert("RGB")))
            if len(images) == count:
                break
    return np.stack(images)
