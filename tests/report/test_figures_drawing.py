"""Figures are drawn from any data that has rows, look the same every time, and refuse nothing."""

import dataclasses
import re
import warnings
import xml.etree.ElementTree as ET
from io import BytesIO

import numpy as np
import polars as pl
import pytest
from matplotlib import font_manager
from matplotlib.colors import to_hex, to_rgb
from PIL import Image

from pipeline_lib.figures import (
    annotators,
    bars,
    candidates,
    cells,
    co_occurrence,
    confusion,
    embedding,
    lines,
    loss,
    per_class,
    range_test,
    reliability,
    style,
    tiles,
    training_images,
)
from pipeline_lib.report import numbers

SVG = "{http://www.w3.org/2000/svg}"


def module_name(module):
    return module.__name__.rsplit(".", 1)[-1]


def draw_confusions(size, theme=style.LIGHT, names=None, predicted=None):
    """Three test images of each class, taken for anything."""
    names = names or [f"class {k}" for k in range(size)]
    rng = np.random.default_rng(0)
    predicted = rng.integers(0, size, 3 * size) if predicted is None else predicted
    predictions = pl.DataFrame({"label": np.arange(size).repeat(3), "predicted": predicted})
    return confusion.draw(confusion.data(predictions, names), theme, classes=names)


def texts(svg):
    return ["".join(element.itertext()) for element in ET.fromstring(svg).iter(f"{SVG}text")]  # noqa: S314


@pytest.mark.parametrize("theme", style.THEMES, ids=lambda theme: theme.name)
@pytest.mark.parametrize("size", [2, 10, 17, 33, 100])
def test_confusion_is_readable_for_2_to_100_classes(size, theme):
    svg = style.as_svg(draw_confusions(size, theme), theme)
    shown = texts(svg)
    assert len(svg) < 100_000
    assert not any("classes" in text for text in shown)
    named = [text for text in shown if text.startswith("class ")]
    assert len(named) == 2 * (size if size <= cells.NAMES_UP_TO else -(-size // -(-size // 10)))
    assert ("true class (some are named)" in shown) == (size > cells.NAMES_UP_TO)
    assert len(shown) <= 2 * size + 2 + (size * size if size <= cells.TEXT_UP_TO else 0)


def draw_cells_of(frame, names):
    """What `confusion.draw` gives to be drawn."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(confusion, "draw_cells", lambda cells, _: cells)
        return confusion.draw(frame, style.LIGHT, classes=names)


def test_confusion_has_a_row_for_a_class_without_images():
    predictions = pl.DataFrame({"label": [0, 0], "predicted": [0, 2]})
    frame = confusion.data(predictions, ["a", "b", "c"])
    shown = draw_cells_of(frame, ["a", "b", "c"])
    assert shown.names == ["a", "b", "c"]
    assert shown.texts == ["1", "", "1", *[""] * 6]
    assert shown.shares_KK.tolist() == [[0.5, 0, 0.5], [0, 0, 0], [0, 0, 0]]


def test_of_too_many_classes_those_with_most_mistakes_are_drawn():
    """As true class or as prediction; of equal ones the first, all in their order."""
    names = [f"c{k:03}" for k in range(300)]
    wrong = [(200, 7), (250, 251), (250, 251), (299, 251)]
    label, predicted = zip(*wrong, *((k, k) for k in range(300)), strict=True)
    frame = confusion.data(pl.DataFrame({"label": label, "predicted": predicted}), names)
    shown = draw_cells_of(frame, names)
    assert shown.names == [*names[:96], *(names[k] for k in (200, 250, 251, 299))]
    assert shown.title == "100 of 300 classes: those with the most mistakes"
    assert (np.diagonal(shown.shares_KK) > 0).all()
    assert shown.shares_KK[97, 98] == 0.666667  # of all images of the class


@pytest.mark.parametrize("size", [100, 300, 1500])
def test_confusion_shows_every_right_answer_of_the_classes_it_draws(size):
    """A cell is a few pixels of the PNG, whose axes are some 400 of them wide."""
    figure = draw_confusions(size, predicted=np.arange(size).repeat(3))
    with Image.open(BytesIO(style.as_png(figure, style.LIGHT))) as image:
        pixels_HW3 = np.asarray(image.convert("RGB"))
    blue = np.array(to_rgb(style.LIGHT.series[0])) * 255
    blue_HW = (np.abs(pixels_HW3 - blue) < 2).all(axis=2)
    assert (blue_HW.any(axis=0).sum(), blue_HW.any(axis=1).sum()) >= (300, 300)
    shown = texts(style.as_svg(figure, style.LIGHT))
    assert (f"100 of {size:,} classes: those with the most mistakes" in shown) == (size > 100)


@pytest.mark.parametrize("size", [1, 2, 10, 24, 100])
def test_per_class_bars_show_the_lowest_of_many(size):
    frame = pl.DataFrame(
        {
            "class": [f"class {k}" for k in range(size)],
            "images": [5] * size,
            "accuracy": [1 - k / size for k in range(size)],
        }
    )
    shown = texts(style.as_svg(per_class.draw(frame, style.LIGHT), style.LIGHT))
    names = [text for text in shown if text.startswith("class")]
    assert len(names) == min(size, bars.SHOWN)
    assert f"class {size - 1}" in names


def draw(module, frame, theme=style.LIGHT):
    return texts(style.as_svg(module.draw(frame, theme), theme))


def sizes(num_classes, images):
    """A histogram with so many images of each size; the other sizes have none."""
    counts = [images.get(size, 0) for size in range(1, num_classes + 1)]
    labels = [["x"] * size for size, count in enumerate(counts, 1) for _ in range(count)]
    return candidates.data(pl.DataFrame({"candidates": labels}), num_classes)


@pytest.mark.parametrize("theme", style.THEMES, ids=lambda theme: theme.name)
@pytest.mark.parametrize(
    ("num_classes", "images", "named", "noted"),
    [
        (2, {1: 3, 2: 1}, ["1", "2"], ["75%", "25%"]),
        (3, {2: 1}, ["1", "2", "3"], ["100%"]),
        (10, {1: 1, 10: 2999}, [str(size) for size in range(1, 11)], ["<0.1%", ">99.9%"]),
        (100, {1: 1, 2: 4, 5: 5}, ["1", "2", "3", "4", "5", "…", "100"], ["10%", "40%", "50%"]),
        (100, {1: 1, 100: 1}, ["1", "…", "100"], ["50%", "50%"]),
        (1000, {1: 1, 999: 1, 1000: 2}, ["1", "…", "999", "1000"], ["25%", "25%", "50%"]),
        (1000, {1: 1, 100: 1, 119: 2}, ["1", "…", "105", "111", "…", "1000"], ["25%", "25%", "50%"]),
        (1000, {2: 1, 998: 1}, ["1", "202-251", "452-501", "…", "1000"], ["50%", "50%"]),
    ],
)  # fmt: skip
def test_candidates_are_readable_for_2_to_1000_classes(num_classes, images, named, noted, theme):
    shown = draw(candidates, sizes(num_classes, images), theme)
    kinds = [text for text in shown if text.startswith(style.KINDS)]
    assert [text.split(" ")[0] for text in kinds] == list(style.KINDS)
    axis = [
        text.replace("\N{EN DASH}", "-") for text in shown if text == "…" or text[0] in "123456789"
    ]
    assert set(named) - {"…"} <= set(axis)
    assert axis.count("…") == named.count("…")
    shares = [text for text in shown if text.endswith("%") and text not in kinds]
    assert [text.replace(style.NARROW, "") for text in shares] == noted


def test_a_bar_stands_for_every_image_whatever_the_bins():
    frame = sizes(1000, {1: 2, **dict.fromkeys(range(50, 250), 1), 1000: 3})
    found = candidates._bars(frame.select("candidates", "kind", "images").rows())
    assert sum(bar.images for bar in found) == 205
    assert [bar.images for bar in found] == [2, *[10] * 20, 3]
    assert [(bar.lower, bar.upper) for bar in found[:2]] == [(1, 1), (50, 59)]
    places = [bar.place for bar in found]
    assert places == [0, *range(2, 22), 23]  # a gap where sizes are left out


def superclasses(size, per, names=None):
    """Sets of `per` classes each: those with the same remainder go together."""
    groups = size // per
    names = names or [f"class {k}" for k in range(size)]
    sets = [[names[k] for k in range(size) if k % groups == n % groups] for n in range(size)]
    labels = pl.DataFrame({"id": range(size), "candidates": sets})
    truth = pl.DataFrame({"id": range(size), "true_label": names})
    return co_occurrence.data(labels, truth, names)


@pytest.mark.parametrize("theme", style.THEMES, ids=lambda theme: theme.name)
@pytest.mark.parametrize("size", [4, 16, 32, 100, 1000])
def test_co_occurrence_is_readable_for_4_to_1000_classes(size, theme):
    svg = style.as_svg(co_occurrence.draw(superclasses(size, 2), theme), theme)
    shown = texts(svg)
    assert len(svg) < 100_000
    assert shown.count("100") == (2 * size if size <= cells.TEXT_UP_TO else 0)
    named = sum(text.startswith("class ") and text != "class in the set" for text in shown)
    assert named == 2 * (size if size <= cells.NAMES_UP_TO else 10)


def people(count, known=True):
    half = -(-count // 2)
    found = [
        {
            "name": f"person {n}",
            "votes": 9,
            "estimated_accuracy": 1 - n / count,
            "accuracy": 1 - n / count if known else None,
        }
        for n in range(count)
    ]
    return annotators.data({"best": found[:half], "worst": found[half:][::-1]})


@pytest.mark.parametrize("theme", style.THEMES, ids=lambda theme: theme.name)
@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize("count", [1, 3, 24, 40])
def test_annotators_from_the_best_to_the_worst(count, known, theme):
    shown = draw(annotators, people(count, known), theme)
    names = [text for text in shown if text.startswith("person")]
    assert len(names) == min(count, bars.SHOWN)
    assert {"person 0", f"person {count - 1}"} <= set(names)
    assert ("by the true labels" in shown) == known


def test_an_annotator_without_an_estimate_is_an_empty_bar():
    frame = pl.DataFrame(
        [("a", 0, None, None), ("b", 2, 0.5, None)], schema=annotators.SCHEMA, orient="row"
    )
    assert {"a", "b", "50.0"} <= set(draw(annotators, frame))


def test_where_nobody_has_an_estimate_none_is_announced():
    frame = pl.DataFrame([("a", 2, None, 0.5)], schema=annotators.SCHEMA, orient="row")
    shown = draw(annotators, frame)
    assert "by the true labels" in shown
    assert "estimated from agreement" not in shown


def test_one_evaluation_is_a_dot_over_a_whole_epoch():
    frame = pl.DataFrame([(3, "training", 0.5)], schema=lines.SCHEMA, orient="row")
    shown = texts(style.as_svg(loss.draw(frame, style.LIGHT), style.LIGHT))
    assert "3" in shown
    assert "epoch" in shown
    assert not any("." in text for text in shown if text.startswith(("2", "3")))


def test_constant_and_many_lines():
    rows = [(epoch, f"series {s}", 1.0) for s in range(9) for epoch in range(2)]
    frame = pl.DataFrame(rows, schema=lines.SCHEMA, orient="row")
    shown = texts(style.as_svg(loss.draw(frame, style.DARK), style.DARK))
    assert {f"series {s}" for s in range(9)} <= set(shown)


def in_phases(epochs, *names):
    """A line whose epochs belong to one phase after the other."""
    rows = [(epoch, "training", 1.0) for epoch in range(epochs)]
    frame = pl.DataFrame(rows, schema=lines.SCHEMA, orient="row")
    phases = [names[epoch * len(names) // epochs] for epoch in range(epochs)]
    return frame.with_columns(pl.Series("phase", phases, pl.String))


@pytest.mark.parametrize("theme", style.THEMES, ids=lambda theme: theme.name)
@pytest.mark.parametrize(
    ("epochs", "names"),
    [
        (3, ("warm_up", "supervised", "semi_supervised")),
        (40, ("pretrain", "finetune")),
        (2, ("a", "$x^2$")),
        (1, ("train",)),
    ],
)
def test_phases_are_marked_by_name(epochs, names, theme):
    figure = loss.draw(in_phases(epochs, *names), theme)
    shown = texts(style.as_svg(figure, theme))
    assert set(names[1:]) <= set(shown)
    assert names[0] not in shown
    marks = [line for line in figure.axes[0].get_lines() if len({*line.get_xdata()}) == 1]
    assert len(marks) == (len(names) - 1 if epochs > 1 else 1)  # one evaluation is a dot
    assert [text for text in shown if text == "training"] == ["training"]


@pytest.mark.parametrize("theme", style.THEMES, ids=lambda theme: theme.name)
@pytest.mark.parametrize(
    ("losses", "rate"),
    [([2.0, 1.0, 1e9], 0.01), ([2.0], 0.1), ([2.0, 1.9], 5.0), ([0.0, 0.0], 0.1), ([1e-9, 1e3], 1)],
)
def test_a_range_test_of_any_length_and_height(losses, rate, theme):
    curve = pl.DataFrame(
        {
            "learning_rate": [10.0 ** (n - 3) for n in range(len(losses))],
            "loss": losses,
            "smoothed_loss": losses,
        }
    )
    shown = draw(range_test, range_test.data(curve, rate), theme)
    assert {"learning rate", "smoothed", "rate that was chosen"} <= set(shown)
    assert not any("$" in text for text in shown)


def points(size, names=None, support=50, count=1000):
    """Clouds around a place per class; a fifth of the images is mistaken."""
    rng = np.random.default_rng(2)
    names = names or [f"class {k}" for k in range(size)]
    class_N = np.arange(count + support) % size
    xy_N2 = rng.normal(size=(size, 2))[class_N] + rng.normal(scale=0.1, size=(count + support, 2))
    taken = [(k + (n % 5 == 0)) % size for n, k in enumerate(class_N)]
    table = {
        "x": xy_N2[:, 0],
        "y": xy_N2[:, 1],
        "kind": ["test"] * count + ["support"] * support,
        "class": [names[k] for k in class_N],
        "predicted": [names[k] for k in taken[:count]] + [None] * support,
    }
    return embedding.data(pl.DataFrame(table))


@pytest.mark.parametrize("theme", style.THEMES, ids=lambda theme: theme.name)
@pytest.mark.parametrize("size", [2, 10, 25, 100, 1000])
def test_embeddings_of_2_to_1000_classes_are_no_heap_of_names(size, theme):
    svg = style.as_svg(embedding.draw(points(size), theme), theme)
    shown = texts(svg)
    assert len(svg) < 250_000
    named = [text for text in shown if text.startswith("class ")]
    assert 2 <= len(named) == len({*named}) <= min(size, embedding.NAMED)
    assert {"recognised", "mistaken", "labeled"} <= set(shown)


@pytest.mark.parametrize("theme", style.THEMES, ids=lambda theme: theme.name)
@pytest.mark.parametrize(("count", "support"), [(1, 0), (1, 1), (3, 0), (0, 2)])
def test_embeddings_of_few_images(count, support, theme):
    shown = draw(embedding, points(1, support=support, count=count), theme)
    assert ("labeled" in shown) == bool(support)
    assert ("class 0" in shown) == bool(count)


def test_names_of_embeddings_stay_inside_the_axes_and_are_told_apart():
    """Those of classes on the edge, too: outside they would cover what the axes are called."""
    edge = [(x, y) for x in (0, 100) for y in (0, 50, 100)]
    rows = [
        (x, y, "right", f"Carex muelleri var. {n} (L.) Nyman", "") for n, (x, y) in enumerate(edge)
    ]
    frame = pl.DataFrame(rows, schema=embedding.SCHEMA, orient="row")
    figure = embedding.draw(frame, style.LIGHT)
    figure.draw_without_rendering()
    [axes] = figure.axes
    shown = [text for text in axes.texts if text.get_text()]
    assert len({text.get_text() for text in shown}) == len(edge)
    boxes = [text.get_bbox_patch().get_window_extent() for text in shown]
    inside = axes.get_window_extent()
    assert all(inside.x0 <= box.x0 and box.x1 <= inside.x1 for box in boxes)
    assert all(inside.y0 <= box.y0 and box.y1 <= inside.y1 for box in boxes)
    assert not any(box.overlaps(other) for box in boxes for other in boxes if box is not other)


def test_reliability_with_a_single_filled_bin():
    frame = pl.DataFrame(
        [(0.0, 0.5, 0, None, None), (0.5, 1.0, 3, 0.9, 1.0)],
        schema=reliability.COLUMNS,
        orient="row",
    )
    shown = texts(style.as_svg(reliability.draw(frame, style.LIGHT), style.LIGHT))
    assert f"ECE 10.0{style.NARROW}%" in shown


@pytest.mark.parametrize("shape", [(8, 8, 1), (5, 9, 3), (1, 1, 1)])
@pytest.mark.parametrize("count", [1, 7])
def test_image_grids_of_any_size(shape, count):
    chosen = pl.DataFrame(
        {
            "label": ["a"] * count,
            "candidates": [["a", "b" * 300]] * count,
            "true_label": [None] * count,
            "right": [None] * count,
        },
        schema_overrides={"true_label": pl.String, "right": pl.Boolean},
    )
    frame = tiles.with_pixels(chosen, np.full((count, *shape), 200, np.uint8))
    png = style.as_png(training_images.draw(frame, style.LIGHT), style.LIGHT)
    with Image.open(BytesIO(png)) as image:
        assert image.width > 100
        assert "Software" not in image.info


HOSTILE = ["$x^2$", "$\\frac", "<b>&amp;", "x" * 300, "a\x00b", "evil\u202egnp"]


def test_hostile_names_of_embeddings_stay_text():
    shown = set(draw(embedding, points(6, HOSTILE)))
    expected = {style.label(name, embedding.LETTERS) for name in HOSTILE}
    assert len(shown & expected) >= 3  # names that would cover another are left out
    assert {text for text in shown if "\u202e" in text or "\x00" in text} == set()


@pytest.mark.parametrize("module", [co_occurrence, annotators], ids=module_name)
def test_hostile_names_stay_text(module):
    frame = superclasses(6, 2, HOSTILE) if module is co_occurrence else people(6)
    if module is annotators:
        frame = frame.with_columns(pl.Series("annotator", HOSTILE))
    limit = 14 if module is co_occurrence else 18
    assert {style.label(name, limit) for name in HOSTILE} <= set(draw(module, frame))


def test_mathematics_is_not_set():
    shown = texts(style.as_svg(draw_confusions(2, names=["$x^2$", "$\\frac"]), style.LIGHT))
    assert {"$x^2$", "$\\frac"} <= set(shown)


def test_same_figure_same_bytes_and_no_dates():
    first, second = (style.as_svg(draw_confusions(4), style.LIGHT) for _ in range(2))
    assert first == second
    assert b"<dc:date>" not in first
    assert b"<dc:creator>" not in first


def test_the_fonts_of_the_process_stay():
    fonts = font_manager.fontManager
    own = fonts.ttflist = [*fonts.ttflist, dataclasses.replace(fonts.ttflist[0], fname="/own.ttf")]
    style.as_svg(draw_confusions(4), style.LIGHT)
    assert fonts.ttflist is own
    own.pop()


def test_names_in_other_scripts_draw_without_a_warning():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        figure = draw_confusions(3, names=["猫", "قطة", "חתול"])
        style.as_png(figure, style.LIGHT)
        svg = style.as_svg(figure, style.LIGHT)
    assert {"猫", "قطة", "חתול"} <= set(texts(svg))


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("cat", "cat"),
        ("a\nb\t c", "a b c"),
        ("x" * 300, "x" * 9 + "…" + "x" * 8),
        ("northern red oak, male", "northern…ak, male"),
        ("northern red oak, female", "northern…, female"),
        ("a\x00b", "a�b"),
        ("evil\u202egnp", "evil�gnp"),
        ("نمی\u200cخ", "نمی\u200cخ"),  # joiners belong to words, and to emoji
        ("\N{WOMAN}\u200d\N{MICROSCOPE}", "\N{WOMAN}\u200d\N{MICROSCOPE}"),
        ("猫" * 9, "猫" * 9),  # each as wide as two letters
        ("猫" * 9 + "x", "猫" * 4 + "…" + "猫" * 3 + "x"),
        ("", "�"),
    ],
)
def test_labels_are_one_short_printable_line(name, shown):
    assert style.label(name) == shown


def test_names_that_would_be_cut_to_the_same_label_are_cut_to_where_they_differ():
    species = [f"species_{k:03d}_with_a_rather_long_latin_name" for k in range(24)]
    found = style.labels([*species, "cat", "x" * 300, "x" * 299])
    assert found[:2] == ["spec…s_000_with_a…", "spec…s_001_with_a…"]
    assert found[24] == "cat"
    assert len(set(found)) == 27
    assert all(style.width(text) <= 18 for text in found)
    in_two_places = [f"{a}{'-' * 40}{b}{'-' * 40}" for a in "ab" for b in "cd"]
    assert len(set(style.labels(in_two_places, 14))) == 4
    assert style.labels(["same" * 9] * 2) == [style.label("same" * 9)] * 2
    wide = ["\N{CJK UNIFIED IDEOGRAPH-732B}" * 30 + end + "-" * 30 for end in "ab"]
    assert len(set(style.labels(wide, 14))) == 2


def contrast(first, second):
    """Contrast ratio of two colours (WCAG 2.2, 1.4.3)."""

    def luminance(colour):
        parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
        return sum(w * p for w, p in zip((0.2126, 0.7152, 0.0722), linear, strict=True))

    high, low = sorted((luminance(first), luminance(second)), reverse=True)
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("theme", style.THEMES, ids=lambda theme: theme.name)
def test_text_and_lines_stand_out(theme):
    for text in (theme.ink, theme.muted, theme.right, theme.wrong):
        assert contrast(text, theme.surface) >= 4.5
    for line in theme.series:
        assert contrast(line, theme.surface) >= 3


@pytest.mark.parametrize("theme", style.THEMES, ids=lambda theme: theme.name)
def test_a_number_stands_out_from_a_cell_of_any_depth(theme):
    surface = np.array(to_rgb(theme.surface))
    for hue in theme.series[:2]:
        for depth in np.linspace(0, 1, 101):
            colour = to_hex(surface * (1 - depth) + np.array(to_rgb(hue)) * depth)
            assert contrast(style.ink_on(to_rgb(colour)), colour) >= 4.5


def test_text_in_cells_is_of_the_ink_that_stands_out_more():
    """Not of the one that a fixed brightness names: white on the full orange is harder to read than dark."""
    assert style.ink_on(to_rgb("#d55e00")) == "#000000"
    inks = ("#000000", "#ffffff")
    for colour in (*style.LIGHT.series, *style.DARK.series, *style.LIGHT.kinds):
        best = max(contrast(ink, colour) for ink in inks)
        assert contrast(style.ink_on(to_rgb(colour)), colour) == pytest.approx(best)


@pytest.mark.parametrize(
    ("share", "digits", "shown"),
    [
        (0.9996, 1, ">99.9 %"),
        (0.9996, 2, "99.96 %"),
        (0.999, 0, ">99 %"),
        (0.0001, 1, "<0.1 %"),
        (1, 1, "100.0 %"),
        (0, 0, "0 %"),
    ],
)
def test_a_share_is_never_all_or_nothing_where_it_is_only_close(share, digits, shown):
    assert style.percent(share, digits).replace(style.NARROW, " ") == shown
    assert numbers.percent(share, digits) == style.percent(share, digits)


def test_the_axis_of_shares_ends_where_shares_do():
    frame = lines.tidy(pl.DataFrame({"epoch": [1, 2], "a": [0.9, 1.0]}), {"a": "a"})
    figure = lines.draw_lines(frame, style.LIGHT, "share", percent=True)
    figure.draw_without_rendering()
    (axes,) = figure.axes
    assert axes.get_ylim()[1] == 1
    ticks = [tick.get_text() for tick in axes.get_yticklabels()]
    assert ticks
    assert all(re.fullmatch(r"\d+\u202f%", text) for text in ticks)
