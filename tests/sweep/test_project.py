"""What a sweep refuses to start from."""

import subprocess
from pathlib import Path

import pytest

from pipeline_lib.errors import UserError
from pipeline_lib.sweep.project import _of_dvc, refuse_other_images

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


def test_a_password_within_an_address_is_not_given_to_jobs(tmp_path: Path) -> None:
    subprocess.run(["git", "init", "-q"], cwd=tmp_path, check=True)
    (tmp_path / ".dvc").mkdir()
    (tmp_path / ".dvc/config").write_text("[core]\n    remote = s\n['remote \"s\"']\n    url = s\n")
    (tmp_path / ".dvc/config.local").write_text("['remote \"s\"']\n    url = https://me:abc@host\n")
    with pytest.raises(UserError, match="remote s: its url holds a password, which") as caught:
        _of_dvc(tmp_path)
    assert "abc" not in str(caught.value)
