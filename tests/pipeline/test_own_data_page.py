"""Every command of docs/how-to/own-data.md, word for word, on photos of mixed formats and sizes.

Each gets its own workspace beside the files that it names, and runs to the stored split; the first one to the
report, with fewer epochs. DVC itself only puts `-S` into params.yaml, with the function that is called here.
"""

from __future__ import annotations

import functools
import itertools
import json
import re
import shlex
import shutil
import subprocess
import sys
import zipfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from dvc.utils.hydra import apply_overrides
from dvc.utils.serialize import modify_yaml
from PIL import Image
from sklearn.datasets import load_digits

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs/how-to/own-data.md").read_text(encoding="utf-8")
CLASSES = ("cat", "dog", "horse")
ENDINGS = (".jpg", ".jpg", ".png", ".tif", ".gif", ".webp", ".png", ".jpeg")
FLAT = 40
# After how many images the examples of tables go on as they began.
PERIOD = 4
DATA = ("configure", "download", "ingest", "split")

# Section -> of each of its commands: roles of the training and validation images, and test images.
EXPECTED = {
    "photos-in-folders": [({"labeled": 45}, 15)],
    "train-validation-and-test-folders": [({"labeled": 12}, 3)],
    "archives-and-urls": [({"labeled": 45}, 15)],
    "a-table-of-labels": [({"labeled": 22, "unlabeled": 10}, 8)],
    "several-candidates": [({"partial": 19, "labeled": 7, "unlabeled": 6}, 8)] * 2,
    "several-annotators": [
        ({"labeled": 13, "partial": 19}, 8),
        ({"labeled": 25, "unlabeled": 10}, 5),
    ],
    "other-forms-of-tables": [
        ({"labeled": 22, "partial": 10}, 8),
        ({"labeled": 3, "unlabeled": 42}, 15),
    ],
    "label-studio": [({"labeled": 8, "partial": 8, "unlabeled": 4}, 6)],
    "few-labels-many-images": [({"labeled": 12, "unlabeled": 20}, 6)],
    "parquet-of-the-hugging-face-hub": [({"labeled": 30}, 6)],
    "large-images-many-images": [({"labeled": 45}, 15)],
}


@dataclass(frozen=True)
class Section:
    """Commands, and files that are shown, of one section of the page."""

    commands: tuple[str, ...]
    files: tuple[tuple[str, str], ...]


@functools.cache
def sections() -> dict[str, Section]:
    """The sections that have commands, by their anchor."""
    found = {}
    for part in re.split(r"^## ", PAGE, flags=re.MULTILINE)[1:]:
        title, body = part.split("\n", 1)
        blocks = re.findall(r"^```sh\n(.*?)^```", body, re.MULTILINE | re.DOTALL)
        files = re.findall(r"`(\.\./[\w.]+)`:\n\n```\w+\n(.*?)```", body, re.DOTALL)
        commands = tuple(line for block in blocks for line in block.splitlines())
        if commands:
            anchor = re.sub(r"[^a-z ]", "", title.lower()).replace(" ", "-")
            found[anchor] = Section(commands, tuple(files))
    return found


def picture(number: int, path: Path) -> None:
    """Save a digit in the format of the path's ending, in a size and mode of its own."""
    path.parent.mkdir(parents=True, exist_ok=True)
    gray = Image.fromarray((load_digits().images[number] * 15.9).astype(np.uint8))
    side = 20 + 7 * (number % 11)
    gray = gray.resize((side, side + 5 * (number % 3)))
    match path.suffix:
        case ".tif":
            gray.save(path)
        case ".png" if number % 2:
            Image.fromarray(np.asarray(gray, np.uint16) << 8).save(path)
        case ".png":
            gray.convert("RGBA").save(path)
        case ".gif":
            gray.convert("P").save(path)
        case ".webp":
            gray.convert("RGB").save(path)
        case _ if number % 3 == 0:
            gray.convert("CMYK").save(path, quality=95)
        case _:
            rotated = Image.Exif()
            rotated[0x0112] = 6
            gray.convert("RGB").save(path, quality=95, exif=rotated)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the page's commands name, beside the clone."""
    root = tmp_path_factory.mktemp("own")
    numbers = iter(range(1797))

    def add(name: str) -> None:
        picture(next(numbers), root / name)

    for name in CLASSES:
        for count in range(20):
            add(f"photos/{name}/{count}{'.jpg' if count == 1 else ENDINGS[count % 8]}")
    sizes = {"sorted/train": 3, "sorted/val": 1, "sorted/test": 1, "few/train": 4, "few/test": 2}
    for part, name in itertools.product([*sizes, "studio/test"], CLASSES):
        for count in range(sizes.get(part, 2)):
            add(f"{part}/{name}/{name}{count}.jpg")
    for count in range(20):
        add(f"few/unlabeled/{count}.jpg")
        add(f"studio/train/{count}.jpg")
    for count in range(FLAT):
        add(f"flat/{count + 1}.jpg")
    with zipfile.ZipFile(root / "photos.zip", "w") as archive:
        for path in sorted((root / "photos").rglob("*.*")):
            archive.write(path, path.relative_to(root))
    (root / "export.json").write_text(json.dumps([task(count) for count in range(20)]))
    hub(root, numbers)
    return root


def hub(root: Path, numbers: Iterator[int]) -> None:
    """Parquet files of images as the Hub names and fills them."""
    (root / "hub").mkdir()
    scratch = root / "scratch.png"
    for shard, size in (("train-00000-of-00002", 20), ("train-00001-of-00002", 10), ("test", 6)):
        images = []
        for number in itertools.islice(numbers, size):
            picture(number, scratch)
            images.append({"bytes": scratch.read_bytes(), "path": f"{number}.png"})
        table = pa.table({"image": images, "label": [CLASSES[i % 3] for i in range(size)]})
        pq.write_table(table, root / "hub" / f"{shard}.parquet")
    scratch.unlink()


def task(number: int) -> dict:
    """A task of Label Studio: one answer, two different ones, the same two, none, a skipped one."""
    answers = [["cat"], ["cat", "dog"], ["dog", "dog"], ["horse", "cat"], []][number % 5]
    annotations = [
        {
            "completed_by": who,
            "result": [{"type": "choices", "from_name": "animal", "value": {"choices": [answer]}}],
        }
        for who, answer in enumerate(answers)
    ]
    return {"data": {"image": f"/data/upload/1/0a1b2c3d-{number}.jpg"}, "annotations": annotations}


def prolonged(name: str, example: str) -> str:
    """An example of a table, going on for all images of the folder."""
    if name.endswith(".txt"):
        return example
    lines = example.splitlines(keepends=True)
    head, rows = ([], lines) if re.match(r"\S*\d\.jpg|\{", lines[0]) else (lines[:1], lines[1:])

    def moved(row: str, by: int) -> str:
        return re.sub(r"(\d+)\.jpg", lambda found: f"{int(found[1]) + by}.jpg", row)

    return "".join([*head, *(moved(row, by) for by in range(0, FLAT, PERIOD) for row in rows)])


class Clone:
    """A folder with params.yaml in which the page's commands are run."""

    def __init__(self, root: Path, files: Path) -> None:
        self.root = root / "clone"
        self.root.mkdir()
        shutil.copy2(ROOT / "params.yaml", self.root)
        for path in files.iterdir():
            (root / path.name).symlink_to(path)

    def flags(self, command: str) -> None:
        """`dvc exp run -S ...`, as far as params.yaml."""
        words = shlex.split(command)
        assert words[:3] == ["dvc", "exp", "run"], command
        assert words[3::2] == ["-S"] * len(words[4::2]), command
        apply_overrides(str(self.root / "params.yaml"), words[4::2])

    def python(self, *words: str) -> str:
        done = subprocess.run(
            [sys.executable, "-W", "ignore", *words],
            cwd=self.root,
            env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin", "OMP_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"{words}: {done.stderr}"
        return done.stdout

    def stages(self, *names: str) -> str:
        return "".join(self.python("-m", f"stages.{name}") for name in names)

    def counts(self) -> tuple[dict[str, int], int]:
        """Images by role in what is trained and validated on; and test images."""
        parts = [pl.read_parquet(self.root / f"data/split/{n}.parquet") for n in ("train", "val")]
        test = pl.read_parquet(self.root / "data/split/test.parquet")
        return dict(Counter(role for part in parts for role in part["role"])), len(test)


@pytest.fixture
def clone(tmp_path: Path, files: Path) -> Clone:
    return Clone(tmp_path, files)


def test_every_section_with_commands_is_run() -> None:
    assert list(sections()) == list(EXPECTED)
    listed = set(re.findall(r"\(#([a-z-]+)\)", PAGE))
    assert listed >= set(EXPECTED), "the contents name every section"


@pytest.mark.parametrize("name", EXPECTED)
def test_the_commands_of_a_section_do_what_it_says(name: str, clone: Clone) -> None:
    section = sections()[name]
    for path, example in section.files:
        (clone.root / path).write_text(prolonged(path, example))
    imports = [command for command in section.commands if command.startswith("python ")]
    runs = [command for command in section.commands if command not in imports]
    for command in imports:
        assert "20 images, 4 of them unlabeled" in clone.python(*shlex.split(command)[1:])
    found = []
    for command in runs:
        shutil.copy2(ROOT / "params.yaml", clone.root)
        clone.flags(command)
        clone.stages(*DATA)
        found.append(clone.counts())
    assert found == EXPECTED[name]


def test_photos_in_folders_are_trained_on_and_reported(clone: Clone) -> None:
    """The first command to its end; with three classes there are no best five (row 8 of the faults)."""
    clone.flags(sections()["photos-in-folders"].commands[0])
    with modify_yaml(clone.root / "params.yaml") as params:
        assert params["train"]["epochs"] == 100
        params["train"]["epochs"] = 2
    shutil.copytree(ROOT / "reports", clone.root / "reports", ignore=shutil.ignore_patterns("*.*"))
    clone.stages(*DATA, "train", "evaluate", "report")
    metrics = json.loads((clone.root / "reports/metrics.json").read_text())
    assert metrics["test"]["images"] == 15
    assert metrics["train"]["images"] == 40
    assert "top5_accuracy" not in metrics["test"]
    page = (clone.root / "reports/index.html").read_text()
    assert "there are no more classes" in page
    assert all(name in page for name in CLASSES)
