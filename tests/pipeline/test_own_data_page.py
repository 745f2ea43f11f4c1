"""Every command of docs/how-to/own-data.md, word for word, on photos of mixed formats and sizes.

A block runs in a shell, from the committed params.yaml. The first one runs with DVC to the report; in
the others `dvc` is a stand-in that writes down what it was asked for: its arguments go through DVC's own
parsers into params.yaml, and the data stages run in this process.
"""

from __future__ import annotations

import http.server
import importlib
import itertools
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import polars as pl
import pytest
from dvc.cli import parse_args
from dvc.utils.cli_parse import to_path_overrides
from dvc.utils.hydra import apply_overrides
from PIL import Image

from pipeline_lib.errors import UserError
from pipeline_lib.params.load import load
from tests.local_https import serving, trust
from tests.photos import CLASSES, EACH, FLAT, beside_the_clone
from tests.pipeline.conftest import Project, copy_project

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs/how-to/own-data.md").read_text(encoding="utf-8")
DATA = ("configure", "download", "ingest", "split")
STAND_IN = """#!/bin/sh
printf '%s\\n' "$@" >> "$ASKED"
echo >> "$ASKED"
"""


class Section(NamedTuple):
    """Blocks of commands, and files that are shown, by name."""

    blocks: list[str]
    files: dict[str, str]


def sections() -> dict[str, Section]:
    """The sections that have commands, by their titles."""
    found = {}
    for part in re.split(r"^## ", PAGE, flags=re.MULTILINE)[1:]:
        title, body = part.split("\n", 1)
        blocks = re.findall(r"^```sh\n(.*?)^```", body, re.MULTILINE | re.DOTALL)
        files = re.findall(r"`(\.\./[\w.]+)`:\n\n```\w+\n(.*?)^```", body, re.DOTALL | re.MULTILINE)
        if blocks:
            found[title] = Section(blocks, dict(files))
    return found


class Seen(NamedTuple):
    """What became of a command: images by role in training and validation, test images, and classes.json."""

    roles: dict[str, int]
    test: int
    about: dict[str, Any]


Check = Callable[[Seen], bool]


def has(test: int, **roles: int) -> Check:
    """So many images of each kind."""
    return lambda seen: (seen.roles, seen.test) == (roles, test)


def is_large(seen: Seen) -> bool:
    kept = {name: seen.about[name] for name in ("height", "store", "resize")}
    return kept == {"height": 224, "store": "files", "resize": "center_crop"}


ALL = has(EACH, labeled=3 * EACH)
# By section, what is to be seen of each `dvc exp run`, in order. The first section's run with DVC, below.
EXPECTED: dict[str, list[Check]] = {
    "Several photos of one": [has(10, labeled=30)],
    "Train, validation and test folders": [has(3, labeled=12)],
    "Archives and URLs": [ALL, ALL],
    "A table of labels": [has(7, labeled=20, unlabeled=9)],
    "Several candidates": [
        has(7, partial=16, labeled=7, unlabeled=6),
        has(5, partial=31),
        has(5, partial=31),
    ],
    "Several annotators": [has(7, partial=16, labeled=13), has(6, labeled=30), has(6, labeled=30)],
    "Other forms of tables": [
        has(6, partial=12, labeled=18),
        has(EACH, labeled=4, unlabeled=3 * EACH - 4),
    ],
    "Label Studio": [has(6, labeled=8, partial=8, unlabeled=4)],
    "Few labels, many images": [has(6, labeled=12, unlabeled=20)],
    "Parquet of the Hugging Face Hub": [ALL],
    "Large images, many images": [is_large],
}


@pytest.fixture(scope="module")
def outside(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder in which clones lie, with the images beside them."""
    root = tmp_path_factory.mktemp("own")
    beside_the_clone(root)
    return root


class Clone:
    """A folder with params.yaml in which blocks of the page are run, with a stand-in for DVC."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.restore()
        (root / "bin").mkdir()
        (root / "bin/dvc").write_text(STAND_IN)
        (root / "bin/dvc").chmod(0o755)

    def restore(self) -> None:
        shutil.copy2(ROOT / "params.yaml", self.root)

    def shell(self, block: str) -> list[list[str]]:
        """Run a block; give what DVC was asked for."""
        asked = self.root / "asked"
        path = os.pathsep.join(map(str, (self.root / "bin", Path(sys.executable).parent)))
        own = {"ASKED": str(asked), "PYTHONPATH": str(ROOT), "PATH": f"{path}:{os.environ['PATH']}"}
        asked.write_text("")
        done = subprocess.run(
            ["sh", "-euc", block], env=os.environ | own, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        return [text.split("\n") for text in asked.read_text().split("\n\n")[:-1]]

    def set(self, *flags: str) -> None:
        """Change params.yaml as `dvc exp run` with these flags does."""
        arguments = parse_args(["exp", "run", *flags])
        for path, overrides in to_path_overrides(arguments.set_param).items():
            apply_overrides(path, overrides)

    def stages(self, *names: str) -> None:
        for name in names:
            importlib.import_module(f"stages.{name}").main()

    def seen(self) -> Seen:
        read = partial(pl.read_parquet, columns=["id", "role"])
        parts = [read(self.root / f"data/split/{part}.parquet") for part in ("train", "val")]
        test = pl.read_parquet(self.root / "data/split/test.parquet")
        ids = list(itertools.chain(test["id"], *(part["id"] for part in parts)))
        assert len(ids) == len(set(ids))
        # Labeled, whether or not a method for few labels has them in its unlabeled set too.
        told = itertools.chain(*(part["role"] for part in parts))
        roles = Counter(role.removesuffix("_and_unlabeled") for role in told)
        about = json.loads((self.root / "data/classes.json").read_text())
        return Seen(dict(roles), len(test), about)


@pytest.fixture
def clone(outside: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Clone:
    root = outside / re.sub(r"\W", "_", request.node.name)
    root.mkdir()
    monkeypatch.chdir(root)
    monkeypatch.delenv("DVC_ROOT", raising=False)
    return Clone(root)


def continued(name: str, example: str) -> str:
    """A file that the page shows the beginning of, going on as it began for all images of the folder."""
    shown, dots = example[: -len("...\n")], example[-len("...\n") :]
    assert dots == "...\n", f"{name}: the page shows all of it"
    lines = shown.splitlines(keepends=True)
    head = [] if re.match(r"\S*\d\.jpg|\{", lines[0]) else lines[:1]

    def moved(row: str, by: int) -> str:
        return re.sub(r"(\d+)\.jpg", lambda found: f"{int(found[1]) + by}.jpg", row)

    rows = lines[len(head) :]
    period = max(int(number) for row in rows for number in re.findall(r"(\d+)\.jpg", row))
    periods = range(0, FLAT, period) if name != "../labeled.txt" else [0]
    return "".join([*head, *(moved(row, by) for by in periods for row in rows)])


def test_every_section_with_commands_is_run() -> None:
    # What to label next needs a trained model: tests/pipeline/test_label_next.py.
    run = [title for title in sections() if title != "What to label next"]
    assert ["Photos in folders", *EXPECTED] == run
    links = {re.sub(r"[^a-z ]", "", title.lower()).replace(" ", "-") for title in EXPECTED}
    assert links <= set(re.findall(r"\(#([a-z-]+)\)", PAGE)), "the contents name every section"


@pytest.mark.parametrize("title", EXPECTED)
def test_the_blocks_of_a_section_do_what_it_says(
    title: str, clone: Clone, outside: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    section = sections()[title]
    for name, example in section.files.items():
        Path(name).write_text(continued(name, example))
    trust(monkeypatch)
    files = partial(http.server.SimpleHTTPRequestHandler, directory=str(outside))
    checks = iter(EXPECTED[title])
    with serving(files) as server:  # type: ignore[arg-type]
        for block in section.blocks:
            clone.restore()
            address = f"https://127.0.0.1:{server.server_port}/"
            for command in clone.shell(block.replace("https://example.org/", address)):
                assert command[:2] == ["exp", "run"]
                clone.set(*command[2:])
                clone.stages(*DATA)
                assert next(checks)(seen := clone.seen()), (command, seen)
    assert not list(checks), "fewer commands than the test knows of"


def test_inline_settings_are_settings(clone: Clone) -> None:
    """Every `key=value` and `-S key=value` in the text, and every key."""
    text = re.sub(r"^```.*?^```", "", PAGE, flags=re.MULTILINE | re.DOTALL)
    spans = re.findall(r"`([^`]+)`", text)
    settings = [span for span in spans if re.match(r"(-S |[a-z_]+(\.[a-z_]+)*=)", span)]
    assert len(settings) > 5
    for span in settings:
        clone.restore()
        clone.set(*shlex.split(span if span.startswith("-S") else f"-S {span}"))
        load()
    clone.restore()
    params = load()
    for span in spans:
        if re.fullmatch(r"(data|split|train|model)(\.[a-z_]+)+", span):
            value: object = params
            for key in span.split("."):
                value = getattr(value, key)


@pytest.fixture
def project(outside: Path) -> Project:
    """A clone with all that DVC needs, whose training takes one step an epoch."""
    project = copy_project(outside / "project")
    project.set(train={"steps_per_epoch": 1})
    return project


@pytest.mark.slow
def test_two_hundred_photos_become_a_report_and_follow_a_change(project: Project) -> None:
    """With four classes there are no best five (row 8 of the faults)."""
    train, change = sections()["Photos in folders"].blocks
    done = project.run("sh", "-euc", train)
    assert done.returncode == 0, done.stdout
    fences = re.findall(r"^```(\w*)\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    told = next(text for kind, text in fences if not kind and "test accuracy" in text).splitlines()
    assert [line.split(": ")[0] for line in told] == ["image_folder", "clean", "test accuracy"]
    assert set(told[:2]) <= set(done.stdout.splitlines())
    assert re.search(r"^test accuracy: 0\.\d+ \(95 % interval .*, 50 images\)$", done.stdout, re.M)
    assert re.fullmatch(r"test accuracy: 0\.\d+ \(95 % interval .*, 50 images\)", told[2])
    metrics = json.loads((project.root / "reports/metrics.json").read_text())
    assert (metrics["test"]["images"], metrics["train"]["images"]) == (EACH, 135)
    assert "top5_accuracy" not in metrics["test"]
    page = (project.root / "reports/index.html").read_text()
    assert "there are no more classes" in page
    assert all(name in page for name in CLASSES)

    Image.new("RGB", (70, 50), "red").save(project.root / "../photos/cat/another.webp")
    project.set(train={"epochs": 0})
    done = project.run("sh", "-euc", change)
    assert done.returncode == 0, done.stdout
    assert done.stdout.count("Running stage 'download'") == 1
    assert "image_folder: 201 images" in done.stdout
    assert "Running stage 'report'" in done.stdout
    (project.root / "../photos/cat/another.webp").unlink()


def troubles() -> Iterator[tuple[str, str]]:
    """Do to photos what people do; each time, what is said of it, and the stages that say so."""
    shutil.copytree("../photos", folder := Path("photos"))
    for number in range(9):
        (folder / f"cat/{number}.heic").write_bytes(b"\0\0\0\x18ftypheic")
    yield "left out 9 files that are no images we read (9 .heic)", "configure download"
    (folder / "Cat").mkdir()
    for name in ("0.jpg", "1.jpg"):
        shutil.move(next((folder / "cat").glob("*.jpg")), folder / "Cat" / name)
    yield "warning: photos: 'Cat' and 'cat' are classes of their own", "download ingest"
    shutil.move(folder / "Cat/0.jpg", folder / "cat/from0.jpg")
    shutil.move(folder / "Cat/1.jpg", folder / "cat/from1.jpg")
    (folder / "Cat").rmdir()
    (folder / "dog/puppies").mkdir()
    shutil.move(folder / "dog/1.jpg", folder / "dog/puppies")
    yield "lies too deep", "download ingest"
    shutil.move(folder / "dog/puppies", folder / "fox")
    shutil.move(folder / "fox/1.jpg", folder / "dog")
    yield "classes without images: 'fox'", "download ingest"
    shutil.move(folder / "dog/1.jpg", folder / "fox")
    yield "images differ in size", "download ingest"
    for number in range(3):
        (folder / f"dog/broken{number}.jpg").write_bytes(b"\xff\xd8\xff\xe0 cut off")
    yield "3 images cannot be read", "download ingest"
    yield "warning: no val image of fox", "ingest split"
    for name in ("cat/2.png", "dog/2.png"):
        shutil.move(folder / name, folder / name.replace("/", "_"))
    yield "2 images lie in no class folder", "download ingest"
    shutil.rmtree(folder)
    shutil.copytree("../sorted", folder)
    for name in ("cat0", "cat1", "dog0", "dog1", "horse0"):
        shutil.copy(folder / f"train/{name[:-1]}/{name}.jpg", folder / f"test/cat/like_{name}.jpg")
    yield "5 images are in two parts, with the same pixels", "download ingest split"


def test_what_it_says_is_answered_as_the_page_says(
    clone: Clone, capsys: pytest.CaptureFixture[str]
) -> None:
    """Where the answer is a setting, it is followed; the photos are put right before the next trouble."""
    table = PAGE.split("| It says | Do |\n|---|---|\n")[1].split("\n\n")[0]
    answers = {row.split("`")[1]: row.split(" | ")[1] for row in table.splitlines()}
    del answers["exited with -9"]  # of DVC, about a stage that was killed
    # with a list of names beside folders: tests/faults/test_rows_05_18_split.py
    del answers["warning: no label or candidate set of a training image names fox"]
    clone.set("-S", "data.name=image_folder", "-S", "data.path=photos", "-S", "method=oracle")
    for says, stages in troubles():
        try:
            clone.stages(*stages.split())
        except UserError as error:
            print(error)
        assert says in capsys.readouterr().out
        if setting := re.search(r"`(-S .*?)`", answers.pop(says)):
            clone.set(*shlex.split(setting[1]))
    assert not answers, "the page has more of them"
    clone.stages("split")
    assert json.loads(Path("data/split/summary.json").read_text())["duplicates"]["dropped"] == 5
