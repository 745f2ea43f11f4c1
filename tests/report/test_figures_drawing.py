"""Figures are drawn from any data that has rows, look the same every time, and refuse nothing."""

import warnings
import xml.etree.ElementTree as ET
from io import BytesIO

import numpy as np
import polars as pl
import pytest
from PIL import Image

from pipeline_lib.figures import (
    accuracy,
    confusion,
    disambiguation,
    lines,
    loss,
    mistakes,
    per_class,
    reliability,
    style,
    training_images,
)

SVG = "{http://www.w3.org/2000/svg}"
EMPTY = {
    loss: lines.SCHEMA.to_frame(),
    accuracy: lines.SCHEMA.to_frame(),
    disambiguation: lines.SCHEMA.to_frame(),
    confusion: pl.DataFrame({"actual": [], "predicted": [], "images": [], "share": []}),
    reliability: pl.DataFrame(schema=reliability.COLUMNS),
    per_class: pl.DataFrame({"class": [], "images": [], "accuracy": []}),
    mistakes: pl.DataFrame({"id": []}),
    training_images: pl.DataFrame({"id": []}),
}


def module_name(module):
    return module.__name__.rsplit(".", 1)[-1]


@pytest.mark.parametrize("module", EMPTY, ids=module_name)
def test_nothing_is_not_drawn(module):
    with pytest.raises(ValueError, match="no rows"):
        module.draw(EMPTY[module], style.LIGHT)


def cells(size, names=None):
    rng = np.random.default_rng(0)
    predictions = pl.DataFrame(
        {"label": np.arange(size).repeat(3), "predicted": rng.integers(0, size, 3 * size)}
    )
    return confusion.data(predictions, names or [f"class {k}" for k in range(size)])


def texts(svg):
    return ["".join(element.itertext()) for element in ET.fromstring(svg).iter(f"{SVG}text")]  # noqa: S314


@pytest.mark.parametrize("theme", style.THEMES, ids=lambda theme: theme.name)
@pytest.mark.parametrize("size", [2, 10, 17, 33, 100])
def test_confusion_is_readable_for_2_to_100_classes(size, theme):
    svg = style.as_svg(confusion.draw(cells(size), theme), theme)
    shown = texts(svg)
    assert len(svg) < 100_000
    assert ("class 1" in shown) == (size <= confusion.NAMES_UP_TO)
    assert len(shown) <= 2 * size + 2 + (size * size if size <= confusion.COUNTS_UP_TO else 0)


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
    assert len(names) == min(size, per_class.SHOWN)
    assert f"class {size - 1}" in names


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


def test_reliability_with_a_single_filled_bin():
    frame = pl.DataFrame(
        [(0.0, 0.5, 0, None, None), (0.5, 1.0, 3, 0.9, 1.0)],
        schema=reliability.COLUMNS,
        orient="row",
    )
    shown = texts(style.as_svg(reliability.draw(frame, style.LIGHT), style.LIGHT))
    assert "ECE 0.100" in shown


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
    frame = training_images.data(chosen, np.full((count, *shape), 200, np.uint8))
    png = style.as_png(training_images.draw(frame, style.LIGHT), style.LIGHT)
    with Image.open(BytesIO(png)) as image:
        assert image.width > 100
        assert "Software" not in image.info


def test_mathematics_is_not_set():
    shown = texts(
        style.as_svg(confusion.draw(cells(2, ["$x^2$", "$\\frac"]), style.LIGHT), style.LIGHT)
    )
    assert {"$x^2$", "$\\frac"} <= set(shown)


def test_same_figure_same_bytes_and_no_dates():
    frame = cells(4)
    first, second = (
        style.as_svg(confusion.draw(frame, style.LIGHT), style.LIGHT) for _ in range(2)
    )
    assert first == second
    assert b"<dc:date>" not in first
    assert b"<dc:creator>" not in first


def test_names_in_other_scripts_draw_without_a_warning():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        figure = confusion.draw(cells(3, ["猫", "قطة", "חתול"]), style.LIGHT)
        style.as_png(figure, style.LIGHT)
        svg = style.as_svg(figure, style.LIGHT)
    assert {"猫", "قطة", "חתול"} <= set(texts(svg))


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("cat", "cat"),
        ("a\nb\t c", "a b c"),
        ("x" * 300, "x" * 17 + "…"),
        ("a\x00b", "a�b"),
        ("evil\u202egnp", "evil�gnp"),
        ("", "�"),
    ],
)
def test_labels_are_one_short_printable_line(name, shown):
    assert style.label(name) == shown


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
