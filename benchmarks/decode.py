"""What decoding a photo file costs, as the pipeline does it, and how large the file is; results as JSON.

    python -m benchmarks.decode -o benchmarks/results/decode.json

The two photos that come with scikit-learn, as JPEG of 500x333 pixels and quality 90, which is about the size of
ImageNet's files, decoded to 224x224 and hashed, as `ingest` does it. Processor time, the least of several rounds.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import time
from pathlib import Path
from typing import Any

from PIL import Image
from sklearn.datasets import load_sample_images

from benchmarks.record import environment, write
from pipeline_lib.images import decode

SIZE, QUALITY, SIDE = (500, 333), 90, 224
TIMES = 20  # that a photo is decoded in a round


def main() -> None:
    """Measure both photos, print what came out and write it down."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("-o", "--output", type=Path, required=True)
    options = parser.parse_args()
    photos = load_sample_images()
    names = [Path(name).name for name in photos.filenames]
    runs = [
        measured(name, Image.fromarray(photo), options.rounds)
        for name, photo in zip(names, photos.images, strict=True)
    ]
    said = f"python -m benchmarks.decode --rounds {options.rounds}"
    content = {"command": said, **environment(), "runs": runs}
    print(*runs, sep="\n")
    write(options.output, content)


def measured(name: str, photo: Image.Image, rounds: int) -> dict[str, Any]:
    """One row."""
    file = io.BytesIO()
    photo.resize(SIZE).save(file, "JPEG", quality=QUALITY)
    encoded = file.getvalue()
    seconds = min(round_seconds(encoded) for _ in range(rounds))
    return {
        "photo": name,
        "bytes": len(encoded),
        "side": SIDE,
        "processor ms": round(1000 * seconds, 3),
    }


def round_seconds(encoded: bytes) -> float:
    """Processor seconds of decoding and hashing it once."""
    started = time.process_time()
    for _ in range(TIMES):
        hashlib.sha256(decode(encoded, "rgb", SIDE, "stretch").tobytes()).hexdigest()
    return (time.process_time() - started) / TIMES


if __name__ == "__main__":
    main()
