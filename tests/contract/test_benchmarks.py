"""The page of measured numbers is made from the raw results, and those name no place of a machine."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path

from benchmarks import gpu_checks
from pipeline_lib import recipes
from pipeline_lib.params.methods import KINDS

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "benchmarks/results"


def test_the_page_of_results_is_current() -> None:
    command = [sys.executable, "benchmarks/tables.py"]
    printed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    page = (RESULTS / "README.md").read_text(encoding="utf-8")
    assert page == printed, "run: python benchmarks/tables.py > benchmarks/results/README.md"


def test_results_name_no_path_of_a_machine() -> None:
    for path in RESULTS.rglob("*.json"):
        text = path.read_text(encoding="utf-8")
        assert "=/" not in text, path
        assert " /" not in text, path


def test_the_checks_on_a_gpu_name_recipes_and_methods_that_exist() -> None:
    known = set(recipes.names(ROOT / "recipes"))
    assert {*gpu_checks.RESUMED, *gpu_checks.TUTORIAL.values()} <= known
    assert set(gpu_checks.SLOWEST_FIRST) <= set(KINDS)


def test_the_losses_of_a_method_are_compared_with_those_on_the_cpu(tmp_path: Path) -> None:
    options = argparse.Namespace(output=tmp_path / "methods.json", seed=1, commit="abc")
    report = gpu_checks.Report(options)
    ways = [("cpu", "fp32"), ("cuda", "bf16"), ("cuda", "fp32")]
    losses = {ways[0]: [2.0, 0.5], ways[1]: [2.1, 0.5], ways[2]: [2.1, 0.5]}
    for way in ways:
        run = {"method": "cc", "device": way[0], "precision": way[1]}
        report.add("runs", run | {"finite": True, "losses": losses[way]})
    gpu_checks.compare(report, "cc", ways)
    compared = json.loads(options.output.read_text(encoding="utf-8"))["compared"]
    assert [row["mean"] for row in compared] == [0.025, 0.025]
    assert [row["passed"] for row in compared] == [True, False]
