"""What is wrong with a checkout is found, and what `doctor --fix` may put right is put right.

Each fault is made for real, in a small repository of Git and DVC with one stage.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil
import pytest
from ruamel.yaml import YAML

from pipeline_lib.doctor import (
    cache,
    checkout,
    environment,
    experiments,
    locks,
    processes,
    recorded,
    remotes,
    workspace,
)
from pipeline_lib.doctor.examine import examine
from pipeline_lib.doctor.finding import Finding
from pipeline_lib.doctor.remote_objects import push_files, why_missing
from pipeline_lib.errors import UserError
from pipeline_lib.sweep import project
from stages.doctor import _repaired
from tests.as_user import ROOT, Checkout, run_app

CACHED = b"what the stage has made\n"
OBJECT = hashlib.md5(CACHED, usedforsecurity=False).hexdigest()
PIPELINE = """
stages:
  make:
    cmd: {python} -m stages.make
    deps: [stages/make.py, seconds.txt]
    outs: [data/made.txt, data/made.txt.sha256]
"""
STAGE = f"""
import hashlib, pathlib, time
pathlib.Path("data").mkdir(exist_ok=True)
pathlib.Path("data/working").touch()
time.sleep(float(pathlib.Path("seconds.txt").read_text()))
pathlib.Path("data/working").unlink()
pathlib.Path("data/made.txt").write_bytes({CACHED!r})
digest = hashlib.sha256({CACHED!r}).hexdigest()
pathlib.Path("data/made.txt.sha256").write_text(digest + "  made.txt\\n")
"""


class Toy(Checkout):
    """A checkout with one stage."""

    def ok(self, *command: str) -> str:
        done = self.run(*command)
        assert done.returncode == 0, done.stdout
        return done.stdout

    def write(self, name: str, content: str | bytes) -> Path:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    def slow(self) -> None:
        """Let the stage run for ever."""
        self.write("seconds.txt", "600")

    @contextlib.contextmanager
    def started(self, *command: str, within: str = ""):
        """Start a DVC whose stage then works, in a folder below `within`; nothing is left of both."""
        process = subprocess.Popen(
            command,
            cwd=self.root,
            env=self.environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            end = time.monotonic() + 60
            while not list(self.root.glob(f"{within}data/working")):
                assert time.monotonic() < end
                time.sleep(0.05)
            yield process
        finally:
            killed = self.kill_all()
            process.wait()
            # Those without a parent may stay as zombies for seconds, to which DVC's signals seem to arrive.
            psutil.wait_procs(killed, timeout=30)

    def kill_all(self) -> list[psutil.Process]:
        """Without a word, as a machine that is switched off does; and wait until none works any more."""
        killed = []
        while found := processes.working_in(self.root):
            killed += found
            for each in found:
                with contextlib.suppress(psutil.Error):
                    os.kill(each.pid, signal.SIGKILL)
            time.sleep(0.02)
        return killed


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    toy = Toy(tmp_path_factory.mktemp("toy"))
    toy.write("dvc.yaml", PIPELINE.format(python=sys.executable))
    toy.write("stages/__init__.py", "")
    toy.write("stages/make.py", STAGE)
    toy.write("seconds.txt", "0")
    toy.write(".gitignore", "__pycache__\n")
    toy.write(".dvcignore", "__pycache__\n")
    toy.ok("git", "init", "-q")
    toy.ok("git", "config", "user.email", "tester@localhost")
    toy.ok("git", "config", "user.name", "tester")
    toy.write(".dvc/config", "[core]\n    analytics = false\n")
    shutil.copy2(ROOT / ".dvc/.gitignore", toy.root / ".dvc")
    toy.ok("dvc", "repro", "-q")
    toy.ok("git", "add", "-A")
    toy.ok("git", "commit", "-qm", "made")
    return toy.root


@pytest.fixture
def toy(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Toy:
    root = tmp_path / "toy"
    shutil.copytree(made, root)
    monkeypatch.chdir(root)
    for name in ("DVC_ROOT", "PIPELINE_RESUME_DIR"):
        monkeypatch.delenv(name, raising=False)
    return Toy(root)


def flip(path: Path) -> None:
    """Change one bit, and nothing else that shows: neither size, nor rights, nor time."""
    stat = path.stat()
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.chmod(0o644)
    path.write_bytes(content)
    path.chmod(stat.st_mode)
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))


def only(findings: tuple[Finding, ...]) -> Finding:
    (finding,) = findings
    return finding


def repaired(finding: Finding) -> str:
    assert finding.repair is not None
    return finding.repair()


@pytest.mark.parametrize(
    "area", [cache, checkout, experiments, locks, processes, remotes, workspace]
)
def test_nothing_is_wrong_where_nothing_is_wrong(toy: Toy, area) -> None:
    assert area.check(toy.root).findings == ()


def test_a_flipped_bit_in_the_cache_is_found_and_made_anew(toy: Toy) -> None:
    path = toy.root / ".dvc/cache/files/md5" / OBJECT[:2] / OBJECT[2:]
    flip(path)
    (toy.root / "data/made.txt").unlink()
    toy.ok("dvc", "checkout", "-q")  # DVC hands the damage out without a word
    assert (toy.root / "data/made.txt").read_bytes() != CACHED
    finding = only(cache.check(toy.root).findings)
    assert finding.where == str(path)
    assert "does not have the content that it is named by" in finding.what
    assert repaired(finding) == f"removed {path}"
    damaged = only(workspace.check(toy.root).findings)
    assert (damaged.where, damaged.what[:8]) == ("data/made.txt", "damaged:")
    assert "dvc repro" in repaired(damaged)
    toy.ok("dvc", "repro", "-q")
    assert (toy.root / "data/made.txt").read_bytes() == CACHED == path.read_bytes()
    assert cache.check(toy.root).findings == workspace.check(toy.root).findings == ()


def test_what_only_the_workspace_has_is_put_back_into_the_cache(toy: Toy) -> None:
    """`dvc commit` would ask, as the code has changed since, and then record that the new code made it."""
    shutil.rmtree(toy.root / ".dvc/cache")
    lock, code = toy.root / "dvc.lock", toy.root / "stages/make.py"
    before = lock.read_bytes()
    code.write_text(STAGE + "# changed\n")
    assert toy.run("dvc", "commit").returncode
    finding = only(workspace.check(toy.root).findings)
    assert finding.where == "data/made.txt, data/made.txt.sha256"
    assert finding.what.startswith("in the workspace, but not in the cache of DVC: `dvc repro` ")
    assert finding.problem
    repaired(finding)
    assert cache.check(toy.root).summary.startswith("2 objects, ")
    assert cache.check(toy.root).findings == workspace.check(toy.root).findings == ()
    assert lock.read_bytes() == before
    code.write_text(STAGE)
    assert "up to date" in toy.ok("dvc", "status"), "nothing is made again"


def test_what_does_not_get_into_the_cache_is_no_success(toy: Toy, monkeypatch, capsys) -> None:
    """DVC tells of a full disk, and goes on; where the folder cannot be made, it ends with a traceback."""
    shutil.rmtree(toy.root / ".dvc/cache")
    finding = only(workspace.check(toy.root).findings)
    (toy.root / ".dvc/cache").touch()
    assert _repaired(finding) is None
    assert capsys.readouterr().out.startswith(f"  --fix: {finding.where}: ")
    (toy.root / ".dvc/cache").unlink()
    monkeypatch.setattr("dvc.output.Output.commit", lambda *_, **__: None)
    assert _repaired(finding) is None
    assert capsys.readouterr().out == (
        f"  --fix: {finding.where}: {finding.where} did not get into the cache; free space or fix its rights\n"
    )


def test_what_is_in_the_workspace_with_other_bytes_than_were_recorded_is_not_put_back(
    toy: Toy,
) -> None:
    shutil.rmtree(toy.root / ".dvc/cache")
    flip(toy.root / "data/made.txt")  # which DVC does not see
    only_here, damaged = workspace.check(toy.root).findings
    assert (only_here.where, damaged.where) == ("data/made.txt.sha256", "data/made.txt")


def test_a_damaged_object_of_an_intact_output_is_replaced_at_once(toy: Toy) -> None:
    path = toy.root / ".dvc/cache/files/md5" / OBJECT[:2] / OBJECT[2:]
    flip(path)
    for _, checked in examine(toy.root):
        for finding in checked.findings:
            if finding.repair:
                finding.repair()
    assert path.read_bytes() == CACHED
    assert "up to date" in toy.ok("dvc", "status"), "nothing is made again"


def test_outputs_that_a_clone_has_not_fetched_are_no_problem_and_told(toy: Toy) -> None:
    for path in (toy.root / "data").iterdir():
        path.unlink()
    finding = only(workspace.check(toy.root).findings)
    assert not finding.problem
    assert "recorded in dvc.lock, and not here; `make pull` fetches, `dvc repro` makes" in str(
        finding
    )
    for path in (toy.root / ".dvc/cache/files/md5").glob("*/*"):
        path.chmod(0o644)
        path.unlink()
    why = why_missing(toy.root)
    assert why is not None
    assert "2 outputs did not come: this checkout has no remote: `dvc remote add --default" in why


def test_the_lock_of_a_comparison_alone_is_no_problem(toy: Toy) -> None:
    """So a clone has it: its pipeline is written when it is to run."""
    toy.write("reports/compare/dvc.lock", (toy.root / "dvc.lock").read_text())
    assert not any(finding.problem for finding in workspace.check(toy.root).findings)


def test_a_file_of_a_folder_that_the_remote_has_lost_is_named_and_sent_again(
    toy: Toy, tmp_path: Path
) -> None:
    """DVC takes all files of a folder to be there once the listing is, and keeps no listing of which a file is missing."""
    toy.write("data/folder/one.txt", "one")
    toy.write("data/folder/two.txt", "two")
    toy.ok("dvc", "add", "-q", "data/folder")
    (toy.root / "data/folder.dvc").unlink()
    lock = YAML(typ="safe").load(toy.root / "dvc.lock")
    stage = next(iter(lock["stages"]))
    listing = next((toy.root / ".dvc/cache/files/md5").glob("*/*.dir"))
    md5 = listing.parent.name + listing.name
    pipeline = YAML(typ="safe").load(toy.root / "dvc.yaml")
    pipeline["stages"][stage]["outs"].append("data/folder")
    lock["stages"][stage]["outs"].append({"path": "data/folder", "hash": "md5", "md5": md5})
    for name, content in (("dvc.yaml", pipeline), ("dvc.lock", lock)):
        YAML().dump(content, toy.root / name)
    toy.ok("dvc", "remote", "add", "-q", "--default", "store", str(tmp_path / "store"))
    toy.ok("dvc", "push", "-q")
    objects = {
        path.read_bytes(): path for path in (tmp_path / "store").rglob("*/*") if path.is_file()
    }
    lost = [objects[b"one"], objects[b"two"]]
    for path in lost:
        path.chmod(0o644)
        path.unlink()
    toy.ok("dvc", "push", "-q")
    assert not lost[0].exists(), "DVC alone"
    one = toy.root / ".dvc/cache" / lost[0].relative_to(tmp_path / "store")
    kept = {path: path.rename(tmp_path / path.name) for path in (listing, one)}
    why = str(why_missing(toy.root))
    assert why.startswith("data/folder/one.txt: missing on the remote (files/md5/")
    assert "two.txt" not in why, "is here, and is not asked for"
    for path, there in kept.items():
        there.rename(path)
    assert push_files(toy.root) == 2
    assert push_files(toy.root) == 0
    assert [path.read_bytes() for path in lost] == [b"one", b"two"]


def test_a_clone_without_outputs_has_nothing_to_push(toy: Toy, tmp_path: Path) -> None:
    toy.ok("dvc", "remote", "add", "-q", "--default", "store", str(tmp_path / "store"))
    shutil.rmtree(toy.root / ".dvc/cache")
    assert push_files(toy.root) == 0


def test_a_merge_that_left_both_sides_in_the_params_is_led_to_who_says_the_line(toy: Toy) -> None:
    toy.write("dvc.yaml", PIPELINE.format(python=sys.executable) + "    params: [seed]\n")
    toy.write("params.yaml", "<<<<<<< HEAD\nseed: 1\n=======\nseed: 2\n>>>>>>> b\n")
    message = r"dvc.yaml: DVC cannot read it \(unable to read: 'params.yaml'.*; `python -m stages.configure` says where"
    with pytest.raises(UserError, match=message):
        recorded.damaged(toy.root)
    unread = workspace.check(toy.root).findings[0]
    assert re.fullmatch(f"workspace: {message}", str(unread))
    toy.write("dvc.yaml", "stages: []\n")
    with pytest.raises(UserError, match="`dvc status` says more"):
        recorded.damaged(toy.root)


def test_the_cache_that_clones_share_is_looked_at(toy: Toy) -> None:
    shared = toy.root.parent / "shared"
    (toy.root / ".dvc/cache").rename(shared)
    toy.write(".dvc/config.local", f"[cache]\n    dir = {shared}\n")
    flip(shared / "files/md5" / OBJECT[:2] / OBJECT[2:])
    assert only(cache.check(toy.root).findings).where.startswith(str(shared))


def test_links_into_a_cache_that_clones_share_are_named(toy: Toy) -> None:
    toy.run("dvc", "config", "--local", "cache.shared", "group")
    toy.run("dvc", "config", "--local", "cache.type", "reflink,hardlink,copy")
    (finding,) = cache.check(toy.root).findings
    assert finding.where == "cache.type"
    assert finding.what.startswith("hardlink to objects")
    toy.run("dvc", "config", "--local", "cache.type", "copy")
    assert cache.check(toy.root).findings == ()


def test_what_a_killed_transfer_left_in_the_cache_is_removed_when_it_is_old(toy: Toy) -> None:
    left = toy.write(f".dvc/cache/files/md5/{OBJECT[:2]}/.{OBJECT[2:]}.x7.tmp", "half")
    assert cache.check(toy.root).findings == ()
    os.utime(left, (0, 0))
    finding = only(cache.check(toy.root).findings)
    assert not finding.problem
    repaired(finding)
    assert not left.exists()


def test_a_listing_of_a_folder_is_an_object_too(toy: Toy) -> None:
    listing = b'[{"md5": "0", "relpath": "a"}]'
    name = hashlib.md5(listing, usedforsecurity=False).hexdigest()
    path = toy.write(f".dvc/cache/files/md5/{name[:2]}/{name[2:]}.dir", listing)
    assert cache.check(toy.root).findings == ()
    flip(path)
    assert only(cache.check(toy.root).findings).where == str(path)


def test_a_file_without_its_bytes_is_found_and_one_that_git_keeps_is_not_deleted(toy: Toy) -> None:
    (toy.root / "data/made.txt").unlink()
    missing = only(workspace.check(toy.root).findings)
    assert missing.what == "missing, though its sha256 is there"
    assert missing.todo == "delete data/made.txt.sha256, then `make pull` or `dvc repro`"
    toy.ok("dvc", "checkout", "-q")
    toy.write("reports/own.csv", "mine")
    toy.write("reports/own.csv.sha256", "0" * 64 + "  own.csv\n")
    toy.ok("git", "add", "reports")
    finding = only(workspace.check(toy.root).findings)
    assert finding.where == "reports/own.csv"
    assert finding.repair is None


def test_files_of_a_person_are_neither_compared_nor_deleted(toy: Toy) -> None:
    toy.write("data/mine/photos.zip", "mine")
    toy.write("data/mine/photos.zip.sha256", f"SHA256 (photos.zip) = {'0' * 64}\n")
    toy.write("data/all.sha256", f"{'0' * 64}  photos.zip\n")
    toy.write(".git/info/exclude", "/data/\n")
    assert workspace.check(toy.root).findings == ()
    path = toy.root / "data/made.txt"
    path.unlink()
    path.write_bytes(CACHED[1:])
    finding = only(workspace.check(toy.root).findings)
    assert (finding.where, finding.what[:7]) == ("data/made.txt", "damaged")
    repaired(finding)
    assert not path.exists()
    assert (toy.root / "data/mine/photos.zip").read_text() == "mine"


def test_an_unfinished_merge_of_the_lock_file_is_one_line(toy: Toy) -> None:
    lock = toy.root / "dvc.lock"
    text = lock.read_text()
    lock.write_text(
        text.replace("stages:", "<<<<<<< HEAD\nstages:\n=======\nstages: {}\n>>>>>>> b")
    )
    with pytest.raises(UserError) as refused:
        recorded.outputs(toy.root)
    assert re.fullmatch(r"\S+/dvc.lock:\d+: no lock file of DVC \(.*dvc repro`", str(refused.value))
    (toy.root / "data/.tmp-x.0a").touch()
    os.utime(toy.root / "data/.tmp-x.0a", (0, 0))
    found = workspace.check(toy.root).findings
    assert [finding.where for finding in found[:2]] == [
        "dvc.lock",
        str(toy.root / "data/.tmp-x.0a"),
    ]
    lock.write_text("- not\n- a\n- mapping\n")
    with pytest.raises(UserError, match="no lock file of DVC"):
        recorded.outputs(toy.root)


@pytest.mark.parametrize("content", ["", "schema: '2.0'\n", "stages: {}\n"])
def test_a_lock_file_that_lost_its_content_is_not_taken_for_one_without_stages(
    toy: Toy, content: str
) -> None:
    lock = toy.write("dvc.lock", content)
    line = f"{lock}: no lock file of DVC; `git checkout {lock}`, then `dvc repro`"
    for share in (recorded.damaged, lambda root: recorded.targets(root, "dvc.yaml")):
        with pytest.raises(UserError) as refused:  # by push, by pull
            share(toy.root)
        assert str(refused.value) == line
    assert only(workspace.check(toy.root).findings).what.endswith("no lock file of DVC")


@pytest.mark.parametrize("command", ["push", "pull"])
@pytest.mark.parametrize("folder", [".dvc", "elsewhere"])
def test_sharing_outside_of_a_repository_is_one_clear_line(
    tmp_path: Path, command: str, folder: str
) -> None:
    (tmp_path / folder).mkdir()
    (tmp_path / "dvc.lock").write_bytes((ROOT / "dvc.lock").read_bytes())
    done = run_app(tmp_path, command)
    assert (done.returncode, done.stdout) == (1, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith("run it in a Git repository with DVC")


@pytest.mark.parametrize("command", ["push", "pull"])
def test_sharing_below_the_root_says_where_to_run(toy: Toy, command: str) -> None:
    done = run_app(toy.root / "stages", command)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == ".dvc: not found; run from the root of the repository, beside dvc.yaml\n"


def test_a_half_written_folder_goes_as_a_whole(toy: Toy) -> None:
    inside = toy.write("reports/compare/pages/.tmp-cr_dpll-a-b-1/reports/metrics.json", "{}")
    folder = inside.parents[1]
    os.utime(folder, (0, 0))
    finding = only(workspace.check(toy.root).findings)
    assert (finding.where, finding.problem) == (str(folder), False)
    assert finding.repair is not None
    finding.repair()
    assert not folder.exists()


def test_half_written_files_go_once_nobody_can_be_writing_them(toy: Toy) -> None:
    left = [
        toy.write("data/.tmp-x.0a", "h"),
        toy.write(f".dvc/tmp/resume/{'f' * 32}/.tmp-step.0b", "h"),
    ]
    assert workspace.check(toy.root).findings == ()
    for path in left:
        os.utime(path, (0, 0))
    findings = workspace.check(toy.root).findings
    assert {finding.where for finding in findings} == {str(path) for path in left}
    for finding in findings:
        assert not finding.problem
        repaired(finding)
    assert not any(path.exists() for path in left)


def test_what_a_person_calls_like_half_written_files_stays(
    toy: Toy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the checkout, also where Git knows it, and beside the states, whose folder may be any one of the user's."""
    monkeypatch.setenv("PIPELINE_RESUME_DIR", str(tmp_path / "scratch"))
    (tmp_path / "scratch/other/.tmp-work").mkdir(parents=True)
    own = [toy.write(".tmp-todo.md", "h"), toy.write("notes/.tmp-ideas/one.txt", "h")]
    own += [toy.write("reports/.tmp-kept/two.txt", "h"), tmp_path / "scratch/other/.tmp-work"]
    toy.ok("git", "add", "-f", "reports/.tmp-kept/two.txt")
    for path in (*own, *(path.parent for path in own)):
        os.utime(path, (0, 0))
    for finding in workspace.check(toy.root).findings:
        if finding.repair:
            finding.repair()
    assert all(path.exists() for path in own)


def test_what_experiments_in_other_folders_would_miss_is_named(toy: Toy) -> None:
    toy.write("stages/new.py", "")
    toy.write("seconds.txt", "0.0")  # changed: such an experiment takes it along
    toy.write("staged.txt", "")
    toy.ok("git", "add", "staged.txt")
    finding = only(workspace.check(toy.root).findings)
    assert finding.where == "stages/new.py"
    assert not finding.problem


def test_a_killed_dvc_leaves_a_lock_and_a_stage_that_goes_on(toy: Toy) -> None:
    toy.slow()
    with toy.started("dvc", "repro", "-q") as dvc:
        assert locks.check(toy.root).findings == processes.check(toy.root).findings == ()
        dvc.kill()
        dvc.wait()
        orphan = only(processes.check(toy.root).findings)
        assert "runs stages.make, and the DVC that started it is gone" in orphan.what
        assert orphan.repair is None
        pid = int(orphan.where.removeprefix("process "))
        assert psutil.Process(pid).cwd() == str(toy.root)
        finding = only(locks.check(toy.root).findings)
        assert finding.what == f"paths locked by processes that are gone ({dvc.pid})"
        assert not finding.problem
        assert f"removed the entries of {dvc.pid}" in repaired(finding)
        assert locks.check(toy.root).findings == ()
    assert "had been killed" not in toy.ok("dvc", "status")


def test_a_stage_that_somebody_runs_by_hand_is_no_orphan(toy: Toy) -> None:
    toy.slow()
    with toy.started(sys.executable, "-m", "stages.make"):
        assert len(processes.working_in(toy.root)) == 1
        assert processes.check(toy.root).findings == ()


def test_a_torn_lock_file_is_removed_and_dvc_works_again(toy: Toy) -> None:
    toy.write(".dvc/tmp/rwlock", '{"write": {"/x": {"pid": 1')
    assert "Unable to read RWLock-file" in toy.run("dvc", "status").stdout
    finding = only(locks.check(toy.root).findings)
    assert "every command of DVC stops at it" in finding.what
    repaired(finding)
    toy.ok("dvc", "status")


def test_locks_of_many_killed_runs_are_one_note(toy: Toy) -> None:
    gone = [4194305, 4194306]  # more than Linux gives
    held = {"write": {"/a": {"pid": gone[0]}}, "read": {"/b": [{"pid": gone[1]}]}}
    path = toy.write(".dvc/tmp/rwlock", json.dumps(held))
    finding = only(locks.check(toy.root).findings)
    assert (finding.what[-18:], finding.problem) == ("(4194305, 4194306)", False)
    repaired(finding)
    assert json.loads(path.read_text()) == {"write": {}, "read": {}}


def test_a_machine_without_git_is_told(toy: Toy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(toy.root))
    checked = dict(examine(toy.root))["checkout"]
    assert str(only(checked.findings)) == "checkout: Git is not found; install it"


def test_the_lock_that_a_killed_git_left_is_named(toy: Toy) -> None:
    toy.write(".git/index.lock", "")
    finding = only(locks.check(toy.root).findings)
    assert (finding.where, finding.todo) == (
        ".git/index.lock",
        "delete it when no Git runs here",
    )


def test_a_lock_in_use_is_left_alone(toy: Toy) -> None:
    toy.slow()
    with toy.started("dvc", "repro", "-q"):
        held = json.loads((toy.root / ".dvc/tmp/rwlock").read_text())
        assert held["write"]
        toy.write(".dvc/tmp/rwlock", "{")
        assert only(locks.check(toy.root).findings).repair is None


def test_a_hard_link_for_a_lock_is_named(toy: Toy) -> None:
    toy.write(".dvc/tmp/lock", "/somewhere/.dvc/tmp/0a1b2c.lock")
    finding = only(locks.check(toy.root).findings)
    assert "core.hardlink_lock" in finding.what
    assert finding.repair is None, "its owner may be on another machine"


def test_the_folder_of_a_killed_experiment_is_removed_and_that_of_a_live_one_is_not(
    toy: Toy,
) -> None:
    toy.slow()
    folders = ".dvc/tmp/exps/standalone/tmp*/"
    with toy.started("dvc", "exp", "run", "-q", "--temp", within=folders):
        assert experiments.check(toy.root).findings == ()
    finding = only(experiments.check(toy.root).findings)
    assert finding.what == "left by an experiment that was killed, or that could not start"
    assert "removed .dvc/tmp/exps/standalone/tmp" in repaired(finding)
    assert list(toy.root.glob(folders)) == []


def test_a_shallow_clone_is_named_and_no_sweep_starts_from_it(
    toy: Toy, tmp_path: Path, monkeypatch
) -> None:
    """DVC's `exp pull` would leave Git with commits missing."""
    toy.ok("git", "commit", "-q", "--allow-empty", "-m", "more")
    shallow = tmp_path / "shallow"
    toy.ok("git", "clone", "-q", "--depth", "1", f"file://{toy.root}", str(shallow))
    findings = checkout.check(shallow).findings
    assert not any(finding.problem for finding in findings), "it will do to fetch and to run"
    assert "`git fetch --unshallow` first" in [finding.todo for finding in findings]
    with pytest.raises(UserError, match=r"shallow clone.*git fetch --unshallow"):
        project.look(shallow, None)
    (shallow / ".git/shallow").unlink()  # as `dvc exp pull` does
    (finding,) = (f for f in checkout.check(shallow).findings if f.problem)
    assert "commits are missing" in finding.what
    Toy(shallow).ok("sh", "-c", "git rev-parse HEAD > .git/shallow && git fetch -q --unshallow")
    assert [f for f in checkout.check(shallow).findings if f.problem] == []


def test_a_checkout_that_git_refuses_is_named_with_what_git_says(toy: Toy, monkeypatch) -> None:
    """As one that belongs to another user, which is usual in a container."""
    monkeypatch.setenv("GIT_TEST_ASSUME_DIFFERENT_OWNER", "1")
    finding = only(checkout.check(toy.root).findings)
    assert finding.problem
    assert "dubious ownership" in finding.what
    assert finding.todo == f"`git config --global --add safe.directory {toy.root}`"


def test_a_repository_without_a_commit_is_told_to_make_one_and_not_to_delete_its_code(
    toy: Toy,
) -> None:
    shutil.rmtree(toy.root / ".git")
    toy.ok("git", "init", "-q")
    for key in ("user.name", "user.email"):
        toy.ok("git", "config", key, "tester@localhost")
    finding = only(checkout.check(toy.root).findings)
    assert finding.problem
    assert finding.what == "no commit yet, which experiments need"
    assert workspace.check(toy.root).findings == ()
    toy.ok("sh", "-c", finding.todo.strip("`"))
    assert checkout.check(toy.root).findings == workspace.check(toy.root).findings == ()


def test_modules_that_another_version_has_left_are_not_to_be_added(toy: Toy) -> None:
    toy.write("pipeline_lib/gone.py", "")
    toy.write("notes.txt", "")
    code, others = workspace.check(toy.root).findings
    assert code.where == "pipeline_lib/gone.py"
    assert "git clean -i" in code.todo
    assert others.where == "notes.txt"


def test_without_a_name_or_a_home_dvc_is_not_left_to_its_traceback(toy: Toy, monkeypatch) -> None:
    """As for a user of a container who is in no list of users."""

    def unknown() -> str:
        msg = "getpwuid(): uid not found: 1001"
        raise KeyError(msg)

    monkeypatch.setattr("getpass.getuser", unknown)
    with pytest.raises(UserError, match=r"uid not found: 1001.*; set them: `export USER="):
        cache.cache_folder(toy.root)


def test_a_config_that_dvc_has_emptied_is_named(toy: Toy) -> None:
    toy.run("dvc", "remote", "add", "store", "/mnt/K\u00e4se")
    assert (toy.root / ".dvc/config").read_bytes() == b""
    assert only(checkout.check(toy.root).findings).todo.startswith("`git restore .dvc/config`")
    toy.ok("git", "restore", ".dvc/config")
    assert checkout.check(toy.root).findings == ()


def test_what_keeps_experiments_from_starting_is_a_note(
    toy: Toy, tmp_path: Path, monkeypatch
) -> None:
    moved = toy.root.rename(tmp_path / "Zo\u00eb #1")
    (finding,) = checkout.check(moved).findings
    assert (finding.where, finding.problem) == (str(moved), False)
    nobody = {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_SYSTEM": os.devnull}
    for name, value in nobody.items():
        monkeypatch.setenv(name, value)
    for key in ("user.name", "user.email"):
        Toy(moved).ok("git", "config", "--unset", key)
    Toy(moved).ok("git", "config", "user.useConfigOnly", "true")
    assert [f.where for f in checkout.check(moved).findings] == ["Git", str(moved)]


@pytest.mark.slow
def test_tasks_of_the_queue_that_nobody_works_on_are_named(toy: Toy) -> None:
    toy.slow()
    toy.ok("dvc", "exp", "run", "-q", "--queue", "-n", "first")
    waiting = only(experiments.check(toy.root).findings)
    assert (waiting.where, waiting.what) == ("experiment first", "waits for a worker")
    assert not waiting.problem
    with toy.started("dvc", "queue", "start", within=".dvc/tmp/exps/tmp*/"):
        assert experiments.check(toy.root).summary == "1 task in the queue, 1 worker"
        assert experiments.check(toy.root).findings == ()
    hanging = next(f for f in experiments.check(toy.root).findings if f.repair is None)
    assert hanging.where == "experiment first"
    assert hanging.what == "counts as running, and no worker is alive"
    toy.ok("dvc", "queue", "kill", "first")
    failed = next(f for f in experiments.check(toy.root).findings if f.repair is None)
    assert (failed.what, failed.problem) == ("failed", False)


def test_tasks_that_have_ended_are_not_in_the_queue(toy: Toy, monkeypatch) -> None:
    tasks = [
        {"name": status.lower(), "rev": "0", "status": status} for status in ("Success", "Failed")
    ]
    monkeypatch.setattr(experiments, "_tasks", lambda root: tasks)
    assert experiments.check(toy.root).summary == "0 tasks in the queue, 0 workers"


def test_remotes_that_are_trusted_unseen_are_named(toy: Toy) -> None:
    toy.write(".dvc/config", "['remote \"store\"']\n    url = /store\n")
    finding = only(remotes.check(toy.root).findings)
    assert finding.todo == "`dvc remote modify store verify true`"
    toy.ok(*finding.todo.strip("`").split())
    assert remotes.check(toy.root).findings == ()


@pytest.mark.parametrize(
    "setting",
    [
        "url = s3://bucket/x\n    secret_access_key = abc",
        "url = ssh://host/x\n    PASSWORD = abc",
        "url = ssh://me:abc@host/x",
        "url = https://abc@host/x",
        "url = https://host/x?v=1&sig=abc",
    ],
)
def test_a_password_that_would_be_committed_is_named_and_not_shown(toy: Toy, setting: str) -> None:
    toy.write(".dvc/config", f"['remote \"store\"']\n    {setting}\n    verify = true\n")
    finding = only(remotes.check(toy.root).findings)
    assert 'of remote "store" would be committed' in finding.what
    assert "abc" not in str(finding)


def test_a_file_of_passwords_that_git_sees_is_named(toy: Toy) -> None:
    toy.write(".dvc/config.local", "[core]\n")
    assert remotes.check(toy.root).findings == ()
    (toy.root / ".dvc/.gitignore").unlink()
    assert only(remotes.check(toy.root).findings).where == ".dvc/config.local"


def test_other_packages_than_the_pinned_ones_are_named(toy: Toy) -> None:
    for name in ("requirements.txt", "pyproject.toml", "params.yaml"):
        shutil.copy2(ROOT / name, toy.root)
    assert environment.check(toy.root).findings == ()
    pins = (toy.root / "requirements.txt").read_text()
    pins += "absent-package==1.0 \\\n    --hash=sha256:0\nnumpy==1.0 \\\n    --hash=sha256:0\n"
    toy.write("requirements.txt", pins + "colorama==9 ; sys_platform == 'win32'\n")
    what = only(environment.check(toy.root).findings).what
    assert what.startswith("other packages are installed: absent-package is missing, numpy ")
    assert what.endswith(" instead of 1.0")


def test_a_full_disk_and_mistakes_in_the_params_are_named(toy: Toy, monkeypatch) -> None:
    for name in ("requirements.txt", "pyproject.toml"):
        shutil.copy2(ROOT / name, toy.root)
    text = (ROOT / "params.yaml").read_text()
    toy.write("params.yaml", text.replace("\nmethod: cr_dpll ", "\nmethod: cr_dplll "))
    monkeypatch.setattr(environment, "LEAST_FREE", 1 << 60)
    disk, mistake = environment.check(toy.root).findings
    assert disk.where == "disk of the resume states", "of three on one disk"
    assert "dvc gc --workspace --all-commits --all-experiments --dry`" in disk.todo
    assert (mistake.where, "did you mean" in mistake.what) == ("params.yaml", True)


def test_a_folder_that_may_only_be_read_is_named(toy: Toy, monkeypatch) -> None:
    for name in ("requirements.txt", "pyproject.toml", "params.yaml"):
        shutil.copy2(ROOT / name, toy.root)
    real = tempfile.TemporaryFile

    def mounted_to_be_read(dir: Path):  # noqa: A002 - as there
        if dir.is_relative_to(toy.root / ".dvc/cache"):
            raise OSError(errno.EROFS, os.strerror(errno.EROFS))
        return real(dir=dir)

    monkeypatch.setattr(tempfile, "TemporaryFile", mounted_to_be_read)
    finding = only(environment.check(toy.root).findings)
    assert finding.where == f"the cache of DVC, {toy.root}/.dvc/cache/files/md5"
    assert finding.what == "cannot be written to (Read-only file system)"


def test_outside_of_a_repository_an_area_says_so_without_names_of_classes(tmp_path: Path) -> None:
    (finding,) = {str(c.findings[0]) for area, c in examine(tmp_path) if area == "cache"}
    assert finding.startswith("cache: run it in a Git repository with DVC, such as a clone")
    assert not finding.endswith("; see what it names")


def test_the_command_tells_repairs_and_exits_with_what_is_left(toy: Toy) -> None:
    for name in ("requirements.txt", "pyproject.toml", "params.yaml"):
        shutil.copy2(ROOT / name, toy.root)
    toy.ok("git", "add", "-A")
    program = f"import sys; sys.path[0] = {str(ROOT)!r}; from stages.app import app; app()"
    command = (sys.executable, "-c", program, "doctor")
    toy.write(".dvc/tmp/rwlock", "{")
    found = toy.run(*command)
    assert found.returncode == 1, found.stdout
    assert "problem: .dvc/tmp/rwlock: damaged" in found.stdout
    assert found.stdout.endswith("\n1 problem\n")
    fixed = toy.run(*command, "--fix")
    assert fixed.returncode == 0, fixed.stdout
    assert "fixed: .dvc/tmp/rwlock: damaged" in fixed.stdout
    assert "1 fixed, no problem left" in fixed.stdout
    assert toy.ok(*command).endswith("\nno problem\n")
