"""What only a GPU can tell: four checks, each bounded in time, its raw results written as they come in.

    python -m benchmarks.gpu_checks methods --archive cifar10-jpeg.tar.gz -o methods.json --seconds 150

`methods`: every method trains on the GPU as on the CPU. `resume`: a training that was killed, and one
that reads its images from a file, give the same bytes as one that does neither. `replay`: replayed steps
give the same bytes as plain ones. `tutorial`: the Masterful tutorial over seeds. All of them work on
CIFAR-10 as an archive of image files, which is read once into `--workspace`. `--set` is DVC's -S, for
every run of the check; `--device cpu` tries it out.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import json
import math
import os
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ruamel.yaml import YAML

from benchmarks.accuracy import CELL_STAGES, DATA_STAGES, ROOT, environment
from benchmarks.record import command, write
from pipeline_lib import recipes
from pipeline_lib.params.load import read_yaml
from pipeline_lib.params.methods import KINDS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from pipeline_lib.records import Kind

Params = dict[str, Any]

# methods: the same few steps on both devices, in a network that a processor can train.
BLOCK = 20  # steps whose mean loss is one line of the history
BF16, FP32 = (
    0.1,
    0.02,
)  # largest mean difference from the CPU's losses; the largest single one is thrice that
SLOWEST_FIRST = ("paws", "fixmatch", "freematch", "softmatch", "two_phase", "pawsb", "mixmatch")
SMALL: Params = {
    "split": {
        "val_fraction": 0.02,
        "val_labels": "clean",
        "few_shot": {"labels": 4000},
        "uniform_candidates": {"rate": 0.5},
    },
    "model": {"name": "small_cnn", "width": 16},
    "train": {
        "batch_size": 32,
        "steps_per_epoch": BLOCK,
        "learning_rate": 0.02,
        "schedule": "constant",
        "select": "last",
        "keep_last": 0,
        "collapse": 0.0,
        "reproducible": "this_machine",
    },
    "methods": {
        **{name: {"unlabeled_ratio": 3} for name in ("fixmatch", "freematch", "softmatch")},
        "two_phase": {
            "unlabeled_ratio": 3,
            "batch_size": 32,
            "learning_rate": 0.02,
            "patience": 100,
        },
        "paws": {"finetune_steps": BLOCK},
    },
}

# resume: recipes, so that every optimizer is among them, with less to do.
RESUMED: dict[str, Params] = {
    "cr_dpll_cifar10_q05": {"methods": {"cr_dpll": {"ramp_epochs": 3}}},
    "mixmatch_cifar10_4000": {"methods": {"mixmatch": {"ramp_steps": 100}}},
    "fixmatch_cifar10_4000": {},
    "paws_cifar10_4000": {
        "train": {"batch_size": 64, "warmup_epochs": 1.0},
        "methods": {"paws": {"images_per_class": 8, "finetune_steps": 50}},
    },
    "two_phase_cifar10_5000_budget": {
        "methods": {"two_phase": {"batch_size": 64, "learning_rate": 0.001}}
    },
}

TUTORIAL = {"baseline": "supervised_cifar10_5000", "two_phase": "two_phase_cifar10_5000_budget"}


class FailedError(Exception):
    """A run that did not come to its end; the message says why."""


class Report:
    """Raw results, written anew whenever one comes in.

    Args:
        options: of the command line.
    """

    def __init__(self, options: argparse.Namespace) -> None:
        self.path: Path = options.output
        self.started, self.lock = time.monotonic(), threading.Lock()
        self.content: dict[str, Any] = {
            "command": command("gpu_checks"),
            **environment(),
            "torchvision": version("torchvision"),
            "seed": options.seed,
        }
        if options.commit:
            self.content["commit"] = options.commit

    def add(self, section: str, row: dict[str, Any]) -> None:
        """Take in a result, show it and write all of them."""
        with self.lock:
            self.content.setdefault(section, []).append(row)
            seconds = self.content["seconds"] = round(time.monotonic() - self.started, 1)
            shown = [f"{key} {value}" for key, value in row.items() if not _long(value)]
            print(f"{seconds:6.1f} s  {section}:", ", ".join(shown), flush=True)
            self.path.parent.mkdir(parents=True, exist_ok=True)
            write(self.path, self.content)


def _long(value: object) -> bool:
    return isinstance(value, list | dict)


def main() -> None:
    """Run one of the checks."""
    checks: dict[str, Callable[[argparse.Namespace], None]] = {
        "methods": methods,
        "resume": resume,
        "replay": replay,
        "tutorial": tutorial,
    }
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("check", choices=checks)
    parser.add_argument("--archive", type=Path, help="CIFAR-10 as a tar of image files")
    workspace = Path(tempfile.gettempdir()) / "gpu_checks"
    parser.add_argument("--workspace", type=Path, default=workspace)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--commit", help="of the code, where Git cannot tell")
    parser.add_argument("--seconds", type=float, default=math.inf, help="until the check ends")
    parser.add_argument("--workers", type=int, default=8, help="runs at a time")
    parser.add_argument("--length", type=int, default=200, help="methods, resume: steps of a run")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--seeds", default="1,2,3,4,5", help="tutorial")
    parser.add_argument("--only", help="of the methods or recipes, by comma")
    parser.add_argument("--set", action="append", default=[], dest="settings", metavar="KEY=VALUE")
    options = parser.parse_args()
    options.until = time.monotonic() + options.seconds
    options.output = options.output.resolve()
    checks[options.check](options)


def methods(options: argparse.Namespace) -> None:
    """Train every method on the GPU, in bf16 and fp32, and compare its losses with the CPU's in fp32."""
    report, base = Report(options), read_data(options)
    every = [*SLOWEST_FIRST, *sorted(set(KINDS) - set(SLOWEST_FIRST))]
    names = options.only.split(",") if options.only else every
    ways = [("cpu", "fp32"), (options.device, "bf16"), (options.device, "fp32")]
    splits = {KINDS[name]: name for name in names}

    def divide(kind: Kind) -> None:
        folder = branch(base, options.workspace / f"methods-{kind}")
        run_stages(
            folder,
            short_params(options, splits[kind], *ways[0]),
            ("configure", "split"),
            options.until,
        )

    def run(job: tuple[str, str, str]) -> None:
        name, device, precision = job
        started = time.monotonic()
        row: dict[str, Any] = {"method": name, "device": device, "precision": precision}
        source = options.workspace / f"methods-{KINDS[name]}"
        folder = branch(source, options.workspace / "-".join(("method", *job)))
        try:
            run_stages(folder, short_params(options, *job), ("train",), options.until)
        except FailedError as error:
            report.add("runs", row | {"finite": None, "error": str(error)})
            return
        with (folder / "reports/train/history.csv").open(encoding="utf-8") as file:
            history = list(csv.DictReader(file))
        report.add(
            "runs",
            row
            | {
                "finite": True,  # else the stage had stopped
                "steps": int(history[-1]["step"]),
                "val_accuracy": float(history[-1]["val_accuracy"]),
                "losses": [float(line["loss"]) for line in history if line["loss"]],
                "seconds": round(time.monotonic() - started, 1),
            },
        )

    in_parallel(options.workers, divide, splits)
    in_parallel(
        options.workers, run, [(name, *way) for name in names for way in dict.fromkeys(ways)]
    )
    for name in names:
        compare(report, name, ways)
    finish(report)


def short_params(
    options: argparse.Namespace, name: str, device: str, precision: str, **train: object
) -> Params:
    """A training of `--length` steps in a small network."""
    third = options.length // 3
    phases = {"warmup_steps": third, "supervised_steps": third}
    phases["semi_supervised_steps"] = options.length - 2 * third
    length = {"device": device, "precision": precision, "epochs": options.length // BLOCK}
    changes = {"method": name, "train": length | train, "methods": {"two_phase": phases}}
    return combined(options, SMALL, changes)


def train_outs() -> list[str]:
    """What dvc.yaml lists as outputs of the train stage."""
    content = YAML(typ="safe", pure=True).load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))
    outs: list[str] = content["stages"]["train"]["outs"]
    return outs


def compare(report: Report, name: str, ways: list[tuple[str, str]]) -> None:
    """Say how far the losses of a method are from those on the CPU: relative to them, or to 1 if smaller."""
    losses = {
        (run["device"], run["precision"]): run["losses"]
        for run in report.content["runs"]
        if run["method"] == name and run["finite"]
    }
    for way in ways[1:]:
        row: dict[str, Any] = {"method": name, "device": way[0], "precision": way[1]}
        if not {way, ways[0]} <= losses.keys():
            report.add("compared", row | {"passed": False})
            continue
        pairs = zip(losses[way], losses[ways[0]], strict=True)
        apart = [abs(ours - cpu) / max(abs(cpu), 1) for ours, cpu in pairs]
        tolerance = {"bf16": BF16, "fp32": FP32}[way[1]]
        mean, largest = statistics.mean(apart), max(apart)
        report.add(
            "compared",
            row
            | {
                "first": round(apart[0], 5),
                "mean": round(mean, 5),
                "max": round(largest, 5),
                "tolerance": tolerance,
                "passed": mean <= tolerance and largest <= 3 * tolerance,
            },
        )


def resume(options: argparse.Namespace) -> None:
    """Kill a training halfway, run it again, and compare all outputs with those of one left alone."""
    report, base = Report(options), read_data(options)
    names = options.only.split(",") if options.only else list(RESUMED)
    outs = train_outs()
    epoch = max(options.length // 6, 1)

    def params(name: str) -> Params:
        # By steps: saving takes a hundredth of the time at most, and these trainings are over before that.
        saved = {"checkpoint_steps": max(epoch // 2, 1)}
        train: Params = {"epochs": 6, "steps_per_epoch": epoch, **saved}
        phases = {"warmup_steps": epoch, "supervised_steps": epoch, "patience": 100}
        phases["semi_supervised_steps"] = 4 * epoch
        short: Params = {
            "train": train | {"device": options.device, "precision": "bf16"},
            "methods": {"two_phase": phases},
        }
        if "two_phase" not in name:
            short["model"] = {"name": "wrn_28_2"}
        recipe = recipes.read(name, ROOT / "recipes").params
        return combined(options, recipe, short, RESUMED.get(name, {}))

    def run(name: str) -> None:
        started = time.monotonic()
        row: dict[str, Any] = {"recipe": name, "precision": "bf16"}
        whole, cut, mapped = (
            options.workspace / f"resume-{name}-{kind}" for kind in ("whole", "cut", "mapped")
        )
        said = {}

        def leave_alone() -> None:
            said["whole"] = run_stages(whole, params(name), ("train",), options.until)

        def interrupt() -> None:
            write_params(cut, params(name))
            kill_halfway(cut, 3 * epoch, options.until)
            said["cut"] = run_stages(cut, params(name), ("train",), options.until)

        def read_from_a_file() -> None:
            small = recipes.overlay(params(name), {"train": {"memory_budget": 0.001}})
            said["mapped"] = run_stages(mapped, small, ("train",), options.until)

        try:
            run_stages(branch(base, whole), params(name), ("configure", "split"), options.until)
            branch(whole, cut)
            branch(whole, mapped)
            in_parallel(3, lambda train: train(), (leave_alone, interrupt, read_from_a_file))
        except FailedError as error:
            report.add("runs", row | {"passed": False, "error": str(error)})
            return
        one = hashes(whole, outs)
        different = sorted(
            f"{folder.name}/{file}"
            for folder in (cut, mapped)
            for file, digest in (one | hashes(folder, outs)).items()
            if one.get(file) != digest
        )
        resumed = re.search(r"resuming after step (\d+) of (\d+)", said["cut"])
        report.add(
            "runs",
            row
            | {
                "resumed": resumed.group() if resumed else "no",
                "mapped": "read from a temporary file" in said["mapped"],
                "files": len(one),
                "different": len(different),
                "which": different,
                "passed": bool(resumed)
                and "read from a temporary file" in said["mapped"]
                and not different,
                "seconds": round(time.monotonic() - started, 1),
            },
        )

    in_parallel(options.workers, run, names)
    finish(report)


def kill_halfway(workspace: Path, step: int, until: float) -> None:
    """Train until a state of `step` or later is saved, and kill the process.

    Raises:
        FailedError: It ended by itself.
    """
    process = subprocess.Popen(
        stage_command("train"),
        cwd=workspace,
        env=stage_environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    saved = -1
    while process.poll() is None and saved < step and time.monotonic() < until:
        time.sleep(0.02)
        states = workspace.glob(".dvc/tmp/resume/*/step-*.safetensors.sha256")
        saved = max((int(path.name.split("-")[1].split(".")[0]) for path in states), default=-1)
    process.send_signal(signal.SIGKILL)
    if process.wait() != -signal.SIGKILL:
        msg = f"the training ended before it could be killed; last state: step {saved}"
        raise FailedError(msg)


def hashes(workspace: Path, outs: Iterable[str]) -> dict[str, str]:
    """sha256 of every file in `outs`, some of which are folders."""
    roots = [workspace / out for out in outs]
    files = [file for root in roots for file in (root.rglob("*") if root.is_dir() else [root])]
    return {
        str(file.relative_to(workspace)): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in files
        if file.is_file()
    }


def replay(options: argparse.Namespace) -> None:
    """Train every method kernel by kernel and by replayed steps, and compare all outputs."""
    report, base = Report(options), read_data(options)
    names = options.only.split(",") if options.only else [*KINDS]
    outs = train_outs()

    def run(name: str) -> None:
        started = time.monotonic()
        row: dict[str, Any] = {"method": name, "precision": "bf16"}
        folders = {way: options.workspace / f"replay-{name}-{way}" for way in ("plain", "replayed")}
        said = ""
        try:
            for way, folder in folders.items():
                params = short_params(options, name, options.device, "bf16", gpu_steps=way)
                branch(base, folder)
                run_stages(folder, params, ("configure", "split"), options.until)
                said = run_stages(folder, params, ("train",), options.until)
        except FailedError as error:
            report.add("runs", row | {"passed": False, "error": str(error)})
            return
        one, other = (hashes(folder, outs) for folder in folders.values())
        different = [file for file in one | other if one.get(file) != other.get(file)]
        refused = re.search(r"steps are launched kernel by kernel: (.*)", said)
        report.add(
            "runs",
            row
            | {
                "recorded": refused is None,
                "why not": refused.group(1) if refused else "",
                "different": len(different),
                "passed": refused is None and not different,
                "seconds": round(time.monotonic() - started, 1),
            },
        )

    in_parallel(options.workers, run, names)
    finish(report)


def tutorial(options: argparse.Namespace) -> None:
    """Train the tutorial's baseline and the two phases with every seed."""
    report, base = Report(options), read_data(options)
    seeds = [int(seed) for seed in options.seeds.split(",")]
    names = options.only.split(",") if options.only else list(TUTORIAL)

    def run(job: tuple[str, int]) -> None:
        name, seed = job
        started = time.monotonic()
        row: dict[str, Any] = {"name": name, "recipe": TUTORIAL[name], "seed": seed}
        recipe = recipes.read(TUTORIAL[name], ROOT / "recipes").params
        params = combined(options, recipe, {"train": {"device": options.device}}) | {"seed": seed}
        folder = branch(base, options.workspace / f"tutorial-{name}-{seed}")
        try:
            run_stages(folder, params, CELL_STAGES, options.until)
        except FailedError as error:
            report.add("runs", row | {"accuracy": None, "error": str(error)})
            return
        metrics, trained, phases = (
            json.loads((folder / "reports" / file).read_text(encoding="utf-8"))
            for file in ("metrics.json", "environment.json", "train/phases.json")
        )
        report.add(
            "runs",
            row
            | {
                "accuracy": metrics["test"]["accuracy"],
                "steps": trained["steps"],
                "train_seconds": trained["seconds"],
                "seconds": round(time.monotonic() - started, 1),
                "phases": phases,
                "metrics": metrics,
            },
        )

    in_parallel(options.workers, run, [(name, seed) for name in names for seed in seeds])
    accuracy = {
        name: {
            row["seed"]: row["accuracy"]
            for row in report.content["runs"]
            if row["name"] == name and row["accuracy"] is not None
        }
        for name in names
    }
    for name, values in accuracy.items():
        report.add("summary", {"name": name, **summary(list(values.values()))})
    if len(names) == 2:
        first, second = (accuracy[name] for name in names)
        common = sorted(first.keys() & second.keys())
        gains = [second[seed] - first[seed] for seed in common]
        name, p_value = " to ".join(names), {"p": paired_p(gains)}
        report.add("summary", {"name": name, "seeds": common, **summary(gains), **p_value})


def summary(values: list[float]) -> dict[str, Any]:
    """Mean, standard deviation and 95 % t interval, as far as there are values for them."""
    from scipy import stats

    row: dict[str, Any] = {"runs": len(values)}
    if len(values) < 2:
        return row | {"mean": values[0] if values else None}
    mean, sd = statistics.mean(values), statistics.stdev(values)
    half = float(stats.t.ppf(0.975, len(values) - 1)) * sd / math.sqrt(len(values))
    interval = f"{mean - half:.4f} to {mean + half:.4f}"
    return row | {"mean": round(mean, 5), "sd": round(sd, 5), "ci95": interval}


def paired_p(gains: list[float]) -> float | None:
    """p-value of the two-sided paired t-test, of the gains against 0."""
    from scipy import stats

    return float(stats.ttest_1samp(gains, 0).pvalue) if len(gains) > 1 else None


def read_data(options: argparse.Namespace) -> Path:
    """The workspace with the images, read from the archive unless they are there already."""
    base: Path = options.workspace / "data"
    if not (base / "data/classes.json.sha256").exists():
        started = time.monotonic()
        base.mkdir(parents=True, exist_ok=True)
        run_stages(base, combined(options), DATA_STAGES, options.until)
        print(f"{time.monotonic() - started:6.1f} s  data: read from the archive", flush=True)
    return base


def combined(options: argparse.Namespace, *overlays: Params) -> Params:
    """params.yaml with the archive's images, then the overlays, then `--set`."""
    params = dict(read_yaml(ROOT / "params.yaml"))
    data: Params = {"name": "image_folder"}
    if options.archive:
        data["path"] = str(options.archive.resolve())
    ours = {"seed": options.seed, "split": {"duplicates": "allow"}, "data": data}
    for overlay in (*overlays, ours, *map(nested, options.settings)):
        params = recipes.overlay(params, overlay)
    return params


def nested(setting: str) -> Params:
    """`a.b=1` as {a: {b: 1}}."""
    key, _, text = setting.partition("=")
    value = YAML(typ="safe", pure=True).load(text) if text else None
    for part in reversed(key.split(".")):
        value = {part: value}
    assert isinstance(value, dict)  # noqa: S101 - a key has at least one part
    return value


def branch(source: Path, workspace: Path) -> Path:
    """A workspace with links to the data of another one, so that what a stage writes is its own."""
    folder = workspace / "data"
    folder.mkdir(parents=True, exist_ok=True)
    for path in (source / "data").iterdir():
        link = folder / path.name
        if not link.exists() and not path.name.startswith(("label_state", "label_history")):
            link.symlink_to(path.resolve())
    return workspace


def write_params(workspace: Path, params: Params) -> None:
    """Write params.yaml."""
    with (workspace / "params.yaml").open("w", encoding="utf-8") as file:
        YAML().dump(params, file)


def run_stages(workspace: Path, params: Params, stages: Iterable[str], until: float) -> str:
    """Run stages one after the other, and give what the last one printed.

    Raises:
        FailedError: One failed, or time is up.
    """
    write_params(workspace, params)
    said = ""
    for stage in stages:
        said = run(stage_command(stage), workspace, until)
    return said


def run(command: list[str], workspace: Path, until: float) -> str:
    """Run a command in a workspace, and give what it printed.

    Raises:
        FailedError: It failed, or time is up.
    """
    left = until - time.monotonic()
    try:
        done = subprocess.run(
            command,
            cwd=workspace,
            env=stage_environment(),
            capture_output=True,
            text=True,
            check=False,
            timeout=None if math.isinf(left) else max(left, 0.1),
        )
    except subprocess.TimeoutExpired as error:
        msg = "time is up"
        raise FailedError(msg) from error
    if done.returncode:
        print(f"{' '.join(command[1:3])} in {workspace.name}:\n{done.stderr[-2000:]}", flush=True)
        last = (done.stderr.strip() or "no word").splitlines()[-1]
        raise FailedError(re.sub(r"(?<=[ =])/\S*/", "", last))
    return done.stdout + done.stderr


def stage_command(stage: str) -> list[str]:
    """How a stage is started."""
    return [sys.executable, "-m", f"stages.{stage}"]


def stage_environment() -> dict[str, str]:
    """The environment with the checkout to import from, beside what is there."""
    paths = [str(ROOT), os.environ.get("PYTHONPATH", "")]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))}


def in_parallel(workers: int, function: Callable[[Any], None], jobs: Iterable[Any]) -> None:
    """Do the jobs, the first ones first; an exception of one is raised once all are done."""
    with ThreadPoolExecutor(workers) as pool:
        for done in [pool.submit(function, job) for job in jobs]:
            done.result()


def finish(report: Report) -> None:
    """Say how many checks passed, and exit by it."""
    rows = report.content.get("compared", report.content["runs"])
    passed = sum(row["passed"] for row in rows)
    print(f"{passed} of {len(rows)} passed", flush=True)
    sys.exit(passed < len(rows))


if __name__ == "__main__":
    main()
