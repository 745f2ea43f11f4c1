"""All checks, one after the other."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipeline_lib.doctor import (
    cache,
    checkout,
    environment,
    experiments,
    locks,
    processes,
    remotes,
    resume_states,
    snapshot,
    workspace,
)
from pipeline_lib.doctor.finding import Checked, Finding
from pipeline_lib.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

CHECKS = {
    "environment": environment.check,
    "checkout": checkout.check,
    "cache": cache.check,  # what is removed from it, the workspace may put back
    "workspace": workspace.check,
    "snapshot": snapshot.check,
    "remotes": remotes.check,
    "locks": locks.check,
    "processes": processes.check,
    "experiments": experiments.check,
    "resume": resume_states.check,
}


def examine(root: Path) -> Iterator[tuple[str, Checked]]:
    """Look at the checkout `root`; gives the name of each area, and what there is to say of it."""
    for area, check in CHECKS.items():
        yield area, _examined(area, check, root)


def _examined(area: str, check: Callable[[Path], Checked], root: Path) -> Checked:
    try:
        return check(root)
    except UserError as error:
        what, _, todo = str(error).partition("; ")
        return Checked("not looked at", (Finding(area, what, todo),))
    except Exception as error:  # noqa: BLE001 - a broken checkout is what this is for; the other areas count
        what = f"could not be looked at ({type(error).__name__}: {error})".replace("\n", " ")
        return Checked("not looked at", (Finding(area, what, "see what it names"),))
