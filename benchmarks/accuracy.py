"""Test accuracy of methods over seeds, stage by stage in a workspace of its own; results as JSON.

    python -m benchmarks.accuracy mixmatch supervised --set split.few_shot.labels=20 --seeds 1,2,3

prints one line per run and the mean and standard deviation per method. `--set` is DVC's -S: a key of
params.yaml and a YAML value; `mixmatch:train.epochs=40` sets it for one method only.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from ruamel.yaml import YAML

from benchmarks import record
from benchmarks.record import write

ROOT = Path(__file__).resolve().parents[1]
DATA_STAGES = ("configure", "download", "ingest")
CELL_STAGES = ("configure", "split", "train", "evaluate")


def main() -> None:
    """Run every method with every seed, and print what came out."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("methods", nargs="+")
    parser.add_argument("--set", action="append", default=[], dest="settings", metavar="KEY=VALUE")
    parser.add_argument("--seeds", default="1,2,3")
    parser.add_argument("-o", "--output", type=Path)
    options = parser.parse_args()
    seeds = [int(seed) for seed in options.seeds.split(",")]
    with tempfile.TemporaryDirectory() as folder:
        workspace = Path(folder)
        params = changed(options.settings, None) | {"method": options.methods[0]}
        run_stages(workspace, params, DATA_STAGES)
        cells = [
            cell(workspace, changed(options.settings, method) | {"method": method, "seed": seed})
            for method in options.methods
            for seed in seeds
        ]
    for method in options.methods:
        values = [c["accuracy"] for c in cells if c["method"] == method]
        spread = statistics.stdev(values) if len(values) > 1 else 0.0
        print(f"{method:12} mean {statistics.mean(values):.4f} sd {spread:.4f}")
    if options.output:
        options.output.parent.mkdir(parents=True, exist_ok=True)
        command = " ".join(["python -m benchmarks.accuracy", *sys.argv[1:]])
        content = {"command": command, **environment(), "runs": cells}
        write(options.output, content)


def changed(settings: list[str], method: str | None) -> dict[str, Any]:
    """params.yaml with the settings that are for every method, or for this one."""
    yaml = YAML(typ="safe", pure=True)
    params = yaml.load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    for setting in settings:
        key, value = setting.split("=", 1)
        owner, _, path = key.rpartition(":")
        if owner not in {"", method}:
            continue
        *sections, name = path.split(".")
        section = params
        for part in sections:
            section = section[part]
        if name not in section:
            sys.exit(f"--set {setting}: params.yaml has no {path}")
        section[name] = yaml.load(value) if value else None
    return params


def cell(workspace: Path, params: dict[str, Any]) -> dict[str, Any]:
    """One method with one seed."""
    started = time.monotonic()
    run_stages(workspace, params, CELL_STAGES)
    metrics = json.loads((workspace / "reports/metrics.json").read_text(encoding="utf-8"))
    trained = json.loads((workspace / "reports/environment.json").read_text(encoding="utf-8"))
    result = {
        "method": params["method"],
        "variant": metrics["variant"],
        "seed": params["seed"],
        "accuracy": metrics["test"]["accuracy"],
        "metrics": metrics,
        "steps": trained["steps"],
        "train_seconds": trained["seconds"],
        "seconds": round(time.monotonic() - started, 1),
    }
    shown = ("method", "seed", "accuracy", "steps", "train_seconds", "seconds")
    print(*(f"{name} {result[name]}" for name in shown), flush=True)
    return result


def run_stages(workspace: Path, params: dict[str, Any], stages: tuple[str, ...]) -> None:
    """Run stages one after the other; their own words are shown only if one fails."""
    with (workspace / "params.yaml").open("w", encoding="utf-8") as file:
        YAML().dump(params, file)
    for stage in stages:
        command = [sys.executable, "-m", f"stages.{stage}"]
        path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
        environment = {**os.environ, "PYTHONPATH": path}
        done = subprocess.run(
            command, cwd=workspace, env=environment, capture_output=True, text=True, check=False
        )
        if done.returncode:
            sys.exit(f"{stage}: {done.stdout}{done.stderr}")


def environment() -> dict[str, Any]:
    """Where it ran."""
    return {
        **record.environment(),
        "torch": torch.__version__,
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu",
    }


if __name__ == "__main__":
    main()
