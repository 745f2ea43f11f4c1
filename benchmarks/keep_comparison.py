r"""Keep what a comparison came to: its page, tables, settings, and what it ran on.

    python -m benchmarks.keep_comparison CHECKOUT benchmarks/results/masterful_cpu --cpu-seconds 1144 --commit 17822f7

CHECKOUT is where `make compare` ran. The reports of its cells (megabytes each) and the figures as files are not kept, so
that links to reports become plain text, and what the page says of either is left out. The seconds are those that `time make compare` tells of the processor, user and system.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from benchmarks.record import environment, write

KEPT = ("*.csv", "*.parquet")
LINK = re.compile(r'<a\b[^>]*\bhref="pages/[^"]*"[^>]*>(.*?)</a>', re.DOTALL)
NEEDY = re.compile(r'<(p|span) data-needs="(?:pages|figures)">.*?</\1>', re.DOTALL)
SECTIONS = ("data", "seed", "split", "model", "train", "compare")


def main() -> None:
    """Copy, and write run.json."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("checkout", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("--cpu-seconds", type=int, required=True)
    parser.add_argument("--commit", required=True, help="at which the cells ran")
    options = parser.parse_args()
    made = options.checkout / "reports/compare"
    tables = options.output / "tables"
    tables.mkdir(parents=True, exist_ok=True)
    for pattern in KEPT:
        for path in made.joinpath("tables").glob(pattern):
            shutil.copyfile(path, tables / path.name)
    shutil.copyfile(made / "summary.json", options.output / "summary.json")
    page = (made / "index.html").read_text(encoding="utf-8")
    (options.output / "index.html").write_text(kept(page), encoding="utf-8")
    content = {
        "command": "make compare",
        "cpu_seconds": options.cpu_seconds,
        **environment(),
        "commit": options.commit,
        "cells": trained(made / "times"),
        "params": settings(options.checkout / "params.yaml"),
    }
    write(options.output / "run.json", content)


def kept(page: str) -> str:
    """The page without links to what is not kept, and without the sentences that promise it."""
    return NEEDY.sub("", LINK.sub(r"\1", page))


def trained(times: Path) -> dict[str, dict[str, Any]]:
    """What each cell ran on, and how long."""
    return {path.stem: json.loads(path.read_text()) for path in sorted(times.glob("*.json"))}


def settings(path: Path) -> dict[str, Any]:
    """The sections that matter; of a path to data its last part only."""
    params = YAML(typ="safe").load(path)
    params["data"]["path"] = Path(params["data"]["path"] or "").name
    chosen = {name: params[name] for name in SECTIONS}
    methods = {name: params["methods"][name] for name in params["compare"]["methods"]}
    return chosen | {"methods": methods}


if __name__ == "__main__":
    main()
