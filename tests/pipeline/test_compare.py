"""A comparison as its user runs it: all of it, more of it, killed, and gone on with."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time

import psutil
import pytest

from tests.pipeline.conftest import SMALL, Project, copy_project

FILE = "reports/compare/dvc.yaml"
FOLDER = "reports/compare"
MADE = (f"{FOLDER}/cells", f"{FOLDER}/pages", f"{FOLDER}/tables", f"{FOLDER}/figures")
KEYS = {f"{m}-standard-labels_30-{s}" for m in SMALL["methods"] for s in SMALL["seeds"]}


def compare(project: Project, *arguments: str) -> subprocess.CompletedProcess[str]:
    return project.run(sys.executable, "-m", "stages.app", "compare", *arguments)


def made_of(project: Project) -> dict[str, bytes]:
    page = {"index.html": (project.root / FOLDER / "index.html").read_bytes()}
    return project.bytes_of(*MADE) | page


pytestmark = pytest.mark.timeout(900)


@pytest.fixture(scope="module")
def compared(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """Two methods, one budget and one seed, run two at a time."""
    project = copy_project(tmp_path_factory.mktemp("compared"))
    project.set(compare=SMALL, train={"epochs": 1})
    done = compare(project, "--jobs", "2")
    assert done.returncode == 0, done.stdout
    assert "2 cells to run, 2 at a time" in done.stdout
    return project


def test_every_cell_has_its_page_and_dvc_finds_nothing_left(compared: Project) -> None:
    assert {path.name for path in (compared.root / FOLDER / "cells").iterdir()} == KEYS
    for key in KEYS:
        assert (compared.root / FOLDER / "pages" / key / "index.html").stat().st_size > 10_000
        left = {path.name for path in (compared.root / FOLDER / "cells" / key / "data").iterdir()}
        assert not any(name.startswith("images.parquet") for name in left), "links are removed"
    out = compared.dvc("repro", FILE)
    assert "Running stage" not in out
    assert "labels_30.fixmatch.mean" in compared.dvc("metrics", "show", f"{FOLDER}/summary.json")
    # The pipeline itself has not run here, and at the commit before nothing had.
    plots = compared.plots()
    errors = [e for e in plots["errors"] if e["rev"] == "workspace"]
    assert [e for e in errors if e["source"].startswith(FOLDER)] == []
    shown = {name for name in plots["data"] if f"{FOLDER}/figures" in name}
    drawn = (compared.root / FOLDER / "figures/png").iterdir()
    assert shown == {str(path.relative_to(compared.root)) for path in drawn}, "each figure once"


def test_a_cell_is_what_the_pipeline_makes_with_the_same_params(compared: Project) -> None:
    """Split, training and evaluation are those of the seven stages, byte for byte."""
    compared.set(method="fixmatch", seed=1)
    compared.set(split={"few_shot": {**compared.params()["split"]["few_shot"], "labels": 30}})
    try:
        for stage in ("configure", "download", "ingest", "split", "train", "evaluate"):
            done = compared.stage(stage)
            assert done.returncode == 0, done.stdout
    finally:
        compared.run("git", "checkout", "-q", "params.yaml")
        compared.set(compare=SMALL, train={"epochs": 1})
    cell = compared.root / FOLDER / "cells/fixmatch-standard-labels_30-1"
    trained = json.loads((cell / "cell.json").read_text())["params"]
    assert trained["train"]["epochs"] == 1
    assert trained["method"] == "fixmatch"
    for name in (
        "data/split/train.parquet",
        "models/predictor.safetensors",
        "reports/metrics.json",
    ):
        assert (cell / name).read_bytes() == (compared.root / name).read_bytes(), name


def test_the_leaderboard_is_the_table_of_groups(compared: Project) -> None:
    out = compared.run(sys.executable, "-m", "stages.app", "leaderboard").stdout
    head, *rows = [line.split("\t") for line in out.splitlines()]
    assert head == ["budget", "contender", "accuracy", "95 % interval", "sd", "seeds"]
    summary = json.loads((compared.root / FOLDER / "summary.json").read_text())["labels_30"]
    assert {row[1]: row[2] for row in rows} == {
        name: f"{summary[name]['mean']:.4f}" for name in ("supervised", "fixmatch")
    }
    one = compared.run(
        sys.executable, "-m", "stages.app", "leaderboard", "--method", "super"
    ).stdout
    assert len(one.splitlines()) == 2
    none = compared.run(sys.executable, "-m", "stages.app", "leaderboard", "--budget", "x")
    assert none.returncode == 1
    assert none.stdout.startswith("no such row; budgets: labels_30; methods: supervised, fixmatch")


def test_times_are_written_into_params_and_train_nothing_anew(compared: Project) -> None:
    before = compared.root / "params.yaml"
    text = before.read_text()
    try:
        done = compared.run(sys.executable, "-m", "stages.app", "compare-times")
        assert done.returncode == 0, done.stdout
        assert re.search(r"fixmatch-standard: [\d.]+ ms per step", done.stdout)
        status = json.loads(compared.dvc("status", "--json", FILE))
    finally:
        before.write_text(text)
    assert set(status) == {f"{FILE}:plan", f"{FILE}:aggregate"}


def test_what_is_not_listed_is_refused_by_name(compared: Project) -> None:
    stray = compared.root / FOLDER / "cells/fixmatch-standard-labels_30-9"
    (stray / "reports").mkdir(parents=True)
    (stray / "reports/metrics.json").touch()
    try:
        ends = (
            compared.stage("aggregate"),
            compared.run(sys.executable, "-m", "stages.app", "compare"),
        )
    finally:
        shutil.rmtree(stray)
    for done in ends:
        assert done.returncode == 1
        assert (
            "fixmatch-standard-labels_30-9 is not in the section compare of params.yaml"
            in done.stdout
        )
        assert "Traceback" not in done.stdout


def test_cells_that_fail_for_one_reason_tell_it_once(compared: Project, tmp_path) -> None:
    text = (compared.root / "params.yaml").read_text()
    shutil.move(compared.root / FOLDER / "cells", tmp_path)
    few = {"split": {"protocol": "few_shot", "few_shot": {"labels": 33}}}
    compared.set(compare={"budgets": {"odd": few}})
    try:
        done = compared.run(sys.executable, "-m", "stages.app", "compare")
    finally:
        (compared.root / "params.yaml").write_text(text)
        shutil.rmtree(compared.root / FOLDER / "cells", ignore_errors=True)
        shutil.move(tmp_path / "cells", compared.root / FOLDER)
        compared.dvc("repro", FILE)
    assert done.returncode == 1
    assert done.stdout.count("33 labels cannot be shared evenly by 10 classes") == 1
    assert re.search(r"failed \(exit code \d+\):\n  as \w", done.stdout)
    assert "correct what they say, then run the same command again" in done.stdout


def test_a_mistake_is_found_before_a_cell_is_touched(compared: Project) -> None:
    before = made_of(compared)
    text = (compared.root / "params.yaml").read_text()
    compared.set(compare={"variants": {"standard": {"train": {"epochz": 2}}}})
    try:
        done = compared.run("dvc", "repro", FILE)
    finally:
        (compared.root / "params.yaml").write_text(text)
    assert done.returncode != 0
    assert "supervised, standard, labels_30: train.epochz: unknown key" in done.stdout
    assert made_of(compared) == before


@pytest.mark.slow
def test_another_seed_runs_its_own_cells_and_a_kill_costs_only_what_was_under_way(
    compared: Project, tmp_path
) -> None:
    """Killed without a word when the first cell is done; the cells have the bytes of a run in peace."""
    before = compared.bytes_of(f"{FOLDER}/cells")
    compared.set(compare={"seeds": [1, 2]})
    log = tmp_path / "log"
    with log.open("wb") as file:
        runner = subprocess.Popen(
            [sys.executable, "-m", "stages.app", "compare", "--jobs", "2"],
            cwd=compared.root,
            env=compared.environment,
            stdout=file,
            stderr=subprocess.STDOUT,
        )
    try:
        wait_for(log, "1/2 ")
    finally:
        children = psutil.Process(runner.pid).children(recursive=True)
        for process in [runner, *children]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process.pid, signal.SIGKILL)
        runner.wait()
        psutil.wait_procs(children, 60)  # to DVC a process that nobody has buried holds its locks
    assert "2 cells to run" in log.read_text(), "the cells of the other seed are there"
    done = compare(compared, "--jobs", "2")
    assert done.returncode == 0, done.stdout
    gone_on = compared.bytes_of(f"{FOLDER}/cells")
    assert {name: gone_on[name] for name in before} == before
    assert gone_on.keys() - before.keys()

    (
        compared.root / FOLDER / "dvc.lock"
    ).unlink()  # a kill while DVC writes it leaves it cut, or empty
    again = compare(compared, "--jobs", "2")
    assert again.stdout.count("restored from the cache") == 4, again.stdout
    assert compared.bytes_of(f"{FOLDER}/cells") == gone_on

    shutil.rmtree(compared.root / ".dvc/tmp/resume", ignore_errors=True)
    for method in SMALL["methods"]:
        cell = (method, "standard", "labels_30", "2")
        done = compared.run(sys.executable, "-m", "stages.cell", *cell)
        assert done.returncode == 0, done.stdout
    assert compared.bytes_of(f"{FOLDER}/cells") == gone_on


def wait_for(log, words: str, seconds: float = 600) -> None:
    end = time.monotonic() + seconds
    while words not in log.read_text(errors="replace"):
        assert time.monotonic() < end, log.read_text(errors="replace")
        time.sleep(0.1)
