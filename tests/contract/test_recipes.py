"""Every recipe is valid, complete, and the same run whether it is applied or given as flags."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest
from dvc.utils.hydra import apply_overrides, to_hydra_overrides
from ruamel.yaml import YAML

from benchmarks import gpu_steps
from pipeline_lib import recipes
from pipeline_lib.cells.cell import cells
from pipeline_lib.cells.plan import plans
from pipeline_lib.errors import UserError
from pipeline_lib.params.load import check, read_yaml
from pipeline_lib.params.methods import KINDS
from tests.as_user import run_app

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "recipes"
PARAMS = ROOT / "params.yaml"
RECIPES = recipes.read_all(FOLDER)
COMPARISONS = [name for name, recipe in RECIPES.items() if "compare" in recipe.params]
NAMES = [name for name in RECIPES if name not in COMPARISONS]
SOURCES = ("ICML 20", "ICLR 20", "ICCV 20", "NeurIPS 20", "USB", "Masterful")
# How fast and where, which is the user's business, and what a public dataset has no use for.
FREE = {
    *("data.path", "data.mirror", "data.sha256"),
    *("train.device", "train.threads", "train.reproducible", "train.checkpoint_seconds"),
    *("train.checkpoint_steps", "train.devices"),
    "train.memory_budget",  # reads the same pixels from elsewhere
}


@pytest.fixture(scope="module")
def content():
    return read_yaml(PARAMS)


def keys(sections) -> set[str]:
    return {key for key, _ in recipes.flatten(sections)}


def from_flags(text: str):
    """The overlay that Hydra, DVC's parser, makes of `-S key=value ...` after the shell has split it."""
    words = text.split()
    assert words[::2] == ["-S"] * (len(words) // 2)
    overlay: dict = {}
    for override in to_hydra_overrides(words[1::2]):
        *sections, last = override.key_or_group.split(".")
        place = overlay
        for section in sections:
            place = place.setdefault(section, {})
        place[last] = override.value()
    return overlay


def comments(text: str) -> list[str]:
    """Every comment, in order; its column may move."""
    return [line.split("# ", 1)[1] for line in text.splitlines() if "# " in line]


@pytest.mark.parametrize("name", NAMES)
def test_a_recipe_gives_params_that_are_allowed(name: str, content) -> None:
    params = check(recipes.overlay(content, RECIPES[name].params), FOLDER / f"{name}.yaml")
    assert params.method == RECIPES[name].params["method"]


@pytest.mark.parametrize("name", NAMES)
def test_a_recipe_says_what_it_is_in_its_own_file(name: str) -> None:
    own = read_yaml(FOLDER / f"{name}.yaml")
    assert own["title"]
    assert own["target"]
    recipe = RECIPES[name]
    assert any(source in recipe.source for source in SOURCES)
    assert len(recipe.notes) == len(set(recipe.notes))


@pytest.mark.parametrize("name", NAMES)
def test_the_result_does_not_depend_on_what_else_params_yaml_says(name: str, content) -> None:
    recipe = RECIPES[name]
    method = recipe.params["method"]
    protocol = {"partial": "uniform_candidates", "few_shot": "few_shot", "clean": None}
    chosen = protocol[KINDS[method]]
    needed = {
        key
        for section in ("data", "split", "model", "train")
        for key in keys({section: content[section]})
    }
    needed -= FREE
    sections = {name for name, value in content["split"].items() if isinstance(value, dict)}
    others = tuple(f"split.{name}." for name in sections - {chosen})
    needed = {key for key in needed if not key.startswith(others)}
    needed |= {"method"} | keys({"methods": {method: content["methods"][method]}})
    assert sorted(needed - keys(recipe.params)) == [], (
        f"say them in recipes/{name}.yaml or its base"
    )
    assert set(recipe.params["methods"]) == {method}, "base it on a recipe of its own method"


@pytest.mark.parametrize("name", NAMES)
def test_the_flags_say_the_same(name: str) -> None:
    recipe = RECIPES[name]
    assert from_flags(recipes.flags(recipe)) == recipe.params


@pytest.mark.parametrize("name", NAMES)
def test_applying_keeps_every_comment_and_changes_nothing_else(name: str, content) -> None:
    before = PARAMS.read_text("utf-8")
    after = recipes.edited(before, RECIPES[name].params)
    assert comments(after) == comments(before)
    assert YAML(typ="safe").load(after) == recipes.overlay(content, RECIPES[name].params)


@pytest.mark.parametrize(
    "name", ["cr_dpll_cifar10_q05_budget", "mixmatch_svhn_extra_250", "paws_imagenet_1pct"]
)
def test_applying_leaves_the_bytes_that_dvc_would(name: str, tmp_path: Path) -> None:
    """And a second time changes nothing."""
    path = tmp_path / "params.yaml"
    path.write_bytes(PARAMS.read_bytes())
    apply_overrides(path, recipes.flags(RECIPES[name]).split()[1::2])
    after = recipes.edited(PARAMS.read_text("utf-8"), RECIPES[name].params)
    assert after == path.read_text("utf-8")
    assert recipes.edited(after, RECIPES[name].params) == after


@pytest.mark.parametrize("name", COMPARISONS)
def test_a_comparison_can_be_planned_and_says_all_of_itself(name: str, content) -> None:
    own = read_yaml(FOLDER / f"{name}.yaml")
    assert own["title"]
    assert own["target"]
    assert own["cost"]
    said = set(content["compare"]) - set(RECIPES[name].params["compare"])
    assert said == set(), "a key that is left out is that of whatever was compared before"
    planned = plans(recipes.overlay(content, RECIPES[name].params))
    assert len({str(plan) for plan in planned.values()}) == len(planned), "two are the same"
    assert set(RECIPES[name].params["compare"]["budgets"]) == set(
        own["params"]["compare"]["budgets"]
    )
    params = check(recipes.overlay(content, RECIPES[name].params), FOLDER / f"{name}.yaml")
    assert len(list(cells(params.compare))) == len(planned) * len(params.compare.seeds)


@pytest.mark.parametrize("name", COMPARISONS)
def test_applying_a_comparison_replaces_the_one_before(name: str, content) -> None:
    before = PARAMS.read_text("utf-8")
    after = recipes.edited(before, RECIPES[name].params)
    assert comments(after) == comments(before)
    assert YAML(typ="safe").load(after)["compare"] == RECIPES[name].params["compare"]
    assert recipes.edited(after, RECIPES[name].params) == after
    with pytest.raises(UserError, match="a mapping of names cannot be a flag"):
        recipes.flags(RECIPES[name])


@pytest.mark.parametrize("milestones", [[1, 2, 3], [7]], ids=["longer", "shorter"])
def test_lists_may_change_their_length(milestones: list[int]) -> None:
    before = PARAMS.read_text("utf-8")
    after = recipes.edited(before, {"train": {"milestones": milestones}})
    assert YAML(typ="safe").load(after)["train"]["milestones"] == milestones
    assert comments(after) == comments(before)


def steps(name: str) -> int:
    train = RECIPES[name].params["train"]
    return train["epochs"] * train["steps_per_epoch"]


@pytest.mark.parametrize("name", [name for name in NAMES if name.startswith("mixmatch")])
def test_mixmatch_evaluates_as_often_as_its_official_code(name: str) -> None:
    train = RECIPES[name].params["train"]
    assert train["steps_per_epoch"] * train["batch_size"] * train["evaluate_every"] == 2**16
    assert steps(name) * 64 == (2**22 if "budget" in name else 2**26)
    assert (train["keep_last"], train["ema_decay"]) == (20, 0.999)
    assert RECIPES[name].params["split"]["labeled_in_unlabeled"] is False


def test_fixmatch_takes_as_many_steps_as_published() -> None:
    assert steps("fixmatch_cifar10_40") == steps("freematch_cifar10_250") == 2**20


def test_paws_warms_up_and_cools_down_as_its_official_code() -> None:
    train = RECIPES["paws_cifar10_4000"].params["train"]
    start, peak, end = 0.8, 3.2, 0.032
    assert train["learning_rate"] == peak
    assert train["learning_rate"] * train["warmup_start"] == pytest.approx(start)
    assert train["learning_rate"] * train["cosine_end"] == pytest.approx(end)
    assert 50_000 // train["batch_size"] * train["epochs"] == 117_000


@pytest.mark.parametrize("name", [name for name in NAMES if "_q0" in name])
def test_the_rate_of_candidates_is_the_one_in_the_name(name: str) -> None:
    digits = name.split("_q")[1].split("_")[0]
    rate = RECIPES[name].params["split"]["uniform_candidates"]["rate"]
    assert rate == float(f"0.{digits[1:]}")
    assert f"q = {rate}" in RECIPES[name].title


@pytest.mark.parametrize("name", [name for name in NAMES if name.split("_")[-1].isdigit()])
def test_the_number_of_labels_is_the_one_in_the_name(name: str) -> None:
    params, labels = RECIPES[name].params, int(name.split("_")[-1])
    if params["data"].get("fold") is not None:
        assert (labels, params["split"]["protocol"]) == (1000, "given"), "as many as a fold has"
        return
    assert params["split"]["few_shot"]["labels"] == labels
    # Images without a label would make `auto` take the labels as given, all of them.
    assert params["data"]["name"] != "stl10" or params["split"]["protocol"] == "few_shot"


@pytest.mark.parametrize("method", ["cr_dpll", "mixmatch", "paws", "two_phase", "fixmatch"])
def test_each_headline_has_a_budget_version_that_says_what_is_measured(method: str) -> None:
    (name,) = [n for n in NAMES if n.startswith(method) and n.endswith("_budget")]
    recipe = RECIPES[name]
    assert read_yaml(FOLDER / f"{name}.yaml")["based_on"] == name.removesuffix("_budget")
    assert "estimated, not measured" in recipe.cost or "measured on" in recipe.cost
    assert recipe.target.startswith("none published")


# Images of a step of the full recipe that PASSES counts.
BATCHES = {"cr_dpll": 64, "mixmatch": 64, "fixmatch": 64, "paws": 256}


@pytest.mark.parametrize("method", BATCHES)
def test_the_cost_of_a_budget_is_that_of_its_passes_and_holds(method: str) -> None:
    (name,) = [n for n in NAMES if n.startswith(method) and n.endswith("_budget")]
    train = RECIPES[name].params["train"]
    per_epoch = train["steps_per_epoch"] or 50_000 // train["batch_size"]
    passes = zip(gpu_steps.PASSES[method], gpu_steps.FLOP, strict=True)
    step = sum(n * gflop for n, gflop in passes) * 1e9 * train["batch_size"] / BATCHES[method]
    flop = train["epochs"] * per_epoch * step
    said = re.match(
        r"([\d.]+) EFLOP .* below an hour on a GPU .* (\d+) TFLOP/s", RECIPES[name].cost
    )
    assert said
    assert float(said[1]) == pytest.approx(flop / 1e18, rel=0.02)
    assert flop / (int(said[2]) * 1e12) < 3600


def test_the_page_is_current() -> None:
    page = (ROOT / "docs/reference/recipes.md").read_text("utf-8")
    advice = "python -m stages.app recipe list --markdown > docs/reference/recipes.md"
    assert page == recipes.markdown(RECIPES), advice
    assert advice in page.replace("\n", " ")


def test_the_example_of_the_how_to_page_works(tmp_path: Path, content) -> None:
    page = (ROOT / "docs/how-to/recipes.md").read_text("utf-8")
    shutil.copytree(FOLDER, tmp_path / "recipes")
    own = tmp_path / "recipes/mine.yaml"
    own.write_text(page.split("```yaml\n")[1].split("```")[0], "utf-8")
    recipe = recipes.read("mine", own.parent)
    params = check(recipes.overlay(content, recipe.params), own)
    assert (params.data.path, params.train.epochs, params.train.steps_per_epoch) == (
        "../photos",
        64,
        1024,
    )
    named = set(re.findall(r"recipe (?:show|apply) (\w+)", page))
    assert named <= set(NAMES)
    with pytest.raises(UserError) as caught:
        recipes.read("fixmatch_cifar10_400", FOLDER)
    assert str(caught.value) in page


def test_what_keys_of_other_codebases_are_called_here_exists(content) -> None:
    page = (ROOT / "docs/how-to/recipes.md").read_text("utf-8")
    table = page.split("| theirs | here |\n|---|---|\n")[1].split("\n\n")[0]
    here = [
        name for row in table.splitlines() for name in re.findall("`(.*?)`", row.split(" | ")[1])
    ]
    keys = [
        name
        for name in here
        if name == "method" or re.match(r"(data|split|model|train|methods)\.", name)
    ]
    assert len(keys) > 30
    for key, _, value in (name.partition("=") for name in keys):
        *sections, last = key.split(".")
        change = {last: YAML(typ="safe").load(value)} if value else {}
        for section in reversed(sections):
            change = {section: change}
        found = check(recipes.overlay(content, change), Path("params.yaml"))
        for name in (*sections, last):
            found = getattr(found, name)


def test_names_come_in_the_order_of_their_numbers() -> None:
    assert recipes._in_order("a_40") < recipes._in_order("a_250") < recipes._in_order("a_4000")
    assert recipes._in_order("a_q005") < recipes._in_order("a_q01") < recipes._in_order("a_q05")


def test_the_list_is_plain_where_it_is_no_terminal_and_flags_are_one_line() -> None:
    def run(*arguments: str) -> str:
        return run_app(ROOT, "recipe", *arguments).stdout

    listed = run("list").splitlines()
    assert [line.split(":")[0] for line in listed] == list(RECIPES)
    assert run("show", "paws_cifar10_4000", "--flags").count("\n") == 1
    assert RECIPES["paws_cifar10_4000"].title in run("show", "paws_cifar10_4000")
