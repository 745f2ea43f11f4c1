"""The page on larger sizes is made from the measured results, and its model from the code that it describes."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
import torch
from matplotlib.figure import Figure

from benchmarks import scale_check, scale_gpus, scale_model, scale_page, scale_words
from pipeline_lib.figures import style
from pipeline_lib.params.methods import KINDS
from pipeline_lib.records import LIST_VALUES
from pipeline_lib.training.pool import Pool
from tests.toy_methods import CLASSES, IMAGES, make_images, make_method

AGAIN = "run: python -m benchmarks.scale_model"


def test_page_and_picture_are_current() -> None:
    text = scale_page.PAGE.read_text(encoding="utf-8")
    assert text == scale_page.page(text), AGAIN
    drawn = scale_check.picture()
    assert scale_page.PICTURE.read_bytes() == drawn, AGAIN
    assert len(drawn) < 100_000


def test_a_subject_has_one_colour_in_both_panels() -> None:
    colours: dict[str, set[str]] = {}
    for unit in ("s", "MiB"):
        chosen = [check for check in scale_check.checks() if check.unit == unit]
        axes = Figure().subplots()
        scale_check.fill_axes(axes, chosen, style.LIGHT)
        of_lines = {str(line.get_label()): str(line.get_color()) for line in axes.get_lines()}
        for check in chosen:
            colours.setdefault(check.subject, set()).add(of_lines[check.name])
    assert [len(used) for used in colours.values()] == [1] * 4
    assert len(set().union(*colours.values())) == 4


def test_predictions_are_as_near_as_the_page_says() -> None:
    for check in scale_check.checks():
        if check.unit == "MiB":
            assert abs(check.error) < 0.1, check.name
        elif not check.name.startswith("split"):
            assert -0.21 < check.error < -0.09, check.name


def test_the_model_knows_every_method() -> None:
    assert set(scale_model.TABLES) == set(KINDS), "see TABLES in benchmarks/scale_model.py"


@pytest.mark.parametrize("name", KINDS)
def test_tables_of_a_method_are_counted(name: str) -> None:
    method = make_method(name)
    pool = Pool(make_images(), method.problem.candidates_NK, lambda _: None, 1, torch.device("cpu"))  # type: ignore[arg-type, return-value]
    kept = [*method.buffers(), pool.candidates_NK]
    labels = method.label_state()
    kept += [labels.clone()] if labels is not None else []
    found = sum(t.numel() * t.element_size() for t in kept if t.shape == (IMAGES, CLASSES))
    tables, best = scale_model.TABLES[name]
    assert found == scale_model.table_bytes(tables, IMAGES, CLASSES, best=best)


def test_list_columns_end_where_the_model_says() -> None:
    pa.array(np.array([0, LIST_VALUES]), pa.int32())
    with pytest.raises(pa.ArrowInvalid):
        pa.array(np.array([0, LIST_VALUES + 1]), pa.int32())


def test_a_line_is_found_and_leaves_the_largest_point_out() -> None:
    assert scale_model.line([(1, 5.0), (2, 7.0), (10, 23.0)]) == pytest.approx((3, 2))
    check = scale_check.Check("step", "cost", "s", "line", [(1, 5.0), (2, 7.0), (10, 46.0)])
    assert check.at(10) == pytest.approx(23)
    assert check.error == pytest.approx(-0.5)
    flat = scale_check.Check("step", "cost", "s", "flat", [(1, 5.0), (2, 7.0), (10, 14.0)])
    assert flat.error == pytest.approx(-0.5)


def test_more_gpus_are_bound_by_what_is_repeated_and_by_launches() -> None:
    share = 0.2
    bound = scale_model.speed_up(1 - share, share, 0, 8)
    assert bound == pytest.approx(8 / (1 + 7 * share))  # ADR 26
    assert scale_model.speed_up(1 - share, share, 0, 1) == 1
    assert scale_model.speed_up(1 - share, share, 0.4, 8) == pytest.approx(1 / 0.6)


@pytest.mark.parametrize("method", scale_gpus.MEASURED)
def test_views_of_small_images_and_of_photos_are_the_same_and_leave_the_network_its_time(
    method: str,
) -> None:
    step, views = scale_model.fastest(method), scale_model.views_ms(method)
    assert views <= step["views ms"] - step["of it drawn ahead ms"]
    assert views + scale_model.network_ms(method) <= step["ms"] + 1e-9
    assert scale_gpus.small_ratio(method, 10**9, 0) == pytest.approx(step["ms"] / views)
    large, small = scale_model.VIEWS[method]
    pixels = large * 32**2 + small * 18**2
    of_photo = 224**2 * large / scale_model.SEEN[method]
    if method != "paws":
        assert scale_model.photo_views_seconds(method) == pytest.approx(
            views / 1000 / pixels * of_photo
        )


def test_the_network_of_paws_takes_what_its_images_took_in_the_largest_batch() -> None:
    compiled = scale_model.measured_networks("nhwc bf16 compiled")[960]["us_per_image"] / 1000
    small = 1536 * 18**2 / 32**2
    assert scale_model.network_ms("paws") == pytest.approx(compiled * (1792 + small), rel=1e-4)


def test_the_sentences_say_what_the_tables_say() -> None:
    (said,) = scale_page.expect()
    rows = [row for row in scale_gpus.photo_gpus() if "| 1,000 |" in row and "paws" not in row]
    of_8, of_64 = ({row.split(" | ")[column].rstrip(" |") for row in rows} for column in (5, 8))
    for gpus, found in ((8, of_8), (64, of_64)):
        low, high = sorted(found, key=float)[:: len(found) - 1]
        assert f"{gpus} {'GPUs ' * (gpus == 8)}are {low} to {high} times" in said
    small = [row.split(" | ")[-1].rstrip(" |") for row in scale_gpus.small_gpus() if " ms |" in row]
    assert f"several are {max(small, key=float)} times as fast at most" in said


def test_networks_cost_what_the_roofline_of_the_steps_takes() -> None:
    flop, traffic = scale_model.pass_cost("wrn_28_2", 18, gradient=True)
    assert flop == pytest.approx(1e9 * scale_model.FLOP[1], rel=0.02)
    assert traffic == pytest.approx(1e6 * scale_model.TRAFFIC[1], rel=0.02)


def test_numbers_are_short() -> None:
    shown = [scale_words.amount(n) for n in (0, 0.00179, 1.234, 99.96, 493.7, 2147.4)]
    assert shown == ["0", "0.00179", "1.23", "100", "494", "2,150"]
    assert scale_words.size(84e9) == "84 GB"
    assert scale_words.count(102_261) == "102 k"
