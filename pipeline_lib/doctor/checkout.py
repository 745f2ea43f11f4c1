"""The checkout itself: what Git and the place that it lies in let DVC do with experiments."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipeline_lib.doctor.commands import git_complaint, git_lines
from pipeline_lib.doctor.finding import Checked, Finding, counted
from pipeline_lib.doctor.remotes import CONFIG

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

TO_HAVE_ALL = "`git fetch --unshallow` first"


def check(root: Path) -> Checked:
    """Find a history that is not all here, a config of DVC that was emptied, and what keeps experiments from starting."""
    if why := git_complaint(root):
        todo = (
            f"`git config --global --add safe.directory {root}`"
            if "ownership" in why
            else "see what it names"
        )
        return Checked("not looked at", (Finding("Git", f"refuses this folder: {why}", todo),))
    commits = git_lines(root, "rev-list", "--count", "HEAD")
    number = int(commits[0]) if commits else 0
    findings = (*_history(root, number), *_config(root), *_identity(root), *_place(root))
    return Checked(counted(number, "commit"), findings)


def _history(root: Path, commits: int) -> Iterator[Finding]:
    if git_lines(root, "rev-parse", "--is-shallow-repository") == ["true"]:
        yield Finding(
            "Git",
            "a shallow clone, which `dvc exp pull` would break, and where experiments with --temp or in the queue do not start",
            TO_HAVE_ALL,
            problem=False,
        )
    elif not commits and git_lines(root, "rev-parse", "HEAD"):
        yield Finding(
            "Git",
            "commits are missing, as after `dvc exp pull` in a shallow clone",
            "clone anew; of one made with --depth 1, `git rev-parse HEAD > .git/shallow && git fetch --unshallow` fetches them",
        )
    elif not commits:
        yield Finding(
            "Git", "no commit yet, which experiments need", "`git add . && git commit -m start`"
        )


def _config(root: Path) -> Iterator[Finding]:
    here = root / CONFIG
    lost = here.is_file() and not here.read_bytes().strip()
    if lost and git_lines(root, "show", f"HEAD:./{CONFIG}"):
        yield Finding(
            CONFIG,
            "empty, as DVC leaves it where a path with other letters than ASCII's is to be set",
            f"`git restore {CONFIG}`, and set another path",
        )


def _identity(root: Path) -> Iterator[Finding]:
    if not git_lines(root, "var", "GIT_COMMITTER_IDENT"):
        yield Finding(
            "Git",
            "does not know who you are, which `dvc exp apply` and experiments with --temp or in the queue need",
            "`git config --global user.name NAME` and `user.email`",
            problem=False,
        )


def _place(root: Path) -> Iterator[Finding]:
    if not str(root).isascii() or "#" in str(root):
        yield Finding(
            str(root),
            "experiments with --temp or in the queue do not start below a path with # or other letters than ASCII's",
            "use `python -m stages.app sweep`, or move the checkout",
            problem=False,
        )
