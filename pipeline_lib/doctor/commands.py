"""Git, asked about the checkout."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

from pipeline_lib.errors import UserError

if TYPE_CHECKING:
    from pathlib import Path


def git_lines(root: Path, *arguments: str) -> list[str]:
    """Lines that `git` prints in `root`; none if it fails.

    Raises:
        UserError: It is not installed.
    """
    done = _git(root, *arguments)
    return done.stdout.splitlines() if done.returncode == 0 else []


def git_complaint(root: Path) -> str | None:
    """The first line in which Git refuses to work in `root`, if it does.

    Raises:
        UserError: It is not installed.
    """
    done = _git(root, "rev-parse", "--git-dir")
    return done.stderr.partition("\n")[0] if done.returncode else None


def _git(root: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(
            ["git", *arguments], cwd=root, capture_output=True, text=True, check=False
        )
    except FileNotFoundError as error:
        msg = "Git is not found; install it"
        raise UserError(msg) from error


def ignored(root: Path, path: Path) -> bool:
    """Whether Git leaves `path` alone."""
    return bool(git_lines(root, "check-ignore", "--", str(path)))
