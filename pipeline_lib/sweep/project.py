"""What jobs get of the project: the commit, where they clone it from, and where its outputs are shared."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlsplit

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from pipeline_lib.cells.pipeline import FILE
from pipeline_lib.errors import UserError, listed, without_secrets

if TYPE_CHECKING:
    from pipeline_lib.params.sections import Data

# By DVC, its stages and `show_to_dvc`.
WRITTEN = ("dvc.lock", "metrics.json", "summary.json", FILE)
CODE = ("pipeline_lib/", "stages/")
LOGS = Path(".dvc/tmp/sweep")
TAKEN = ("mirror", "name", "path", "sha256", "table")  # keys of `data` that `download` depends on
OF_GROUP = 0o2775  # DVC's, of folders in a cache with `cache.shared group`


class Project(NamedTuple):
    """The project as jobs see it."""

    root: Path
    commit: str
    hub: str
    """What is cloned, and where experiments are pushed: the Git remote, or this repository itself."""
    git_remote: str
    """Name of that Git remote; empty: there is none."""
    remote: tuple[str, str] | None
    """Name and URL of the remote of DVC."""
    cache: str
    """The cache that all jobs share; empty: one each."""
    at_home: bool
    """The cache of the jobs is that of the project: their outputs need no remote."""

    @property
    def home(self) -> str:
        """Where results go, in words; of a URL without the password that may be in it."""
        hub = (
            f"the Git remote {self.git_remote} ({self.hub})" if self.git_remote else "this project"
        )
        cache = f"the cache {self.cache}"
        outputs = (
            cache
            if self.at_home or self.remote is None
            else "the remote {} ({})".format(*self.remote)
        )
        return without_secrets(f"{hub}, their outputs to {outputs}")

    @property
    def author(self) -> tuple[str, str]:
        """Who commits experiments."""
        name, email = (_git(self.root, "config", key) for key in ("user.name", "user.email"))
        return name or "sweep", email or "sweep@localhost"


def look(root: Path, cache: Path | None) -> Project:
    """Look the project over.

    Args:
        root: of the checkout.
        cache: a folder that every machine of the sweep reaches, if there is one.

    Raises:
        UserError: The jobs would not see what the user sees, or nobody would see what they make.
    """
    _refuse_shallow(root)
    _refuse_uncommitted(root)
    commit = _git(root, "rev-parse", "HEAD", must="nothing is committed yet")
    remotes = _git(root, "remote").split()
    git_remote = "origin" if "origin" in remotes else next(iter(remotes), "")
    if git_remote:
        _refuse_unpushed(root, git_remote)
    own, remote, of_group = _of_dvc(root)
    shared = cache or (None if remote else own)
    if shared:
        shared = shared.absolute()
        _make(shared, of_group=of_group)
    at_home = shared is not None and shared.resolve() == own.resolve()
    if not at_home and remote is None:
        msg = (
            f"--cache {shared}: is not the cache of this project ({own}), and there is no remote of DVC that would "
            "bring the results here; set one up (docs/how-to/share.md), or leave --cache out"
        )
        raise UserError(msg)
    hub = _url(root, git_remote) if git_remote else str(root)
    return Project(root, commit, hub, git_remote, remote, str(shared or ""), at_home)


def _make(cache: Path, *, of_group: bool) -> None:
    """Make the folder of a cache, if it is not there: as DVC makes folders in it, so that the group can write there.

    Raises:
        UserError: It cannot be made, or we cannot write there.
    """
    new = [folder for folder in (cache, *cache.parents) if not folder.exists()]
    try:
        cache.mkdir(parents=True, exist_ok=True)
        for folder in new if of_group else ():
            folder.chmod(OF_GROUP)
    except OSError as error:
        msg = f"the cache {cache}: {error.strerror}; name another with --cache, or fix the rights"
        raise UserError(msg) from error
    for folder in (cache, *(cache / name for name in ("files/md5", "runs"))):
        if folder.exists() and not os.access(folder, os.W_OK | os.X_OK):
            msg = (
                f"{folder}: you cannot write in this cache of the jobs; its owner gives the rights: "
                "`chmod -R g+rwX`, and docs/how-to/share.md (One cache) for what is made from now on"
            )
            raise UserError(msg)


def _refuse_shallow(root: Path) -> None:
    """Fetching results into a clone without all its history would leave Git with commits missing."""
    if _git(root, "rev-parse", "--is-shallow-repository") == "true":
        msg = "a shallow clone, which DVC would break: `git fetch --unshallow` first"
        raise UserError(msg)


def _refuse_uncommitted(root: Path) -> None:
    changed = []
    for line in _git(root, "status", "--porcelain", "--untracked-files=all").splitlines():
        state, path = line[:2], line[3:].rpartition(" -> ")[2].strip('"')
        if path.endswith(WRITTEN) or (state == "??" and not path.startswith(CODE)):
            continue
        changed.append(path)
    if changed:
        msg = f"not committed: {listed(changed)}; jobs work on a clone of HEAD and would not see it: commit first"
        raise UserError(msg)


def refuse_other_images(root: Path) -> None:
    """Experiments take the images that the dvc.lock of HEAD names, whatever snapshot the workspace has by now.

    Raises:
        UserError: The workspace has another one.
    """
    lock = root / "dvc.lock"
    here = _snapshot(lock.read_text(encoding="utf-8")) if lock.is_file() else None
    there = _snapshot(_git(root, "show", "HEAD:./dvc.lock"))
    if here and there and here != there:
        msg = (
            "not committed: dvc.lock, which names another snapshot of the images (data/raw) than that of HEAD, and jobs "
            "would train on the latter: commit it first"
        )
        raise UserError(msg)


def refuse_relative(root: Path, data: Data) -> None:
    """A job would look for a relative path in its temporary clone, unless it takes the snapshot of HEAD.

    Raises:
        UserError: It would.
    """
    places = {key: getattr(data, key) for key in ("path", "table", "mirror")}
    lock = _download(_git(root, "show", "HEAD:./dvc.lock"))
    taken = lock.get("params", {}).get("params.yaml", {})
    # `-S data.table=` leaves a blank there
    if {key: value or None for key, value in taken.items()} == {
        f"data.{key}": getattr(data, key) for key in TAKEN
    }:
        return
    for key, place in places.items():
        if place and "://" not in place and not place.startswith(("/", "~")):
            msg = (
                f"data.{key}: {place} is relative, and jobs would look for it in their temporary clones; write the whole "
                f"path ({os.path.normpath(root / place)}), or run `dvc repro download` with it and commit params.yaml and dvc.lock"
            )
            raise UserError(msg)


def _snapshot(lock: str) -> object:
    """What the stage `download` made, as a dvc.lock records it; None where it records none."""
    return _download(lock).get("outs")


def _download(lock: str) -> dict[str, Any]:
    """What a dvc.lock records of that stage."""
    try:
        content = YAML(typ="safe", pure=True).load(lock) or {}
    except YAMLError as error:
        msg = "dvc.lock: no YAML; solve its conflict first"
        raise UserError(msg) from error
    found: dict[str, Any] = content.get("stages", {}).get("download", {})
    return found


def _refuse_unpushed(root: Path, remote: str) -> None:
    _git(root, "fetch", "-q", remote, must=f"the Git remote {remote} cannot be reached")
    if not _git(root, "branch", "--remotes", "--contains", "HEAD", "--list", f"{remote}/*"):
        msg = f"HEAD is not on the Git remote {remote}, from which jobs clone it: `git push {remote}` first"
        raise UserError(msg)


def _url(root: Path, remote: str) -> str:
    """Of a Git remote; a folder as its whole path."""
    url = _git(root, "remote", "get-url", remote)
    folder = root / url
    return str(folder.resolve()) if folder.is_dir() else url


def _of_dvc(root: Path) -> tuple[Path, tuple[str, str] | None, bool]:
    """The folder of the cache, name and URL of the default remote, and whether the cache is for a group."""
    from dvc.repo import Repo

    with Repo(str(root)) as repo:
        own = Path(repo.cache.legacy.path)  # where `runs` and `files` lie
        name = repo.config["core"].get("remote")
        section = repo.config["remote"].get(name)
        of_group = repo.config["cache"].get("shared") == "group"
    url = str(section["url"]) if section else ""
    if urlsplit(url).password:
        msg = (
            f"remote {name}: its url holds a password, which would go to every job; set it apart: "
            f"`dvc remote modify --local {name} password ...`, and on each machine likewise"
        )
        raise UserError(msg)
    return own, (name, url) if section else None, of_group


def _git(root: Path, *arguments: str, must: str = "") -> str:
    """What Git prints; of a command that fails, nothing.

    Raises:
        UserError: It failed, and `must` says what that means.
    """
    done = subprocess.run(
        ["git", *arguments],
        cwd=root,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "LC_ALL": "C"},
    )
    if done.returncode:
        if must or "not a git repository" in done.stderr:
            msg = f"{must or root}: {' '.join(done.stderr.split())[-200:]}"
            raise UserError(msg)
        return ""
    return done.stdout.rstrip("\n")


def refs_of(hub: str) -> set[str]:
    """Experiments that a repository has, as names of Git's.

    Raises:
        UserError: It cannot be reached.
    """
    lines = _git(
        Path.cwd(), "ls-remote", hub, "refs/exps/*", must=f"{without_secrets(hub)} cannot be read"
    )
    return {line.partition("\t")[2] for line in lines.splitlines()}
