"""`compare` told to end: no cell is left behind, each saves its state first, and the exit code says why."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from dvc.dvcfile import Lockfile
from ruamel.yaml import YAML

from pipeline_lib.cells import pipeline
from pipeline_lib.cells.cell import CELLS, PAGES
from stages import cell_page, compare
from tests.signals import as_at_a_terminal

ROOT = Path(__file__).parents[2]
KEYS = [f"supervised-standard-labels_{n}-{seed}" for n in (20, 100) for seed in (1, 2, 3)]
# A DVC whose cells are a shell, which ends at once, and a training below it that takes a while to save.
FAKE = """
import json, pathlib, subprocess, sys
arguments = [a for a in sys.argv[1:] if a != "--wait-for-lock"]
waited = "--wait-for-lock" in sys.argv
assert waited, "DVC waits for its lock"
if arguments[0] == "status":
    print(json.dumps({f"x:cell@{key}": [] for key in %r}))
elif "-s" in arguments:
    subprocess.run(f"{sys.executable} training.py {arguments[2].split('@')[1]}; true", shell=True)
"""
TRAINING = """
import pathlib, signal, sys, time
def end(*_):
    time.sleep(1)
    pathlib.Path("saved", sys.argv[1]).touch()
    sys.exit(143)
signal.signal(signal.SIGTERM, end)
pathlib.Path("began", sys.argv[1]).touch()
time.sleep(600)
"""
RUNNER = """
import sys
from stages import compare
from stages.app import app
compare.DVC = (sys.executable, "dvc.py")
try:
    app(["compare", "--jobs", "2"])
except compare.UserError as error:
    print(error, file=sys.stderr)
    sys.exit(error.exit_code)
"""


@pytest.fixture
def started(tmp_path):
    """The runner with two trainings under way."""
    (tmp_path / "dvc.py").write_text(FAKE % KEYS)
    (tmp_path / "training.py").write_text(TRAINING)
    (tmp_path / "params.yaml").write_bytes((ROOT / "params.yaml").read_bytes())
    for folder in ("began", "saved", "reports/compare"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "reports/compare/pipeline.yaml").touch()
    runner = subprocess.Popen(
        [sys.executable, "-c", RUNNER],
        preexec_fn=as_at_a_terminal,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    end = time.monotonic() + 120
    while len(list((tmp_path / "began").iterdir())) < 2:
        assert time.monotonic() < end
        assert runner.poll() is None, runner.communicate()
        time.sleep(0.05)
    yield runner, tmp_path
    runner.kill()
    runner.communicate()


def trainings(folder):
    return [
        process
        for process in psutil.process_iter(["cwd", "cmdline", "status"])
        if process.info["cwd"] == str(folder) and process.info["status"] != psutil.STATUS_ZOMBIE
    ]


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130), (signal.SIGHUP, 129)]
)
def test_a_signal_ends_all_cells_when_they_have_saved(started, number, code):
    runner, folder = started
    assert len(trainings(folder)) > 2
    runner.send_signal(number)
    out, err = runner.communicate(timeout=60)
    assert runner.returncode == code
    began = {path.name for path in (folder / "began").iterdir()}
    assert {path.name for path in (folder / "saved").iterdir()} == began == set(KEYS[:2])
    assert trainings(folder) == []
    assert "ending: trainings under way save their state first" in out
    (line,) = err.splitlines()
    assert line == (f"interrupted; 6 cells are left: {', '.join(KEYS)}; run the same command again")


def test_a_second_signal_does_not_wait(started):
    runner, folder = started
    runner.send_signal(signal.SIGTERM)
    time.sleep(0.4)
    runner.send_signal(signal.SIGTERM)
    runner.communicate(timeout=60)
    assert runner.returncode != 0
    assert trainings(folder) == []


def test_what_breaks_the_command_itself_ends_the_cells_too(started):
    runner, folder = started
    for log in (folder / compare.LOGS).iterdir():
        log.unlink()  # which the end of the first cell is looked for in
    first, second = (p for p in trainings(folder) if p.info["cmdline"][1:2] == ["training.py"])
    first.kill()
    _, said = runner.communicate(timeout=60)
    assert runner.returncode == 1
    assert "FileNotFoundError" in said
    assert not second.is_running() or second.status() == psutil.STATUS_ZOMBIE
    assert len(list((folder / "saved").iterdir())) == 1


def test_what_a_killed_page_of_a_cell_left_goes_with_the_next(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "params.yaml").write_bytes((ROOT / "params.yaml").read_bytes())
    for part in ("data", "reports"):
        (CELLS / KEYS[0] / part).mkdir(parents=True)
    works = []

    def build(_, reports, __):
        works.append(reports.parent)
        for made in ("index.html", "figures", "tables"):
            (reports / made).touch()

    monkeypatch.setattr(cell_page, "read_inputs", lambda *_: None)
    monkeypatch.setattr(cell_page, "build_report", build)
    asked = ("supervised", "standard", "labels_20", 1)
    cell_page.main(*asked)
    (killed,) = works
    (killed / "data").mkdir(parents=True)
    (killed / "data/images.parquet").symlink_to(tmp_path / "params.yaml")
    cell_page.main(*asked)
    assert [path.name for path in PAGES.iterdir()] == [KEYS[0]]
    assert (tmp_path / "params.yaml").is_file()


def test_a_status_that_fails_is_told_in_a_line(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "params.yaml").write_bytes((ROOT / "params.yaml").read_bytes())
    Path("dvc.py").write_text("import sys; sys.exit(255)")
    monkeypatch.setattr(compare, "DVC", (sys.executable, "dvc.py"))
    with pytest.raises(compare.UserError) as told:
        compare.changed()
    assert str(told.value) == (
        "`dvc status --json reports/compare/dvc.yaml` failed (exit code 255); see above"
    )


def test_the_lock_is_waited_for_when_asking_what_changed(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "params.yaml").write_bytes((ROOT / "params.yaml").read_bytes())
    Path("dvc.py").write_text(
        f"import json, sys; json.dump({{'x:cell@{KEYS[0]}': sys.argv}}, open('asked', 'w')); "
        f"print(open('asked').read())"
    )
    monkeypatch.setattr(compare, "DVC", (sys.executable, "dvc.py"))
    assert compare.changed() == KEYS[:1]
    assert "--wait-for-lock" in json.loads(Path("asked").read_text())[f"x:cell@{KEYS[0]}"]


@pytest.mark.parametrize("share", [0, 0.002, 0.37, 0.9, 1])
def test_a_lock_that_was_cut_off_does_not_block_dvc(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, share: float
) -> None:
    """DVC writes it in place: a signal or a kill meanwhile leaves its beginning."""
    text = (ROOT / "dvc.lock").read_text()
    lock = tmp_path / "dvc.lock"
    monkeypatch.setattr(pipeline, "LOCK", lock)
    monkeypatch.setattr(pipeline, "WRITING_SECONDS", 0)
    lock.write_text(text[: int(share * len(text))])
    pipeline.drop_cut_lock()
    if lock.exists():
        Lockfile.validate(YAML(typ="safe").load(lock))
    assert lock.exists() or share < 1
    assert share > 0 or not lock.exists()
    lock.write_text("<<<<<<< HEAD\n")
    pipeline.drop_cut_lock()
    assert lock.exists(), "a conflict is left to people"
