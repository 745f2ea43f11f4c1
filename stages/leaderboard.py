"""The command that shows who is best; the library is imported within it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from pipeline_lib.errors import UserError
from stages.cli import print_table

if TYPE_CHECKING:
    from collections.abc import Iterable

Budget = Annotated[str | None, typer.Option(help="Rows of this budget only.")]
Contender = Annotated[str | None, typer.Option("--method", help="Rows whose method holds this.")]
Experiments = Annotated[
    bool, typer.Option("--experiments", help="Of `dvc exp` instead: every experiment.")
]


def leaderboard(
    budget: Budget = None, method: Contender = None, *, experiments: Experiments = False
) -> None:
    """Show who is best: of the comparison, or of all DVC experiments.

    With --experiments the interval is Wilson's, over test images; else it is over seeds.
    """
    from pipeline_lib.compare import leaderboard as board

    if experiments:
        if budget:
            msg = "--budget: an experiment of DVC belongs to no budget; leave --budget or --experiments out"
            raise UserError(msg)
        print_table(board.of_experiments(_experiments(), method))
    else:
        print_table(board.of_groups(_groups(), budget, method))


def _groups() -> Any:  # noqa: ANN401 - a frame of polars, which is imported late
    import polars as pl

    from pipeline_lib.cells.cell import COMPARISON
    from pipeline_lib.cells.tables import table_of

    return pl.from_arrow(table_of(COMPARISON, "groups"))


def _experiments() -> Iterable[dict[str, Any]]:
    """Of HEAD, and of every commit that experiments started from."""
    from dvc.api import exp_show
    from dvc.exceptions import DvcException
    from dvc.repo import Repo

    try:
        with Repo() as repo:
            commits = {repo.scm.get_rev(), *repo.experiments.ls(all_commits=True)}
        rows: Iterable[dict[str, Any]] = exp_show(revs=sorted(commits))
    except DvcException as error:
        msg = (
            f"leaderboard --experiments: run it in a Git repository with DVC's experiments: {error}"
        )
        raise UserError(msg) from error
    return rows
