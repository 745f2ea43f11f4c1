"""A scratch workspace in which stages run as they do under DVC, but in this process."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image
from ruamel.yaml import YAML

from pipeline_lib.errors import UserError

ROOT = Path(__file__).resolve().parents[2]
WRITTEN = {
    "download": ["data/raw"],
    "ingest": [
        "data/images.parquet",
        "data/labels.parquet",
        "data/classes.json",
        "data/rejected.parquet",
    ],
    "split": [f"data/split/{part}.parquet" for part in ("train", "val", "test", "oracle")],
}


class Workspace:
    """A folder with params.yaml and the user's images in `photos/`."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.photos = root / "photos"
        self.params = YAML(typ="safe").load((ROOT / "params.yaml").read_text())
        self.params["data"] |= {"name": "image_folder", "path": "photos"}
        self.params["split"]["uniform_candidates"]["force_ambiguous"] = False

    def set(self, **sections) -> None:
        for name, values in sections.items():
            if isinstance(values, dict):
                self.params[name] |= values
            else:
                self.params[name] = values

    def add(self, name: str, shade: int = 0, size: tuple[int, int] = (8, 8)) -> Path:
        """Write a PNG of one colour."""
        return self.write(name, png(shade, size))

    def write(self, name: str, content: bytes) -> Path:
        path = self.photos / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        return path

    def two_classes(self, each: int = 8) -> None:
        for number in range(each):
            self.add(f"cat/{number:02d}.png", number)
            self.add(f"dog/{number:02d}.png", 100 + number)

    def table(self, text: str | bytes, name: str = "labels.csv") -> None:
        (self.root / name).write_bytes(text.encode() if isinstance(text, str) else text)
        self.set(data={"table": name})

    def run(self, *stages: str) -> None:
        import importlib

        (self.root / "params.yaml").write_text(json.dumps(self.params))
        for stage in stages:
            importlib.import_module(f"stages.{stage}").main()

    def refused(self, stage: str, *before: str) -> str:
        """Run stages, see the last one refuse, and check that it left nothing; give its message."""
        self.run(*before)
        with pytest.raises(UserError) as caught:
            self.run(stage)
        left = [name for name in WRITTEN[stage] if (self.root / name).exists()]
        assert not left, f"{stage} failed, but wrote {left}"
        assert not list(self.root.glob("data/**/.tmp-*"))
        return str(caught.value)

    def refused_as_a_user(self, stage: str, prepare: Callable[[], None] | None = None) -> str:
        """Run a stage in a process of its own; see one complaint, exit code 1 and nothing changed.

        That process does what it has to `prepare` first.
        """
        (self.root / "params.yaml").write_text(json.dumps(self.params))
        before = self.files()
        done = subprocess.run(
            [sys.executable, "-m", f"stages.{stage}"],
            cwd=self.root,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
            preexec_fn=prepare,
        )
        assert (done.returncode, "Traceback" in done.stderr) == (1, False), done.stderr
        assert self.files() == before, "a refused stage changed what earlier runs left"
        return done.stderr.strip()

    def files(self) -> dict[str, bytes]:
        """Every file under data/, by name."""
        kept = (path for path in (self.root / "data").rglob("*") if path.is_file())
        return {path.relative_to(self.root).as_posix(): path.read_bytes() for path in kept}

    def read(self, name: str) -> list[dict]:
        return pq.read_table(self.root / "data" / name).to_pylist()


def png(shade: int = 0, size: tuple[int, int] = (8, 8)) -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.full((*size[::-1], 3), shade, np.uint8)).save(file, "PNG")
    return file.getvalue()


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DVC_ROOT", raising=False)
    return Workspace(tmp_path)
