"""Write benchmarks/results/README.md: one table per result file, from the raw JSON.

python benchmarks/tables.py > benchmarks/results/README.md
"""

from __future__ import annotations

import csv
import json
import math
import statistics
from itertools import pairwise
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).resolve().parent / "results"
HEAD = """# Measured accuracies

Written by `python benchmarks/tables.py > benchmarks/results/README.md` from the JSON files beside this page, which hold
every metric of every run, the commit, the processor and the versions. Test accuracy on images that chose nothing; the
same splits for all methods of a seed. Paths of data are given by their file names. Three seeds tell large differences
only.
"""
INGEST = "ingest"
INGEST_HEAD = """# Measured speed and memory of bringing images in

By `benchmarks/ingest.py`. Seconds are those of the named stages as programs, their start included; a peak is the sum of
the peaks of a stage's processes.
"""
SPEED = ("augmentation", "training_step", "convolutions")
SPEED_HEAD = """# Measured speed against the straightforward way

By `benchmarks/augmentation.py`, `training_step.py` and `convolutions.py`, which say what is compared. Ratios are medians of
paired runs on one machine, with the least and the most; times on it are of use only beside each other.
"""
POOL = "pool"
POOL_HEAD = """# Measured memory and time of images in memory and in a mapped file

By `benchmarks/pool.py`, which says what is measured. Memory in MiB.
"""
SCALING = "scaling"
SCALING_HEAD = """# How time and memory grow

By `benchmarks/scaling.py`, which says what is measured: one size varies, all others stay. Memory is what a training took
at the most, without the program itself. *Per image* and its like: the cost divided by the size, the first row being 1. It stays
1 where the cost grows linearly, falls where it grows more slowly, and rises where it grows faster. The power is that of the
size by which the cost grew from the first to the last row: 0 is none, 1 is linear. `scaling_threads` is of a machine
with some other load, `scaling_threads_busy` of one with a job on one of its two cores, for which one thread has to wait.

![Time and memory against each size, relative to the smallest, beside a line of linear growth](scaling.svg)
"""
CHECKPOINT = "checkpoint"
CHECKPOINT_HEAD = """# What saving the resume state costs

By `benchmarks/checkpoint_cost.py`. The share is that of a save in the time between two of them, of the default params.
"""
PREDICT = "predict"
PREDICT_HEAD = """# What predicting costs

By `benchmarks/predict_speed.py`, which says what is compared. Times and peaks are medians, ratios medians with the least and
the most.
"""
DECODE = "decode"
DECODE_HEAD = """# What decoding a photo costs

By `benchmarks/decode.py`, which says what is decoded, and to what. `decode_large` is of a machine with other load (processor
time; only ratios are used): photos of 12 megapixels beside the small ones.
"""
LABELING = "label_loop"
LABELING_HEAD = """# What to label next

By `benchmarks/label_loop.py`: test accuracy with the first labels, with those that `label-next` asks for besides, and with as many
others at random. The gain is that of asking over chance.
"""
CANDIDATES = "candidates"
CANDIDATES_HEAD = """# Candidates, and the models behind them

By `benchmarks/candidates.py`, which says what is counted.
"""
COMPARISON_HEAD = """# Comparisons

Run by `make compare`, kept by `benchmarks/keep_comparison.py`: the page, the tables behind it, settings and times.
"""
SWEEP = "sweep_on_ray"
SWEEP_HEAD = """# A sweep on Ray, of which a worker is killed

By `benchmarks/sweep_on_ray.py`: six trainings on a cluster of this machine. Seconds are of the whole sweep, with other load on the
machine; `not run` counts downloads and ingests that DVC took from the cache.
"""
GPU = RESULTS / "gpu"
GPU_HEAD = """# Measured on a GPU

By `benchmarks/gpu_checks.py`, `gpu_steps.py` and `gpu_network.py`, which say what is compared with what. Losses are
compared relative to those on the CPU; `mean` and `max` are over the history's lines. The straightforward loops shared
their 16 loaders evenly between streams: FixMatch's 64 labeled views had as many as the 896 others. The floor of FixMatch
counts 448 of its 960 images as forward passes only; with all of the gradient, which the shared batch statistics take, it
is 2.54 ms, of which the replayed step takes 6.0 times. `steps_before` is of the time before steps were replayed; the check
that made it (`gpu_checks steps`) is gone, `benchmarks/gpu_steps.py` came in its place, so its command no longer runs.
"""


def main() -> None:
    """Print the page."""
    print(HEAD)
    paths = sorted(RESULTS.rglob("*.json"))
    compared = [path.parent for path in paths if path.name == "run.json"]
    others = (
        INGEST,
        POOL,
        SCALING,
        CHECKPOINT,
        PREDICT,
        DECODE,
        LABELING,
        SWEEP,
        CANDIDATES,
        *SPEED,
    )
    for path in paths:
        if not path.name.startswith(others) and path.parent not in (GPU, *compared):
            print("\n".join(table(path)))
    for head, lines_of, chosen in (
        (GPU_HEAD, gpu_tables, [path for path in paths if path.parent == GPU]),
        (INGEST_HEAD, ingest_table, [path for path in paths if path.name.startswith(INGEST)]),
        (SPEED_HEAD, other_table, [path for path in paths if path.name.startswith(SPEED)]),
        (POOL_HEAD, other_table, [path for path in paths if path.name.startswith(POOL)]),
        (SCALING_HEAD, growth_tables, [path for path in paths if path.name.startswith(SCALING)]),
        (CHECKPOINT_HEAD, other_table, [p for p in paths if p.name.startswith(CHECKPOINT)]),
        (PREDICT_HEAD, other_table, [path for path in paths if path.name.startswith(PREDICT)]),
        (DECODE_HEAD, other_table, [path for path in paths if path.name.startswith(DECODE)]),
        (LABELING_HEAD, labeling_table, [path for path in paths if path.name.startswith(LABELING)]),
        (CANDIDATES_HEAD, named_tables, [p for p in paths if p.name.startswith(CANDIDATES)]),
        (SWEEP_HEAD, other_table, [p for p in paths if p.name.startswith(SWEEP)]),
        (COMPARISON_HEAD, comparison_tables, compared),
    ):
        print(head)
        for path in chosen:
            print("\n".join(lines_of(path)))


def named_tables(path: Path) -> list[str]:
    """The lines of one result file: a table per kind of row."""
    content = json.loads(path.read_text(encoding="utf-8"))
    where = f"{content['processor']}, {content['cores']} cores"
    return [*tables_by_name(path, content), f"Commit {content['commit'][:9]}, {where}.", ""]


def tables_by_name(path: Path, content: dict[str, Any]) -> list[str]:
    """Every list of rows under its name."""
    lines = [f"## {path.relative_to(RESULTS).with_suffix('')}", f"`{content['command']}`", ""]
    for name, rows in content.items():
        if isinstance(rows, list) and rows:
            lines += [f"### {name}", "", *plain_table(rows), ""]
    return lines


def gpu_tables(path: Path) -> list[str]:
    """The same of a GPU."""
    content = json.loads(path.read_text(encoding="utf-8"))
    made = f"{content['device']}, torch {content['torch']}, Python {content['python']}"
    said = f"Commit {content['commit'][:9]}, {made}, {content['processor']}."
    return [*tables_by_name(path, content), said, ""]


def other_table(path: Path) -> list[str]:
    """The lines of one result file whose runs are told by what they name themselves."""
    content = json.loads(path.read_text(encoding="utf-8"))
    lines = [f"## {path.relative_to(RESULTS).with_suffix('')}", f"`{content['command']}`", ""]
    where = f"{content['processor']}, {content['cores']} cores"
    return [
        *lines,
        *plain_table(content.get("summary", content["runs"])),
        "",
        f"Commit {content['commit'][:9]}, {where}.",
        "",
    ]


def labeling_table(path: Path) -> list[str]:
    """The lines of one result file, with the mean gain."""
    content = json.loads(path.read_text(encoding="utf-8"))
    low, high = content["interval_95"]
    gain = f"Mean gain {content['mean_gain']:+.4f}, 95 % interval {low:+.4f} to {high:+.4f} (Student, paired by seed)."
    return [*other_table(path), gain, ""]


def comparison_tables(folder: Path) -> list[str]:
    """The lines of one comparison: its means, and its differences."""
    content = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    name = folder.relative_to(RESULTS)
    lines = [f"## {name}", f"[The page]({name}/index.html)", ""]
    for part in ("groups", "comparisons"):
        with (folder / f"tables/{part}.csv").open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
        filled = [key for key in rows[0] if any(row[key] for row in rows)]
        lines += [*plain_table([{key: row[key] for key in filled} for row in rows]), ""]
    if content["params"]["split"]["val_labels"] == "clean":
        lines += ["Beside the labels of the budget, each validation image has its true one.", ""]
    took = f"{content['cpu_seconds']} s of processor time"
    where = f"{content['processor']}, {content['cores']} cores"
    return [
        *lines,
        f"`{content['command']}`: {took}, on {where}, commit {content['commit'][:9]}.",
        "",
    ]


def plain_table(rows: list[dict[str, Any]]) -> list[str]:
    """Whatever is a single value in every row, a column each."""
    names = dict.fromkeys(name for row in rows for name in row)
    columns = [n for n in names if not any(isinstance(row.get(n), list | dict) for row in rows)]
    lines = ["| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]
    return [
        *lines,
        *("| " + " | ".join(str(row.get(name, "")) for name in columns) + " |" for row in rows),
    ]


def table(path: Path) -> list[str]:
    """The lines of one result file."""
    content = json.loads(path.read_text(encoding="utf-8"))
    runs = content["runs"]
    seeds = sorted({run["seed"] for run in runs})
    head = ["method", *(f"seed {seed}" for seed in seeds), "mean", "sd", "steps"]
    lines = [f"## {path.relative_to(RESULTS).with_suffix('')}", f"`{content['command']}`", ""]
    lines += ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for method in dict.fromkeys(run["method"] for run in runs):
        own = {run["seed"]: run for run in runs if run["method"] == method}
        values = [own[seed]["accuracy"] for seed in seeds]
        steps = sorted({run["steps"] for run in own.values()})
        shown = str(steps[0]) if len(steps) == 1 else f"{steps[0]} to {steps[-1]}"
        cells = [f"{v:.4f}" for v in (*values, statistics.mean(values), statistics.stdev(values))]
        lines.append("| " + " | ".join([f"`{method}`", *cells, shown]) + " |")
    return [
        *lines,
        "",
        f"Commit {content['commit'][:9]}, torch {content['torch']}, {content['processor']}.",
        "",
    ]


def ingest_table(path: Path) -> list[str]:
    """The lines of one result file of benchmarks/ingest.py."""
    content = json.loads(path.read_text(encoding="utf-8"))
    columns = {
        "images": "images",
        "seconds": "seconds",
        "images_per_second": "images/s",
        "peak_mib": "peak, MiB",
        "bytes_per_image": "bytes/image",
    }
    lines = [f"## {path.relative_to(RESULTS).with_suffix('')}", f"`{content['command']}`", ""]
    lines += [
        "| " + " | ".join([*columns.values(), "stages"]) + " |",
        "|" + "---|" * (len(columns) + 1),
    ]
    for run in content["runs"]:
        cells = [f"{run[name]:,}" for name in columns]
        lines.append("| " + " | ".join([*cells, " + ".join(run["timed"])]) + " |")
    libraries = ", ".join(f"{name} {content[name]}" for name in ("numpy", "pillow", "pyarrow"))
    where = f"{content['processor']}, {content['cores']} cores"
    return [*lines, "", f"Commit {content['commit'][:9]}, {libraries}, {where}.", ""]


Run = dict[str, Any]
UNITS = {"images": "image", "batch size": "image", "small views": "view", "classes": "class"}
"""What each size counts; small views come on top of two large ones."""
COSTS = ("ms per step", "seconds to start", "MiB")
SETTINGS = ("method", "images", "classes", "batch size", "threads", "small views", "network")
NOTHING, LINEAR = 0.1, (0.9, 1.1)
"""Powers by which a cost is said not to grow, and to grow linearly."""


def growth_tables(path: Path) -> list[str]:
    """The lines of one result file of benchmarks/scaling.py: a table and its verdicts per varied size."""
    content = json.loads(path.read_text(encoding="utf-8"))
    runs = [cost_of(run) for run in content["runs"]]
    lines = [f"## {path.relative_to(RESULTS).with_suffix('')}", f"`{content['command']}`", ""]
    grown = {axis: unit for axis, unit in UNITS.items() if series(runs, axis)}
    lines += [faster_than_linear(runs), "", repeated(runs), ""] if grown else []
    for axis, unit in grown.items():
        lines += [f"### {axis}", "", *growth_table(runs, axis, unit), ""]
        for name, row in series(runs, axis).items():
            lines += [f"- `{name}`: {verdict(row, axis, cost)}" for cost in COSTS]
        lines.append("")
    lines += ["### threads", ""]
    for name, row in series(runs, "threads").items():
        first, last = row[0], row[-1]
        ratio = last["ms per step"] / first["ms per step"]
        said = (
            f"{first['ms per step']} ms a step on {first['threads']} thread, {last['ms per step']}"
        )
        lines.append(f"- `{name}`: {said} on {last['threads']}, {ratio:.2f} times as long")
    made = f"torch {content['torch']}, {content['processor']}, {content['cores']} cores"
    return [*lines, "", f"Commit {content['commit'][:9]}, {made}.", ""]


def cost_of(run: Run) -> Run:
    """The run with the memory that the training itself took."""
    return run | {"MiB": run["MiB at the most"] - run["MiB of the program"]}


def series(runs: list[Run], axis: str) -> dict[str, list[Run]]:
    """The runs in which `axis` varies, by what else tells them apart, in the order of the size."""
    found: dict[str, list[Run]] = {}
    for run in sorted((run for run in runs if run["varied"] == axis), key=lambda run: run[axis]):
        network = run.get("network", "small_cnn")
        other = f", {network}, batch size {run['batch size']}" if axis == "threads" else ""
        found.setdefault(run["method"] + other, []).append(run)
    return found


def size_of(run: Run, axis: str) -> int:
    """How many units of a varied size there are."""
    size: int = run[axis]
    return size + 2 if axis == "small views" else size


def growth_table(runs: list[Run], axis: str, unit: str) -> list[str]:
    """Every cost, and what it is per unit relative to the first row of its method."""
    head = ["method", axis, *(name for cost in COSTS for name in (cost, f"per {unit}"))]
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for name, row in series(runs, axis).items():
        for run in row:
            cells = [f"`{name}`", f"{run[axis]:,}"]
            for cost in COSTS:
                times = run[cost] / row[0][cost]
                per_unit = times * size_of(row[0], axis) / size_of(run, axis)
                cells += [f"{run[cost]:,}", f"{per_unit:.3g}"]
            lines.append("| " + " | ".join(cells) + " |")
    return lines


def power(first: Run, last: Run, axis: str, cost: str) -> float:
    """By which power of the size a cost grew from one run to the other."""
    sizes = size_of(last, axis) / size_of(first, axis)
    return math.log(last[cost] / first[cost]) / math.log(sizes)


def verdict(row: list[Run], axis: str, cost: str) -> str:
    """How a cost grew from the smallest to the largest size, and where it grew fastest."""
    overall = power(row[0], row[-1], axis, cost)
    steepest, low, high = max(
        (power(one, other, axis, cost), one[axis], other[axis]) for one, other in pairwise(row)
    )
    said = (
        f"{cost}: {row[-1][cost] / row[0][cost]:.3g} times, power {overall:.2f}, {growth(overall)}"
    )
    *_, before, last = row
    end = power(before, last, axis, cost)
    if growth(overall) == "slower than linear" and growth(end) == "linear":
        said += f"; from {before[axis]:,} to {last[axis]:,} power {end:.2f}, {growth(end)}"
    if steepest > LINEAR[1]:
        said += f"; from {low:,} to {high:,} power {steepest:.2f}, {growth(steepest)}"
    return said


def growth(exponent: float) -> str:
    """A power in words."""
    if abs(exponent) < NOTHING:
        return "no growth"
    if exponent < 0:
        return "less with size"
    low, high = LINEAR
    return (
        "**faster than linear**"
        if exponent > high
        else "linear"
        if exponent >= low
        else "slower than linear"
    )


def repeated(runs: list[Run]) -> str:
    """How far apart runs of the same settings are: what the tables cannot tell."""
    times: dict[tuple[Any, ...], list[float]] = {}
    for run in runs:
        settings = tuple(run.get(name) for name in SETTINGS)
        times.setdefault(settings, []).append(run["ms per step"])
    same = {key[0]: taken for key, taken in times.items() if len(taken) > 2}
    told = ", ".join(
        f"`{method}` {min(taken)} to {max(taken)} ms per step in {len(taken)} runs"
        for method, taken in same.items()
    )
    return f"Runs of the same settings, for several tables, gave {told}. Smaller differences tell nothing."


def faster_than_linear(runs: list[Run]) -> str:
    """All costs that somewhere grow faster than their size, in one sentence."""
    found = [
        f"{cost} of `{name}` from {one[axis]:,} to {other[axis]:,} ({axis}; power {exponent:.2f})"
        for axis in UNITS
        for name, row in series(runs, axis).items()
        for cost in COSTS
        for one, other in pairwise(row)
        if (exponent := power(one, other, axis, cost)) > LINEAR[1]
    ]
    if not found:
        return "No cost grows faster than its size."
    return f"Not linear, but **faster** than the size: {'; '.join(found)}."


if __name__ == "__main__":
    main()
