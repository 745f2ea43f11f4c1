"""Commands on comparisons; the library is imported within them, so that --help answers at once."""

from __future__ import annotations

import concurrent.futures
import json
import signal
import statistics
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pipeline_lib.cells.children import Children, Ended, ended_by_signals
from pipeline_lib.cells.pipeline import FILE, NEEDED, show_to_dvc, stages_of
from pipeline_lib.errors import InterruptedRunError, UserError, listed
from stages.cli import print_table
from stages.dvc_command import DVC, environment

if TYPE_CHECKING:
    from collections.abc import Iterable

LOGS = Path(".dvc/tmp/compare")
WAITING = ("--wait-for-lock",)  # another DVC in the repository ends sooner or later
SHOWN_LINES = 12  # of the log of a cell that failed

Jobs = Annotated[int, typer.Option("-j", "--jobs", min=1, help="Cells at a time.")]
Budget = Annotated[str | None, typer.Option(help="Rows of this budget only.")]
Contender = Annotated[str | None, typer.Option("--method", help="Rows whose method holds this.")]
Folders = Annotated[
    list[str],
    typer.Argument(
        help="reports/compare of comparisons on different datasets; NAME=FOLDER names the dataset."
    ),
]
Picture = Annotated[Path, typer.Option("-o", "--output", help="Of the diagram, as SVG.")]
Experiments = Annotated[
    bool, typer.Option("--experiments", help="Of `dvc exp` instead: every experiment.")
]


def compare(jobs: Jobs = 1) -> None:
    """Run what is missing of the comparison in params.yaml, several cells at a time, then make its page.

    A cell that fails does not stop the others. After an interruption run the same command again: what is done
    is not done twice, and a training that was under way goes on from its resume state.
    """
    show_to_dvc()
    children, left = Children(), Left()
    with ended_by_signals():
        try:
            _dvc(children, "repro", *NEEDED)
            left.keys = changed()
            if left.keys:
                _run_cells(children, left, jobs)
            _dvc(children, "repro", FILE)
        except KeyboardInterrupt as error:
            print("ending: trainings under way save their state first", flush=True)
            children.end()
            number = error.number if isinstance(error, Ended) else signal.SIGINT
            raise InterruptedRunError(left.told(), number) from None


class Left:
    """The keys of the cells that are still to be run; None where that is not known yet."""

    def __init__(self) -> None:
        self.keys: list[str] | None = None

    def told(self) -> str:
        """What to do after an interruption."""
        if self.keys is None:
            return "interrupted before any cell; run the same command again"
        if not self.keys:
            return "interrupted, and every cell is done; run the same command again for the page"
        return f"interrupted; {len(self.keys)} cells are left: {listed(self.keys)}; run the same command again"


def _dvc(children: Children, *arguments: str) -> None:
    """Run DVC in the foreground.

    Raises:
        UserError: It failed, and has said why.
    """
    code = children.run([*DVC, *WAITING, *arguments], env=environment())
    if code:
        raise _failed(arguments, code)


def _failed(arguments: Iterable[str], code: int) -> UserError:
    return UserError(f"`dvc {' '.join(arguments)}` failed (exit code {code}); see above")


def changed() -> list[str]:
    """Keys of the cells that are missing or out of date, in the order of params.yaml.

    Raises:
        UserError: DVC failed, and has said why.
    """
    from pipeline_lib.cells.cell import cells
    from pipeline_lib.params.load import load

    asked = ("status", "--json", FILE)
    done = subprocess.run(
        [*DVC, *WAITING, *asked], env=environment(), stdout=subprocess.PIPE, check=False
    )
    if done.returncode:
        raise _failed(asked, done.returncode)
    changed = {name.partition("@")[2] for name in json.loads(done.stdout) if "@" in name}
    return [cell.key for cell in cells(load().compare) if cell.key in changed]


def _run_cells(children: Children, left: Left, jobs: int) -> None:
    """Run cells and their pages, `jobs` at a time, each by a DVC of its own; what is done leaves `left`.

    Raises:
        UserError: Some failed; the message names them.
    """
    LOGS.mkdir(parents=True, exist_ok=True)
    keys = list(left.keys or ())
    failed: list[str] = []
    print(f"{len(keys)} cells to run, {jobs} at a time; what they say: {LOGS}/*.log", flush=True)
    with concurrent.futures.ThreadPoolExecutor(jobs) as pool:
        futures = {pool.submit(_run_cell, children, key): key for key in keys}
        try:
            for number, future in enumerate(concurrent.futures.as_completed(futures), 1):
                key = futures[future]
                code, seconds = future.result()
                how = "restored from the cache" if _from_cache(key) else "done"
                said = f"{how} in {seconds:.0f} s" if code == 0 else f"failed (exit code {code}):"
                print(f"{number}/{len(keys)} {key} {said}", flush=True)
                if code:
                    failed.append(key)
                    print(*_last_lines(LOGS / f"{key}.log"), sep="\n", flush=True)
                elif left.keys:
                    left.keys.remove(key)
        except KeyboardInterrupt:
            pool.shutdown(wait=False, cancel_futures=True)
            children.end()
            raise
    if failed:
        msg = f"{len(failed)} of {len(keys)} cells failed: {listed(failed)}; run the same command again"
        raise UserError(msg)


def _run_cell(children: Children, key: str) -> tuple[int, float]:
    """Exit code and seconds of one cell with its page.

    Without its dependencies (`-s`): they are up to date, and shared ones would be locked. The lock of the
    repository is held for moments, and waited for.
    """
    started = time.monotonic()
    with (LOGS / f"{key}.log").open("wb") as log:
        code = children.run(
            [*DVC, *WAITING, "repro", "-s", *stages_of(key)],
            env=environment(),
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    return code, time.monotonic() - started


def _from_cache(key: str) -> bool:
    """Whether DVC had the cell already: after a kill in the middle of its writing dvc.lock, which it then cuts."""
    said = (LOGS / f"{key}.log").read_text(encoding="utf-8", errors="replace")
    return f"cell@{key}' is cached" in said


def _last_lines(path: Path) -> list[str]:
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    return [f"  {line}" for line in lines[-SHOWN_LINES:]]


def compare_times() -> None:
    """Write compare.ms_per_step into params.yaml, from the cells that ran on this machine.

    Medians over the cells of a method and variant of milliseconds per step of each phase, validation included, and
    of the search for settings; of a training that was gone on with, the steps since. With several cells at a time
    these were slower than alone.
    """
    from pipeline_lib.artifacts import publish_text
    from pipeline_lib.cells.cell import TIMES, cells
    from pipeline_lib.methods.phases import SEARCH
    from pipeline_lib.params.load import PARAMS, load
    from pipeline_lib.recipes import edited

    measured: dict[str, dict[str, list[float]]] = {}
    for cell in cells(load().compare):
        path = TIMES / f"{cell.key}.json"
        if path.is_file():
            took = json.loads(path.read_text(encoding="utf-8"))
            for phase, ms in took.get("ms_per_step", {}).items():
                measured.setdefault(cell.contender, {}).setdefault(phase, []).append(ms)
    if not measured:
        msg = f"{TIMES}: no cell of this comparison ran on this machine; run `make compare` first"
        raise UserError(msg)
    found = {
        name: {phase: round(statistics.median(values), 3) for phase, values in phases.items()}
        for name, phases in measured.items()
    }
    text = PARAMS.read_text(encoding="utf-8")
    publish_text(PARAMS, edited(text, {"compare": {"ms_per_step": found}}), sidecar=False)
    for name, phases in found.items():
        told = (
            f"{ms} ms {'in all' if phase == SEARCH else 'per step'} ({phase})"
            for phase, ms in phases.items()
        )
        print(f"{name}: {', '.join(told)}")


def compare_datasets(
    folders: Folders, budget: Budget = None, output: Picture = Path("datasets.svg")
) -> None:
    """Rank methods over several datasets: Friedman's test, and a critical-difference diagram."""
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
