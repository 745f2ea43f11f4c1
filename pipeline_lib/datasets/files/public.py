"""The files of a public dataset: from their publishers, from mirrors, or from a folder."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pipeline_lib.artifacts import publish
from pipeline_lib.datasets.files import fetch, https
from pipeline_lib.errors import UserError
from pipeline_lib.own_data import resolve

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from pipeline_lib.params.sections import Data


@dataclass(frozen=True)
class PublicFile:
    """A file as its publisher offers it.

    Attributes:
        url: its https address; the last part is its name, on a mirror too.
        size: bytes.
        sha256: of the whole file.
        mirrors: https folders of others that hold it too, asked if the publisher fails.
    """

    url: str
    size: int
    sha256: str
    mirrors: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """The last part of the address."""
        return self.url.rpartition("/")[2]


def download(files: Iterable[PublicFile], data: Data, raw: Path) -> None:
    """Bring `files` to the folder `raw`, from `data.mirror` if that is set.

    A file gets its name when all its bytes are right, whatever server they came from (see `https.fetch`).

    Raises:
        UserError: A file cannot be had, or is not the one that was pinned.
    """
    for file in files:
        with publish(raw / file.name) as temporary:
            if data.mirror and not data.mirror.startswith("https://"):
                _copy(file, data.mirror, temporary)
            else:
                urls = [file.url, *(_in(folder, file) for folder in file.mirrors)]
                chosen = [_in(data.mirror, file)] if data.mirror else urls
                https.fetch(_wanted(file, chosen), temporary, raw.parent / https.PARTIAL)


def _copy(file: PublicFile, mirror: str, target: Path) -> None:
    shown = _in(mirror, file)
    source = resolve(mirror) / file.name
    if not source.is_file():
        msg = f"{shown}: not there (looked for {source.absolute()}); data.mirror is to hold {file.name}, which is from {file.url}"
        raise UserError(msg)
    fetch.copy(source, target, shown)
    wanted = _wanted(file)
    problem = https.problem_of(target, wanted)
    if problem:
        msg = f"{shown}: {problem}; {wanted.advice}"
        raise UserError(msg)


def _in(folder: str, file: PublicFile) -> str:
    return f"{folder.rstrip('/')}/{file.name}"


def _wanted(file: PublicFile, urls: Iterable[str] = ()) -> https.Wanted:
    advice = f"data.mirror may name a folder or https URL that holds {file.name}"
    return https.Wanted(tuple(urls), file.name, file.sha256, file.size, advice)
