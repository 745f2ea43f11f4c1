"""What every engine is given, and how one that is not installed is told of."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol

from pipeline_lib.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping, Sequence
    from pathlib import Path

    from pipeline_lib.sweep.job import Job
    from pipeline_lib.sweep.states import Change


LINES = ("setup", "teardown", "srun_args")  # of SLURM: one that is given again gets a line more


class Options(NamedTuple):
    """Of a sweep, for its engine."""

    most: int | None
    """Jobs at a time; None: as many as the engine has room for."""
    retries: int
    """Of a job that failed, or whose machine did."""
    folder: Path
    """For the engine's own files; every machine of a SLURM cluster must see it."""
    settings: Mapping[str, str]
    """Of the engine: what a job needs, as the user gave it."""
    address: str | None = None
    """Of a running Ray cluster; None: one on this machine, for this sweep."""


class Engine(Protocol):
    """Starts jobs, retries those that fail, and says what becomes of each.

    Closing the iterator tells all jobs to end.
    """

    def __call__(self, jobs: Sequence[Job], options: Options) -> Generator[Change]:
        """Run the jobs."""


def missing(error: ImportError, extra: str, pins: str) -> UserError:
    """What to say of a package that not everybody has, and that is not there."""
    return UserError(
        f"the package {error.name} is not installed (the extra `{extra}` of pyproject.toml); run `uv pip install "
        f"--python .venv/bin/python --require-hashes -r {pins}`"
    )


def settings_of(
    engine: str, slurm: Sequence[str] | None, ray: Sequence[str] | None, address: str | None
) -> dict[str, str]:
    """The settings of the engine, each given as key=value; of one that is given again the last counts, but for `LINES`.

    Raises:
        UserError: One is no such pair, or is of another engine.
    """
    for name, given in (("slurm", slurm), ("ray", ray), ("ray", address)):
        if given and name != engine:
            option = "address" if given is address else name
            msg = f"--{option}: goes with --engine {name}, not with {engine}; leave it out"
            raise UserError(msg)
    found: dict[str, str] = {}
    for each in (*(slurm or ()), *(ray or ())):
        key, equals, value = each.partition("=")
        if not key or not equals or not value:
            msg = f"--{engine} {each}: write key=value"
            raise UserError(msg)
        found[key] = f"{found[key]}\n{value}" if key in LINES and key in found else value
    return found
