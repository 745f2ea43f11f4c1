"""The curves of scale_model.py beside what was measured: fitted on the smaller sizes, tested on the largest."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from benchmarks.scale_model import FLOAT, MASK, line, read, sized, started
from pipeline_lib.figures import style

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MIB = 2**20
HEAD = "| cost | fitted on | tested at | measured | predicted | error |"


@dataclass(frozen=True)
class Check:
    """A cost of a subject against a size: measured points, and how it grows: a `line`, or `flat`."""

    subject: str
    name: str
    unit: str
    grows: str
    points: list[tuple[float, float]]

    @property
    def curve(self) -> tuple[float, float]:
        """Fixed cost and cost per unit, from all points but the largest."""
        before = self.points[:-1]
        return line(before) if self.grows == "line" else (max(cost for _, cost in before), 0.0)

    def at(self, size: float) -> float:
        """What the curve predicts."""
        fixed, each = self.curve
        return fixed + each * size

    @property
    def error(self) -> float:
        """Of the prediction at the largest size, relative to what was measured."""
        size, cost = self.points[-1]
        return self.at(size) / cost - 1


def checks() -> list[Check]:
    """Every cost that was measured at several numbers of images."""
    ingest, sizes = "ingest", "ingest_sizes"
    found = [
        Check(ingest, "ingest, wall", "s", "line", sized(sizes, "ingest", "seconds")),
        Check(
            ingest, "ingest, processor", "s", "line", sized(sizes, "ingest", "processor_seconds")
        ),
        Check(ingest, "ingest, memory", "MiB", "flat", sized(sizes, "ingest", "peak_mib")),
        Check("split", "split, wall", "s", "line", sized(sizes, "split", "seconds")),
        Check("split", "split, memory", "MiB", "line", sized(sizes, "split", "peak_mib")),
    ]
    for method in ("cr_dpll", "paws"):
        start, memory = started(method, "seconds to start"), started(method, "MiB")
        found.append(Check(method, f"start of {method}", "s", "line", start))
        found.append(Check(method, f"memory of {method} at its start", "MiB", "line", memory))
    return found


def rows() -> list[str]:
    """The table."""
    lines = [HEAD, "|" + "---|" * HEAD.count(" | ") + "---|"]
    for check in checks():
        size, cost = check.points[-1]
        fitted = " and ".join(
            f"{n:,}" for n in (check.points[0][0], check.points[-2][0]) if n != size
        )
        cells = [
            f"{check.name}, {check.unit}",
            f"{fitted} images",
            f"{size:,}",
            f"{cost:,.4g}",
            f"{check.at(size):,.4g}",
            f"{100 * check.error:+.0f} %",
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return [*lines, label_row()]


def label_row() -> str:
    """What a class more takes per image, by arithmetic: of CR-DPLL before an evaluation has kept a copy.

    At that commit the candidates were kept as float32 besides.
    """
    points = started("cr_dpll", "MiB", "classes")
    images = next(
        r["images"] for r in read("scaling")["runs"] if r["varied"] == "classes"
    )  # the same in all of them
    (few, _), (many, most) = points[0], points[-1]
    predicted = points[0][1] + images * (many - few) * (MASK + 2 * FLOAT) / MIB
    cells = [
        "memory of cr_dpll by classes, MiB",
        f"{few} classes, and arithmetic: {MASK + 2 * FLOAT} bytes per image and class (a mask, two float32)",
        f"{many:,} classes",
        f"{most:,.4g}",
        f"{predicted:,.4g}",
        f"{100 * (predicted / most - 1):+.0f} %",
    ]
    return "| " + " | ".join(cells) + " |"


def picture() -> bytes:
    """Measured points on their curves; the largest, which no curve has seen, is filled."""
    theme = style.LIGHT
    with style.applied(theme):
        figure = style.plain_figure(2 * style.WIDTH, style.HEIGHT + 0.4)
        figure.set_layout_engine("constrained")
        for axes, unit, said in zip(
            figure.subplots(1, 2), ("s", "MiB"), ("seconds", "MiB"), strict=True
        ):
            chosen = [check for check in checks() if check.unit == unit]
            fill_axes(axes, chosen, theme)
            axes.set_ylabel(said)
            axes.legend(loc="upper left", fontsize=8.5)
        return style.as_svg(figure, theme)


def fill_axes(axes: Axes, chosen: list[Check], theme: style.Theme) -> None:
    """The costs of one unit, both axes in logarithms; a subject has one colour in all axes."""
    subjects = list(dict.fromkeys(check.subject for check in checks()))
    for number, check in enumerate(chosen):
        colour = theme.series[subjects.index(check.subject)]
        dash = style.DASHES[[other.subject for other in chosen[:number]].count(check.subject)]
        sizes = [size for size, _ in check.points]
        fine = [sizes[0] * (sizes[-1] / sizes[0]) ** (k / 30) for k in range(31)]
        axes.plot(fine, [check.at(n) for n in fine], color=colour, ls=dash, label=check.name)
        for size, cost in check.points:
            fill = colour if size == sizes[-1] else theme.surface
            axes.plot(size, cost, "o", color=colour, markerfacecolor=fill, ms=6)
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xticks([10_000, 100_000, 1_000_000], ["10,000", "100,000", "1,000,000"])
    axes.minorticks_off()
    low, high = axes.get_ylim()
    axes.set_ylim(low, high * 2)  # room for the legend
    ticks = [n for n in (1, 3, 10, 30, 100, 300, 1000, 3000) if low <= n <= high]
    axes.set_yticks(ticks, [f"{n:,}" for n in ticks])
    axes.set_xlabel("images")
