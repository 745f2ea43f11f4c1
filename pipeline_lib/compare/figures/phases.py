"""When the phases of a training switch, in steps: one row per contender and budget, one bar per seed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import polars as pl
from matplotlib.patches import Patch

from pipeline_lib.figures import style

if TYPE_CHECKING:
    from collections.abc import Mapping

    from matplotlib.figure import Figure

SCHEMA = pl.Schema(
    {
        "contender": pl.String,
        "budget": pl.String,
        "seed": pl.Int64,
        "phase": pl.String,
        "first_step": pl.Int64,
        "end": pl.Int64,
        "ended": pl.String,
    }
)
# What tells phases apart; not colours, which are those of contenders.
HATCHES = ("", "////", "....", "xxxx", "----", "oooo")
BAR = 0.14  # inches
GAP = 1.5  # bars


def data(cells: pl.DataFrame, phases: Mapping[str, Mapping[str, Any]]) -> pl.DataFrame:
    """The phases of the trainings that have more than one.

    Args:
        cells: key, contender, budget, seed.
        phases: what phases.json says, by key.

    Returns:
        Rows of `SCHEMA`.
    """
    rows = [
        (
            cell["contender"],
            cell["budget"],
            cell["seed"],
            phase["phase"],
            phase["first_step"],
            phase["end"],
            phase.get("ended"),
        )
        for cell in cells.select("key", "contender", "budget", "seed").rows(named=True)
        for phase in phases[cell["key"]]["phases"]
        if len(phases[cell["key"]]["phases"]) > 1
    ]
    return pl.DataFrame(rows, schema=SCHEMA, orient="row")


def draw(frame: pl.DataFrame, theme: style.Theme) -> Figure:
    """Bars of steps, a hatch per phase."""
    names = frame["phase"].unique(maintain_order=True).to_list()
    groups = frame.select("contender", "budget").unique(maintain_order=True).rows()
    trainings = frame.select("contender", "budget", "seed").unique(maintain_order=True).rows()
    places = {
        training: number + GAP * groups.index(training[:2])
        for number, training in enumerate(trainings)
    }
    with style.applied(theme):
        figure, axes = style.new_figure(
            height=0.85 + 0.2 * -(-len(names) // 2) + BAR * (1 + max(places.values()))
        )
        for row in frame.rows(named=True):
            number = names.index(row["phase"])
            axes.barh(
                places[row["contender"], row["budget"], row["seed"]],
                row["end"] - row["first_step"],
                left=row["first_step"],
                height=0.8,
                color=theme.muted,
                hatch=HATCHES[number % len(HATCHES)],
                edgecolor=theme.surface,
                linewidth=0.8,
            )
        ticks = [
            sum(own) / len(own)
            for group in groups
            if (own := [place for training, place in places.items() if training[:2] == group])
        ]
        axes.set_yticks(
            ticks,
            [f"{style.in_lines(name, 16)}\n{style.label(budget, 16)}" for name, budget in groups],
            fontsize=9,
        )
        axes.invert_yaxis()
        axes.grid(visible=False, axis="y")
        axes.spines["left"].set_visible(False)
        axes.set_xlabel("steps")
        patches = [
            Patch(
                facecolor=theme.muted,
                hatch=HATCHES[number % len(HATCHES)],
                edgecolor=theme.surface,
                label=style.label(name, 24),
            )
            for number, name in enumerate(names)
        ]
        figure.legend(handles=patches, loc="outside upper left", ncols=2, fontsize=9.5)
        return figure
