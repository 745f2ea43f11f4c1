"""Machines of strangers: their locales, their Git, containers with little in them, and makefiles in odd folders."""

from __future__ import annotations

import errno
import multiprocessing
import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline_lib import artifacts
from pipeline_lib.artifacts import publish_text
from pipeline_lib.datasets import decoding
from pipeline_lib.errors import UserError
from pipeline_lib.records import Row
from tests.faults.conftest import png

ROOT = Path(__file__).resolve().parents[2]
CONFIGURE = (sys.executable, "-m", "stages.configure")
NAME = "H\xfcndin \u20ac"


@pytest.fixture
def there(tmp_path: Path) -> Path:
    """A folder with the default params."""
    shutil.copy(ROOT / "params.yaml", tmp_path)
    return tmp_path


def run(
    folder: Path, *command: str, pipe: int | None = subprocess.PIPE, **variables: str
) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PYTHONPATH": str(ROOT)} | variables
    return subprocess.run(
        command, cwd=folder, env=environment, stdout=pipe, stderr=subprocess.PIPE, text=True
    )


ASCII = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}


def test_names_are_read_alike_in_a_locale_of_another_encoding(there: Path) -> None:
    (there / "data/raw").mkdir(parents=True)
    (there / NAME).touch()
    program = (
        "import os\nfrom stages.cli import run\nrun(lambda: print(ascii(sorted(os.listdir()))))"
    )
    done = run(there, sys.executable, "-c", program, **ASCII)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == ascii(sorted(["data", NAME, "params.yaml"])) + "\n"


def test_an_encoding_that_cannot_be_changed_is_told_in_a_line(there: Path) -> None:
    command = (sys.executable, "-X", "utf8=0", *CONFIGURE[1:])
    done = run(there, *command, **ASCII | {"PYTHONUTF8": "1"})
    assert done.returncode == 1
    assert done.stderr == (
        "Python takes names of files for ascii; let it have UTF-8 (without -X utf8=0)\n"
    )
    assert not (there / "data").exists()


def test_a_name_that_the_output_cannot_show_is_shown_by_its_numbers(there: Path) -> None:
    program = f"from stages.cli import run; run(lambda: print({NAME!r}))"
    done = run(there, sys.executable, "-c", program, PYTHONIOENCODING="ascii")
    assert (done.returncode, done.stdout, done.stderr) == (0, "H\\xfcndin \\u20ac\n", "")


def test_nothing_is_told_of_leaks_at_the_end(there: Path) -> None:
    pytest.importorskip("triton", reason="torch comes with triton on Linux only")
    program = "from stages.cli import run; import triton; run(lambda: None)"
    done = run(there, sys.executable, "-c", program)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_a_closed_output_ends_nothing(there: Path) -> None:
    command = " ".join(CONFIGURE)
    done = run(there, "sh", "-c", f"{command} >&-")
    assert (done.returncode, done.stderr) == (0, "")
    assert (there / "data/supervision.json").exists()


@pytest.mark.parametrize(
    "error", [FileNotFoundError(2, "no /dev/shm"), ImportError("no semaphores")]
)
def test_without_semaphores_images_are_decoded_here(
    error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [Row(str(n), png(n % 7)) for n in range(40)]
    target = decoding.Target("rgb", None, "stretch", "pixels")
    monkeypatch.setattr(decoding, "CHUNK_IMAGES", 2)

    def digests(workers: int) -> list[bytes]:
        with decoding.decoding(rows, target, workers) as chunks:
            return [decoded.digests for _, decoded in chunks]

    expected = digests(1)

    def refuse(*_: object) -> None:
        raise error

    monkeypatch.setattr(decoding, "ProcessPoolExecutor", refuse)
    assert digests(2) == expected
    assert not multiprocessing.active_children()


@pytest.mark.parametrize(("number", "passes"), [(errno.EINVAL, True), (errno.EIO, False)])
def test_a_folder_that_cannot_be_brought_to_the_disk_is_no_reason_to_fail(
    number: int, passes: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fsync = os.fsync

    def as_there(handle: int) -> None:
        if stat.S_ISDIR(os.fstat(handle).st_mode):
            raise OSError(number, os.strerror(number))
        fsync(handle)

    monkeypatch.setattr(artifacts.os, "fsync", as_there)
    if passes:
        publish_text(tmp_path / "a.txt", "a")
        assert (tmp_path / "a.txt").read_text() == "a"
    else:
        with pytest.raises(UserError, match="cannot be written"):
            publish_text(tmp_path / "a.txt", "a")


def test_the_lock_file_is_seen_whatever_git_ignores_elsewhere(tmp_path: Path) -> None:
    (tmp_path / "ignored").write_text("*.lock\n")
    shutil.copy(ROOT / ".gitignore", tmp_path)
    subprocess.run(["git", "init", "-q"], cwd=tmp_path, check=True)
    check = ["git", "-c", f"core.excludesFile={tmp_path}/ignored", "check-ignore", "-q"]
    asked = [
        subprocess.run([*check, name], cwd=tmp_path).returncode for name in ("dvc.lock", "x.lock")
    ]
    assert asked == [1, 0]


@pytest.fixture
def made(tmp_path: Path) -> Path:
    """The makefile in a folder whose name a shell would read otherwise, its packages there already."""
    folder = tmp_path / 'o\'dd "dir" $HOME `id` & 100% #1'
    folder.mkdir()
    shutil.copy(ROOT / "Makefile", folder)
    (folder / "requirements.txt").touch()
    return folder


def script(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)


@pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")
def test_make_works_in_a_folder_of_any_name(made: Path) -> None:
    script(made / ".venv/bin/python", "exit 0")  # DVC is among its packages
    script(made / ".venv/bin/dvc", 'echo "dvc of $PWD: $*"')
    (made / ".venv/ok").write_text(f"{made}\n")
    done = run(made, "make", "-s", "repro")
    assert (done.returncode, done.stdout, done.stderr) == (0, f"dvc of {made}: repro\n", "")


@pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")
@pytest.mark.parametrize(
    ("python", "words"),
    [
        ('test "$1" = -m && mkdir -p .venv/bin && touch .venv/bin/python && exit 1; exit 0', ""),
        (
            f'shift; exec {sys.executable} -c "import sys; sys.version_info = (3, 10); $1"',
            "Python 3.10 is too old: the project needs 3.11 or later; name one, as in: make PYTHON=python3.12 repro",
        ),
    ],
    ids=["without venv", "old"],
)
def test_a_python_that_will_not_do_leaves_nothing_behind(
    made: Path, python: str, words: str
) -> None:
    """Else the half-made folder would be taken for a whole one once the right Python is there."""
    script(made.parent / "python", python)
    done = run(made, "make", "-s", "repro", f"PYTHON={made.parent}/python")
    assert done.returncode == 2
    assert words in done.stderr
    assert not (made / ".venv").exists()


def test_a_python_without_the_packages_is_told_how_to_get_them() -> None:
    done = run(ROOT, sys.executable, "-S", "-m", "stages.app", "doctor")
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert ". .venv/bin/activate" in done.stderr


@pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")
@pytest.mark.parametrize("fault", [None, "linked", "moved", "another Python"])
def test_an_environment_that_cannot_work_any_more_is_made_anew(tmp_path: Path, fault) -> None:
    """Its commands name the interpreter by its path, and its packages lie in a folder of its version."""
    first, here = tmp_path / "a checkout", tmp_path / "here"
    options = "-S" if fault == "another Python" else ""
    script(first / ".venv/bin/python", f'exec {sys.executable} {options} "$@"')
    (first / ".venv/ok").write_text(f"{first}\n")
    if fault == "moved":
        first.rename(here)
    else:
        here.mkdir()
        (here / ".venv").symlink_to(first / ".venv")
    shutil.copy(ROOT / "Makefile", here)
    if fault is None:
        here = shutil.copytree(here, first, dirs_exist_ok=True, ignore=lambda *_: [".venv"])
    done = run(here, "make", "help", PYTHONPATH="", PYTHONHOME="/nowhere")
    assert done.returncode == 0
    assert (here / ".venv").exists() == (fault in {None, "linked"})
