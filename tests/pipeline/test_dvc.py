"""The pipeline as DVC runs it: what runs, what does not, and what a mistake leaves behind."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import pytest

from tests.pipeline.conftest import ROOT, Project

OUTPUTS = ("data", "models", "reports/train", "reports/evaluate")


def test_a_second_repro_has_nothing_to_do(project: Project) -> None:
    assert "Data and pipelines are up to date." in project.dvc("repro")


def test_every_output_is_there(project: Project) -> None:
    metrics = json.loads((project.root / "reports/metrics.json").read_text())
    assert metrics["method"] == "cr_dpll"
    assert metrics["test"]["accuracy_low"] <= metrics["test"]["accuracy"]
    card = ("reports/model_card.md", "reports/model_card.json")
    for name in ("reports/index.html", "reports/labels.parquet", "reports/labels.csv", *card):
        assert (project.root / name).stat().st_size > 0
    assert "test.accuracy" in project.dvc("metrics", "show")
    assert project.plots().get("errors", []) == []


def test_curves_begin_where_there_are_values(project: Project) -> None:
    """DVC gives a blank cell as text, which would be drawn as 0."""
    shown = project.plots()["data"]
    for name in ("loss", "accuracy"):
        drawn = shown[name][0]["content"]
        (only,) = drawn["transform"]
        found = re.fullmatch(
            r"datum\['(\w+)'\] !== '' && datum\['(\w+)'\] !== null", only["filter"]
        )
        assert found
        assert set(found.groups()) == {drawn["encoding"]["y"]["field"]}


def test_every_figure_is_shown_once(project: Project) -> None:
    shown = [name for name in project.plots()["data"] if "figures" in name]
    drawn = (project.root / "reports/figures").glob("*.svg")
    assert sorted(Path(name).name for name in shown) == sorted(f"{p.stem}.png" for p in drawn)


def test_freezing_a_stage_and_back_leaves_no_change(project: Project) -> None:
    """The file is written as DVC would write it."""
    before = (project.root / "dvc.yaml").read_bytes()
    project.dvc("freeze", "evaluate")
    assert (project.root / "dvc.yaml").read_bytes() != before
    project.dvc("unfreeze", "evaluate")
    assert (project.root / "dvc.yaml").read_bytes() == before


def test_nothing_is_said_of_a_comparison_that_nobody_has_run(project: Project) -> None:
    assert "Data and pipelines are up to date." in project.dvc("status")
    assert "WARNING" not in project.dvc("checkout")


def test_row_37_other_surroundings_give_the_same_bytes(project: Project) -> None:
    """One core, another hash seed, time zone, locale and umask, and the droppings of tools and editors."""
    before = project.bytes_of(*OUTPUTS, "reports/figures", "reports/tables")
    lock = (project.root / "dvc.lock").read_bytes()
    droppings = [
        project.root / "pipeline_lib" / name for name in (".losses.py.swp", "models/a.py~")
    ]
    for path in droppings:
        path.touch()
    assert "Data and pipelines are up to date." in project.dvc("repro")
    elsewhere = {"PYTHONHASHSEED": "7", "TZ": "Pacific/Kiritimati", "LC_ALL": "C"}
    elsewhere |= {
        "PYTHONUTF8": "0",
        "PYTHONCOERCECLOCALE": "0",
    }  # else Python would not mind that locale
    force = "umask 077; exec taskset -c 0 dvc repro --force"
    done = project.run("sh", "-c", force, **elsewhere)
    assert done.returncode == 0, done.stdout
    assert project.bytes_of(*OUTPUTS, "reports/figures", "reports/tables") == before
    assert (project.root / "dvc.lock").read_bytes() == lock


@pytest.mark.slow
def test_the_predictor_is_an_artifact_that_others_get(project: Project, tmp_path: Path) -> None:
    """As docs/how-to/use-the-model.md says: by a tag, or by its path."""
    repository, other = str(project.root), Project(tmp_path)
    assert project.run("git", "tag", "-a", "predictor@v1.0.0", "-m", "First").returncode == 0
    other.dvc("artifacts", "get", repository, "predictor", "-o", "models")
    other.dvc("get", repository, "models", "-o", "again")
    for name in ("predictor.json", "predictor.safetensors", "predictor.safetensors.sha256"):
        content = (project.root / "models" / name).read_bytes()
        assert (tmp_path / "models" / name).read_bytes() == content
        assert (tmp_path / "again" / name).read_bytes() == content


def test_switching_the_method_and_back_computes_once(project: Project) -> None:
    there = project.dvc("exp", "run", "-S", "method=supervised")
    assert "Running stage 'train'" in there
    assert "Running stage 'ingest'" not in there
    assert "WARNING" not in there
    back = project.dvc("exp", "run", "-S", "method=cr_dpll")
    assert "Running stage" not in back
    assert project.run("git", "status", "--porcelain").stdout == ""


def test_the_leaderboard_has_the_experiments_of_earlier_commits(project: Project) -> None:
    """Those of the test before; another commit has come since."""
    assert project.run("git", "commit", "--allow-empty", "-qm", "later").returncode == 0
    done = project.run(sys.executable, "-m", "stages.app", "leaderboard", "--experiments")
    assert done.returncode == 0, done.stdout
    rows = [line.split("\t") for line in done.stdout.splitlines() if "\t" in line][1:]
    assert {row[1] for row in rows} == {"cr_dpll", "supervised"}
    assert all(row[3] == "1" and " to " in row[5] for row in rows)
    accuracy = [float(row[4]) for row in rows]
    assert accuracy == sorted(accuracy, reverse=True)


@pytest.mark.parametrize(
    ("edited", "rerun"),
    [
        ("pipeline_lib/methods/proden.py", set()),
        ("pipeline_lib/params/sections.py", {"configure"}),
        ("pipeline_lib/figures/confusion.py", {"report"}),
        ("pipeline_lib/datasets/image_folder.py", set()),
        ("pipeline_lib/methods/cr_dpll.py", {"train"}),
        ("pipeline_lib/protocols/uniform_candidates.py", {"split"}),
    ],
)
def test_an_edit_reruns_what_uses_it(project: Project, edited: str, rerun: set[str]) -> None:
    path = project.root / edited
    before = path.read_bytes()
    path.write_bytes(before + b"\n# edited\n")
    try:
        status = json.loads(project.dvc("status", "--json", "dvc.yaml"))
    finally:
        path.write_bytes(before)
    assert set(status) == rerun


def test_the_section_of_another_method_reruns_only_the_check(project: Project) -> None:
    before = (project.root / "params.yaml").read_bytes()
    project.set(methods={"proden": {"view": "strong"}})
    try:
        assert set(json.loads(project.dvc("status", "--json", "dvc.yaml"))) == {"configure"}
    finally:
        (project.root / "params.yaml").write_bytes(before)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        pytest.param("method=cr_dplll", "method: 'cr_dplll' is not one of", marks=pytest.mark.slow),
        ("+methods.cr_dpll.lambda_mx=1", "unknown key (did you mean 'lambda_max'?)"),
    ],
)
def test_rows_1_2_3_a_mistake_in_params_costs_nothing(
    project: Project, override: str, message: str
) -> None:
    before, params = project.bytes_of(*OUTPUTS), project.root / "params.yaml"
    written = params.read_bytes()
    done = project.run("dvc", "exp", "run", "-S", override)
    # Not by Git: as DVC leaves its index, it may take the file for unchanged.
    params.write_bytes(written)
    assert done.returncode != 0
    assert message in done.stdout
    assert "Traceback" not in done.stdout
    after = project.bytes_of(*OUTPUTS)
    lost = before.keys() - after.keys()
    # DVC removes what a stage writes before it starts it: the two words of configure itself.
    assert lost <= {"data/supervision.json", "data/supervision.json.sha256"}
    assert after.items() <= before.items()
    project.dvc("checkout", "dvc.yaml")
    assert project.bytes_of(*OUTPUTS) == before


def test_the_script_of_the_tutorial_writes_the_digits_as_files(project: Project) -> None:
    page = (ROOT / "docs/tutorial.md").read_text(encoding="utf-8")
    (script,) = re.findall(r"^python - <<'END'\n.*?^END\n", page, re.MULTILINE | re.DOTALL)
    done = project.run("sh", "-euc", script)
    assert done.returncode == 0, done.stdout
    folder = project.root.parent
    assert len(list((folder / "my_images").glob("*/*.png"))) == 1797
    assert (folder / "candidates.csv").read_text().startswith("file,candidates\n0/0.png,0|")


def test_row_21_a_damaged_input_stops_the_stage(project: Project) -> None:
    images = project.root / "data/images.parquet"
    before = images.read_bytes()
    images.chmod(0o644)
    images.write_bytes(before[:-50] + b"x" + before[-49:])
    done = project.stage("report")
    images.write_bytes(before)
    assert done.returncode == 1
    assert "data/images.parquet: damaged: sha256 is" in done.stdout
    assert "Traceback" not in done.stdout


def test_images_that_a_person_put_into_the_folder_of_downloads_stay(project: Project) -> None:
    """They may be the only ones: DVC has no copy of them, and would remove them before the stage runs."""
    own = project.root / "data/raw/cat/1.png"
    own.parent.mkdir()
    own.write_bytes(b"the only copy")
    project.set(data={"name": "image_folder", "path": "data/raw"})
    done = project.run("dvc", "repro")
    assert done.returncode != 0
    assert (
        "data/raw: holds 1 files that no download has put there (data/raw/cat/1.png)" in done.stdout
    )
    assert own.read_bytes() == b"the only copy"
    own.unlink()
    own.parent.rmdir()
    project.run("git", "restore", "--staged", "--worktree", "params.yaml", "dvc.lock")
    assert "Running stage" not in project.dvc("repro")
