"""Objects on the remote: why some did not come, and sending those that DVC leaves out."""

from __future__ import annotations

import hashlib
import os
from typing import TYPE_CHECKING, BinaryIO

from pipeline_lib.doctor import recorded
from pipeline_lib.doctor.cache import LISTING, OBJECTS
from pipeline_lib.errors import listed

if TYPE_CHECKING:
    from pathlib import Path

MOST = 20  # objects that are looked at
AGAIN = "run `make pull` again: what has come is kept"


def why_missing(root: Path) -> str | None:
    """What to tell the user about recorded outputs that are not in the cache; None if all are there.

    Reads their objects on the remote, so that nobody is told to delete one for the fault of a server.
    """
    from dvc.config import Config
    from dvc.repo import Repo

    wanted = recorded.missing(root)
    if not wanted:
        return None
    if not Config(str(root / ".dvc")).get("core", {}).get("remote"):
        return (
            f"{len(wanted)} outputs are not here, and this checkout has no remote to fetch them from: "
            f"`dvc remote add --default NAME URL` (docs/how-to/share.md), or make them: `dvc repro`"
        )
    os.environ.setdefault("AWS_MAX_ATTEMPTS", "1")  # a pull has tried again and again before
    bad = []
    with Repo(str(root)) as repo:
        try:
            remote = repo.cloud.get_remote_odb()
            for name, md5 in wanted[:MOST]:
                path = remote.oid_to_path(md5)
                try:
                    with remote.fs.open(path, "rb") as file:
                        digest = _md5(file)
                except FileNotFoundError:
                    bad.append(f"{name}: missing on the remote ({_short(md5)})")
                    continue
                if digest != md5.removesuffix(LISTING):
                    bad.append(f"{name}: damaged on the remote ({_short(md5)})")
        except Exception as error:  # noqa: BLE001 - whatever the client of this kind of remote raises
            said = str(error).splitlines()[0] if str(error) else type(error).__name__
            return f"{len(wanted)} outputs did not come, and the remote does not answer as it should ({said}); {AGAIN}"
    if not bad:
        which = "they" if len(wanted) <= MOST else f"the first {MOST} of them"
        return f"{len(wanted)} outputs did not come, and on the remote {which} are intact; {AGAIN}"
    return (
        f"{listed(bad)}; delete what is damaged there, then `make push` where it is intact, or make it here: "
        "`dvc repro`"
    )


def push_kept_by_git(root: Path) -> None:
    """Send what `dvc push` and `dvc exp push` leave out: metrics, which Git keeps.

    Without these objects DVC takes no stage that has written them from its record of runs in another clone.
    """
    from dvc.repo import Repo
    from dvc_data.hashfile.hash_info import HashInfo

    objects = [HashInfo("md5", md5) for md5 in recorded.kept_by_git(root)]
    if objects:
        with Repo(str(root)) as repo:
            repo.cloud.push(objects)


def _md5(file: BinaryIO) -> str:
    digest = hashlib.md5(usedforsecurity=False)
    while block := file.read(1 << 20):
        digest.update(block)
    return digest.hexdigest()


def _short(md5: str) -> str:
    return f"{OBJECTS.as_posix()}/{md5[:2]}/{md5[2:]}"
