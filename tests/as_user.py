"""The project's commands, and DVC, as a user runs them."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
# No variable of the run that tests us, such as DVC_ROOT, reaches the run under test.
ENVIRONMENT = {k: v for k, v in os.environ.items() if not k.startswith("DVC_")} | {
    "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
    "DVC_NO_ANALYTICS": "1",
}


def run_app(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """A command of `stages.app` in a folder, what it prints and what it complains of apart."""
    return subprocess.run(
        [sys.executable, "-m", "stages.app", *arguments],
        cwd=folder,
        env=ENVIRONMENT | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


class Checkout:
    """A checkout in which commands run."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.environment = dict(ENVIRONMENT)

    def run(self, *command: str, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command,
            cwd=self.root,
            env=self.environment | environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )


def as_anybody() -> None:
    """Take from root, whoever else runs this, the right to read every file (capabilities(7))."""
    bounding_set, overriding = 24, (1, 2)  # PR_CAPBSET_DROP; CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH
    for capability in overriding if os.geteuid() == 0 else ():
        ctypes.CDLL(None).prctl(bounding_set, capability, 0, 0, 0)
