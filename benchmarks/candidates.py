"""How good the candidates and the models behind them are; results as JSON.

    python -m benchmarks.candidates --archive cifar10-jpeg.tar.gz --table annotators.csv.gz -o benchmarks/results/candidates.json

`rules`: candidates per image and how many sets hold the true class, for each rule of `split.annotations`, on all training
and validation images that the table's annotators looked at. `votes`: simulated annotators who see few images each; the
share of images whose most probable class after Dawid and Skene is the true one, beside that of the plain majority (of
classes with equally many votes, the first). `models`: the small model of `instance_candidates` on images that it has not
learned from, with the seconds of learning, and, of CIFAR-10's training cats, how often `dog` joins, relative to `rate`.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.datasets import load_digits

from benchmarks.accuracy import changed, run_stages
from benchmarks.record import environment, write
from pipeline_lib.artifacts import read_json
from pipeline_lib.parquet import read_table
from pipeline_lib.pixels import Stored, pixel_blocks
from pipeline_lib.protocols import dawid_skene, small_model
from pipeline_lib.protocols.instance_candidates import scaled
from pipeline_lib.protocols.labels import TEST, Votes
from pipeline_lib.protocols.table import from_table
from pipeline_lib.rng import generator

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from pipeline_lib.protocols.labels import Pixels
    from pipeline_lib.protocols.small_model import SmallModel

RULES: dict[str, list[str]] = {
    "union": [],
    "at_least": ["split.annotations.at_least=2"],
    "weighted": ["split.annotations.mass=0.95"],
}
PARTS = ("train", "val")
PEOPLE, VOTES_EACH, VOTES_PER_IMAGE, CLASSES = 5000, 12, 3, 10
ACCURACIES = (0.5, 0.95)  # of the simulated ones, evenly between
RATE = 0.1
SEEDS = (1, 2, 3)


def main() -> None:
    """Measure all three, print what came out and write it down."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--archive", type=Path, required=True, help="CIFAR-10 as image files")
    parser.add_argument("--table", type=Path, required=True, help="what annotators said")
    parser.add_argument("-o", "--output", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = {
            "rules": rules(Path(folder), options.archive, options.table),
            "votes": [simulated(seed) for seed in SEEDS],
            "models": [*(of_digits(seed) for seed in SEEDS), of_cifar(Path(folder, "data"))],
        }
    for rows in found.values():
        print(*rows, sep="\n")
    said = f"python -m benchmarks.candidates --archive {options.archive.name} --table {options.table.name}"
    content = {"command": said, **environment(), **found}
    if options.output:
        write(options.output, content)


def rules(workspace: Path, archive: Path, table: Path) -> list[dict[str, Any]]:
    """One row per rule, by the stages themselves; they leave the data in the workspace."""
    data = [
        "data.name=image_folder",
        f"data.path={archive.resolve()}",
        f"data.table={table.resolve()}",
        "split.allow_noisy_candidates=true",
    ]
    run_stages(workspace, changed(data, None), ("configure", "download", "ingest"))
    rows = []
    for rule, settings in RULES.items():
        params = changed([*data, f"split.annotations.rule={rule}", *settings], None)
        run_stages(workspace, params, ("configure", "split"))
        summary = read_json(workspace / "data/split/summary.json")
        images = [summary["images"][part] for part in PARTS]
        mean, right = (
            np.average([summary["candidates"][part][name] for part in PARTS], weights=images)
            for name in ("mean", "holds_truth")
        )
        rows.append(
            {
                "rule": " ".join([rule, *(setting.rpartition("=")[2] for setting in settings)]),
                "images": sum(images),
                "candidates per image": round(float(mean), 3),
                "hold the true class, %": round(100 * float(right), 2),
            }
        )
    return rows


def simulated(seed: int) -> dict[str, Any]:
    """Annotators of different accuracy, each on images drawn at random; a wrong one names any other class."""
    random = generator(seed, "simulated votes")
    images = PEOPLE * VOTES_EACH // VOTES_PER_IMAGE
    truth_N = random.integers(CLASSES, size=images)
    accuracy_A = np.linspace(*ACCURACIES, PEOPLE)
    image_V = np.repeat(np.arange(images, dtype=np.int32), VOTES_PER_IMAGE)
    annotator_V = random.permutation(np.repeat(np.arange(PEOPLE, dtype=np.int32), VOTES_EACH))
    right_V = random.random(len(image_V)) < accuracy_A[annotator_V]
    other_V = (truth_N[image_V] + random.integers(1, CLASSES, size=len(image_V))) % CLASSES
    class_V = np.where(right_V, truth_N[image_V], other_V).astype(np.int16)
    votes = Votes(image_V, annotator_V, class_V, [str(a) for a in range(PEOPLE)])
    posterior_NK = dawid_skene.posterior(
        votes, images, dawid_skene.estimate(votes, images, CLASSES)
    )
    shares_NK = dawid_skene.vote_shares(votes, images, CLASSES)
    return {
        "seed": seed,
        "annotators": PEOPLE,
        "votes of each": VOTES_EACH,
        "images": images,
        "Dawid and Skene right, %": share(posterior_NK.argmax(axis=1) == truth_N),
        "majority right, %": share(shares_NK.argmax(axis=1) == truth_N),
    }


def of_digits(seed: int) -> dict[str, Any]:
    """Learn from three quarters of the digits, guess the rest."""
    flat_ND, class_N = load_digits(return_X_y=True)
    images_NHWC = (flat_ND.reshape(-1, 8, 8, 1) * (255 / 16)).astype(np.uint8)

    def pixels(id_N: NDArray[np.int32]) -> Iterator[tuple[NDArray[np.intp], NDArray[np.uint8]]]:
        yield np.arange(len(id_N)), images_NHWC[id_N]

    id_N = np.arange(len(class_N), dtype=np.int32)
    test_N = generator(seed, "held out").permutation(id_N) >= 3 * len(id_N) // 4
    return learned("digits", pixels, id_N, class_N, test_N, seed)[0]


def of_cifar(data: Path) -> dict[str, Any]:
    """Learn from the training images, guess the test images; and the chance of `dog` for a training cat."""
    classes = read_json(data / "classes.json")
    names = classes["classes"]
    known = from_table(read_table(data / "labels.parquet"), names, classes["annotators"])
    pixels = partial(pixel_blocks, data / "images.parquet", stored=Stored.described_by(classes))
    test_N = known.split_N == TEST
    row, model = learned("CIFAR-10 (JPEG)", pixels, known.id_N, known.truth_N, test_N, SEEDS[0])
    cat, dog = names.index("cat"), names.index("dog")
    cats_N = known.id_N[~test_N & (known.truth_N == cat)]
    chances = [
        scaled(guess_BK, np.full(len(guess_BK), cat), RATE)[:, dog]
        for _, guess_BK in small_model.probabilities(model, pixels, cats_N)
    ]
    return row | {
        "dog for a cat, times the rate": round(float(np.concatenate(chances).mean()) / RATE, 2)
    }


def learned(
    name: str, pixels: Pixels, id_N: NDArray[np.int32], class_N: NDArray[np.integer], test_N: NDArray[np.bool_], seed: int
) -> tuple[dict[str, Any], SmallModel]:  # fmt: skip
    """A row, and the model."""
    started = time.process_time()
    model = small_model.learn(pixels, id_N[~test_N], class_N[~test_N], int(class_N.max()) + 1, seed)
    seconds = time.process_time() - started
    guess_M = np.empty(test_N.sum(), np.int64)
    for at_B, scores_BK in small_model.scores(model, pixels, id_N[test_N]):
        guess_M[at_B] = scores_BK.argmax(axis=1)
    row = {"images": name, "seed": seed, "learned from": len(id_N) - len(guess_M)}
    row |= {"processor s": round(seconds, 1), "others": len(guess_M)}
    return row | {"right, %": share(guess_M == class_N[test_N])}, model


def share(right_N: NDArray[np.bool_]) -> float:
    """In percent."""
    return round(100 * float(right_N.mean()), 2)


if __name__ == "__main__":
    main()
