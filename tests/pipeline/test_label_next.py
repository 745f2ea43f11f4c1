"""What to label next: asked of a trained project, answered as in Label Studio, and taken back as a table."""

from __future__ import annotations

import base64
import csv
import io
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from xml.etree import ElementTree

import numpy as np
import polars as pl
import pytest
from PIL import Image

from pipeline_lib.labeling import picks
from pipeline_lib.labeling.picks import Pick
from pipeline_lib.labeling.studio import CHOICES, SHOWN
from tests.as_user import run_app
from tests.faults.conftest import Workspace
from tests.pipeline.conftest import Project

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/how-to/own-data.md").read_text(encoding="utf-8")
COUNT = 20


def asked(folder: Path) -> list[str]:
    """The command of the page, with another folder."""
    (found,) = re.findall(r"^python (-m stages\.app label-next .*)$", PAGE, re.MULTILINE)
    return [sys.executable, *found.replace("../to-label", str(folder)).split()]


def added(export: Path, table: Path) -> list[str]:
    (found,) = re.findall(
        r"^python (-m stages\.app import-labels .*--add-to.*)$", PAGE, re.MULTILINE
    )
    found = found.replace("../export.json", str(export)).replace("../labels.csv", str(table))
    return [sys.executable, *found.split()]


def test_guesses_with_like_names_are_told_apart(tmp_path: Path) -> None:
    names = [f"Carex muelleri var. {n} (L.) Nyman ex W.D.J.Koch" for n in range(3)]
    stored = SimpleNamespace(shape=(4, 4, 3))
    about = {"method": "cr_dpll", "seed": 1, "dataset": "plants"}
    unsure = SimpleNamespace(about=about, classes=names, ids_N=[7], stored=stored)
    image = np.zeros((4, 4, 3), np.uint8)
    picks.write(tmp_path, unsure, [Pick("a.png", image, [(n, 0.3) for n in names])], None)
    page = (tmp_path / "index.html").read_text()
    shown = re.findall(r'<dt><bdi title="(.*?)">(.*?)</bdi>', page)
    assert [whole for whole, _ in shown] == names
    assert len({short for _, short in shown}) == 3


def rows(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


def test_the_images_chosen_are_tasks_whose_answers_become_labels(
    project: Project, tmp_path
) -> None:
    folder = tmp_path / "to-label"
    done = project.run(*asked(folder))
    assert done.returncode == 0, done.stdout
    assert f"{COUNT} of " in done.stdout
    assert "warning: these data have no test images of their own" in done.stdout

    tasks = json.loads((folder / "tasks.json").read_text())
    files = [task["data"]["file"] for task in tasks]
    assert len(set(files)) == COUNT
    train = pl.read_parquet(project.root / "data/split/train.parquet")
    names = pl.read_parquet(project.root / "data/labels.parquet").select("id", "source")
    unsure = train.filter(pl.col("candidates").list.len() > 1).join(names, on="id")
    assert set(files) <= set(unsure["source"])
    classes = json.loads((project.root / "data/classes.json").read_text())["classes"]
    candidates = dict(unsure.select("source", "candidates").iter_rows())
    for task in tasks:
        kind, _, content = task["data"]["image"].partition(",")
        assert kind == "data:image/png;base64"
        assert max(Image.open(io.BytesIO(base64.b64decode(content))).size) >= 200
        (guess,) = task["predictions"]
        (result,) = guess["result"]
        (name,) = result["value"]["choices"]
        assert classes.index(name) in candidates[task["data"]["file"]]
        assert 0 < guess["score"] <= 1

    view = ElementTree.parse(folder / "label_config.xml").getroot()  # noqa: S314 - our own
    assert view.find("Image").attrib == {"name": SHOWN, "value": f"${SHOWN}"}
    assert view.find("Choices").attrib["name"] == CHOICES
    assert [choice.attrib["value"] for choice in view.iter("Choice")] == classes
    table = rows((folder / "next.csv").read_text())
    assert [row["file"] for row in table] == files
    page = (folder / "index.html").read_text()
    assert page.count('<li class="card">') == COUNT
    # Digits have candidate sets, and chosen ones no order of worth.
    assert "Images not yet of one class" in page
    assert "in percent within its candidates" in page
    assert "most telling" not in page

    # The same question has the same answer.
    again = tmp_path / "again"
    assert project.run(*asked(again)).returncode == 0
    assert (again / "tasks.json").read_bytes() == (folder / "tasks.json").read_bytes()

    export = tmp_path / "export.json"
    result = {"type": "choices", "from_name": CHOICES, "to_name": SHOWN}
    for number, task in enumerate(tasks):
        answer = result | {"value": {"choices": [classes[number % 3]]}}
        said = {"completed_by": 4, "result": [answer], "was_cancelled": number == COUNT - 1}
        task |= {"id": number, "annotations": [said]}
    export.write_text(json.dumps(tasks))
    earlier = tmp_path / "labels.csv"
    earlier.write_text(f"file,label\nelsewhere,2\n{files[0]},\n{files[-1]},\n")
    done = project.run(*added(export, earlier))
    assert done.returncode == 0, done.stdout
    labels = {(row["file"], row["label"]) for row in rows(earlier.read_text())}
    answered = {(file, classes[number % 3]) for number, file in enumerate(files[:-1])}
    assert labels == answered | {("elsewhere", "2"), (files[-1], "")}


@pytest.mark.parametrize("name", ["tasks.json", "label_config.xml", "next.csv", "index.html"])
def test_a_persons_own_files_are_not_replaced(project: Project, tmp_path, name: str) -> None:
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / name).write_text("[]")
    done = project.run(*asked(folder))
    assert done.returncode == 1
    assert f"{folder}: holds {name} of something else, to be replaced" in done.stdout
    assert [path.name for path in folder.iterdir()] == [name]
    assert (folder / name).read_text() == "[]"


def test_a_table_that_labels_cannot_be_added_to_is_refused(project: Project, tmp_path) -> None:
    export, table = tmp_path / "export.json", tmp_path / "table.csv"
    answer = {"type": "choices", "from_name": "label", "value": {"choices": ["1"]}}
    export.write_text(
        json.dumps([{"data": {"image": "a.png"}, "annotations": [{"result": [answer]}]}])
    )
    table.write_text("file,ann,bob\na.png,1,2\n")
    done = project.run(*added(export, table))
    assert done.returncode == 1
    assert f"{table}: columns ann, bob, file; labels are added to a table" in done.stdout
    assert table.read_text() == "file,ann,bob\na.png,1,2\n"


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DVC_ROOT", raising=False)
    return Workspace(tmp_path)


@pytest.fixture
def flat(workspace: Workspace) -> Workspace:
    """Files in one folder, and answers to two of them as label-next asks."""
    for shade in range(20):
        workspace.add(f"photo {shade:02d}.png", shade)
    answered = []
    for name in ("photo 17.png", "photo 18.png"):
        answer = {"type": "choices", "from_name": CHOICES, "value": {"choices": ["cat"]}}
        data = {SHOWN: "data:image/png;base64,AAAA", "file": name}
        answered.append({"data": data, "annotations": [{"completed_by": 1, "result": [answer]}]})
    (workspace.root / "export.json").write_text(json.dumps(answered))
    return workspace


@pytest.mark.parametrize("add", [False, True])
def test_answers_of_deleted_images_and_of_classes_called_like_a_blank(
    workspace: Workspace, add: bool
) -> None:
    """Exports hold all answers ever given, and a folder may be called NA."""
    for number, folder in enumerate(["NA", "cat", "unlabeled"]):
        workspace.add(f"{folder}/{number}.png", number)
    workspace.run("configure", "download", "ingest")
    answer = {"type": "choices", "from_name": CHOICES, "value": {"choices": ["NA"]}}
    said = [{"completed_by": 1, "result": [answer]}]
    image = "data:image/png;base64,AAAA"
    export = [
        {"data": {SHOWN: image, "file": f"unlabeled/{name}.png"}, "annotations": said}
        for name in (2, "deleted")
    ]
    (workspace.root / "export.json").write_text(json.dumps(export))
    workspace.table("file,annotator,label\n" if add else "")
    words = ["--add-to", "labels.csv"] if add else []
    done = run_app(workspace.root, "import-labels", "export.json", *words, "-o", "labels.csv")
    assert done.returncode == 0, done.stderr
    assert "export.json: left out 1 images that are not in data.path any more" in done.stdout
    expected = "file,annotator,label\nunlabeled/2.png,annotator_1,NA\n"
    assert (workspace.root / "labels.csv").read_text() == expected
    workspace.run("configure", "download", "ingest")


@pytest.mark.parametrize("truth", [False, True])
@pytest.mark.parametrize("said", ["label", "candidates"])
def test_answers_added_to_a_table_are_trained_on_and_its_labels_still_test(
    flat: Workspace, said: str, truth: bool
) -> None:
    named = [(f"photo {shade:02d}.png", "cat" if shade % 2 else "dog") for shade in range(16)]
    open_ones = ["", ""] if said == "label" else ["cat|dog", "cat|dog"]
    rows = [*named, ("photo 16.png", open_ones[0]), ("photo 17.png", open_ones[1])]
    lines = [[file, name, *([dict(named).get(file, "")] if truth else [])] for file, name in rows]
    header = ["file", said, *(["true_label"] if truth else [])]
    flat.table("".join(",".join(line) + "\n" for line in [header, *lines]))
    command = added(flat.root / "export.json", flat.root / "labels.csv")
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr

    flat.run("configure", "download", "ingest")
    answered = ("photo 17.png", "photo 18.png")
    about = {row["source"]: row for row in flat.read("labels.parquet")}
    for name in answered:
        given = about[name]
        assert (given["candidates"] or [given["label"]]) == [0]
        assert given["true_label"] is None
    assert about["photo 16.png"]["candidates"] == (None if said == "label" else [0, 1])
    if said == "candidates" and not truth:
        return  # nothing to test with, before and after
    flat.run("split")
    test = {row["id"] for row in flat.read("split/test.parquet")}
    roles = {row["id"]: row["role"] for row in flat.read("split/train.parquet")}
    known = {file for file, _ in named} | (set() if truth else set(answered))
    assert test <= {about[name]["id"] for name in known}
    assert test
    assert set(roles.values()) == {"labeled_and_unlabeled", "unlabeled"}
