"""A copy of the project as a user has it, with a short training, run once for all pipeline tests."""

from __future__ import annotations

import atexit
import functools
import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from dvc.utils.serialize import modify_yaml
from ruamel.yaml import YAML

from tests.as_user import Checkout
from tests.kill_harness import Server, server

ROOT = Path(__file__).resolve().parents[2]


@functools.cache
def stages() -> Server:
    """The process that runs stages, until the tests end."""
    running = server()
    atexit.register(running.__exit__, None, None, None)
    return running.__enter__()


class Project(Checkout):
    """A checkout with its own repository, cache and resume folder."""

    def stage(
        self, name: str, kill: dict[str, float] | None = None, **environment: str
    ) -> subprocess.CompletedProcess[str]:
        """A stage in a process of its own, perhaps killed at some moment (tests/stage_server.py)."""
        done = stages().run(name, self.root, kill, **environment)
        return subprocess.CompletedProcess(name, done["code"], done["said"])

    def dvc(self, *arguments: str) -> str:
        done = self.run("dvc", *arguments)
        assert done.returncode == 0, done.stdout
        return done.stdout

    def params(self) -> dict[str, Any]:
        content: dict[str, Any] = YAML(typ="safe").load(self.root / "params.yaml")
        return content

    def plots(self) -> dict[str, Any]:
        """What `dvc plots diff --json` prints, without the warnings beside it."""
        out = self.dvc("plots", "diff", "--json")
        shown: dict[str, Any] = json.JSONDecoder().raw_decode(out[out.index("{") :])[0]
        return shown

    def set(self, **sections: object) -> None:
        """Change params.yaml as `-S` does, to the letter."""
        with modify_yaml(self.root / "params.yaml") as params:
            for name, values in sections.items():
                if isinstance(values, dict):
                    params[name].update(values)
                else:
                    params[name] = values

    def bytes_of(self, *folders: str) -> dict[str, bytes]:
        files = [
            f for name in folders for f in sorted((self.root / name).rglob("*")) if f.is_file()
        ]
        return {f.relative_to(self.root).as_posix(): f.read_bytes() for f in files}


FEW = {"split": {"protocol": "few_shot", "few_shot": {"labels": 30}}}
SMALL = {
    "methods": {name: {"tried": 0, "params": {}} for name in ("supervised", "fixmatch")},
    "budgets": {"labels_30": FEW},
    "seeds": [1],
    "amount": None,
}
"""A comparison of two cells."""
# What runs have left, and a user may have committed.
LEFT = {"dvc.lock", "reports/metrics.json"}
LEFT |= {f"reports/compare/{name}" for name in ("dvc.yaml", "dvc.lock", "summary.json")}


def copy_project(to: Path) -> Project:
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    for name in listed.splitlines():
        if (ROOT / name).is_file() and name not in LEFT:
            (to / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, to / name)
    project = Project(to)
    project.set(train={"epochs": 2})
    for command in (
        ["init", "-q"],
        ["config", "user.email", "tester@localhost"],
        ["config", "user.name", "tester"],
        ["add", "-A"],
        ["commit", "-qm", "project"],
    ):
        assert project.run("git", *command).returncode == 0
    return project


@pytest.fixture(scope="session")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """The project after `dvc repro`, committed."""
    project = copy_project(tmp_path_factory.mktemp("project"))
    project.dvc("repro")
    project.run("git", "add", "-A")
    project.run("git", "commit", "-qm", "run")
    return project


@pytest.fixture
def trainable(project: Project, tmp_path: Path) -> Project:
    """A workspace with the stored split and nothing else that training does not need."""
    for name in ("params.yaml", "stages", "pipeline_lib"):
        source = project.root / name
        shutil.copytree(source, tmp_path / name) if source.is_dir() else shutil.copy2(
            source, tmp_path
        )
    kept = ("images.parquet", "classes.json", "split/train.parquet", "split/val.parquet")
    for name in kept:
        for file in (name, f"{name}.sha256"):
            (tmp_path / "data" / file).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(project.root / "data" / file, tmp_path / "data" / file)
    return Project(tmp_path)
