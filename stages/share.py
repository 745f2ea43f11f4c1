"""Commands that push to and pull from a remote; the library is imported within them, so that --help answers at once."""

from __future__ import annotations

import subprocess
from pathlib import Path

from pipeline_lib.errors import UserError, listed
from stages.dvc_command import DVC, dvc, environment


def push() -> None:
    """Send all outputs that there are to the remote, unless one is damaged here."""
    from pipeline_lib.doctor import recorded, remotes
    from pipeline_lib.doctor.remote_objects import push_kept_by_git

    root = _checkout()
    _show_what_is_recorded(root)
    if damaged := recorded.damaged(root):
        msg = (
            f"nothing was pushed: damaged in the cache of DVC: {listed(damaged)}; "
            "run `python -m stages.app doctor --fix`, then `dvc repro`"
        )
        raise UserError(msg)
    for finding in remotes.check(root).findings:
        print(f"note: {finding}", flush=True)
    dvc("push")
    push_kept_by_git(root)


def pull() -> None:
    """Fetch all outputs that were recorded: of the pipeline, and what has run of the comparison.

    An output that the remote does not have, or has with other bytes than were recorded, is an error. With
    `dvc pull --allow-missing` it would not be.
    """
    from pipeline_lib.doctor import recorded
    from pipeline_lib.doctor.remote_objects import why_missing

    root = _checkout()
    _show_what_is_recorded(root)
    targets = [target for file in recorded.PIPELINES for target in _targets(root, file)]
    if not targets:
        msg = "nothing is recorded: dvc.lock is missing; run `dvc repro`"
        raise UserError(msg)
    try:
        dvc("pull", *targets)
    except UserError as error:
        if why := why_missing(root):
            raise UserError(why) from error
        raise


def _checkout() -> Path:
    """The working directory.

    Raises:
        UserError: It is in no repository of Git and DVC.
    """
    from pipeline_lib.doctor.cache import cache_folder

    root = Path.cwd()
    cache_folder(root)  # before DVC is started, whose complaint would come first
    return root


def _show_what_is_recorded(root: Path) -> None:
    """Let DVC see a comparison that has run: its dvc.lock may be in a clone without its dvc.yaml."""
    from pipeline_lib.cells.pipeline import SEEN, show_to_dvc

    if (root / SEEN).with_suffix(".lock").is_file():
        show_to_dvc()


def _targets(root: Path, file: str) -> list[str]:
    """A pipeline, or those of its stages that have been recorded and still belong to it."""
    from pipeline_lib.doctor import recorded
    from pipeline_lib.params.load import read_yaml

    names = recorded.stages(root, file)
    if not names:
        return []
    if names == set(
        read_yaml(root / file).get("stages") or {}
    ):  # none of them is made from a matrix
        return [file]  # without asking DVC, which takes a second to start
    # As `train`, and `reports/compare/dvc.yaml:plan` for what is not in the folder.
    command = [*DVC, "stage", "list", "--name-only", file]
    done = subprocess.run(command, env=environment(), stdout=subprocess.PIPE, text=True, check=True)
    every = done.stdout.split()
    found = [name for name in every if name.rpartition(":")[2] in names]
    return [file] if found == every else found
