"""Time and memory of `predict`, beside decoding the same files alone; results as JSON.

    python -m benchmarks.predict_speed --archive cifar10-jpeg.tar.gz -o benchmarks/results/predict_speed.json

CIFAR-10 as JPEG files in folders, through `small_cnn` (width 16, random weights) on the processor. In turn, each as a
program of its own: `predict`, of the folder by torch, or of an exported file by onnxruntime; `decode`, which reads and
decodes in the same processes and does nothing with it; and `loop`, which reads and decodes one file after the other.
`start` is `predict` on a single image. Ratios are of runs next to each other; a `start` is mostly imports. A peak is the
sum of the peaks of a run's processes.
"""

from __future__ import annotations

import argparse
import statistics
import tarfile
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import Any

from benchmarks import record
from benchmarks.process import run_python
from benchmarks.record import environment
from pipeline_lib.datasets.decoding import Target, decoding
from pipeline_lib.images import decode

TARGET = Target("rgb", 32, "stretch", "pixels")
CLASSES = 10
WAYS = ("start", "loop", "decode", "predict")


def main() -> None:
    """Measure all ways for each number of images, print what came out and write it down."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--archive", type=Path, help="of 32x32 image files")
    parser.add_argument("--images", default="10000,30000,60000")
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--precision", choices=["fp32", "bf16"], default="fp32")
    parser.add_argument("--models", choices=["folder", "onnx"], default="folder")
    parser.add_argument("--folder", type=Path, help="where files go")
    parser.add_argument("-o", "--output", type=Path)
    parser.add_argument("--way", choices=["loop", "decode"], help="for the runs themselves")
    options = parser.parse_args()
    if options.way:
        alone(options.way, options.folder)
        return
    runs = []
    with tempfile.TemporaryDirectory(dir=options.folder) as place:
        models = saved_model(Path(place, "models"), options.models)
        given = ["--models", models, "--precision", options.precision]
        for count in map(int, options.images.split(",")):
            folder = unpacked(options.archive, Path(place, f"images{count}"), count)
            runs += [measured(folder, count, number, given) for number in range(options.repeat)]
    summary = [summed_up(runs, count) for count in dict.fromkeys(run["images"] for run in runs)]
    for row in summary:
        print(*(f"{name} {value}" for name, value in row.items()), flush=True)
    if options.output:
        said = f"python -m benchmarks.predict_speed --archive {options.archive.name} --images {options.images}"
        said += f" --repeat {options.repeat} --precision {options.precision}"
        said += f" --models {options.models}"
        computes = "torch" if options.models == "folder" else "onnxruntime"
        made_with = {**environment(), computes: version(computes)}
        record.write(
            options.output, {"command": said, **made_with, "summary": summary, "runs": runs}
        )


def alone(way: str, folder: Path) -> None:
    """Decode all images of a folder, and nothing else."""
    from pipeline_lib.apply.sources import open_images

    with open_images([folder], folder) as images:
        if way == "loop":
            for given in images.rows:
                assert isinstance(given.image, bytes)  # noqa: S101  # for the type checker
                decode(given.image, TARGET.channels, TARGET.size, TARGET.resize)
            return
        with decoding(images.rows, TARGET) as chunks:
            for _ in chunks:
                pass


def saved_model(folder: Path, form: str) -> Path:
    """A `small_cnn` for the images, with random weights: where it is, to be loaded."""
    from pipeline_lib.models.build import Architecture, build
    from pipeline_lib.models.predictor import Predictor, save_predictor

    architecture = Architecture(
        *("small_cnn", 16, 1.0, 0.0, "auto", 0.1, 3, 32, 32, CLASSES),
        mean=(0.49, 0.48, 0.45),
        std=(0.25, 0.24, 0.26),
    )
    predictor = Predictor(build(architecture))
    about = {"method": "none", "variant": "none", "dataset": "cifar", "seed": 0, "snapshots": {}}
    about |= {"classes": [str(k) for k in range(CLASSES)], "resize": "stretch"}
    about["selected_epoch"] = 0
    save_predictor(folder, predictor.state_dict(), predictor.description, architecture, about)
    if form == "folder":
        return folder
    run_python("-m", "stages.app", "export", "--format", "onnx", "--models", folder, "-o", folder)
    return folder / "predictor.onnx"


def unpacked(archive: Path, folder: Path, count: int) -> Path:
    """The first images of an archive as files."""
    with tarfile.open(archive) as tar:
        for member in tar:
            if member.isfile() and count:
                count -= 1
                path = folder / member.name
                path.parent.mkdir(parents=True, exist_ok=True)
                content = tar.extractfile(member)
                path.write_bytes(content.read() if content else b"")
    return folder


def measured(folder: Path, count: int, number: int, model: list[Any]) -> dict[str, Any]:
    """One run of each way, in an order that differs from run to run."""
    out = folder.parent / "out.parquet"
    apply = ["-m", "stages.app", "predict", "-o", out, "--device", "cpu", *model]
    decoding_alone = ["-m", "benchmarks.predict_speed", "--folder", folder, "--way"]
    commands: dict[str, list[Any]] = {
        "start": [*apply, next(folder.rglob("*.jpg"))],
        "loop": [*decoding_alone, "loop"],
        "decode": [*decoding_alone, "decode"],
        "predict": [*apply, folder],
    }
    order = WAYS if number % 2 else WAYS[::-1]
    found = {way: run_python(*commands[way]) for way in order}
    print(count, {way: one["seconds"] for way, one in found.items()}, flush=True)
    return {"images": count, "repeat": number, **{way: found[way] for way in WAYS}}


def summed_up(runs: list[dict[str, Any]], count: int) -> dict[str, Any]:
    """Medians of the runs with so many images, and the ratios of pairs."""
    own = [run for run in runs if run["images"] == count]

    def middle(way: str, name: str) -> float:
        return statistics.median(run[way][name] for run in own)

    def ratios(way: str, name: str, off: float = 0) -> str:
        found = [(run["predict"][name] - off * run["start"][name]) / run[way][name] for run in own]
        return f"{statistics.median(found):.2f} ({min(found):.2f} to {max(found):.2f})"

    seconds = middle("predict", "seconds")
    return {
        "images": count,
        **{f"{way}, s": middle(way, "seconds") for way in WAYS},
        **{f"{way}, processor s": middle(way, "processor_seconds") for way in WAYS[1:]},
        "images/s": round(count / seconds),
        "predict over loop": ratios("loop", "seconds"),
        "predict over decode": ratios("decode", "seconds"),
        "less the start": ratios("decode", "seconds", 1),
        "of processor s, less the start": ratios("decode", "processor_seconds", 1),
        "peak, MiB": middle("predict", "peak_mib"),
        "of the main process": middle("predict", "peak_mib_main"),
        "of start": middle("start", "peak_mib"),
    }


if __name__ == "__main__":
    main()
