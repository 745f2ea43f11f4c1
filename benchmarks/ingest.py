"""Time and memory of the stages that bring images in; results as JSON.

    python -m benchmarks.ingest cifar --archive cifar10-jpeg.tar.gz --table annotators.csv.gz --repeat 3
    python -m benchmarks.ingest sizes --images 10000,100000,1000000 -o ingest_sizes.json

`cifar`: all of CIFAR-10 as JPEG files in one archive, through download and ingest. `sizes`: synthetic
images of 32x32 in Parquet files, through ingest and split; time per image and peak memory are to stay
flat. A peak is the sum of the peaks of a stage's processes. `--folder` is where the workspace goes.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image
from ruamel.yaml import YAML

from benchmarks.process import ROOT, run_python
from benchmarks.record import environment, write

STAGES = ("configure", "download", "ingest", "split")
SHARD_IMAGES = 50_000
GROUP_IMAGES = 1000  # per row group, in the files that are read
CLASSES = 10


def main() -> None:
    """Run one of the two, print what came out and write it down."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=["cifar", "sizes"])
    parser.add_argument("--archive", type=Path, help="cifar: the images")
    parser.add_argument("--table", type=Path, help="cifar: what annotators said")
    parser.add_argument("--repeat", type=int, default=1, help="cifar: how often")
    parser.add_argument("--images", default="10000,100000", help="sizes: how many")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("-o", "--output", type=Path)
    options = parser.parse_args()
    if options.what == "cifar":
        runs = [cifar(options) for _ in range(options.repeat)]
    else:
        runs = [synthetic(options, int(count)) for count in options.images.split(",")]
    if options.output:
        content = {
            "command": command(sys.argv),
            **environment(),
            "seed": options.seed,
            "runs": runs,
        }
        write(options.output, content)


def cifar(options: argparse.Namespace) -> dict[str, Any]:
    """CIFAR-10, archive and table to Parquet: the bar is 12 s on two cores, and 1 GiB."""
    data = {
        "name": "image_folder",
        "path": str(options.archive.resolve()),
        "table": str(options.table.resolve()),
    }
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        return measured(Path(folder), data, options.seed, STAGES[:3], STAGES[1:3])


def synthetic(options: argparse.Namespace, count: int) -> dict[str, Any]:
    """`count` images from Parquet files to a split."""
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        source, workspace = Path(folder, "images"), Path(folder, "workspace")
        write_shards(source, count, options.seed)
        workspace.mkdir()
        data = {"name": "image_parquet", "path": str(source)}
        return measured(workspace, data, options.seed, STAGES, STAGES[2:])


def measured(
    workspace: Path,
    data: dict[str, Any],
    seed: int,
    stages: tuple[str, ...],
    timed: tuple[str, ...],
) -> dict[str, Any]:
    """Run stages one after the other; the totals are those of `timed`."""
    yaml = YAML(typ="safe", pure=True)
    params = yaml.load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    params |= {"seed": seed, "data": params["data"] | data}
    params["split"] |= {"allow_noisy_candidates": True}
    (workspace / "params.yaml").write_text(json.dumps(params), encoding="utf-8")
    found = {stage: run_python("-m", f"stages.{stage}", cwd=workspace) for stage in stages}
    images = pq.read_metadata(workspace / "data/images.parquet").num_rows
    seconds = sum(found[stage]["seconds"] for stage in timed)
    result = {
        "images": images,
        "stages": found,
        "timed": timed,
        "seconds": round(seconds, 2),
        "images_per_second": round(images / seconds),
        "peak_mib": max(found[stage]["peak_mib"] for stage in timed),
        "bytes_per_image": round((workspace / "data/images.parquet").stat().st_size / images),
    }
    print(*(f"{name} {value}" for name, value in result.items()), flush=True)
    return result


def write_shards(folder: Path, count: int, seed: int) -> None:
    """Write noisy patches of random colours as PNG, in files like those of the Hugging Face Hub."""
    folder.mkdir()
    image = pa.struct({"bytes": pa.binary(), "path": pa.string()})
    schema = pa.schema({"image": image, "label": pa.int64()})
    shards = -(-count // SHARD_IMAGES)
    rng = np.random.default_rng(seed)
    for shard in range(shards):
        first = shard * SHARD_IMAGES
        path = folder / f"train-{shard:05d}-of-{shards:05d}.parquet"
        with pq.ParquetWriter(path, schema) as writer:
            for start in range(first, min(first + SHARD_IMAGES, count), GROUP_IMAGES):
                numbers = range(start, min(start + GROUP_IMAGES, first + SHARD_IMAGES, count))
                patches = rng.integers(0, 256, (len(numbers), 4, 4, 3), np.uint8)
                noise = rng.integers(0, 32, (len(numbers), 32, 32, 3), np.uint8)
                pixels = patches.repeat(8, axis=1).repeat(8, axis=2) // 8 * 7 + noise
                files = [
                    {"bytes": png(p), "path": f"{n}.png"}
                    for n, p in zip(numbers, pixels, strict=True)
                ]
                labels = [number % CLASSES for number in numbers]
                writer.write_table(pa.table([pa.array(files, image), labels], schema=schema))


def png(pixels: np.ndarray) -> bytes:
    """Encode an image."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG", compress_level=1)
    return file.getvalue()


def command(arguments: list[str]) -> str:
    """The command, with files by their names alone."""
    named = [Path(a).name if os.sep in a else a for a in arguments[1:]]
    return " ".join(["python -m benchmarks.ingest", *named])


if __name__ == "__main__":
    main()
