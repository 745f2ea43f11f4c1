"""Draw results/scaling.svg: how the costs in results/scaling.json grow with each size.

python -m benchmarks.scaling_picture
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from matplotlib.lines import Line2D

from benchmarks.tables import COSTS, RESULTS, UNITS, Run, cost_of, series, size_of
from pipeline_lib.figures import style

if TYPE_CHECKING:
    from matplotlib.axes import Axes

PICTURE = RESULTS / "scaling.svg"
DASHES = dict(zip(COSTS, style.DASHES, strict=False))
MARKERS = dict(zip(COSTS, "os^", strict=True))
LABELS = {
    "ms per step": "time of a step",
    "seconds to start": "time to the first step",
    "MiB": "memory",
}
TICKS = (0.5, 1, 2, 4, 10, 30, 100)
SIZES = {"small views": "views (2 large, 0 to 6 small)"}


def main() -> None:
    """Write the picture beside the results."""
    PICTURE.write_bytes(picture())


def picture() -> bytes:
    """A chart per varied size: every cost relative to that of the smallest, both axes in logarithms."""
    content = json.loads((RESULTS / "scaling.json").read_text(encoding="utf-8"))
    runs, theme = [cost_of(run) for run in content["runs"]], style.LIGHT
    methods = dict(zip(dict.fromkeys(run["method"] for run in runs), theme.series, strict=False))
    with style.applied(theme):
        figure = style.plain_figure(2 * style.WIDTH, 2 * style.HEIGHT + 0.9)
        figure.set_layout_engine("constrained", rect=(0, 0.1, 1, 0.9))
        for axes, axis in zip(figure.subplots(2, 2).flat, UNITS, strict=True):
            fill_axes(axes, series(runs, axis), axis, methods, theme)
        lines = [Line2D([], [], color=colour, label=name) for name, colour in methods.items()]
        lines += [
            Line2D(
                [], [], color=theme.muted, ls=DASHES[cost], marker=MARKERS[cost], ms=5, label=name
            )
            for cost, name in LABELS.items()
        ]
        lines.append(Line2D([], [], color=theme.rule, lw=5, label="linear"))
        figure.legend(handles=lines, loc="lower center", ncols=3, handlelength=3.5)
        return style.as_svg(figure, theme)


def fill_axes(
    axes: Axes,
    rows: dict[str, list[Run]],
    axis: str,
    methods: dict[str, str],
    theme: style.Theme,
) -> None:
    """One varied size: a line per method and cost, over one of slope 1."""
    sizes = [size_of(run, axis) for run in next(iter(rows.values()))]
    axes.plot(sizes, [size / sizes[0] for size in sizes], color=theme.rule, lw=5)
    for method, row in rows.items():
        for cost in COSTS:
            axes.plot(
                [size_of(run, axis) for run in row],
                [run[cost] / row[0][cost] for run in row],
                color=methods[method],
                ls=DASHES[cost],
                marker=MARKERS[cost],
                ms=5,
            )
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xticks(sizes, [f"{size:,}" for size in sizes])
    low, high = axes.get_ylim()
    axes.set_yticks([times for times in TICKS if low <= times <= high])
    axes.minorticks_off()
    axes.tick_params(labelsize=9)
    axes.set_xlabel(SIZES.get(axis, axis))
    axes.set_ylabel("times the smallest")
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")


if __name__ == "__main__":
    main()
