"""What a mistake with a recipe is answered with: one line, and params.yaml as it was."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from pipeline_lib import recipes
from pipeline_lib.errors import UserError, closest
from tests.as_user import ROOT, run_app

HEAD = "title: a\nsource: b\ntarget: c\ncost: d\n"


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with params.yaml and three recipes of the repository."""
    monkeypatch.chdir(tmp_path)
    shutil.copy(ROOT / "params.yaml", tmp_path)
    (tmp_path / "recipes").mkdir()
    for name in ("_common", "_mixmatch", "mixmatch_cifar10_250", "mixmatch_cifar10_500"):
        shutil.copy(ROOT / "recipes" / f"{name}.yaml", tmp_path / "recipes")
    return tmp_path


def refused(name: str) -> str:
    """Apply a recipe; see that it is refused and that params.yaml is as it was."""
    before = Path("params.yaml").read_bytes()
    with pytest.raises(UserError) as caught:
        recipes.apply(recipes.read(name), Path("params.yaml"), f"recipes/{name}.yaml")
    assert Path("params.yaml").read_bytes() == before
    assert not list(Path().glob(".tmp-*"))
    return str(caught.value)


def test_applying_prints_the_difference_and_a_second_time_that_there_is_none(here: Path) -> None:
    done = run_app(here, "recipe", "apply", "mixmatch_cifar10_250")
    assert (done.returncode, done.stderr) == (0, "")
    assert "\n-  name: digits " in done.stdout
    assert "\n+  name: cifar10 " in done.stdout
    assert "mixmatch" in (here / "params.yaml").read_text("utf-8").split("method:")[1][:30]
    assert (
        run_app(here, "recipe", "apply", "mixmatch_cifar10_250").stdout
        == "params.yaml says so already\n"
    )
    assert sorted(path.name for path in here.iterdir()) == ["params.yaml", "recipes"]


@pytest.mark.parametrize("command", ["show", "apply"])
def test_an_unknown_name_is_answered_with_the_closest_ones(here: Path, command: str) -> None:
    done = run_app(here, "recipe", command, "mixmatch_cifar10_25")
    assert (done.returncode, done.stdout) == (1, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith("no recipe 'mixmatch_cifar10_25'; did you mean mixmatch_cifar10_250,")


def test_a_part_of_names_is_answered_with_some_of_them() -> None:
    names = [f"pico_cifar100_q0{rate}" for rate in range(5)]
    assert closest("PiCO", names, most=3) == names[:3]
    assert closest("p", names) == [], "it says too little"


def test_a_base_is_no_recipe(here: Path) -> None:
    assert "no recipe '_common'" in refused("_common")
    assert "no recipe '../params'" in refused("../params")


def test_a_params_yaml_that_is_wrong_already_is_told_of(here: Path) -> None:
    text = (here / "params.yaml").read_text("utf-8").replace("batch_size: 64", "batch_size: 0", 1)
    (here / "params.yaml").write_text(text, "utf-8")
    assert refused("mixmatch_cifar10_250").startswith("params.yaml: train.batch_size: 0: ")


@pytest.mark.parametrize(
    ("params", "told"),
    [
        ("trian: {epochs: 3}", "trian: unknown key (did you mean 'train'?)"),
        ("train: {epoch: 3}", "train.epoch: unknown key (did you mean 'epochs'?)"),
        ("train: {epochs: -1}", "train.epochs: -1: input should be greater than or equal to 0"),
        ("data: {name: image_folder}", "data.path: image_folder needs the folder"),
        ("method: mixmach", "method: 'mixmach' is not one of"),
    ],
)
def test_a_recipe_that_params_yaml_does_not_allow_is_refused(here, params, told) -> None:
    (here / "recipes/own.yaml").write_text(f"{HEAD}params:\n  {params}\n", "utf-8")
    assert refused("own").startswith(f"recipes/own.yaml: {told}")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (
            "title: a\nsource: b\ncost: d\nparams: {seed: 2}\n",
            "recipes/own.yaml: target: Field required",
        ),
        (f"{HEAD}nots: x\nparams: {{seed: 2}}\n", "recipes/own.yaml: nots: Extra inputs"),
        (HEAD, "recipes/own.yaml: params: Field required"),
        (
            f"{HEAD}params: {{train: {{milestones: []}}}}\n",
            "recipes/own.yaml: params: Value error, train.milestones is an empty",
        ),
        (f"{HEAD}params: {{}}\n", "recipes/own.yaml: params: "),
        (f"{HEAD}params: [\n", "recipes/own.yaml:"),
        (f"{HEAD}notes: one\nparams: {{seed: 2}}\n", "recipes/own.yaml: notes: "),
        ("based_on: own\n", "recipes/own.yaml: based_on: recipes/own.yaml is based on itself"),
        ("based_on: other\n", "recipes/own.yaml: based_on: recipes/other.yaml not found"),
        ("", "recipes/own.yaml: holds no sections"),
    ],
)
def test_a_recipe_that_is_not_one_is_told_of_in_a_line(here: Path, text: str, told: str) -> None:
    (here / "recipes/own.yaml").write_text(text, "utf-8")
    message = refused("own")
    assert message.startswith(told)
    assert len(message.splitlines()) == 1


def test_a_text_that_a_shell_would_split_is_no_flag(here: Path) -> None:
    text = HEAD + "params: {data: {name: image_folder, path: my photos}}\n"
    (here / "recipes/own.yaml").write_text(text, "utf-8")
    with pytest.raises(UserError, match=r"data\.path: 'my photos' cannot be a flag"):
        recipes.flags(recipes.read("own"))


@pytest.mark.parametrize("path", ["~/photos", "../a-b_c/d.tar.gz", "null", "1e5", "a=b", "x,y"])
def test_other_texts_come_through_as_they_are(here: Path, path: str) -> None:
    from dvc.utils.hydra import to_hydra_overrides

    text = HEAD + f"params: {{data: {{path: '{path}'}}}}\n"
    (here / "recipes/own.yaml").write_text(text, "utf-8")
    _, flag = recipes.flags(recipes.read("own")).split(" ")
    (override,) = to_hydra_overrides([flag])
    assert (override.key_or_group, override.value()) == ("data.path", path)


def test_without_a_folder_of_recipes_the_root_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="recipes: not found; run from the root"):
        recipes.names()
