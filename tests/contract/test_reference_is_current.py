"""docs/reference is what the code says of params.yaml, and says it of every key."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator
from ruamel.yaml import YAML

from pipeline_lib.overlay import is_section
from pipeline_lib.params.load import Params
from pipeline_lib.reference import json_schema, tables
from tests.as_user import ROOT, run_app

REFERENCE = ROOT / "docs/reference"
ADVICE = "run `python -m stages.app reference`"
SCHEMA = json_schema()
SECTIONS = {"Params": SCHEMA} | SCHEMA["$defs"]


def read_params():
    return YAML(typ="safe").load((ROOT / "params.yaml").read_text(encoding="utf-8"))


def without_values(text: str) -> list[str]:
    return [re.sub(r"`[^`]*` \|$", "", line) for line in text.splitlines()]


def test_the_command_writes_what_the_repository_holds(tmp_path: Path) -> None:
    shutil.copy(ROOT / "params.yaml", tmp_path)
    done = run_app(tmp_path, "reference")
    assert (done.returncode, done.stderr) == (0, "")
    written = tmp_path / "docs/reference"
    assert {path.name for path in written.iterdir()} == {"params.schema.json", "params.md"}
    for name in ("params.schema.json", "params.md"):
        ours, kept = ((folder / name).read_text("utf-8") for folder in (written, REFERENCE))
        assert without_values(ours) == without_values(kept), ADVICE


def test_the_tables_show_the_values_of_params_yaml() -> None:
    changed = ["git", "diff", "--quiet", "HEAD", "--", "params.yaml", "docs/reference/params.md"]
    if subprocess.run(changed, cwd=ROOT, capture_output=True, check=False).returncode:
        pytest.skip("params.yaml is not as committed: an experiment, which the reference ignores")
    assert tables(read_params()) == (REFERENCE / "params.md").read_text("utf-8"), ADVICE


@pytest.mark.parametrize("name", SECTIONS)
def test_every_key_is_described(name: str) -> None:
    section = SECTIONS[name]
    assert section["description"]
    assert set(section["required"]) == set(section["properties"]), "no key has a default"
    missing = [
        key
        for key, schema in section["properties"].items()
        if "$ref" not in schema and not schema.get("description", "").strip()
    ]
    assert missing == [], "write a docstring under the field in pipeline_lib/params"


def test_every_key_has_a_row() -> None:
    text = (REFERENCE / "params.md").read_text("utf-8")
    parts = dict(part.split("\n", 1) for part in text.split("\n## ")[1:])

    def check(name: str, values: dict) -> None:
        for key, value in values.items():
            if is_section(value, f"{name}.{key}"):
                check(f"{name}.{key}".lstrip("."), value)
            else:
                assert f"| `{key}` |" in parts[name or "top level"], f"{name}.{key}: {ADVICE}"

    check("", read_params())


def test_params_yaml_fits_its_schema_and_names_it_for_editors() -> None:
    Draft202012Validator.check_schema(SCHEMA)
    Draft202012Validator(SCHEMA).validate(read_params())
    first = (ROOT / "params.yaml").read_text("utf-8").splitlines()[0]
    path = first.removeprefix("# yaml-language-server: $schema=")
    assert (ROOT / path).is_file(), "the first line of params.yaml tells editors of the schema"


@pytest.mark.parametrize(
    ("keys", "value"),
    [
        (("seed",), "1"),
        (("method",), "cr_dpl"),
        (("data", "sha256"), "123"),
        (("data", "image_size"), 2),
        (("split", "uniform_candidates", "rate"), 1.5),
        (("train", "learning_rate"), 0.0),
        (("train", "nesterov"), 1),
        (("train", "milestones"), ["a"]),
        (("methods", "cr_dpll", "lamda_max"), 1.0),
        (("compare", "seeds"), []),
        (("compare", "methods", "fixmatch", "tried"), -1),
        (("compare", "ms_per_step"), {"a-b": {"train": "fast"}}),
    ],
    ids=lambda value: ".".join(value) if isinstance(value, tuple) else None,
)
def test_the_schema_refuses_what_configure_refuses(keys: tuple[str, ...], value: object) -> None:
    content = read_params()
    section = content
    for key in keys[:-1]:
        section = section[key]
    section[keys[-1]] = value
    assert len(list(Draft202012Validator(SCHEMA).iter_errors(content))) == 1
    with pytest.raises(ValueError, match=keys[-1]):
        Params.model_validate(content)


def test_a_mistake_of_the_user_is_one_line(tmp_path: Path) -> None:
    done = run_app(tmp_path, "reference")
    assert done.returncode == 1
    assert done.stdout == ""
    where = "run from the root of the repository, where `git restore params.yaml` brings it back"
    assert done.stderr == f"params.yaml: not found; {where}\n"
    assert list(tmp_path.iterdir()) == []


def test_help_answers_without_loading_the_library() -> None:
    told = (
        "import stages.app, sys; print(*{'pydantic', 'polars', 'torch', 'numpy'} & {*sys.modules})"
    )
    done = subprocess.run([sys.executable, "-c", told], cwd=ROOT, capture_output=True, check=True)
    assert done.stdout.split() == []
    assert "reference" in run_app(ROOT, "--help").stdout


def test_the_schema_is_json_with_a_name() -> None:
    kept = json.loads((REFERENCE / "params.schema.json").read_text("utf-8"))
    assert kept == SCHEMA, ADVICE
    assert kept["title"] == "params.yaml"
