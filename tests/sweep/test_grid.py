"""Which jobs a grid makes, how they are named, and which grids are refused before anything starts."""

from pathlib import Path

import pytest

from pipeline_lib.errors import UserError
from pipeline_lib.sweep import plan
from pipeline_lib.sweep.project import Project

ROOT = Path(__file__).parents[2]
PARAMS = ROOT / "params.yaml"


def project(**changes: object) -> Project:
    known = Project(ROOT, "c" * 40, "/hub", "", None, "/cache", at_home=True)
    return known._replace(**changes)


def test_every_combination_in_the_order_of_the_settings() -> None:
    assert plan.grid(["method=cr_dpll,proden", "seed=1,2"], PARAMS) == [
        ("method=cr_dpll", "seed=1"),
        ("method=cr_dpll", "seed=2"),
        ("method=proden", "seed=1"),
        ("method=proden", "seed=2"),
    ]
    assert plan.grid(["train.milestones=[1,2]"], PARAMS) == [("train.milestones=[1,2]",)]


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (["seed"], "-S seed: Error parsing override 'seed'"),
        (["seed=1,,2"], "-S seed=1,,2: Error parsing override"),
        (["seed=1", "seed=2"], "-S seed: given twice; write its values as one list: seed=1,2"),
        (["seed=1,1"], "-S seed=1,1: a value is there twice"),
        (["metod=paws"], "-S metod=paws: Could not override 'metod'"),
        (
            ["method=proden,prodem"],
            "params.yaml with -S method=prodem: method: 'prodem' is not one of",
        ),
        (
            ["data.name=cifar10", "data.mirror=/srv/cifar10,../cifar10"],
            "data.mirror: ../cifar10 is relative, and jobs would look for it in their temporary clones",
        ),
        (["seed=1,x"], "params.yaml with -S seed=x: seed: 'x': input should be a valid integer"),
    ],
)
def test_what_cannot_be_run_is_refused_in_one_line(settings: list[str], said: str) -> None:
    with pytest.raises(UserError) as refused:
        plan.grid(settings, PARAMS)
    assert str(refused.value).startswith(said)
    assert "\n" not in str(refused.value)


def test_a_name_is_a_function_of_the_values_and_of_the_params() -> None:
    point = ("method=cr_dpll", "seed=1")
    name = plan.name_of(point, b"params")
    assert name.startswith("cr_dpll-1-")
    assert plan.name_of(point, b"params") == name
    others = [(point, b"other"), (("method=cr_dpll", "train.epochs=1"), b"params")]
    assert len({name, *(plan.name_of(*other) for other in others)}) == 3


@pytest.mark.parametrize("value", ["[1,2]", "../../x y", "a" * 300, "@{x}~^:?*", "...", "a/../b"])
def test_a_name_is_one_that_git_takes(value: str) -> None:
    name = plan.name_of((f"data.path={value}",), b"")
    assert len(name) < 60
    assert set(name) <= set("abcdefghijklmnopqrstuvwxyz0123456789_.-")
    assert ".." not in name
    assert name[0] not in ".-"


def test_an_experiment_is_run_and_pushed_to_the_hub() -> None:
    (job,) = plan.experiments(project(), [("seed=3",)])
    assert job.steps == (
        ("exp", "run", "-n", job.name, "-S", "seed=3"),
        ("exp", "push", "--no-cache", "origin", job.name),
    )
    assert job.ref == f"refs/exps/cc/{'c' * 38}/{job.name}"
    far = project(remote=("store", "s3://x"), cache="", at_home=False)
    (job,) = plan.experiments(far, [("seed=3",)])
    assert job.steps == (
        ("exp", "run", "--pull", "--allow-missing", "-n", job.name, "-S", "seed=3"),
        ("exp", "push", "--run-cache", "origin", job.name),
    )
