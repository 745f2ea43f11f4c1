"""Kills a stage again and again until it is done, and holds what it made to an uninterrupted run."""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ruamel.yaml import YAML

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[1]
RESUME = Path(".dvc/tmp/resume")
TIMES = "reports/environment.json"  # how long it took


def made_by(stage: str) -> tuple[str, ...]:
    """What DVC removes before it runs the stage."""
    found = YAML(typ="safe").load(ROOT / "dvc.yaml")["stages"][stage]
    outs = [out for kind in ("outs", "metrics", "plots") for out in found.get(kind, [])]
    return tuple(out if isinstance(out, str) else next(iter(out)) for out in outs)


@contextlib.contextmanager
def server(*emulator: str) -> Iterator[Server]:
    """A process that runs stages (tests/stage_server.py), perhaps on another processor."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("DVC_")}
    process = subprocess.Popen(
        [*emulator, sys.executable, "-m", "tests.stage_server", *(["--here"] if emulator else [])],
        cwd=ROOT,
        env=environment | {"PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "ignore"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        yield Server(process)
    finally:
        process.stdin.close()
        process.wait()
        process.stdout.close()


@dataclass
class Server:
    """The other end."""

    process: subprocess.Popen[str]

    def run(
        self, stage: str, folder: Path, kill: dict[str, float] | None = None, **environment: str
    ) -> dict[str, Any]:
        """See tests/stage_server.py."""
        order = {"stage": stage, "folder": str(folder), "kill": kill, "environment": environment}
        self.process.stdin.write(json.dumps(order) + "\n")
        self.process.stdin.flush()
        answer: dict[str, Any] = json.loads(self.process.stdout.readline())
        return answer


@dataclass
class Attacked:
    """A stage in a folder with its inputs; `made` are the folders and files that it writes."""

    server: Server
    stage: str
    folder: Path
    made: tuple[str, ...]
    draw: random.Random
    kills: list[str] = field(default_factory=list)
    resumed: int = 0

    def drop_outputs(self) -> None:
        """As DVC does before it runs a stage."""
        for name in self.made:
            path = self.folder / name
            if path.is_dir():
                shutil.rmtree(path)
            path.unlink(missing_ok=True)

    def outcome(self) -> dict[str, bytes]:
        paths = [self.folder / name for name in self.made]
        files = [f for path in paths for f in ([path] if path.is_file() else path.rglob("*"))]
        found = {str(f.relative_to(self.folder)): f.read_bytes() for f in files if f.is_file()}
        found.pop(TIMES, None)
        return found

    def in_peace(self) -> dict[str, Any]:
        """Run to the end, and say how many moments there were."""
        self.drop_outputs()
        done = self.server.run(self.stage, self.folder)
        assert done["code"] == 0, done["said"]
        return done

    def survive(self, kills: int) -> None:
        """Kill the stage `kills` times, over as many runs as it takes; every end is as in peace."""
        whole = self.in_peace()
        expected = self.outcome()
        assert expected
        while len(self.kills) < kills:
            self.drop_outputs()
            last = len(self.kills) == kills - 1  # late enough that something is left to go on from
            moment = {"half": (whole["half"] + 1) // 2} if last else self.moment(whole)
            done = self.server.run(self.stage, self.folder, moment)
            self.resumed += "resuming after step" in done["said"]
            if done["code"] == 0:  # it had less to do than the moment is late
                assert self.outcome() == expected, f"after {self.kills}"
                continue
            assert done["code"] == -9, done["said"]
            self.kills.append(json.dumps(moment))
        self.resumed += "resuming after step" in self.in_peace()["said"]
        assert self.outcome() == expected, f"after {self.kills}"
        states = self.folder / RESUME
        assert not states.exists() or not list(states.iterdir()), "removed when it is done"
        left = list(self.folder.rglob(".tmp-*"))
        assert left == [], "no half file is left"

    def moment(self, whole: dict[str, Any]) -> dict[str, float]:
        """Half of the moments are by the clock, the others within writing."""
        kind = self.draw.choice(["seconds", "seconds", "event", "half"])
        if kind == "seconds" or not whole[kind]:
            return {"seconds": self.draw.uniform(0.01, whole["seconds"])}
        return {kind: self.draw.randint(1, whole[kind])}
