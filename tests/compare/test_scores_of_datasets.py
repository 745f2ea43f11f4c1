"""Comparisons on several datasets: what is taken for the same contender, and for the same dataset."""

import numpy as np
import polars as pl
import pytest

from pipeline_lib.errors import UserError
from pipeline_lib.parquet import publish_table
from pipeline_lib.ranking.scores import scores


def write(folder, dataset, means, budgets=("few",)):
    """A comparison with these means, by method and variant; contenders are called as on its page."""
    methods, variants = ({key[part] for key in means} for part in (0, 1))
    rows = []
    for (method, variant), mean in means.items():
        name = (
            method
            if len(variants) == 1
            else variant
            if len(methods) == 1
            else f"{method} {variant}"
        )
        rows += [
            {
                "contender": name,
                "method": method,
                "variant": variant,
                "mean": mean,
                "budget": budget,
            }
            for budget in budgets
        ]
    table = pl.DataFrame(rows)
    publish_table(folder / "tables/groups.parquet", table.drop("method", "variant").to_arrow())
    cells = table.drop("mean").with_columns(dataset=pl.lit(dataset))
    publish_table(folder / "tables/cells.parquet", cells.to_arrow())
    return str(folder)


def test_contenders_are_the_same_by_method_and_variant(tmp_path):
    """On one page they are called by their methods, on the other by both."""
    one = write(tmp_path / "a", "svhn", {("fixmatch", "usual"): 0.8, ("mixmatch", "usual"): 0.7})
    means = {("mixmatch", "usual"): 0.5, ("fixmatch", "usual"): 0.6, ("fixmatch", "wide"): 0.9}
    other = write(tmp_path / "b", "cifar10", means)
    datasets, names, scores_DM = scores([one, other], None)
    assert (datasets, names) == (["svhn", "cifar10"], ["fixmatch", "mixmatch"])
    assert np.array_equal(scores_DM, [[0.8, 0.7], [0.6, 0.5]])


def test_variants_of_different_methods_are_different(tmp_path):
    """Both pages call them by their variants alone."""
    folders = [
        write(tmp_path / method, method, {(method, "small"): 0.8, (method, "full"): 0.7})
        for method in ("two_phase", "mixmatch")
    ]
    with pytest.raises(UserError, match="no method with a variant of the same name") as refused:
        scores(folders, None)
    assert f"{folders[0]} has two_phase-small, two_phase-full" in str(refused.value)


def test_variants_of_one_method_are_called_by_the_variant(tmp_path):
    means = {("paws", "small"): 0.8, ("paws", "full"): 0.7}
    folders = [write(tmp_path / name, name, means) for name in ("a", "b")]
    assert scores(folders, None)[1] == ["small", "full"]


def test_two_datasets_of_ones_own_get_names(tmp_path):
    means = {("fixmatch", "usual"): 0.8, ("mixmatch", "usual"): 0.7}
    folders = [write(tmp_path / name, "image_folder", means) for name in ("birds", "fish")]
    with pytest.raises(UserError, match=r"image_folder: is there twice; .* by NAME=FOLDER"):
        scores(folders, None)
    named = [f"birds={folders[0]}", f"fish={folders[1]}"]
    assert scores(named, None)[0] == ["birds", "fish"]
    equals = write(tmp_path / "a=b", "svhn", means)
    assert scores([folders[0], equals], None)[0] == ["image_folder", "svhn"]


def test_a_comparison_that_has_not_run_is_told(tmp_path):
    with pytest.raises(UserError, match=r"groups\.parquet: missing; `make compare` makes it"):
        scores([str(tmp_path)], None)


def test_a_budget_is_chosen_where_there_are_several(tmp_path):
    means = {("fixmatch", "usual"): 0.8}
    folder = write(tmp_path / "a", "svhn", means, budgets=("few", "many"))
    with pytest.raises(UserError, match="has budgets few, many; choose one with --budget"):
        scores([folder], None)
    with pytest.raises(UserError, match="has no budget none, but few, many"):
        scores([folder], "none")
    assert scores([folder], "many")[2] == [[0.8]]
