"""Write benchmarks/results/README.md: one table per result file, from the raw JSON.

python benchmarks/tables.py > benchmarks/results/README.md
"""

from __future__ import annotations

import json
import statistics
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
SPEED = ("augmentation", "training_step")
SPEED_HEAD = """# Measured speed against the straightforward way

By `benchmarks/augmentation.py` and `benchmarks/training_step.py`, which say what is compared. Ratios are medians of
paired runs on one machine, with the least and the most; times on it are of use only beside each other.
"""
POOL = "pool"
POOL_HEAD = """# Measured memory and time of images in memory and in a mapped file

By `benchmarks/pool.py`, which says what is measured. Memory in MiB.
"""
GPU = RESULTS / "gpu"
GPU_HEAD = """# Measured on a GPU

By `benchmarks/gpu_checks.py`, `gpu_steps.py` and `gpu_network.py`, which say what is compared with what. Losses are
compared relative to those on the CPU; `mean` and `max` are over the history's lines. `steps_before` is of the time
before steps were replayed.
"""


def main() -> None:
    """Print the page."""
    print(HEAD)
    paths = sorted(RESULTS.rglob("*.json"))
    for path in paths:
        if not path.name.startswith((INGEST, POOL, *SPEED)) and path.parent != GPU:
            print("\n".join(table(path)))
    for head, lines_of, chosen in (
        (GPU_HEAD, gpu_tables, [path for path in paths if path.parent == GPU]),
        (INGEST_HEAD, ingest_table, [path for path in paths if path.name.startswith(INGEST)]),
        (SPEED_HEAD, other_table, [path for path in paths if path.name.startswith(SPEED)]),
        (POOL_HEAD, other_table, [path for path in paths if path.name.startswith(POOL)]),
    ):
        print(head)
        for path in chosen:
            print("\n".join(lines_of(path)))


def gpu_tables(path: Path) -> list[str]:
    """The lines of one result file: a table per kind of row."""
    content = json.loads(path.read_text(encoding="utf-8"))
    lines = [f"## {path.relative_to(RESULTS).with_suffix('')}", f"`{content['command']}`", ""]
    for name, rows in content.items():
        if isinstance(rows, list) and rows:
            lines += [f"### {name}", "", *plain_table(rows), ""]
    made = f"{content['device']}, torch {content['torch']}, Python {content['python']}"
    return [*lines, f"Commit {content['commit'][:9]}, {made}, {content['processor']}.", ""]


def other_table(path: Path) -> list[str]:
    """The lines of one result file whose runs are told by what they name themselves."""
    content = json.loads(path.read_text(encoding="utf-8"))
    lines = [f"## {path.relative_to(RESULTS).with_suffix('')}", f"`{content['command']}`", ""]
    where = f"{content['processor']}, {content['cores']} cores"
    return [
        *lines,
        *plain_table(content["runs"]),
        "",
        f"Commit {content['commit'][:9]}, {where}.",
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


if __name__ == "__main__":
    main()
