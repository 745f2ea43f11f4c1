"""A folder's listing that is damaged on the remote: neither taken for good, nor the end of every push and pull.

`verify true` does not keep DVC from filling the folder by it. And what the remote has lost below an intact one, or never got.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.as_user import ENVIRONMENT, ROOT, Checkout

MANY = [f"logs-{i:02d}" for i in range(25)]
PIPELINE = f"""
stages:
  train:
    cmd: mkdir models && echo 1 > models/predictor.json && echo 2 > models/predictor.bin
    outs: [models]
  log:
    cmd: for name in {" ".join(MANY)}; do echo $name > $name; done
    outs: [{", ".join(MANY)}]
  count:
    cmd: echo {{}} > metrics.json
    metrics: [metrics.json: {{cache: false}}]
"""
CONFIG = """
[core]
    remote = store
['remote "store"']
    url = ../../store
    verify = {verify}
"""


class Clone(Checkout):
    """A checkout whose outputs are on its remote."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder / "clone")
        (self.listing,) = (folder / "store").glob("files/md5/*/*.dir")

    def app(self, *arguments: str) -> tuple[int, str]:
        """Exit code and last line."""
        done = self.run(sys.executable, "-m", "stages.app", *arguments, PYTHONPATH=str(ROOT))
        return done.returncode, done.stdout.splitlines()[-1]

    def forget(self) -> None:
        """Be as a clone that has fetched nothing."""
        shutil.rmtree(self.root / ".dvc/cache")
        shutil.rmtree(self.root / "models")
        (self.root / MANY[0]).unlink()

    def replace_listing(self, content: bytes) -> None:
        self.listing.unlink(missing_ok=True)
        self.listing.write_bytes(content)

    def lose(self, content: bytes) -> Path:
        """Delete the only file of the remote with this content."""
        store = self.root.parent / "store/files/md5"
        (lost,) = (path for path in store.glob("*/*") if path.read_bytes() == content)
        lost.unlink()
        return lost

    @property
    def damaged(self) -> str:
        return f"models: damaged on the remote (files/md5/{self.listing.parent.name}/{self.listing.name}); delete"


@pytest.fixture(scope="module")
def pushed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("listings")
    root = folder / "clone"
    (root / ".dvc").mkdir(parents=True)
    (root / "dvc.yaml").write_text(PIPELINE)
    (root / ".dvc/config").write_text(CONFIG.format(verify="true"))
    for command in (
        *("git init -q", "git config user.email tester@localhost", "git config user.name tester"),
        *("dvc repro -q", "dvc push -q", "git add -A", "git commit -qm made"),
    ):
        subprocess.run(command.split(), cwd=root, env=ENVIRONMENT, check=True)
    return folder


@pytest.fixture
def clone(pushed: Path, tmp_path: Path) -> Clone:
    shutil.copytree(pushed, tmp_path / "team")
    return Clone(tmp_path / "team")


@pytest.mark.parametrize("verify", ["true", "false"])
def test_one_that_can_still_be_read_fills_no_folder(clone: Clone, verify: str) -> None:
    (clone.root / ".dvc/config").write_text(CONFIG.format(verify=verify))
    clone.forget()
    intact = clone.listing.read_bytes()
    clone.replace_listing(intact.replace(b"predictor.json", b"preeictor.json"))
    code, last = clone.app("pull")
    assert (code, last.startswith(clone.damaged)) == (1, True), last
    assert not (clone.root / "models").exists()
    assert (clone.root / MANY[0]).exists(), "what is intact has come"
    clone.replace_listing(intact)
    assert clone.app("pull")[0] == 0
    names = {path.name for path in (clone.root / "models").iterdir()}
    assert names == {"predictor.json", "predictor.bin"}
    assert "up to date" in clone.run("dvc", "status").stdout


def test_an_empty_one_is_named_by_push_and_pull(clone: Clone) -> None:
    """DVC stops at it, and fetches none of the many others either."""
    clone.replace_listing(b"")
    code, last = clone.app("push")
    assert (code, last.startswith(clone.damaged)) == (1, True), last
    assert last.endswith("then `make push` again")
    clone.listing.unlink()
    assert clone.app("push")[0] == 0
    intact = clone.listing.read_bytes()
    assert intact
    clone.replace_listing(b"")
    clone.forget()
    code, last = clone.app("pull")
    assert (code, last.startswith(clone.damaged)) == (1, True), last


def test_a_remote_that_cannot_be_read_is_no_damage(clone: Clone) -> None:
    clone.listing.unlink()
    clone.listing.mkdir()
    code, last = clone.app("push")
    assert code == 1
    assert last.startswith("not all was pushed, and the remote does not answer as it should (")


def test_what_only_the_workspace_has_is_no_push_that_is_up_to_date(clone: Clone) -> None:
    """DVC alone says so, as it sends what the cache has."""
    shutil.rmtree(clone.root / ".dvc/cache")
    shutil.rmtree(clone.root.parent / "store/files")
    assert "up to date" in clone.run("dvc", "push").stdout
    code, last = clone.app("push")
    assert code == 1
    assert last.startswith(
        "nothing was pushed: in the workspace, but not in the cache of DVC: models, logs-00,"
    )
    assert last.endswith(
        "and 16 more; run `python -m stages.app doctor --fix`, then `make push` again"
    )
    clone.app("doctor", "--fix")
    assert clone.app("push")[0] == 0
    assert clone.listing.exists()
    assert "up to date" in clone.run("dvc", "status").stdout


@pytest.mark.parametrize("why", ["push: false", "remote: other", "other bytes than recorded"])
def test_what_is_not_to_be_pushed_stops_no_push(clone: Clone, why: str) -> None:
    (clone.root / ".dvc/cache" / clone.listing.relative_to(clone.root.parent / "store")).unlink()
    if why.startswith("other"):
        (clone.root / "models/predictor.bin").write_text("3")
    else:
        pipeline = PIPELINE.replace("outs: [models]", f"outs: [models: {{{why}}}]")
        (clone.root / "dvc.yaml").write_text(pipeline)
        clone.run("dvc", "remote", "add", "other", str(clone.root.parent / "other"))
    assert clone.app("push")[0] == 0


def test_without_a_remote_push_says_how_to_set_one_up(clone: Clone) -> None:
    (clone.root / ".dvc/config").write_text("")
    code, last = clone.app("push")
    assert code == 1
    assert last.startswith(
        "nothing was pushed: this checkout has no remote: `dvc remote add --default"
    )


AGAIN = "run `make push` again: what has arrived is kept"


def test_push_says_how_many_lost_files_it_has_sent(clone: Clone) -> None:
    lost = clone.lose(b"2\n")
    sent = "1 file sent besides, which Git keeps or the remote had lost"
    assert clone.app("push") == (0, sent)
    assert lost.read_bytes() == b"2\n"
    code, last = clone.app("push")
    assert (code, last != sent) == (0, True)


def test_a_lost_file_that_cannot_be_sent_is_an_error(clone: Clone) -> None:
    folder = clone.lose(b"2\n").parent
    folder.rmdir()
    folder.symlink_to("/proc")  # a folder in which nobody can make a file
    assert clone.app("push") == (1, f"not all was pushed: 1 file failed, see above; {AGAIN}")
    folder.unlink()
    folder.touch()
    code, last = clone.app("push")
    trouble = "not all was pushed, and the remote does not answer as it should ([Errno 20]"
    assert (code, last.startswith(trouble), last.endswith(f"; {AGAIN}")) == (1, True, True), last


@pytest.mark.parametrize("place", ["push: false", "remote: other"])
def test_what_is_kept_off_the_default_remote_is_neither_sent_nor_lost_there(
    clone: Clone, place: str
) -> None:
    pipeline = PIPELINE.replace("outs: [models]", f"outs: [models: {{{place}}}]")
    (clone.root / "dvc.yaml").write_text(pipeline)
    clone.run("dvc", "remote", "add", "other", str(clone.root.parent / "other"))
    lost = clone.lose(b"2\n")
    assert clone.app("push")[0] == 0
    assert not lost.exists()
    shutil.rmtree(clone.root.parent / "other", ignore_errors=True)
    clone.listing.unlink()
    other = clone.lose(b"logs-01\n")
    clone.forget()
    code, last = clone.app("pull")
    assert (code, last.startswith("logs-01: missing"), "models" in last) == (1, True, False), last
    other.write_bytes(b"logs-01\n")
    assert clone.app("pull") == (
        1,
        "1 output did not come: dvc.yaml keeps models off the default remote (`push: false` or `remote:`); "
        "make them here: `dvc repro`",
    )
    assert (clone.root / MANY[0]).exists(), "what is intact has come"


def test_an_output_that_names_the_default_remote_belongs_there(clone: Clone) -> None:
    pipeline = PIPELINE.replace("outs: [models]", "outs: [models: {remote: store}]")
    (clone.root / "dvc.yaml").write_text(pipeline)
    lost = clone.lose(b"2\n")
    assert clone.app("push")[0] == 0
    assert lost.exists()
