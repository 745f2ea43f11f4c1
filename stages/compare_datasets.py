"""The command that ranks methods over several datasets; the library is imported within it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pipeline_lib.errors import UserError

Budget = Annotated[str | None, typer.Option(help="Rows of this budget only.")]
Folders = Annotated[
    list[str],
    typer.Argument(
        help="reports/compare of comparisons on different datasets; NAME=FOLDER names the dataset."
    ),
]
Picture = Annotated[Path, typer.Option("-o", "--output", help="Of the diagram, as SVG.")]


def compare_datasets(
    folders: Folders, budget: Budget = None, output: Picture = Path("datasets.svg")
) -> None:
    """Rank methods over several datasets: Friedman's test, and a critical-difference diagram."""
    if output.suffix.lower() != ".svg":
        msg = f"{output}: the diagram is an SVG; give it a name that ends in .svg"
        raise UserError(msg)
    from pipeline_lib.artifacts import publish_bytes
    from pipeline_lib.figures import style
    from pipeline_lib.ranking import critical_difference
    from pipeline_lib.ranking.ranks import rank
    from pipeline_lib.ranking.scores import scores
    from pipeline_lib.rng import generator

    datasets, names, scores_DM = scores(folders, budget)
    ranking = rank(scores_DM, generator(0, "ranks"))
    frame = critical_difference.data(ranking, names)
    print(f"{len(datasets)} datasets: {', '.join(datasets)}")
    print(*(f"{row['rank']:.2f}\t{row['method']}" for row in frame.rows(named=True)), sep="\n")
    if ranking.refused:
        print(ranking.refused)
        return
    print(f"Friedman's test: chi square {ranking.statistic:.2f}, {ranking.p_words}")
    print(f"critical difference of average ranks (Nemenyi, 5 %): {ranking.critical_difference:.2f}")
    svg = style.as_svg(critical_difference.draw(frame, style.LIGHT), style.LIGHT)
    publish_bytes(output, svg, sidecar=False)
    print(f"open {output}")
