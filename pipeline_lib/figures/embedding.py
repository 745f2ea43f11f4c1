"""Where the test images lie among the labeled ones, in the plane along which they differ most.

Not one colour per class: beyond six, no set of colours is told apart by everybody and in print. A class is told
by its name, in the middle of its images; colours and shapes say what is right, wrong and labeled.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import polars as pl

from pipeline_lib.figures import style

if TYPE_CHECKING:
    import numpy as np
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

SCHEMA = pl.Schema(
    {
        "x": pl.Float64,
        "y": pl.Float64,
        "kind": pl.String,
        "class": pl.String,
        "predicted": pl.String,
    }
)
WORDS = {"right": "recognised", "wrong": "mistaken", "support": "labeled"}
NAMED = 24  # classes; more names hide the points
LETTERS = 14  # of a name
LETTER, LINE = 0.024, 0.055  # width and height of one, as shares of the axes


def data(embedding: pl.DataFrame) -> pl.DataFrame:
    """The points, and what became of each test image.

    Args:
        embedding: reports/evaluate/embedding.csv, all cells as text.

    Returns:
        Columns x, y (float64), kind (right, wrong or support), class, predicted (names; null for the
        support); empty where the predictor has no embeddings.
    """
    right = pl.col("class").eq_missing(pl.col("predicted"))
    tested = pl.when(right).then(pl.lit("right")).otherwise(pl.lit("wrong"))
    return embedding.select(
        pl.col("x", "y").cast(pl.Float64),
        pl.when(pl.col("kind") == "support")
        .then(pl.lit("support"))
        .otherwise(tested)
        .alias("kind"),
        "class",
        "predicted",
    )


def draw(frame: pl.DataFrame, theme: style.Theme) -> Figure:
    """Dots where test images are recognised, crosses where they are not, diamonds for the support."""
    looks: dict[str, dict[str, Any]] = {
        "right": {"color": theme.series[0], "marker": "o", "markersize": 3, "alpha": 0.45},
        "wrong": {"color": theme.series[1], "marker": "x", "markersize": 5},
        "support": {
            "color": theme.ink,
            "marker": "D",
            "markersize": 3.8,
            "markeredgecolor": theme.surface,
        },
    }
    with style.applied(theme):
        figure, axes = style.new_figure(height=style.WIDTH)
        _frame_square(axes, frame)
        for kind, look in looks.items():
            points = frame.filter(pl.col("kind") == kind)
            if not points.is_empty():
                places = points["x"].to_numpy(), points["y"].to_numpy()
                axes.plot(*places, linestyle="none", label=WORDS[kind], **look)
        for name, x, y in named(frame):
            _write(axes, name, x, y, theme)
        figure.legend(loc="outside upper left", ncols=3, handlelength=1, fontsize=9.5)
        return figure


def named(frame: pl.DataFrame) -> list[tuple[str, float, float]]:
    """Names of classes, each at the median of its test images; none where it would cover another.

    The classes with most test images come first. A name that would leave the axes is moved inside.
    """
    middles = (
        frame.filter((pl.col("kind") != "support") & pl.col("class").is_not_null())
        .group_by("class", maintain_order=True)
        .agg(pl.len().alias("images"), pl.col("x", "y").median())
        .sort("images", "class", descending=[True, False])
    )
    (middle, _), half = _square(frame)
    placed: dict[str, tuple[float, float, float]] = {}
    for name, _, median, y in middles.rows():
        wide = half * LETTER * min(style.width(style.printable(name)), LETTERS)  # to either side
        x = min(max(median, float(middle) - half + wide), float(middle) + half - wide)
        covers = any(
            abs(x - other_x) < wide + other_wide and abs(y - other_y) < 2 * half * LINE
            for other_x, other_y, other_wide in placed.values()
        )
        if not covers and len(placed) < NAMED:
            placed[name] = x, y, wide
    shown = style.told_apart(placed, LETTERS)
    return [(shown[name], x, y) for name, (x, y, _) in placed.items()]


def _square(frame: pl.DataFrame) -> tuple[NDArray[np.float64], float]:
    """Middle (2,), and half of the side, of a square that has room for all points."""
    xy_N2 = frame.select("x", "y").to_numpy()
    low_2, high_2 = xy_N2.min(axis=0), xy_N2.max(axis=0)
    return (low_2 + high_2) / 2, 0.55 * float((high_2 - low_2).max()) or 1.0


def _frame_square(axes: Axes, frame: pl.DataFrame) -> None:
    """Equal scales, so that a distance is the same in all directions; numbers would say nothing."""
    (x, y), half = _square(frame)
    axes.set(xlim=(x - half, x + half), ylim=(y - half, y + half), aspect="equal")
    axes.set(xlabel="first principal component", ylabel="second principal component")
    axes.set_xticks([])
    axes.set_yticks([])


def _write(axes: Axes, name: str, x: float, y: float, theme: style.Theme) -> None:
    ground = {"facecolor": theme.surface, "edgecolor": theme.rule, "alpha": 0.85, "pad": 1.5}
    axes.text(x, y, name, ha="center", va="center", color=theme.ink, fontsize=9.5, bbox=ground)
