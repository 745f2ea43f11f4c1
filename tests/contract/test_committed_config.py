"""No password can be committed with the settings of DVC."""

from __future__ import annotations

import re
import subprocess
import tomllib
from pathlib import Path

import pytest

from pipeline_lib.doctor.remotes import committed_secrets

RECORDS = (
    "dvc.lock",
    "reports/metrics.json",
    "reports/compare/dvc.lock",
    "reports/compare/summary.json",
)
ROOT = Path(__file__).resolve().parents[2]


def git(*arguments: str) -> str:
    done = subprocess.run(
        ["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=False
    )
    return done.stdout


def test_the_committed_settings_hold_no_password() -> None:
    others = [name for name in git("ls-files", ".dvc").split() if "/plots/" not in name]
    assert others == [".dvc/.gitignore", ".dvc/config"]
    assert list(committed_secrets(ROOT / ".dvc/config")) == []


def test_git_ignores_the_file_for_passwords() -> None:
    assert "/config.local" in (ROOT / ".dvc/.gitignore").read_text().split()
    assert git("check-ignore", ".dvc/config.local").strip() == ".dvc/config.local"


def test_the_page_on_sharing_puts_passwords_into_the_ignored_file_only() -> None:
    page = (ROOT / "docs/how-to/share.md").read_text(encoding="utf-8")
    lines = [line for line in page.splitlines() if line.startswith("dvc remote modify")]
    secret = [line for line in lines if "access_key" in line or "password" in line]
    assert secret
    assert all(line.startswith("dvc remote modify --local ") for line in secret)


def test_every_remote_of_the_page_is_verified() -> None:
    page = (ROOT / "docs/how-to/share.md").read_text(encoding="utf-8")
    added = page.count("dvc remote add ")
    verified = re.findall(r"dvc remote modify (?:--local )?\w+ verify true", page)
    assert added == len(verified) == 4


def test_row_37_a_checkout_on_a_system_of_other_line_ends_has_the_same_bytes(
    tmp_path: Path,
) -> None:
    for ends in ("true", "false"):
        settings = [f"core.autocrlf={ends}", f"core.eol={'crlf' if ends == 'true' else 'lf'}"]
        chosen = [part for setting in settings for part in ("-c", setting)]
        subprocess.run(["git", *chosen, "clone", "-q", str(ROOT), str(tmp_path / ends)], check=True)
    ends = (".py", ".yaml", ".lock", ".toml", ".j2", ".css")
    names = [
        n for n in git("ls-tree", "-r", "--name-only", "HEAD").splitlines() if n.endswith(ends)
    ]
    assert len(names) > 200
    for name in names:
        here, there = (tmp_path / ends / name for ends in ("true", "false"))
        assert here.read_bytes() == there.read_bytes(), name


def test_pins_are_made_for_the_oldest_python() -> None:
    """Else those of whoever made them: a newer one leaves out what older ones need."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    oldest = project["requires-python"].removeprefix(">=")
    page = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    command = page.partition("uv pip compile")[2].partition("```")[0]
    assert f"--python-version {oldest} " in command


@pytest.mark.parametrize("extra", ["ray", "fuzz"])
def test_pins_of_an_extra_come_with_the_hashes_of_what_they_need(extra: str) -> None:
    """`--require-hashes` asks for those of packages, too, that are installed already."""
    lines = (ROOT / f"requirements-{extra}.txt").read_text(encoding="utf-8").splitlines()
    assert lines[1] == "-r requirements.txt"


@pytest.mark.parametrize("options", [(), ("-X", "theirs")])
def test_git_never_mixes_the_records_of_two_runs(tmp_path: Path, options: tuple[str, ...]) -> None:
    """A lock with the params of one and the outputs of the other would say that nothing has changed."""

    def here(*arguments: str) -> int:
        who = ("-c", "user.name=a", "-c", "user.email=a@b")
        return subprocess.run(["git", *who, *arguments], cwd=tmp_path, check=False).returncode

    def commit(params: str, outputs: str) -> None:
        for name in RECORDS:
            lines = "".join(f"line {number}\n" for number in range(20))
            (tmp_path / name).write_text(f"{params}\n{lines}{outputs}\n")
        assert here("add", "--all") == 0
        assert here("commit", "--quiet", "-m", params) == 0

    (tmp_path / "reports/compare").mkdir(parents=True)
    (tmp_path / ".gitattributes").write_bytes((ROOT / ".gitattributes").read_bytes())
    assert here("init", "--quiet", "--initial-branch", "main") == 0
    commit("before", "before")
    assert here("switch", "--quiet", "--create", "theirs") == 0
    commit("before", "theirs")
    assert here("switch", "--quiet", "main") == 0
    commit("ours", "before")
    merged = here("merge", "--quiet", "-m", "merge", *options, "theirs") == 0
    assert merged == bool(options), "without a word which side to take, Git asks"
    side = ["before", "theirs"] if options else ["ours", "before"]
    for name in RECORDS:
        lines = (tmp_path / name).read_text().splitlines()
        assert [lines[0], lines[-1]] == side
