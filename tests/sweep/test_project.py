"""What a sweep refuses to start from."""

import os
import stat
import subprocess
from pathlib import Path
from types import SimpleNamespace

import pytest
from ruamel.yaml import YAML

from pipeline_lib.errors import UserError
from pipeline_lib.sweep.project import TAKEN, _of_dvc, look, refuse_other_images, refuse_relative

LOCK = (
    "schema: '2.0'\nstages:\n  download:\n    outs:\n    - path: data/raw\n      md5: {md5}.dir\n"
)


def test_a_snapshot_that_is_not_committed_is_refused(tmp_path: Path) -> None:
    """Jobs would train on the images of HEAD, or count as done on those."""

    def git(*words: str) -> None:
        who = ("-c", "user.name=t", "-c", "user.email=t@localhost")
        subprocess.run(["git", *who, *words], cwd=tmp_path, check=True, capture_output=True)

    git("init", "-q")
    lock = tmp_path / "dvc.lock"
    lock.write_text(LOCK.format(md5="0a"))
    git("add", ".")
    git("commit", "-q", "-m", "x")
    refuse_other_images(tmp_path)
    lock.write_text(LOCK.format(md5="0a") + "  train: {}\n")  # runs change it all the time
    refuse_other_images(tmp_path)
    lock.write_text(LOCK.format(md5="0b"))
    git("add", ".")
    with pytest.raises(UserError, match=r"dvc\.lock.*commit it first"):
        refuse_other_images(tmp_path)
    lock.unlink()
    refuse_other_images(tmp_path)
    lock.write_text("schema: '2.0'\n<<<<<<< HEAD\nstages: {}\n")
    with pytest.raises(UserError, match=r"dvc\.lock: no YAML; solve its conflict first"):
        refuse_other_images(tmp_path)


def test_a_relative_path_that_no_snapshot_of_head_replaces_is_refused(project: Path) -> None:
    """`data.path` and `data.mirror` would start at the temporary clone of a job."""

    def data(**places: str) -> SimpleNamespace:
        return SimpleNamespace(**(dict.fromkeys(TAKEN) | places))

    for place in ("/srv/cifar10", "~/cifar10", "https://host/cifar10"):
        refuse_relative(project, data(mirror=place))
    there = project.parent / "files"
    for key in ("path", "mirror"):
        with pytest.raises(UserError) as caught:
            refuse_relative(project, data(**{key: "../files"}))
        assert str(caught.value).startswith(
            f"data.{key}: ../files is relative, and jobs would look"
        )
        assert f"the whole path ({there})" in str(caught.value)
    taken = [f"        data.{key}: {'../files' if key == 'mirror' else 'null'}\n" for key in TAKEN]
    lock = LOCK.format(md5="0a") + "    params:\n      params.yaml:\n"
    (project / "dvc.lock").write_text(lock + "".join(taken))
    commit(project)
    refuse_relative(project, data(mirror="../files"))
    (project / "dvc.lock").write_text(lock + "".join(taken).replace("null", "''"))
    commit(project)  # as after `-S data.path=`
    refuse_relative(project, data(mirror="../files"))
    with pytest.raises(UserError, match=r"data\.mirror: \.\./other is relative"):
        refuse_relative(project, data(mirror="../other"))
    with pytest.raises(UserError, match=r"data\.mirror: \.\./files is relative"):
        refuse_relative(project, data(mirror="../files", table="/srv/labels.csv"))


def test_a_snapshot_is_of_what_the_stage_that_takes_it_depends_on() -> None:
    stages = YAML(typ="safe", pure=True).load(Path("dvc.yaml").read_text())["stages"]
    assert stages["download"]["params"] == [f"data.{key}" for key in TAKEN]


def test_a_password_within_an_address_is_not_given_to_jobs(tmp_path: Path) -> None:
    subprocess.run(["git", "init", "-q"], cwd=tmp_path, check=True)
    (tmp_path / ".dvc").mkdir()
    (tmp_path / ".dvc/config").write_text("[core]\n    remote = s\n['remote \"s\"']\n    url = s\n")
    (tmp_path / ".dvc/config.local").write_text("['remote \"s\"']\n    url = https://me:abc@host\n")
    with pytest.raises(UserError, match="remote s: its url holds a password, which") as caught:
        _of_dvc(tmp_path)
    assert "abc" not in str(caught.value)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """Of one commit, with a folder as remote of DVC."""
    root = tmp_path / "project"
    (root / ".dvc").mkdir(parents=True)
    (root / ".dvc/config").write_text("[core]\n    remote = s\n['remote \"s\"']\n    url = ../s\n")
    subprocess.run(["git", "init", "-q"], cwd=root, check=True)
    commit(root)
    return root


def commit(root: Path) -> None:
    who = ("-c", "user.name=t", "-c", "user.email=t@localhost")
    for words in (("add", "."), ("commit", "-q", "-m", "x")):
        subprocess.run(["git", *who, *words], cwd=root, check=True, capture_output=True)


@pytest.mark.parametrize(("shared", "mode"), [("group", 0o2775), ("", 0o700)])
def test_a_cache_for_a_group_is_made_so_whatever_the_umask(
    project: Path, shared: str, mode: int
) -> None:
    """Else the first user's sweep locks all others out."""
    (project / ".dvc/config.local").write_text(f"[cache]\n    shared = {shared}\n" * bool(shared))
    lab = project.parent / "lab"
    before = os.umask(0o077)
    try:
        look(project, lab / "cache")
    finally:
        os.umask(before)
    for folder in (lab, lab / "cache"):
        assert stat.S_IMODE(folder.stat().st_mode) == mode


def test_a_cache_in_which_the_user_cannot_write_is_told_at_once(project: Path, monkeypatch) -> None:
    (project.parent / "file").touch()
    with pytest.raises(UserError, match=r"the cache .*/file/cache: Not a directory; name another"):
        look(project, project.parent / "file/cache")
    inner = project.parent / "cache/files/md5"
    inner.mkdir(parents=True)
    # Root may write everywhere.
    monkeypatch.setattr(os, "access", lambda path, mode: path != inner)
    with pytest.raises(UserError, match="cache/files/md5: you cannot write in this cache of the"):
        look(project, project.parent / "cache")
