"""The command that runs many trainings on many machines; the library is imported within it, so that --help answers at once."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pipeline_lib.errors import UserError, in_one_line
from stages.compare import WAITING, changed
from stages.dvc_command import DVC, dvc, environment

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pipeline_lib.sweep.engines.base import Engine, Options
    from pipeline_lib.sweep.project import Project

Settings = Annotated[
    list[str] | None,
    typer.Option("-S", "--set-param", help="key=value,value: all combinations are run."),
]
OfComparison = Annotated[bool, typer.Option("--compare", help="Instead: the comparison's cells.")]
Name = Annotated[str, typer.Option("--engine", help="local | slurm | ray")]
Jobs = Annotated[int | None, typer.Option("-j", "--jobs", min=1, help="At a time; local: 1.")]
Retries = Annotated[int, typer.Option(min=0, help="Of a job that failed or lost its machine.")]
Cache = Annotated[Path | None, typer.Option(help="A cache of DVC that all machines reach.")]
Slurm = Annotated[list[str] | None, typer.Option(help="As time=120, partition=gpu; see sbatch.")]
Ray = Annotated[list[str] | None, typer.Option(help="As num_cpus=2, num_gpus=1: of a job.")]
Address = Annotated[str | None, typer.Option(help="Of a Ray cluster, or auto; else Ray runs here.")]


def sweep(
    set_param: Settings = None,
    engine: Name = "local",
    jobs: Jobs = None,
    retries: Retries = 2,
    cache: Cache = None,
    slurm: Slurm = None,
    ray: Ray = None,
    address: Address = None,
    *,
    compare: OfComparison = False,
) -> None:
    """Run a grid of experiments, or what is missing of the comparison, on one machine or many.

    Each job works on a clone of HEAD. One that fails is run again from its resume state; after an interruption
    the same command runs what is missing.
    """
    from pipeline_lib.sweep.engines.base import Options, settings_of
    from pipeline_lib.sweep.project import LOGS, look
    from pipeline_lib.sweep.run import engine_named

    if bool(set_param) == compare:
        msg = "say what to run: either -S key=value,value or --compare"
        raise UserError(msg)
    start = engine_named(engine)
    settings = settings_of(engine, slurm=slurm, ray=ray, address=address)
    project = look(Path.cwd(), cache)
    folder = project.root / LOGS
    folder.mkdir(parents=True, exist_ok=True)
    print(f"results go to {project.home}", flush=True)
    options = Options(jobs, retries, folder / "engine", settings, address)
    if set_param:
        _run_experiments(project, set_param, start, options)
    else:
        _run_cells(project, start, options)


def _run_experiments(
    project: Project, settings: Sequence[str], engine: Engine, options: Options
) -> None:
    from pipeline_lib.sweep import plan
    from pipeline_lib.sweep.project import refs_of, refuse_other_images
    from pipeline_lib.sweep.run import sweep as run

    refuse_other_images(project.root)
    points = plan.grid(settings, project.root / "params.yaml")
    jobs = list(plan.experiments(project, points))
    there = refs_of(project.hub)
    left = [job for job in jobs if job.ref not in there]
    print(f"{len(jobs)} experiments, {len(jobs) - len(left)} of them done before", flush=True)
    try:
        run(left, engine, options, lambda name: None)
    finally:
        there, here = refs_of(project.hub), refs_of(str(project.root))
        if names := [job.name for job in jobs if job.ref in there - here]:
            dvc("exp", "pull", "--no-cache", project.git_remote, *names)
    print("`dvc exp show` has them; choose by val.accuracy, not by the test images", flush=True)


def _run_cells(project: Project, engine: Engine, options: Options) -> None:
    from pipeline_lib.cells.pipeline import NEEDED, drop_cut_lock, show_to_dvc, stages_of
    from pipeline_lib.sweep import plan
    from pipeline_lib.sweep.run import sweep as run

    show_to_dvc()
    drop_cut_lock()
    dvc(*WAITING, "repro", *NEEDED)
    if not project.at_home:
        dvc("push", *NEEDED)
    jobs = list(plan.cells(project, changed()))
    print(f"{len(jobs)} cells to run", flush=True)
    pulling = ("--pull",) if project.remote else ()

    def bring_home(key: str) -> None:
        """Nothing is computed: DVC has the record of the run, and its outputs."""
        command = [*DVC, *WAITING, "repro", *pulling, "-s", *stages_of(key)]
        done = subprocess.run(
            command, env=environment(), capture_output=True, text=True, check=False
        )
        if done.returncode:
            msg = f"`{' '.join(['dvc', *command[3:]])}` failed: {in_one_line(done.stderr[-300:])}"
            raise UserError(msg)

    run(jobs, engine, options, bring_home)
    print("all cells are there; `python -m stages.app compare` makes the page", flush=True)
