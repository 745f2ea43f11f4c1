"""Draw overview.svg, the picture of the README: what goes in, and what came out by `benchmarks/results`.

python -m docs.make_overview
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from statistics import mean
from typing import TYPE_CHECKING, Any

import polars as pl
from matplotlib.ticker import MultipleLocator
from sklearn.datasets import load_digits

from docs.explanation.make_protocols import weakened
from pipeline_lib.figures import style

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from matplotlib.axes import Axes
    from matplotlib.figure import SubFigure

    from pipeline_lib.figures.style import Theme

PICTURE = Path(__file__).parent / "overview.svg"
RESULTS = Path(__file__).parents[1] / "benchmarks/results"
PARTIAL, FEW = "digits_partial/*.json", "digits_20_labels.json"
KINDS = ("labeled_and_unlabeled", "partial", "unlabeled")
EACH = 2  # images of each kind
BOUNDS = {
    "oracle": "was given every true label",
    "average": "takes all candidates for equally true",
    "supervised": "leaves out images without a label",
}
"""What the methods are compared with."""


def main() -> None:
    """Write the picture beside this file."""
    PICTURE.write_bytes(picture())


def picture() -> bytes:
    """Training images with their candidates, and the accuracy of methods that learned from such, as SVG."""
    theme = style.LIGHT
    with style.applied(theme):
        figure = style.plain_figure(12.6, 4.6)
        figure.set_layout_engine("constrained", w_pad=0.1)
        given, *charts = figure.subfigures(1, 3, width_ratios=(0.95, 1.2, 1.15))
        _title(given, "What training sees of digits", theme)
        _fill_images(given, theme)
        partial, few = runs_of(PARTIAL), runs_of(FEW)
        rows = max(len(accuracies(runs)) for runs in (partial, few))
        for part, runs in zip(charts, (partial, few), strict=True):
            _title(part, described(runs[0]["metrics"]["train"]), theme)
            _fill_chart(part.subplots(), accuracies(runs), rows, theme)
        lines = ["Grey, to compare with:", *(f"{name}: {what}" for name, what in BOUNDS.items())]
        charts[-1].text(0.2, 0.3, "\n".join(lines), color=theme.muted, fontsize=10, va="top")
        return style.as_svg(figure, theme)


def described(train: Mapping[str, Any]) -> str:
    """What a training has learned from, by its own count."""
    if labeled := train.get("labeled_and_unlabeled"):
        return f"{labeled} labels, {train['unlabeled']:,} images without"
    return f"{train['mean_candidates']:.1f} candidates for each image"


def examples() -> list[tuple[int, list[int]]]:
    """Training images of each kind, by number, with their candidates."""
    train = pl.DataFrame(pl.from_arrow(weakened(["mixed"])["mixed"].train))
    rows = [train.filter(pl.col("role") == kind).head(EACH) for kind in KINDS]
    return list(pl.concat(rows).select("id", "candidates").iter_rows())


def in_words(candidates: Sequence[int]) -> str:
    """What is known of a digit."""
    *others, last = map(str, candidates)
    if len(candidates) == len(load_digits().target_names):
        return "no label"
    return f"{', '.join(others)} or {last}" if others else f"label {last}"


def runs_of(pattern: str) -> list[dict[str, Any]]:
    """Trainings of which `benchmarks/results` tells."""
    paths = sorted(RESULTS.glob(pattern))
    return [run for path in paths for run in json.loads(path.read_text("utf-8"))["runs"]]


def accuracies(runs: Iterable[Mapping[str, Any]]) -> dict[str, list[float]]:
    """By method, the test accuracy with each seed; the best method first."""
    found: dict[str, list[float]] = {}
    for run in runs:
        found.setdefault(run["method"], []).append(run["accuracy"])
    return dict(sorted(found.items(), key=lambda item: -mean(item[1])))


def _title(part: SubFigure, text: str, theme: Theme) -> None:
    part.suptitle(text, x=0.03, ha="left", fontsize=12.5, color=theme.ink)


def _fill_images(part: SubFigure, theme: Theme) -> None:
    pixels_NHW = load_digits().images
    places = part.subplots(EACH, len(KINDS))
    for number, (image, candidates) in enumerate(examples()):
        axes = places[number % EACH, number // EACH]
        axes.imshow(pixels_NHW[image], cmap="gray")
        axes.set_axis_off()
        axes.set_title(in_words(candidates), y=-0.2, fontsize=10.5, color=theme.muted)


def _fill_chart(
    axes: Axes, of_methods: Mapping[str, Sequence[float]], rows: int, theme: Theme
) -> None:
    for place, (name, values) in enumerate(of_methods.items()):
        colour = theme.muted if name in BOUNDS else theme.series[0]
        axes.axhline(place, color=theme.rule, linewidth=0.8)
        axes.plot(values, [place] * len(values), "o", color=colour, alpha=0.45, markersize=5)
        axes.plot(mean(values), place, "|", color=colour, markersize=15, markeredgewidth=2.5)
        text = f"{100 * mean(values):.1f}"
        axes.annotate(
            text, (1, place), (7, 0), textcoords="offset points", va="center", fontsize=9.5
        )
    least = min(map(min, of_methods.values()))
    axes.set_yticks(range(len(of_methods)), list(of_methods))
    axes.set_ylim(rows - 0.4, -0.6)
    axes.grid(visible=False, axis="y")
    axes.spines[:].set_visible(False)
    axes.set_xlim(math.floor(50 * least) / 50, 1)
    axes.xaxis.set_major_locator(MultipleLocator(0.02 if least > 0.9 else 0.05))
    axes.xaxis.set_major_formatter(style.PERCENT)
    axes.set_xlabel("test accuracy with each seed, and the mean")


if __name__ == "__main__":
    main()
