"""What a comparison is planned to be, what it refuses, and what a change leaves as it was."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path

import pytest
from dvc.repo import Repo
from hypothesis import given
from hypothesis import strategies as st

from pipeline_lib.cells import pipeline
from pipeline_lib.cells.cell import Cell, cells, completed, concerning
from pipeline_lib.cells.length import stretched
from pipeline_lib.cells.plan import plans
from pipeline_lib.errors import UserError
from pipeline_lib.methods.phases import Phase
from pipeline_lib.overlay import overlay
from pipeline_lib.params.load import PARAMS, check, read_yaml
from stages import share

ROOT = Path(__file__).parents[2]
CONTENT = read_yaml(ROOT / PARAMS)


def with_compare(**changes):
    content = copy.deepcopy(dict(CONTENT))
    content["compare"] = {**content["compare"], **changes}
    return content


def test_every_combination_is_a_cell_in_the_order_of_the_file() -> None:
    compare = check(
        with_compare(
            methods={m: {"tried": 0, "params": {}} for m in ("mixmatch", "fixmatch")},
            variants={"standard": {}, "wide": {"model": {"width": 32}}},
            seeds=[3, 1],
        ),
        PARAMS,
    ).compare
    keys = [cell.key for cell in cells(compare)]
    assert len(keys) == 2 * 2 * 2 * 2 == len(set(keys))
    assert keys[:3] == [
        "mixmatch-standard-labels_20-3",
        "mixmatch-standard-labels_20-1",
        "mixmatch-standard-labels_100-3",
    ]


def test_overlays_are_laid_method_variant_budget() -> None:
    found = plans(
        with_compare(
            methods={"fixmatch": {"tried": 2, "params": {"train": {"epochs": 3, "batch_size": 8}}}},
            variants={
                "short": {"train": {"epochs": 2}, "methods": {"fixmatch": {"threshold": 0.5}}}
            },
            budgets={"few": {"split": {"few_shot": {"labels": 30}}, "data": {"limit": 500}}},
        )
    )
    params = found["fixmatch-short-few"]["params"]
    assert (params["train"]["epochs"], params["train"]["batch_size"]) == (2, 8)
    assert params["methods"] == {"fixmatch": {**CONTENT["methods"]["fixmatch"], "threshold": 0.5}}
    assert params["split"]["few_shot"]["labels"] == 30
    assert params["data"] == {"limit": 500}
    assert params["method"] == "fixmatch"


@pytest.mark.parametrize(
    ("changes", "left"),
    [
        ({"compare": {"seeds": [1, 2, 3, 4]}}, "all"),
        ({"compare": {"pairs": "first"}}, "all"),
        ({"seed": 5, "method": "proden", "report": {"grid_images": 1}}, "all"),
        ({"methods": {"mixmatch": {"alpha": 0.5}}}, "all but mixmatch"),
        ({"compare": {"ms_per_step": {"supervised-standard": {"train": 3}}}}, "all"),
        ({"train": {"epochs": 3}}, "none"),
    ],
)
def test_a_plan_changes_only_with_what_concerns_it(changes, left: str) -> None:
    before, after = plans(CONTENT), plans(overlay(CONTENT, changes))
    same = {name for name in before if before[name] == after[name]}
    kept = {"all": set(before), "none": set()}.get(
        left, {name for name in before if "mixmatch" not in name}
    )
    assert same == kept


def test_a_cell_has_all_of_params_yaml_and_nothing_of_other_cells() -> None:
    cell = Cell("paws", "standard", "labels_20", 7)
    plan = plans(CONTENT)[cell.planned]
    params = completed(plan, CONTENT, cell)
    assert check(params, PARAMS).seed == 7
    assert params["method"] == "paws"
    assert params["split"]["few_shot"]["labels"] == 20
    other = overlay(CONTENT, {"compare": {"seeds": [1, 2], "pairs": "first"}})
    assert completed(plan, other, cell) == params


FEW = {"methods": {"supervised": {"tried": 0, "params": {}}}}
REFUSED = [
    (
        FEW | {"variants": {"bad": {"train": {"lr": 1}}}},
        "params.yaml with compare: supervised, bad, labels_20: train.lr: unknown key",
    ),
    (
        FEW | {"variants": {"bad": {"split": {"protocol": "few_shot"}}}},
        "compare.variants.bad: split: may change model, train, methods only",
    ),
    (
        FEW | {"budgets": {"bad": {"train": {"epochs": 1}}}},
        "compare.budgets.bad: train: may change split and data.limit only",
    ),
    (
        FEW | {"budgets": {"bad": {"data": {"name": "cifar10"}}}},
        "compare.budgets.bad: data.name: may change split and data.limit only",
    ),
    (FEW | {"budgets": {"bad": {"data": 3}}}, "compare.budgets.bad: data: may change"),
    (FEW | {"variants": {"a-b": {}}}, "compare.variants.a-b"),
    (FEW | {"variants": {"x;touch y": {}}}, "compare.variants.x;touch y"),
    (FEW | {"budgets": {"$(touch y)": {}}}, "compare.budgets.$(touch y)"),
    (
        {"methods": {"fixmach": {"tried": 0, "params": {}}}},
        "compare.methods.fixmach: is not one of",
    ),
    ({"methods": {"fixmatch": {"params": {}}}}, "compare.methods.fixmatch.tried: missing"),
    ({"methods": {}}, "compare.methods"),
    ({"seeds": [1, 2, 1]}, "compare.seeds: 1 is there twice"),
    ({"seeds": []}, "compare.seeds"),
    ({"equal": "seconds", "amount": 10}, "compare.ms_per_step: lacks supervised-standard"),
    ({"equal": "time"}, "compare.equal: 'time': input should be"),
    ({"seeds": [1, -2]}, "compare.seeds.1: -2: input should be greater than or equal to 0"),
    (
        FEW | {"ms_per_step": {"supervised-standard": {"train": 0.0}}},
        "compare.ms_per_step.supervised-standard.train: 0.0: input should be greater than 0",
    ),
    (
        FEW | {"ms_per_step": {"supervised": {"train": 3.0}}},
        "compare.ms_per_step.supervised: is no method-variant of this comparison; take it out, or name one of "
        "supervised-standard",
    ),
    (
        {"methods": {"supervised": {"tried": 0, "params": {"methods": {"fixmatch": {}}}}}},
        "compare.methods.supervised.params.methods.fixmatch: supervised does not read it",
    ),
    (
        FEW | {"amount": 100, "variants": {"none": {"train": {"epochs": 0}}}},
        "compare: supervised, none, labels_20: train.epochs: 0 trains nothing",
    ),
    (
        FEW | {"amount": 19},
        "compare: supervised, standard, labels_20: compare.amount: 19 steps are less than one step in each of the "
        "20 epochs",
    ),
    (
        {"methods": {m: {"tried": 0, "params": {}} for m in ("cr_dpll", "fixmatch")}}
        | {"budgets": {"any": {"split": {"protocol": "auto"}}}},
        "split.protocol auto gives cr_dpll and fixmatch different labels",
    ),
]


@pytest.mark.parametrize(("changes", "message"), REFUSED, ids=[m for _, m in REFUSED])
def test_what_cannot_be_compared_is_refused_in_a_line(changes, message: str) -> None:
    with pytest.raises(UserError) as refused:
        plans(with_compare(**changes))
    assert message in str(refused.value)


def test_a_blank_table_gives_no_labels_of_its_own() -> None:
    """`-S data.table=` leaves an empty text there."""
    both = {m: {"tried": 0, "params": {}} for m in ("cr_dpll", "fixmatch")}
    content = with_compare(methods=both, budgets={"any": {"split": {"protocol": "auto"}}})
    content["data"]["table"] = ""
    with pytest.raises(UserError, match="different labels"):
        plans(content)


def test_methods_of_two_kinds_may_share_a_protocol() -> None:
    both = {m: {"tried": 0, "params": {}} for m in ("cr_dpll", "fixmatch", "oracle")}
    budget = {"mixed": {"split": {"protocol": "mixed"}}}
    assert len(plans(with_compare(methods=both, budgets=budget))) == 3


PARAMETERS = check(CONTENT, PARAMS)


def phase(steps: int) -> Phase:
    return Phase("train", steps, PARAMETERS.train)


def of_method(name: str):
    return check({**CONTENT, "method": name}, PARAMS)


@pytest.mark.parametrize(
    ("length", "steps_per_epoch"),
    [
        ({"unit": "steps", "amount": 720}, 36),
        ({"unit": "images", "amount": 720 * 960}, 36),
        ({"unit": "seconds", "amount": 9, "ms_per_step": {"train": 50.0}}, 9),
        ({"unit": "seconds", "amount": 9, "ms_per_step": {"train": 40.0, "search": 1800.0}}, 9),
        ({"unit": "steps", "amount": 20}, 1),
    ],
)
def test_a_training_is_stretched_to_its_length(length, steps_per_epoch: int) -> None:
    """20 epochs of 18 steps, each of 960 views."""
    content = stretched(of_method("fixmatch"), [(phase(360), 960)], length)
    assert content["train"]["steps_per_epoch"] == steps_per_epoch
    assert content["train"]["epochs"] == 20
    check(content, PARAMS)


@pytest.mark.parametrize(
    ("method", "course", "length", "words"),
    [
        (
            "fixmatch",
            [(360, 960)],
            {"unit": "steps", "amount": 19},
            "19 steps are less than one step",
        ),
        (
            "fixmatch",
            [(360, 960)],
            {"unit": "images", "amount": 19_000},
            "19,000 images are less than one step in each of the 20 epochs; raise it, or lower train.epochs",
        ),
        (
            "paws",
            [(360, 100), (60, 100)],
            {"unit": "images", "amount": 3600},
            "3,600 images leave nothing for methods.paws.finetune_steps",
        ),
        (
            "two_phase",
            [(500, 64), (1000, 64), (1500, 64)],
            {"unit": "steps", "amount": 2},
            "2 steps leave nothing for methods.two_phase.warmup_steps",
        ),
        ("two_phase", [(0, 64)], {"unit": "steps", "amount": 2}, "two_phase has no steps"),
        (
            "fixmatch",
            [(360, 64)],
            {"unit": "seconds", "amount": 2, "ms_per_step": {"pretrain": 3.0}},
            "compare.ms_per_step: does not say how long a step of the phase train takes",
        ),
        (
            "fixmatch",
            [(360, 64)],
            {"unit": "seconds", "amount": 2, "ms_per_step": {"train": 3.0, "search": 2500.0}},
            "less than one step in each of the 20 epochs",
        ),
    ],
)
def test_a_length_that_leaves_nothing_is_refused(method, course, length, words: str) -> None:
    """It would be trained for longer than the page says, or without a phase."""
    phases = [(phase(steps), views) for steps, views in course]
    with pytest.raises(UserError) as refused:
        stretched(of_method(method), phases, length)
    assert words in str(refused.value)


def test_what_trained_is_written_down_after_stretching() -> None:
    params = of_method("fixmatch")
    content = stretched(params, [(phase(360), 960)], {"unit": "steps", "amount": 720})
    kept = concerning(check(content, PARAMS))
    assert kept["train"]["steps_per_epoch"] == 36
    assert set(kept) == {"split", "model", "train", "evaluate", "data", "method", "methods"}
    assert set(kept["methods"]) == {"fixmatch"}


def test_all_phases_are_stretched_alike() -> None:
    course = [(phase(360), 448), (phase(60), 100)]
    content = stretched(of_method("paws"), course, {"unit": "images", "amount": 2 * 167_280})
    assert content["train"]["steps_per_epoch"] == 36
    assert content["methods"]["paws"]["finetune_steps"] == 120
    content = stretched(of_method("paws"), course, {"unit": "steps", "amount": 360})
    steps = 20 * content["train"]["steps_per_epoch"]
    assert steps + content["methods"]["paws"]["finetune_steps"] == 360, "fine-tuning takes the rest"
    lengths = (500, 1000, 1500)
    course = [(replace(phase(steps), name=str(steps)), 64) for steps in lengths]
    content = stretched(of_method("two_phase"), course, {"unit": "steps", "amount": 300})
    own = content["methods"]["two_phase"]
    assert (own["warmup_steps"], own["supervised_steps"], own["semi_supervised_steps"]) == (
        *(round(steps / 10) for steps in lengths),
    )
    assert content["train"]["steps_per_epoch"] is None


def test_a_ramp_is_stretched_with_the_training() -> None:
    params = of_method("mixmatch")
    assert params.method_params.ramp_steps == 200
    content = stretched(params, [(phase(360), 960)], {"unit": "steps", "amount": 180})
    assert content["methods"]["mixmatch"]["ramp_steps"] == 100
    content = stretched(params, [(phase(360), 960)], {"unit": "steps", "amount": 28})
    assert content["train"]["steps_per_epoch"] == 1
    assert content["methods"]["mixmatch"]["ramp_steps"] == 11, "as long as 20 of 360 steps have it"


def test_a_phase_without_steps_takes_no_time_and_gets_none() -> None:
    params = of_method("paws")
    content = params.model_dump()
    content["methods"]["paws"]["finetune_steps"] = 0
    params = check(content, PARAMS)
    course = [
        (replace(phase(360), name="pretrain"), 448),
        (replace(phase(0), name="finetune"), 100),
    ]
    length = {"unit": "seconds", "amount": 3.66, "ms_per_step": {"pretrain": 10.0}}
    for wanted in (length, {"unit": "steps", "amount": 366}):
        found = stretched(params, course, wanted)
        assert found["train"]["steps_per_epoch"] == 18
        assert found["methods"]["paws"]["finetune_steps"] == 0, "the steps left over are left out"


@given(st.dictionaries(st.sampled_from("ab"), st.integers()), st.data())
def test_an_overlay_says_what_it_says_and_leaves_the_rest(section, data) -> None:
    changes = data.draw(st.dictionaries(st.sampled_from("abc"), st.integers()))
    laid = overlay({"s": section, "t": 1}, {"s": changes})
    assert laid == {"s": {**section, **changes}, "t": 1}
    named = overlay({"compare": {"methods": section}}, {"compare": {"methods": changes}})
    assert named == {"compare": {"methods": changes}}, "names replace names"


def test_dvc_sees_the_pipeline_as_it_is_written(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=r"reports/compare/pipeline.yaml: not found; run from"):
        pipeline.show_to_dvc()
    pipeline.WRITTEN.parent.mkdir(parents=True)
    for text in ("stages: {}\n", "stages: {}\n# later\n"):
        pipeline.WRITTEN.write_text(text)
        pipeline.show_to_dvc()
        assert pipeline.SEEN.read_text() == text
    before = pipeline.SEEN.stat().st_mtime_ns
    pipeline.show_to_dvc()
    assert pipeline.SEEN.stat().st_mtime_ns == before


def test_push_and_pull_see_a_comparison_whose_lock_alone_is_in_git(tmp_path, monkeypatch):
    """DVC stages its dvc.lock by itself, and nobody the copy beside it."""
    monkeypatch.chdir(tmp_path)
    Repo.init(no_scm=True).close()
    pipeline.WRITTEN.parent.mkdir(parents=True)
    pipeline.WRITTEN.write_text("stages: {plan: {cmd: 'true'}}\n")
    monkeypatch.setattr(share, "_checkout", Path.cwd)  # in a folder that is none
    with pytest.raises(UserError, match="nothing is recorded"):
        share.pull()
    assert not pipeline.SEEN.exists()
    pipeline.SEEN.with_suffix(".lock").write_text("schema: '2.0'\nstages: {plan: {cmd: 'true'}}\n")
    with pytest.raises(UserError, match="nothing is recorded"):  # the stage has no outputs
        share.pull()
    assert pipeline.SEEN.read_bytes() == pipeline.WRITTEN.read_bytes()


@pytest.mark.parametrize(
    ("name", "whose"),
    [
        ("digits", "the images of digits (terms: CC BY 4.0)"),
        (
            "kuzushiji_mnist",
            "the images of kuzushiji_mnist (terms: CC BY-SA 4.0, with attribution)",
        ),
        ("image_folder", "your own images"),
    ],
)
def test_who_pushes_is_reminded_of_the_terms_of_the_images(tmp_path, capsys, name, whose):
    share._say_whose_images(tmp_path)
    assert capsys.readouterr().out == "", "nothing has run"
    lock = Path("dvc.lock").read_text()
    assert "        data.name: digits\n" in lock
    (tmp_path / "dvc.lock").write_text(lock.replace("data.name: digits", f"data.name: {name}"))
    share._say_whose_images(tmp_path)
    assert capsys.readouterr().out == f"note: with the rest go {whose}\n"
