"""What decoding a photo file costs, as the pipeline does it, and how large the file is; results as JSON.

    python -m benchmarks.decode -o benchmarks/results/decode.json

The two photos that come with scikit-learn, as JPEG of 500x333 pixels and quality 90, decoded to 224x224 and hashed, as
`ingest` does it. Processor time, the least of several rounds. They take 45 kB on average, where ImageNet's files take
113 (150 GB, 1.33 million). `--sizes 500x333,4000x3000` adds photos of 12 megapixels; results without `size` are of 500x333.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image
from sklearn.datasets import load_sample_images

from benchmarks.record import environment, write
from pipeline_lib.images import decode

if TYPE_CHECKING:
    from numpy.typing import NDArray

SIZE, QUALITY, SIDE = "500x333", 90, 224
TIMES = 20  # that a photo is decoded in a round


def main() -> None:
    """Measure both photos of every size, print what came out and write it down."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--sizes", default=SIZE, help="width x height, by commas")
    parser.add_argument("-o", "--output", type=Path)
    options = parser.parse_args()
    load = round(os.getloadavg()[0], 1)
    photos = load_sample_images()
    names = [Path(name).name for name in photos.filenames]
    runs = [
        measured(name, photo, size, options.rounds)
        for size in options.sizes.split(",")
        for name, photo in zip(names, photos.images, strict=True)
    ]
    said = f"python -m benchmarks.decode --rounds {options.rounds} --sizes {options.sizes}"
    content = {"command": said, **environment(), "load average before": load, "runs": runs}
    print(*runs, sep="\n")
    if options.output:
        write(options.output, content)


def measured(name: str, photo_HWC: NDArray[np.uint8], size: str, rounds: int) -> dict[str, Any]:
    """One row."""
    width, height = map(int, size.split("x"))
    file = io.BytesIO()
    sized(photo_HWC, width, height).save(file, "JPEG", quality=QUALITY)
    encoded = file.getvalue()
    seconds = min(round_seconds(encoded) for _ in range(rounds))
    return {
        "photo": name,
        "size": size,
        "bytes": len(encoded),
        "side": SIDE,
        "processor ms": round(1000 * seconds, 3),
    }


def sized(photo_HWC: NDArray[np.uint8], width: int, height: int) -> Image.Image:
    """A photo of this size: made smaller, or laid side by side, which keeps the detail that enlarging would lose."""
    high, wide, _ = photo_HWC.shape
    if width <= wide and height <= high:
        return Image.fromarray(photo_HWC).resize((width, height))
    tiled_HWC = np.tile(photo_HWC, (-(-height // high), -(-width // wide), 1))
    return Image.fromarray(tiled_HWC[:height, :width])


def round_seconds(encoded: bytes) -> float:
    """Processor seconds of decoding and hashing it once."""
    started = time.process_time()
    for _ in range(TIMES):
        hashlib.sha256(decode(encoded, "rgb", SIDE, "stretch").tobytes()).hexdigest()
    return (time.process_time() - started) / TIMES


if __name__ == "__main__":
    main()
