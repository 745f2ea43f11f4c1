"""dvc.yaml names, for every stage, exactly the code that the stage can run.

Too little, and an edit leaves stale results; too much, and an edit of a figure trains again.
"""

import ast
import itertools
from pathlib import Path
from typing import get_args

import grimp
import pytest
from ruamel.yaml import YAML

from pipeline_lib.params.methods import KINDS
from pipeline_lib.params.sections import Data
from pipeline_lib.params.split import Split

ROOT = Path(__file__).parents[2]
PIPELINE = YAML(typ="safe").load(ROOT / "dvc.yaml")["stages"]
COMPARISON = YAML(typ="safe").load(ROOT / "reports/compare/pipeline.yaml")["stages"]
STAGES = PIPELINE | COMPARISON
DATASETS = get_args(Data.model_fields["name"].annotation)
PROTOCOLS = set(get_args(Split.model_fields["protocol"].annotation)) - {"auto"}
# Found by name while running, so that no import statement shows them.
FOUND_BY_NAME = {
    "download": [f"pipeline_lib.datasets.{name}" for name in DATASETS],
    "ingest": [f"pipeline_lib.datasets.{name}" for name in DATASETS],
    "split": [f"pipeline_lib.protocols.{name}" for name in PROTOCOLS],
    "train": [f"pipeline_lib.methods.{name}" for name in KINDS],
    "cell": [f"pipeline_lib.protocols.{name}" for name in PROTOCOLS]
    + [f"pipeline_lib.methods.{name}" for name in KINDS],
}
CHECKING = {"configure", "plan"}  # they exist for the params


@pytest.fixture(scope="module")
def graph() -> grimp.ImportGraph:
    return grimp.build_graph("pipeline_lib", "stages", cache_dir=None)


def code_of(stage: str, graph: grimp.ImportGraph) -> set[str]:
    """Files that the stage imports, but for package docstrings and, where they are not checked, the params.

    params.yaml has no defaults: the values that reach a stage are those that dvc.lock records for it,
    and the classes that check them cannot change a result (docs/adr/0010-code-dependencies.md).
    """
    roots = {f"stages.{stage}", *FOUND_BY_NAME.get(stage, [])}
    modules = roots.union(*(graph.find_upstream_modules(root) for root in roots))
    files = {ROOT / f"{module.replace('.', '/')}.py" for module in modules}
    return {
        path.relative_to(ROOT).as_posix()
        for path in files
        if path.is_file() and (stage in CHECKING or "params" not in path.parts)
    }


def declared_by(stage: str) -> set[str]:
    files: set[Path] = set()
    for dependency in STAGES[stage]["deps"]:
        for method, dataset in itertools.product(KINDS, DATASETS):
            name = dependency.replace("${data.name}", dataset)
            for chosen in ("${method}", "${item.method}"):
                name = name.replace(chosen, method)
            path = ROOT / name
            files |= set(path.rglob("*.py")) if path.is_dir() else {path}
    return {
        path.relative_to(ROOT).as_posix()
        for path in files
        if path.suffix == ".py" and path.name != "__init__.py"
    }


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_depends_on_the_code_it_can_run(stage: str, graph: grimp.ImportGraph) -> None:
    needed, declared = code_of(stage, graph), declared_by(stage)
    assert sorted(needed - declared) == [], f"missing in dvc.yaml, stage {stage}"
    assert sorted(declared - needed) == [], f"needless in dvc.yaml, stage {stage}"


@pytest.mark.parametrize(("stage", "chosen"), [("train", "${method}"), ("cell", "${item.method}")])
def test_training_depends_on_the_chosen_method_and_on_what_methods_share(
    stage: str, chosen: str
) -> None:
    folder = "pipeline_lib/methods/"
    methods = {d for d in STAGES[stage]["deps"] if d.startswith(folder)}
    # pawsb is a configuration of paws
    shared = {"base", "phases", "semi_supervised", "support", "paws"}
    assert methods == {f"{folder}{name}.py" for name in (*shared, chosen)}


def test_a_cell_depends_on_the_data_that_its_stages_do() -> None:
    """Those of ingest; its split is its own."""
    data = {
        dependency
        for stage in ("split", "train", "evaluate")
        for dependency in PIPELINE[stage]["deps"]
        if dependency.startswith("data/")
        and not dependency.startswith(("data/split", "data/label_"))
    }
    data -= {"data/supervision.json", "data/supervision.json.sha256"}
    assert {d for d in COMPARISON["cell"]["deps"] if d.startswith("data/")} == data


@pytest.mark.parametrize("path", sorted((ROOT / "pipeline_lib").rglob("__init__.py")), ids=str)
def test_package_files_hold_no_code(path: Path) -> None:
    body = ast.parse(path.read_text(encoding="utf-8")).body
    assert [type(node) for node in body] == [ast.Expr], "the docstring alone"


def test_no_output_persists() -> None:
    """DVC's run-cache leaves out stages that have such: every job of a sweep would download and train anew."""
    for name in ("dvc.yaml", "reports/compare/pipeline.yaml"):
        assert "persist" not in (ROOT / name).read_text()
