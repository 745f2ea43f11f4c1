"""Commands that push to and pull from a remote; the library is imported within them, so that --help answers at once."""

from __future__ import annotations

import contextlib
from pathlib import Path

from pipeline_lib.errors import UserError, listed
from stages.dvc_command import dvc


def push() -> None:
    """Send all outputs that there are to the remote, unless one is damaged, or not in the cache of DVC."""
    from pipeline_lib.doctor import recorded, remotes
    from pipeline_lib.doctor.finding import counted
    from pipeline_lib.doctor.remote_objects import (
        NO_REMOTE,
        has_remote,
        push_files,
        why_refused,
    )

    root = _checkout()
    _show_what_is_recorded(root)
    if damaged := recorded.damaged(root):
        msg = (
            f"nothing was pushed: damaged in the cache of DVC: {listed(damaged)}; "
            "run `python -m stages.app doctor --fix`, then `dvc repro`"
        )
        raise UserError(msg)
    if lost := recorded.only_here(root, pushed=True):
        names = listed(out.def_path for out in lost)
        msg = (
            f"nothing was pushed: in the workspace, but not in the cache of DVC: {names}; "
            "run `python -m stages.app doctor --fix`, then `make push` again"
        )
        raise UserError(msg)
    if not has_remote(root):
        msg = f"nothing was pushed: {NO_REMOTE}"
        raise UserError(msg)
    for finding in remotes.check(root).findings:
        print(f"note: {finding}", flush=True)
    _say_whose_images(root)
    try:
        dvc("push")
    except UserError as error:
        if why := why_refused(root):
            raise UserError(why) from error
        raise
    if count := push_files(root):
        print(
            f"{counted(count, 'file')} sent besides, which Git keeps or the remote had lost",
            flush=True,
        )


def pull() -> None:
    """Fetch all outputs that were recorded: of the pipeline, and what has run of the comparison.

    An output that the remote does not have, or has with other bytes than were recorded, is an error. With
    `dvc pull --allow-missing` it would not be.
    """
    from pipeline_lib.doctor import recorded
    from pipeline_lib.doctor.remote_objects import why_missing

    root = _checkout()
    _show_what_is_recorded(root)
    targets = [target for file in recorded.PIPELINES for target in recorded.targets(root, file)]
    if not targets:
        msg = "nothing is recorded: dvc.lock is missing; run `dvc repro`"
        raise UserError(msg)
    failed = None
    try:
        dvc("fetch", *targets)
    except UserError as error:
        failed = error
    # Listings of folders DVC takes as they come, and may fill a folder by one that is damaged.
    recorded.drop_damaged_listings(root)
    if why := why_missing(root):
        if whole := recorded.complete(root):  # they are of use by themselves
            with contextlib.suppress(UserError):
                dvc("checkout", *whole)
        raise UserError(why) from failed
    if failed:
        raise failed
    dvc("checkout", *targets)


def _say_whose_images(root: Path) -> None:
    """Remind of the terms of the images, which go along with all that was made of them."""
    from pipeline_lib.card.references import terms
    from pipeline_lib.doctor import recorded

    name = recorded.params(root, "dvc.yaml", "ingest").get("data.name")
    if name:
        allowed = terms(name)
        whose = f"the images of {name} (terms: {allowed})" if allowed else "your own images"
        print(f"note: with the rest go {whose}", flush=True)


def _checkout() -> Path:
    """The working directory.

    Raises:
        UserError: It is in no repository of Git and DVC, or not in its root.
    """
    from pipeline_lib.doctor.cache import cache_folder

    root = Path.cwd()
    cache_folder(root)  # before DVC is started, whose complaint would come first
    if not (root / ".dvc").is_dir():
        msg = ".dvc: not found; run from the root of the repository, beside dvc.yaml"
        raise UserError(msg)
    return root


def _show_what_is_recorded(root: Path) -> None:
    """Let DVC see a comparison that has run: its dvc.lock may be in a clone without its dvc.yaml."""
    from pipeline_lib.cells.pipeline import SEEN, show_to_dvc

    if (root / SEEN).with_suffix(".lock").is_file():
        show_to_dvc()
