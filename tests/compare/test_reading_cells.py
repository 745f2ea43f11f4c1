"""From the files of cells to the tables: against numbers computed anew from the predictions, by numpy and scipy."""

import itertools
import json
import shutil

import numpy as np
import polars as pl
import pyarrow.parquet as pq
import pytest
from scipy import stats

from pipeline_lib.artifacts import publish_json, publish_text
from pipeline_lib.cells.cell import cells
from pipeline_lib.compare.build import build_comparison, tables
from pipeline_lib.compare.read import read_results
from pipeline_lib.errors import UserError
from pipeline_lib.evaluation.tables import HeldOut, publish_predictions
from pipeline_lib.parquet import publish_table
from tests.compare.made_up import compare_section

CLASSES = ["zero", "one", "two"]
TEST = 90
METHODS = ("supervised", "mixmatch", "paws")
BUDGETS = ("few", "many")
SEEDS = (1, 2, 3, 1 << 40)
TIMES = {
    "supervised-standard": {"one": 10.0, "two": 10.0},
    "mixmatch-standard": {"search": 200.0, "one": 10.0, "two": 30.0},
    "paws-standard": {"one": 5.0, "two": 5.0},
}
PARAMS = {"split": {"val_labels": "clean"}, "model": {}, "train": {"epochs": 2}}
SECONDS = {"supervised": 1.0, "mixmatch": 0.2 + 0.6 + 1.2, "paws": 0.5}


def write_cell(folder, cell, *, same_images=True):
    """What `read_results` reads of a cell; later methods, and the budget `many`, are better."""
    rng = np.random.default_rng([METHODS.index(cell.method), *cell.key.encode()])
    share = 0.6 + 0.08 * METHODS.index(cell.method) + 0.05 * BUDGETS.index(cell.budget)
    split_rng = np.random.default_rng([cell.seed, *cell.budget.encode()])
    truth_N = (split_rng if not same_images else np.random.default_rng(0)).integers(0, 3, TEST)
    ids_N = np.arange(TEST) + (0 if same_images else 1000 * SEEDS.index(cell.seed))
    guess_NK = rng.random((TEST, 3))
    guess_NK[np.arange(TEST), truth_N] += 3 * (rng.random(TEST) < share)
    guess_NK = (guess_NK / guess_NK.sum(axis=1, keepdims=True)).astype(np.float32)
    predicted_N = guess_NK.argmax(axis=1)
    evaluated = folder / cell.key / "reports/evaluate"
    tested = HeldOut(ids_N, ids_N, truth_N)
    publish_predictions(evaluated / "predictions.parquet", tested, predicted_N, guess_NK)
    recall = [float((predicted_N == k)[truth_N == k].mean()) for k in range(3)]
    rows = {"class": CLASSES, "images": [int((truth_N == k).sum()) for k in range(3)]}
    publish_text(evaluated / "per_class.csv", pl.DataFrame(rows | {"recall": recall}).write_csv())
    curve = {"epoch": [0, 1, 2], "val_accuracy": [0.3, 0.5, share]}
    curve |= {"disambiguation_accuracy": [None] * 3, "coverage": [None, 0.5, 0.9]}
    publish_text(evaluated / "label_curve.csv", pl.DataFrame(curve).write_csv())
    history = {"epoch": [0, 1, 2], "step": [0, 50, 100], "loss": [None, 2.0, 1.0]}
    history |= {"val_accuracy": [0.9] * 3}  # against labels as they were given
    publish_text(folder / cell.key / "reports/train/history.csv", pl.DataFrame(history).write_csv())
    phases = [
        {"phase": "one", "first_step": 0, "end": 60, "views_per_step": 10, "ended": "so"},
        {"phase": "two", "first_step": 60, "end": 100, "views_per_step": 30, "ended": "so"},
    ]
    about = {"phases": phases, "unfinished": [], "made_with": {"torch": "2.15.0"}}
    publish_json(folder / cell.key / "reports/train/phases.json", about)
    if cell.method == "paws":
        publish_text(evaluated / "embedding.csv", "x,y,kind,class,predicted\n0,1,test,one,two\n")
    publish_text(folder / cell.key / "reports/train/range_test.csv", "\n")
    write_metrics(folder, cell, truth_N, predicted_N)
    publish_json(folder / cell.key / "cell.json", {"params": PARAMS})
    write_split(folder / cell.key / "data/split", cell, split_rng)


def write_metrics(folder, cell, truth_N, predicted_N):
    right = float(np.mean(truth_N == predicted_N))
    names = ("accuracy", "balanced_accuracy", "macro_f1", "nll", "brier", "ece")
    content = {
        "method": cell.method,
        "dataset": "toy",
        "protocol": "few_shot",
        "test": {
            **dict.fromkeys(names, round(right, 6)),
            **({} if cell.budget == "few" else {"median_accuracy": right / 2, "median_of": 20}),
            "images": TEST,
        },
        "val": {"accuracy": 0.7, "images": 50},
        "train": {"disambiguation_accuracy": None},
    }
    publish_json(folder / cell.key / "reports/metrics.json", content, sidecar=False)


def write_split(folder, cell, rng):
    for part in ("train", "val", "test"):
        table = pl.DataFrame({"id": rng.integers(0, 1000, 5), "budget": cell.budget, "part": part})
        publish_table(folder / f"{part}.parquet", table.to_arrow())
    roles = {"labeled_and_unlabeled": 20 if cell.budget == "few" else 100, "unlabeled": 500}
    publish_json(
        folder / "summary.json",
        {"roles": {"train": roles, "val": {"unlabeled": 50}}, "empirical_rate": 0.9},
    )


def write(tmp_path, section, **options):
    for cell in cells(section):
        write_cell(tmp_path / "cells", cell, **options)
    publish_json(tmp_path / "classes.json", {"classes": CLASSES})
    return section


def read(tmp_path, section):
    return read_results(section, tmp_path / "classes.json", tmp_path / "cells")


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    folder = tmp_path_factory.mktemp("written")
    section = write(
        folder, compare_section(METHODS, budgets=BUDGETS, seeds=SEEDS, ms_per_step=TIMES)
    )
    return folder, section


@pytest.fixture
def copy(written, tmp_path):
    folder, section = written
    shutil.copytree(folder, tmp_path / "copy")
    return tmp_path / "copy", section


def accuracies(folder, method, budget):
    """correct_SN, by pyarrow and numpy alone."""
    found = []
    for seed in SEEDS:
        path = (
            folder / f"cells/{method}-standard-{budget}-{seed}/reports/evaluate/predictions.parquet"
        )
        table = pq.read_table(path)
        found.append(table["label"].to_numpy() == table["predicted"].to_numpy())
    return np.stack(found)


def holm(ps):
    """Step down: the k-th smallest of m times m - k, never below one before it, never above 1."""
    order = np.argsort(ps)
    adjusted, least = np.empty(len(ps)), 0.0
    for k, place in enumerate(order):
        least = max(least, min((len(ps) - k) * ps[place], 1.0))
        adjusted[place] = least
    return adjusted


def test_means_are_those_of_the_predictions(written):
    folder, section = written
    groups = tables(read(folder, section)).groups
    assert len(groups) == len(METHODS) * len(BUDGETS)
    for method, budget in itertools.product(METHODS, BUDGETS):
        (row,) = groups.filter(contender=method, budget=budget).rows(named=True)
        accuracy_S = accuracies(folder, method, budget).mean(axis=1)
        assert row["seeds"] == 4
        assert row["mean"] == pytest.approx(accuracy_S.mean(), abs=1e-6)
        assert row["sd"] == pytest.approx(np.std(accuracy_S, ddof=1), abs=1e-6)
        half = stats.t.ppf(0.975, 3) * np.std(accuracy_S, ddof=1) / 2
        assert row["low"] == pytest.approx(accuracy_S.mean() - half, abs=1e-6)
        assert row["high"] == pytest.approx(accuracy_S.mean() + half, abs=1e-6)
        assert row["labeled"] == {"few": 20, "many": 100}[budget]
        assert (row["steps"], row["views"]) == (100, 60 * 10 + 40 * 30)
        assert row["seconds"] == pytest.approx(SECONDS[method])


def test_the_other_measures_have_means_and_spreads_too(written):
    """Blank where metrics.json has none: the budget `few` kept no snapshots, and three classes have no top five."""
    folder, section = written
    found = tables(read(folder, section))
    assert found.cells["top5_accuracy"].is_null().all()
    for row in found.groups.rows(named=True):
        own = found.cells.filter(contender=row["contender"], budget=row["budget"])
        for measure in ("balanced_accuracy", "macro_f1", "median_accuracy"):
            mean, sd = row[measure], row[f"{measure}_sd"]
            if (measure, row["budget"]) == ("median_accuracy", "few"):
                assert (mean, sd, own[measure].null_count()) == (None, None, 4)
                continue
            share = 0.5 if measure == "median_accuracy" else 1
            assert own[measure].to_list() == pytest.approx(own["accuracy"] * share, abs=1e-6)
            assert (mean, sd) == pytest.approx((row["mean"] * share, row["sd"] * share), abs=2e-6)


def test_intervals_over_images_are_those_of_a_bootstrap(written):
    """Of other draws, so that the ends agree but for the spread of a bootstrap of 2000."""
    folder, section = written
    groups = tables(read(folder, section)).groups
    rng = np.random.default_rng(11)
    for row in groups.rows(named=True):
        correct_SN = accuracies(folder, row["contender"], row["budget"])
        means = correct_SN[:, rng.integers(0, TEST, (4000, TEST))].mean(axis=(0, 2))
        low, high = np.quantile(means, [0.025, 0.975])
        assert row["image_low"] == pytest.approx(low, abs=0.008)
        assert row["image_high"] == pytest.approx(high, abs=0.008)


def test_differences_are_those_of_the_predictions(written):
    folder, section = written
    comparisons = tables(read(folder, section)).comparisons
    asked = [
        (budget, later, earlier)
        for budget in BUDGETS
        for earlier, later in itertools.combinations(METHODS, 2)
    ]
    assert comparisons.select("budget", "first", "second").rows() == asked
    differences = [
        accuracies(folder, first, budget).mean(axis=1)
        - accuracies(folder, second, budget).mean(axis=1)
        for budget, first, second in asked
    ]
    ps = np.array([stats.ttest_rel(d, np.zeros(4)).pvalue for d in differences])
    holms = holm(comparisons["p"].to_numpy())
    rows = zip(comparisons.rows(named=True), differences, ps, holms, strict=True)
    for row, difference_S, p, p_holm in rows:
        spread = np.std(difference_S, ddof=1)
        half = stats.t.ppf(0.975, 3) * spread / 2
        assert row["difference"] == pytest.approx(difference_S.mean(), abs=1e-6)
        assert row["low"] == pytest.approx(difference_S.mean() - half, abs=1e-6)
        assert row["high"] == pytest.approx(difference_S.mean() + half, abs=1e-6)
        assert row["effect_size"] == pytest.approx(difference_S.mean() / spread, abs=1e-5)
        assert row["p_t"] == pytest.approx(p, rel=1e-5)
        assert row["p"] == max(row["p_t"], row["p_crossed"])
        assert row["p_holm"] == pytest.approx(p_holm, rel=1e-5)
        assert (row["refused"], row["p_mcnemar"]) == (None, None)
        assert power(spread, row["seeds_for_a_point"], 0.05 / 6) >= 0.8
        assert power(spread, row["seeds_for_a_point"] - 1, 0.05 / 6) < 0.8


def power(spread, seeds, alpha, difference=0.01):
    """Of a two-sided paired t-test, in the right direction, by the noncentral t distribution."""
    if seeds < 3:
        return 0.0
    critical = stats.t.ppf(1 - alpha / 2, seeds - 1)
    return stats.nct.sf(critical, seeds - 1, difference / spread * np.sqrt(seeds))


def test_agreement_is_that_of_the_predictions(written):
    folder, section = written
    agreements = tables(read(folder, section)).agreements
    for row in agreements.rows(named=True):
        same, kappas, both_wrong = [], [], []
        for seed in SEEDS:
            one, other = (
                pq.read_table(
                    folder
                    / f"cells/{name}-standard-{row['budget']}-{seed}/reports/evaluate/predictions.parquet"
                )
                for name in (row["first"], row["second"])
            )
            a, b = one["predicted"].to_numpy(), other["predicted"].to_numpy()
            truth = one["label"].to_numpy()
            chance = sum(np.mean(a == k) * np.mean(b == k) for k in range(3))
            same.append(np.mean(a == b))
            kappas.append((same[-1] - chance) / (1 - chance))
            both_wrong.append(np.mean((a != truth) & (b != truth)))
        assert row["same"] == pytest.approx(np.mean(same), abs=1e-6)
        assert row["kappa"] == pytest.approx(np.mean(kappas), abs=1e-6)
        assert row["both_wrong"] == pytest.approx(np.mean(both_wrong), abs=1e-6)


def test_seeds_are_of_one_type_in_every_table(written):
    found = tables(read(*written))
    kinds = {name: t.schema["seed"] for name, t in vars(found).items() if "seed" in t.columns}
    assert kinds == dict.fromkeys(("cells", "curves", "per_class"), pl.Int64)


def test_what_a_training_had_cost_at_each_evaluation(written):
    folder, section = written
    curve = read(folder, section).curves.filter(key="mixmatch-standard-few-1")
    assert curve["views"].to_list() == [0, 500, 600 + 40 * 30]
    assert curve["seconds"].to_list() == pytest.approx([0.2, 0.7, 2])
    assert curve["coverage"].to_list() == [None, 0.5, 0.9]


def test_without_the_time_of_a_phase_no_time_is_known(copy):
    folder, section = copy
    times = TIMES | {"mixmatch-standard": {"search": 200.0, "one": 10.0}}
    found = read(folder, section.model_copy(update={"ms_per_step": times}))
    assert found.curves.filter(contender="mixmatch")["seconds"].null_count() == 24
    assert tables(found).at_equal_time.is_empty()


def test_of_equal_time_counts_what_was_reached_by_then(written):
    """The fastest ends after half a second; mixmatch has then made 30 steps, and no evaluation since the first."""
    folder, section = written
    rows = tables(read(folder, section)).at_equal_time.filter(budget="few").rows(named=True)
    reached = {row["contender"]: (row["at_seconds"], row["val_accuracy"]) for row in rows}
    assert reached == {
        "supervised": (0.5, 0.5),
        "mixmatch": (0.2, 0.3),
        "paws": (0.5, pytest.approx(0.76)),
    }


def test_of_equal_time_has_those_that_were_still_searching(copy):
    """paws ends after half a second; mixmatch searches for a whole one."""
    folder, section = copy
    times = TIMES | {"mixmatch-standard": {"search": 1000.0, "one": 10.0, "two": 30.0}}
    found = read(folder, section.model_copy(update={"ms_per_step": times}))
    (row,) = tables(found).at_equal_time.filter(budget="few", contender="mixmatch").rows(named=True)
    assert (row["at_seconds"], row["val_accuracy"]) == (1.0, 0.3)


def test_other_test_images_for_every_seed_are_pooled(tmp_path):
    section = write(
        tmp_path, compare_section(METHODS[:2], budgets=("few",), seeds=SEEDS), same_images=False
    )
    (row, _) = tables(read(tmp_path, section)).groups.rows(named=True)
    rng = np.random.default_rng(3)
    pooled_N = accuracies(tmp_path, "supervised", "few").ravel()
    means = pooled_N[rng.integers(0, len(pooled_N), (4000, len(pooled_N)))].mean(axis=1)
    low, high = np.quantile(means, [0.025, 0.975])
    assert row["image_low"] == pytest.approx(low, abs=0.008)
    assert row["image_high"] == pytest.approx(high, abs=0.008)


def test_tables_of_single_cells_are_read_where_there_are_any(written):
    folder, section = written
    found = read(folder, section)
    assert {key.split("-")[0] for key in found.embeddings} == {"paws"}
    assert found.range_tests == {}


def test_the_page_is_built_from_the_files(written, tmp_path):
    folder, section = written
    build_comparison(read(folder, section), tmp_path)
    summary = json.loads((tmp_path / "summary.json").read_text())
    mean = accuracies(folder, "paws", "many").mean()
    told = summary["many"]["paws"]
    assert told["mean"] == pytest.approx(mean, abs=1e-6)
    half = stats.t.ppf(0.975, len(SEEDS) - 1) * told["sd"] / np.sqrt(len(SEEDS))
    assert (told["low"], told["high"]) == pytest.approx((mean - half, mean + half), abs=1e-5)
    assert "on toy" in (tmp_path / "index.html").read_text().replace("<bdi>", "")


@pytest.mark.parametrize("change", [1e-3, float("nan"), None])
def test_a_cell_whose_metrics_are_not_of_its_predictions_is_refused(copy, change):
    folder, section = copy
    path = folder / "cells/paws-standard-few-2/reports/metrics.json"
    metrics = json.loads(path.read_text())
    right = metrics["test"]["accuracy"]
    metrics["test"]["accuracy"] = None if change is None else right + change
    path.write_text(json.dumps(metrics))
    with pytest.raises(UserError) as refused:
        read(folder, section)
    assert str(refused.value) == (
        f"{path}: test.accuracy is {metrics['test']['accuracy']}, but the predictions beside it come to {right:.6f}; "
        f"delete {folder / 'cells/paws-standard-few-2'} and run `make compare` again"
    )


def test_a_cell_that_is_not_listed_is_refused(copy):
    folder, section = copy
    stray = folder / "cells/paws-standard-few-9"
    (stray / "data").mkdir(parents=True)  # left of one that failed
    read(folder, section)
    (stray / "reports").mkdir()
    (stray / "reports/metrics.json").touch()
    with pytest.raises(UserError, match=r"paws-standard-few-9 is not in the section compare"):
        read(folder, section)


def test_missing_cells_are_named(copy):
    folder, section = copy
    shutil.rmtree(folder / "cells/paws-standard-few-2")
    shutil.rmtree(folder / "cells/paws-standard-few-3")
    with pytest.raises(UserError, match=r"2 of 24 cells are missing: paws-standard-few-2, paws"):
        read(folder, section)


@pytest.mark.parametrize("part", ["train", "val", "test"])
def test_other_labels_for_one_method_are_refused(copy, part):
    folder, section = copy
    table = pl.DataFrame({"id": [1, 2, 3], "budget": "few", "part": part}).to_arrow()
    publish_table(folder / f"cells/paws-standard-few-2/data/split/{part}.parquet", table)
    with pytest.raises(UserError, match=rf"not the same {part} images or labels as those of"):
        read(folder, section)


def test_predictions_of_older_code_are_refused(copy):
    folder, section = copy
    path = folder / "cells/paws-standard-few-2/reports/evaluate/predictions.parquet"
    publish_table(path, pq.read_table(path).drop_columns(["group"]))
    with pytest.raises(
        UserError, match=r"predictions\.parquet: has no column group, as older code.*`make compare`"
    ):
        read(folder, section)


def test_test_images_of_one_group_show_nothing_of_others(copy):
    folder, section = copy
    for path in folder.glob("cells/*/reports/evaluate/predictions.parquet"):
        table = pq.read_table(path)
        one = pl.DataFrame(table).with_columns(group=pl.lit(5, pl.Int32)).to_arrow()
        publish_table(path, one.cast(table.schema))
    found = tables(read(folder, section))
    ends = ["crossed_low", "p", "image_low", "image_high"]
    assert set(found.comparisons.select(ends).rows()) == {(None, None, -1, 1)}
    assert all("all test images are of one group" in why for why in found.comparisons["refused"])
    assert set(found.groups.select("image_low", "image_high").rows()) == {(0, 1)}


def test_a_damaged_cell_is_refused(copy):
    folder, section = copy
    path = folder / "cells/paws-standard-few-2/reports/evaluate/predictions.parquet"
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    with pytest.raises(UserError, match=r"predictions\.parquet"):
        read(folder, section)
