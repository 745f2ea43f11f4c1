"""The cache of DVC: whether every object still has the content that it is named by."""

from __future__ import annotations

import hashlib
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline_lib.control_groups import cores
from pipeline_lib.doctor.finding import Checked, Finding, counted, human
from pipeline_lib.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

OBJECTS = Path("files/md5")
NAME_LENGTH = 30  # of an md5 in hexadecimal digits, without the two of its folder
LISTING = ".dir"  # ending of the object that lists the files of a folder
OLD = 24 * 60 * 60  # s; no transfer of one file takes as long


def check(root: Path) -> Checked:
    """Hash every object of the cache that DVC uses here, which other clones may share."""
    folder = cache_folder(root) / OBJECTS
    paths = sorted(folder.glob("??/*"))
    objects = [path for path in paths if _is_object(path)]
    others = [path for path in paths if not _is_object(path)]
    with ThreadPoolExecutor(cores()) as pool:
        intact = list(pool.map(is_intact, objects))
    damaged = [path for path, fine in zip(objects, intact, strict=True) if not fine]
    size = human(sum(path.stat().st_size for path in objects if path.exists()))
    findings = (*(_damage(path) for path in damaged), *_leftovers(others), *_shared_links(root))
    return Checked(f"{counted(len(objects), 'object')}, {size}, in {folder}", findings)


def _shared_links(root: Path) -> Iterator[Finding]:
    """A cache of several clones whose files are links: one that commits what another has can empty them."""
    from dvc.config import Config

    settings = Config(str(root / ".dvc")).get("cache", {})
    kinds = settings.get("type", [])
    links = [kind for kind in kinds if kind in ("hardlink", "symlink")]
    if settings.get("shared") and links:
        what = f"{' and '.join(links)} to objects that another clone may replace at the same time"
        yield Finding("cache.type", what, "`dvc config --local cache.type copy`", problem=False)


def cache_folder(root: Path) -> Path:
    """Where DVC keeps its objects: within .dvc, or where cache.dir says.

    Raises:
        UserError: `root` is in no repository of Git and DVC.
    """
    from dvc.exceptions import DvcException
    from dvc.repo import Repo

    try:
        with Repo(str(root)) as repo:
            return Path(repo.cache.local_cache_dir)
    except DvcException as error:
        msg = f"run it in a Git repository with DVC, such as a clone of the project: {error}"
        raise UserError(msg) from error
    except (
        KeyError,
        RuntimeError,
    ) as error:  # of who is in no list of users, as in some containers
        msg = f"DVC needs the name and the home of who runs it ({error}); set them: `export USER=me HOME=/tmp`"
        raise UserError(msg) from error


def _is_object(path: Path) -> bool:
    name = path.name.removesuffix(LISTING)
    return len(name) == NAME_LENGTH and set(name) <= set("0123456789abcdef")


def is_intact(path: Path) -> bool:
    """Whether an object has the content that it is named by; one that is gone meanwhile counts as intact."""
    try:
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "md5").hexdigest()
    except FileNotFoundError:  # `dvc gc` of a clone that shares the cache
        return True
    return digest == path.parent.name + path.name.removesuffix(LISTING)


def _damage(path: Path) -> Finding:
    return Finding(
        str(path),
        "the object does not have the content that it is named by, and DVC would hand it out all the same",
        "`doctor --fix` deletes it, and puts it back if the workspace has it; else `make pull` or `dvc repro` does",
        _deletion(path),
    )


def _leftovers(paths: list[Path]) -> Iterator[Finding]:
    for path in paths:
        if path.is_file() and time.time() - path.stat().st_mtime > OLD:
            what = "left by a transfer that was killed"
            yield Finding(str(path), what, "delete it", _deletion(path), problem=False)


def _deletion(path: Path) -> Callable[[], str]:
    def repair() -> str:
        path.unlink(missing_ok=True)
        return f"removed {path}"

    return repair
