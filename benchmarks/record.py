"""Where and with what a benchmark ran, and the file of what it found."""

from __future__ import annotations

import json
import os
import platform
import shlex
import subprocess
import sys
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from pipeline_lib.training.determinism import processor

LIBRARIES = ("numpy", "pillow", "pyarrow")


def write(path: Path, content: dict[str, Any]) -> None:
    """Write what was found."""
    path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def command(program: str) -> str:
    """What was called, with files of other places by their names alone: results are published."""
    words = [Path(word).name if word.startswith("/") else word for word in sys.argv[1:]]
    return shlex.join(["python", "-m", f"benchmarks.{program}", *words])


def environment() -> dict[str, Any]:
    """Where and with what it ran."""
    return {
        "commit": commit(),
        "date": datetime.now(UTC).date().isoformat(),
        "python": platform.python_version(),
        **{library: version(library) for library in LIBRARIES},
        "processor": processor(),
        "cores": len(os.sched_getaffinity(0)),
    }


def commit() -> str:
    """Of the code; empty where Git cannot tell."""
    asked = ["git", "-C", str(Path(__file__).parent), "rev-parse", "HEAD"]
    return subprocess.run(asked, capture_output=True, text=True, check=False).stdout.strip()
