"""Who is best, in a terminal: of DVC's experiments, and what is refused."""

import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest
from typer.testing import CliRunner

from pipeline_lib.compare.leaderboard import of_experiments, of_groups
from pipeline_lib.errors import UserError
from stages.app import app

ROOT = Path(__file__).parents[2]


def row(**changes):
    """As `dvc.api.exp_show` gave it for this project: text for None, floats, files before shared names."""
    usual = {
        "Experiment": None, "rev": "workspace", "typ": "baseline", "Created": None, "parent": None,
        "State": None, "Executor": None, "params.yaml:seed": 1.0, "params.yaml:method": "cr_dpll",
        "reports/metrics.json:method": "cr_dpll", "reports/metrics.json:seed": 1.0,
        "dataset": "digits", "variant": "bn=per_view", "test.accuracy": 0.993318,
        "test.accuracy_low": 0.980549, "test.accuracy_high": 0.997724, "data.fold": "None", "methods.cr_dpll.lambda_max": 1.0,
    }  # fmt: skip
    return usual | changes


def test_experiments_are_read_by_the_names_that_dvc_gives_them():
    other = row(
        **{
            "Experiment": "burnt-coat",
            "rev": "abc1234",
            "reports/metrics.json:method": "supervised",
            "reports/metrics.json:seed": 12.0,
            "test.accuracy": 0.9955,
            "test.accuracy_low": 0.9839,
            "test.accuracy_high": 0.9988,
        }
    )
    never_ran = row(**{"test.accuracy": None, "Experiment": "queued"})
    undone = [
        row(State=state, Experiment="tabby-ruby", **{"test.accuracy": 1.0})
        for state in ("Failed", "Running", "Queued")
    ]
    head, *rows = of_experiments([row(), other, never_ran, *undone])
    assert head == ("experiment", "method", "dataset", "seed", "accuracy", "95 % interval")
    assert rows == [
        ("burnt-coat", "supervised", "digits", "12", "0.9955", "0.9839 to 0.9988"),
        ("workspace", "cr_dpll", "digits", "1", "0.9933", "0.9805 to 0.9977"),
    ]


def test_names_that_no_other_file_has_stand_alone():
    alone = row(method="paws", seed=3.0)
    for name in ("method", "seed"):
        del alone[f"params.yaml:{name}"], alone[f"reports/metrics.json:{name}"]
    assert of_experiments([alone])[1][:4] == ("workspace", "paws", "digits", "3")


def test_an_interval_of_few_seeds_ends_where_accuracies_end():
    means = {"budget": "all", "mean": 0.9111, "sd": 0.1257, "seeds": 2}
    groups = pl.DataFrame(
        [
            {"contender": "wide", "low": -0.2183, "high": 2.0406, **means},
            {"contender": "narrow", "low": 0.9, "high": 0.95, **means, "mean": 0.9},
            {"contender": "alone", "low": None, "high": None, **means, "mean": 0.8, "sd": None},
        ]
    )
    assert [row[3] for row in of_groups(groups)[1:]] == [
        "0.0000 to 1.0000",
        "0.9000 to 0.9500",
        "-",
    ]


def test_part_of_a_method_is_enough_as_in_the_comparison():
    assert len(of_experiments([row()], "dpll")) == 2
    with pytest.raises(UserError, match="no experiment of paws has metrics"):
        of_experiments([row()], "paws")


def test_a_budget_of_experiments_is_refused():
    done = CliRunner().invoke(app, ["leaderboard", "--experiments", "--budget", "labels_20"])
    assert isinstance(done.exception, UserError)
    assert str(done.exception).startswith("--budget: an experiment of DVC belongs to no budget")


def test_outside_of_a_repository_there_is_one_clear_line(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "stages.app", "leaderboard", "--experiments"],
        cwd=tmp_path,
        env={"PYTHONPATH": str(ROOT), "PATH": "", "DVC_NO_ANALYTICS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1
    assert "run it in a Git repository with DVC's experiments" in done.stderr
