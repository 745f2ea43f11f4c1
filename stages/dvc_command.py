"""DVC as a command of this environment."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from pipeline_lib.errors import UserError

DVC = (sys.executable, "-m", "dvc")


def dvc(*arguments: str) -> None:
    """Run DVC in the foreground.

    Raises:
        UserError: It failed, and has said why.
    """
    done = subprocess.run([*DVC, *arguments], env=environment(), check=False)
    if done.returncode:
        msg = f"`dvc {' '.join(arguments)}` failed (exit code {done.returncode}); see above"
        raise UserError(msg)


def environment() -> dict[str, str]:
    """Ours, with `python` being the one that runs this."""
    return {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
