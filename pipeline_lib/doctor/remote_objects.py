"""Objects on the remote: why some did not come, and sending those that DVC leaves out."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from pipeline_lib.doctor import recorded
from pipeline_lib.doctor.cache import LISTING, OBJECTS, cache_folder
from pipeline_lib.doctor.finding import counted
from pipeline_lib.errors import UserError, listed

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from dvc_data.hashfile.db import HashFileDB

DAMAGED = "damaged on the remote"
NO_REMOTE = (
    "this checkout has no remote: `dvc remote add --default NAME URL` (docs/how-to/share.md)"
)
PUSH_AGAIN = "run `make push` again: what has arrived is kept"


def why_missing(root: Path) -> str | None:
    """What to tell the user about recorded outputs that are not in the cache; None if all are there.

    Reads their objects on the remote, so that nobody is told to delete one for the fault of a server.
    """
    wanted = recorded.missing(root)
    if not wanted:
        return None
    what = f"{counted(len(wanted), 'output')} did not come"
    if not has_remote(root):
        return f"{what}: {NO_REMOTE}; or make them here: `dvc repro`"
    again = "run `make pull` again: what has come is kept"
    pushed = recorded.missing(root, pushed=True)
    if not pushed:
        names = listed(name for name, _ in wanted)
        return (
            f"{what}: dvc.yaml keeps {names} off the default remote (`push: false` or `remote:`); "
            "make them here: `dvc repro`"
        )
    # At a damaged listing DVC stops, and fetches nothing of what is intact.
    listings = [(name, md5) for name, md5 in pushed if md5.endswith(LISTING)]
    files = [each for each in pushed if each not in listings]
    try:
        bad = _looked_at(root, listings) or _looked_at(root, [*files, *_within(root, listings)])
    except RemoteError as error:
        return f"{what}, and {error}; {again}"
    if not bad:
        return f"{what}, and on the remote all is intact; {again}"
    return (
        f"{listed(bad)}; delete what is damaged there, then `make push` where it is intact, or make it here: "
        "`dvc repro`"
    )


def why_refused(root: Path) -> str | None:
    """What to tell the user after a push that failed; None if nothing is wrong with the remote.

    DVC stops at a listing that it cannot read. Of one that is missing there the push may just not have come to it.
    """
    try:
        bad = [line for line in _looked_at(root, recorded.listings(root)) if DAMAGED in line]
    except RemoteError as error:
        return f"not all was pushed, and {error}; {PUSH_AGAIN}"
    return f"{listed(bad)}; delete what is damaged there, then `make push` again" if bad else None


class RemoteError(Exception):
    """The remote does not answer as it should."""


def has_remote(root: Path) -> bool:
    """Whether there is one that DVC pushes to and pulls from."""
    from dvc.config import Config

    return bool(Config(str(root / ".dvc")).get("core", {}).get("remote"))


def _looked_at(root: Path, objects: Iterable[tuple[str, str]]) -> list[str]:
    """What is wrong on the remote with each of these paths and md5, if something is.

    Raises:
        RemoteError: It cannot be told.
    """
    os.environ.setdefault("AWS_MAX_ATTEMPTS", "1")  # DVC has tried again and again before
    bad = []
    with _remote(root) as remote:
        for name, md5 in objects:
            try:
                with remote.fs.open(remote.oid_to_path(md5), "rb") as file:
                    digest = _md5(file)
            except FileNotFoundError:
                bad.append(f"{name}: missing on the remote ({_short(md5)})")
                continue
            if digest != md5.removesuffix(LISTING):
                bad.append(f"{name}: {DAMAGED} ({_short(md5)})")
    return bad


def _within(root: Path, listings: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """Path and md5 of the files not here that listings on the remote name: DVC keeps no listing before it has all of them.

    Raises:
        RemoteError: They cannot be read.
    """
    found = []
    cache = cache_folder(root)
    with _remote(root) as remote:
        for name, md5 in listings:
            with remote.fs.open(remote.oid_to_path(md5), "rb") as file:
                entries = json.load(file)
            found += [
                (f"{name}/{entry['relpath']}", entry["md5"])
                for entry in entries
                if not (cache / _short(entry["md5"])).is_file()
            ]
    return found


@contextlib.contextmanager
def _remote(root: Path) -> Iterator[HashFileDB]:
    """The default remote of DVC.

    Raises:
        RemoteError: It fails meanwhile.
    """
    from dvc.repo import Repo

    with Repo(str(root)) as repo:
        try:
            remote = repo.cloud.get_remote_odb()
            _check_folder(remote)
            yield remote
        except RemoteError:
            raise
        except Exception as error:  # whatever the client of this kind of remote raises
            said = str(error).splitlines()[0] if str(error) else type(error).__name__
            msg = f"the remote does not answer as it should ({said})"
            raise RemoteError(msg) from error


def _check_folder(remote: HashFileDB) -> None:
    """Refuse a remote whose folder is not there: nothing has to be deleted or made again for that.

    Raises:
        RemoteError: It is not.
    """
    if remote.fs.protocol != "local":
        return
    folder = Path(remote.path.removesuffix(OBJECTS.as_posix()))
    if not folder.is_dir():
        msg = (
            f"the remote's folder {folder} is not there; mount it, or say where it is now: "
            "`dvc remote modify --local NAME url FOLDER` (`dvc remote list` shows the name)"
        )
        raise RemoteError(msg)


def push_files(root: Path) -> int:
    """Send what `dvc push` leaves out, and say how many files that were, looking for every recorded file on the remote.

    That are files of folders whose listing is there, which DVC takes to be there too; and metrics, which Git keeps:
    without them DVC takes no stage that has written them from its record of runs in another clone.

    Raises:
        UserError: Not all of them have arrived.
    """
    from dvc.repo import Repo
    from dvc_data.hashfile.db import get_index
    from dvc_data.hashfile.hash_info import HashInfo

    objects = [HashInfo("md5", md5) for md5 in recorded.files(root)]
    if not objects:
        return 0
    try:
        with _remote(root) as remote, Repo(str(root)) as repo:
            get_index(remote).clear()  # what DVC believes to be there
            sent = repo.cloud.push(objects, odb=remote)
    except RemoteError as error:
        msg = f"not all was pushed, and {error}; {PUSH_AGAIN}"
        raise UserError(msg) from error
    if sent.failed:
        msg = f"not all was pushed: {counted(len(sent.failed), 'file')} failed, see above; {PUSH_AGAIN}"
        raise UserError(msg)
    return len(sent.transferred)


def _md5(file: BinaryIO) -> str:
    digest = hashlib.md5(usedforsecurity=False)
    while block := file.read(1 << 20):
        digest.update(block)
    return digest.hexdigest()


def _short(md5: str) -> str:
    return f"{OBJECTS.as_posix()}/{md5[:2]}/{md5[2:]}"
