"""The page of measured numbers is made from the raw results, and those name no place of a machine."""

from __future__ import annotations

import argparse
import importlib
import json
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks import (
    decode,
    gpu_checks,
    keep_comparison,
    plain,
    record,
    scaling,
    scaling_picture,
    tables,
)
from pipeline_lib import recipes
from pipeline_lib.params.methods import KINDS
from pipeline_lib.records import Stream

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "benchmarks/results"


def test_the_page_of_results_is_current() -> None:
    command = [sys.executable, "benchmarks/tables.py"]
    printed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    page = (RESULTS / "README.md").read_text(encoding="utf-8")
    assert page == printed, "run: python benchmarks/tables.py > benchmarks/results/README.md"


def test_the_picture_of_growth_is_current() -> None:
    drawn = scaling_picture.picture()
    assert scaling_picture.PICTURE.read_bytes() == drawn, (
        "run: python -m benchmarks.scaling_picture"
    )
    assert len(drawn) < 100_000


def grown(axis: str, *points: tuple[int, float, float, int]) -> list[tables.Run]:
    names = (axis, "ms per step", "seconds to start", "MiB at the most")
    always = {"varied": axis, "method": "m", "MiB of the program": 100}
    return [tables.cost_of(always | dict(zip(names, point, strict=True))) for point in points]


def test_growth_is_named_by_its_power() -> None:
    runs = grown("images", (10, 1.0, 1.0, 110), (100, 100.0, 1.0, 200), (1000, 200.0, 10.0, 1100))
    (row,) = tables.series(runs, "images").values()
    step = tables.verdict(row, "images", "ms per step")
    assert step == (
        "ms per step: 200 times, power 1.15, **faster than linear**; "
        "from 10 to 100 power 2.00, **faster than linear**"
    )
    start = tables.verdict(row, "images", "seconds to start")
    assert start == (
        "seconds to start: 10 times, power 0.50, slower than linear; from 100 to 1,000 power 1.00, linear"
    )
    assert tables.verdict(row, "images", "MiB") == "MiB: 100 times, power 1.00, linear"
    said = tables.faster_than_linear(runs)
    assert said.endswith("ms per step of `m` from 10 to 100 (images; power 2.00).")
    assert tables.faster_than_linear(runs[1:]) == "No cost grows faster than its size."
    *_, last = tables.growth_table(runs, "images", "image")
    assert last == "| `m` | 1,000 | 200.0 | 2 | 10.0 | 0.1 | 1,000 | 1 |"


def test_threads_are_told_by_network_and_alone_say_nothing_of_growth(
    tmp_path: Path, monkeypatch
) -> None:
    costs = ("ms per step", "seconds to start", "MiB of the program", "MiB at the most")
    varied = [p for p in scaling.points(10_000) if p["varied"] == "threads"]
    runs = [point | dict(zip(costs, (2.0, 1.0, 1, 2), strict=True)) for point in varied]
    made = {"command": "c", "torch": "2", "processor": "p", "cores": 2, "commit": "abc"}
    path = tmp_path / "scaling_threads.json"
    path.write_text(json.dumps(made | {"runs": runs}), encoding="utf-8")
    monkeypatch.setattr(tables, "RESULTS", tmp_path)
    lines = tables.growth_tables(path)
    said = "2.0 ms a step on 1 thread, 2.0 on 2, 1.00 times as long"
    assert f"- `cr_dpll, wrn_28_2, batch size 16`: {said}" in lines
    assert not [line for line in lines if "faster" in line or "gave" in line]


def test_two_large_views_come_with_the_small_ones() -> None:
    runs = grown("small views", (0, 10.0, 1.0, 110), (6, 40.0, 1.0, 110))
    assert tables.power(*runs, "small views", "ms per step") == 1
    assert tables.growth_table(runs, "small views", "view")[-1].startswith("| `m` | 6 | 40.0 | 1 |")


class ParsedError(Exception):
    """The arguments were understood."""


def recorded() -> dict[str, list[str]]:
    """By result file the words of its command; those of `make` and of a check that is gone are left out."""
    read = {path: json.loads(path.read_text(encoding="utf-8")) for path in RESULTS.rglob("*.json")}
    commands = {
        path.relative_to(RESULTS).as_posix(): shlex.split(content["command"])
        for path, content in read.items()
        if "command" in content and path.stem != "steps_before"
    }
    return {name: words for name, words in commands.items() if words[0] != "make"}


@pytest.mark.parametrize("name", recorded())
def test_a_recorded_command_is_one_that_its_program_understands(name: str, monkeypatch) -> None:
    words = recorded()[name]
    module, *arguments = words[words.index("-m") + 1 :]
    parse = argparse.ArgumentParser.parse_args

    def stop(parser: argparse.ArgumentParser) -> None:
        parse(parser, arguments)
        raise ParsedError

    monkeypatch.setattr(argparse.ArgumentParser, "parse_args", stop)
    with pytest.raises(ParsedError):
        importlib.import_module(module).main()


def test_a_command_is_recorded_as_it_was_typed_without_folders(monkeypatch) -> None:
    monkeypatch.setattr(sys, "argv", ["x.py", "--ways", "a b,,c", "-o", "/some/where/out.json"])
    said = record.command("gpu_network")
    assert said == "python -m benchmarks.gpu_network --ways 'a b,,c' -o out.json"


def test_workers_go_where_the_views_are() -> None:
    some = torch.arange(9)
    streams = {
        "labeled": Stream(some, 64, ("weak",)),
        "unlabeled": Stream(some, 448, ("weak", "strong")),
    }
    assert plain.shared(16, streams) == {"labeled": 1, "unlabeled": 15}
    assert plain.shared(1, streams) == {"labeled": 1, "unlabeled": 1}
    assert plain.shared(0, streams) == {"labeled": 0, "unlabeled": 0}


def test_a_photo_larger_than_the_example_keeps_its_detail() -> None:
    photo_HWC = np.random.default_rng(1).integers(0, 256, (4, 6, 3), np.uint8)
    assert decode.sized(photo_HWC, 3, 2).size == (3, 2)
    large_HWC = np.asarray(decode.sized(photo_HWC, 13, 9))
    assert large_HWC.shape == (9, 13, 3)
    assert np.array_equal(large_HWC[4:8, 6:12], photo_HWC)


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


def test_a_kept_comparison_promises_nothing_that_was_not_kept() -> None:
    template = (ROOT / "pipeline_lib/compare/page.html.j2").read_text(encoding="utf-8")
    page = (RESULTS / "masterful_cpu/index.html").read_text(encoding="utf-8")
    promises = ("leads to the report", "<code>figures</code>", "data-needs")
    assert all(words in template for words in promises)
    for text in (keep_comparison.kept(template), page):
        assert not [words for words in promises if words in text]
        assert "<em>Labels right</em>: of the labels" in text
        assert text.count("<p>") + text.count("<p ") == text.count("</p>")
    assert keep_comparison.kept(page) == page
