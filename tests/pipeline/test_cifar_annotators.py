"""What three people said of CIFAR-10's training images, against counts made from the table alone."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import pytest
from ruamel.yaml import YAML

from pipeline_lib.artifacts import publish_bytes, publish_json
from pipeline_lib.datasets.ingest import LABELS
from pipeline_lib.parquet import publish_table, read_table

ROOT = Path(__file__).resolve().parents[2]
CIFAR = Path(os.environ.get("PIPELINE_CIFAR_DIR", ROOT / "../shared/data/cifar10"))
TABLE = CIFAR / "annotators.csv.gz"
PEOPLE = ["annotator_1", "annotator_2", "annotator_3"]
pytestmark = pytest.mark.skipif(
    not TABLE.is_file(), reason=f"no CIFAR-10 annotators in {CIFAR}; set PIPELINE_CIFAR_DIR"
)


@pytest.fixture(scope="module")
def said() -> pl.DataFrame:
    """The table, and the true class, which is the folder."""
    return pl.read_csv(TABLE).with_columns(truth=pl.col("file").str.split("/").list.get(1))


@pytest.fixture(scope="module")
def workspace(said: pl.DataFrame, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `ingest` leaves of the table: 50,000 images to train on, and one of each class to test with."""
    root = tmp_path_factory.mktemp("cifar")
    names = sorted(said["truth"].unique())
    number = {name: k for k, name in enumerate(names)}
    truth = [number[name] for name in said["truth"]]
    votes = [[number[name] for name in row] for row in said.select(PEOPLE).iter_rows()]
    tested = range(len(names))
    nothing = [None] * (len(truth) + len(tested))
    columns = dict.fromkeys(LABELS.names, nothing) | {
        "id": range(len(nothing)),
        "source": [*said["file"], *[f"test/{name}/0.jpg" for name in names]],
        "split": ["train"] * len(truth) + ["test"] * len(tested),
        "label": [None] * len(truth) + list(tested),
        "annotators": [[0, 1, 2]] * len(truth) + [None] * len(tested),
        "annotations": votes + [None] * len(tested),
        "true_label": truth + list(tested),
    }
    publish_table(root / "data/labels.parquet", pa.table(columns, schema=LABELS))
    about = {"dataset": "image_folder", "classes": names, "annotators": PEOPLE}
    shape = {"height": 32, "width": 32, "channels": 3, "store": "pixels", "resize": "stretch"}
    publish_json(root / "data/classes.json", about | shape | {"superclasses": None})
    publish_json(root / "data/supervision.json", {"kind": "partial"})
    publish_bytes(root / "data/images.parquet", b"named by the split, not read")
    return root


def summary(workspace: Path, **annotations: object) -> dict:
    """Run the stage with a rule for annotations, without a validation part."""
    params = YAML(typ="safe").load((ROOT / "params.yaml").read_text())
    params["data"] |= {"name": "image_folder", "path": "photos"}
    params["split"] |= {"allow_noisy_candidates": True, "val_fraction": 0.0}
    params["split"]["annotations"] |= annotations
    (workspace / "params.yaml").write_text(json.dumps(params))
    command = [sys.executable, "-m", "stages.split"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    subprocess.run(command, cwd=workspace, env=environment, check=True, capture_output=True)
    content: dict = json.loads((workspace / "data/split/summary.json").read_text())
    return content


def statistics(sets: pl.DataFrame) -> dict:
    """Sizes, mean and share that holds the truth, of columns `truth` and `set`."""
    size = sets["set"].list.len()
    holds = sets.select(pl.col("set").list.contains(pl.col("truth")))["set"]
    counts = size.value_counts().sort("set").iter_rows()
    return {
        "sizes": {str(number): count for number, count in counts},
        "mean": round(size.mean(), 6),
        "holds_truth": round(holds.mean(), 6),
    }


def per_class(said: pl.DataFrame) -> pl.DataFrame:
    """Columns file, truth, class, votes."""
    long = said.unpivot(PEOPLE, index=["file", "truth"], value_name="class")
    return long.group_by("file", "truth", "class").len("votes")


def gathered(pairs: pl.DataFrame) -> pl.DataFrame:
    return pairs.group_by("file", "truth").agg(set=pl.col("class"))


def test_union(said: pl.DataFrame, workspace: Path):
    found = summary(workspace, rule="union")
    assert found["candidates"]["train"] == statistics(gathered(per_class(said)))
    # As counted by those who wrote the table's description.
    assert found["candidates"]["train"]["sizes"] == {"1": 30_178, "2": 16_781, "3": 3_041}
    told = found["annotators"]
    assert told["majority_wrong"]["actual"] == pytest.approx(majority_wrong(said), abs=1e-6)
    assert told["agreement"] == pytest.approx(agreeing(said), abs=1e-6)
    for person in told["best"]:
        right = said.select(pl.col(person["name"]) == pl.col("truth")).to_series().mean()
        assert person["accuracy"] == pytest.approx(right, abs=1e-6)
        assert person["estimated_accuracy"] == pytest.approx(right, abs=0.05)


def majority_wrong(said: pl.DataFrame) -> float:
    """Ties, where all three differ, count in shares."""
    most = per_class(said).filter(pl.col("votes") == pl.col("votes").max().over("file"))
    right = most.group_by("file").agg((pl.col("class") == pl.col("truth")).mean().alias("right"))
    return 1 - right["right"].mean()


def agreeing(said: pl.DataFrame) -> float:
    one, two, three = (pl.col(name) for name in PEOPLE)
    return (
        said.select(pl.mean_horizontal(one == two, one == three, two == three)).to_series().mean()
    )


def test_at_least_two(said: pl.DataFrame, workspace: Path):
    found = summary(workspace, rule="at_least", at_least=2)["candidates"]["train"]
    pairs = per_class(said)
    most = pl.col("votes").max().over("file")
    expected = pairs.filter((pl.col("votes") >= 2) | ((most < 2) & (pl.col("votes") == most)))
    assert found == statistics(gathered(expected))


def test_weighted(said: pl.DataFrame, workspace: Path):
    found = summary(workspace, rule="weighted", mass=0.95)
    names = sorted(said["truth"].unique())
    posterior = dawid_skene(
        np.stack(
            [said[name].replace_strict({n: k for k, n in enumerate(names)}) for name in PEOPLE]
        )
    )
    sets = said.select("file", "truth").with_columns(
        pl.Series("set", [[names[k] for k in smallest(row, 0.95)] for row in posterior.round(6)])
    )
    assert found["candidates"]["train"] == statistics(sets)
    assert read_table(workspace / "data/split/train.parquet").num_rows == len(said)


def dawid_skene(said_AN: np.ndarray) -> np.ndarray:
    """EM over whole matrices, to convergence."""
    onehot_ANK = np.eye(said_AN.max() + 1)[said_AN]
    before, posterior = 0.0, onehot_ANK.mean(axis=0)
    while np.abs(posterior - before).max() > 1e-7:
        before, posterior = posterior, one_round(posterior, said_AN, onehot_ANK)
    return posterior


def one_round(posterior: np.ndarray, said_AN: np.ndarray, onehot_ANK: np.ndarray) -> np.ndarray:
    """Equations 2.3 to 2.5, every annotator having cast one vote more, as all of them together vote."""
    count = np.einsum("nk,anl->akl", posterior, onehot_ANK)
    together = count.sum(axis=0) + 1 / count.shape[1]
    count += together / together.sum(axis=1, keepdims=True)
    error = count / count.sum(axis=2, keepdims=True)
    prior = posterior.sum(axis=0) + 1 / count.shape[1]
    likely = prior * np.prod([error[a][:, said].T for a, said in enumerate(said_AN)], axis=0)
    return likely / likely.sum(axis=1, keepdims=True)


def smallest(row: np.ndarray, mass: float) -> list[int]:
    """Classes in falling order until the mass is reached; those that tie with the last too."""
    order = np.argsort(-row, kind="stable")
    total, taken = 0.0, []
    for k in order:
        if total >= min(mass, row.sum()) - 1e-9 and row[k] < row[taken[-1]]:
            break
        total += row[k]
        taken.append(int(k))
    return taken
