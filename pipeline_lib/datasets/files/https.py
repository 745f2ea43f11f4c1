"""Files from https servers: continued where the connection broke, and verified before they are used."""

from __future__ import annotations

import contextlib
import http.client
import re
import ssl
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, cast

from pipeline_lib.artifacts import sha256
from pipeline_lib.errors import UserError, without_secrets
from pipeline_lib.progress import progress, say

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

TIMEOUT_SECONDS = 30.0
BLOCK = 1 << 20
TRIES = 3
PAUSE_SECONDS = (1.0, 5.0)
# Answers that may be another one a moment later: timeouts, too many requests, 5xx.
PASSING = {408, 425, 429}
UNSATISFIABLE = 416
# Beside data/raw, where it outlives a run that was stopped.
PARTIAL = "partial"
_NETWORK_ERRORS = (
    urllib.error.URLError,
    TimeoutError,
    ConnectionError,
    ssl.SSLError,
    http.client.HTTPException,
)


@dataclass(frozen=True)
class Wanted:
    """A file that servers have.

    Attributes:
        urls: its https addresses, in the order in which they are asked.
        name: what it is called while it comes in.
        sha256: of the whole file.
        size: bytes, where that is known beforehand.
        advice: what to do if none of the servers gives it.
    """

    urls: tuple[str, ...]
    name: str
    sha256: str
    size: int | None
    advice: str


class _BrokenOffError(Exception):
    """A failure that may be gone at the next try."""


class _RefusedError(Exception):
    """A failure that stays, of one address."""


def fetch(wanted: Wanted, target: Path, partials: Path) -> None:
    """Bring a file to `target`, from the first of its addresses that gives it.

    What came before a failure stays in the folder `partials`, and the next try, address or run asks for
    the rest only.

    Raises:
        UserError: No address gives the file; what each of them did.
    """
    with _kept(partials) as folder:
        partial = folder / f"{wanted.sha256[:16]}.{wanted.name}"
        problems: list[str] = []
        passing = False
        for url in wanted.urls:
            if problems:
                say(f"{problems[-1]}; asking {without_secrets(url)}")
            try:
                _persist(url, wanted, partial)
            except (_BrokenOffError, _RefusedError) as error:
                problems.append(f"{without_secrets(url)}: {error}")
                passing |= isinstance(error, _BrokenOffError)
            else:
                partial.replace(target)
                return
        if passing:
            problems.append(f"check the network and run again{_held(partial, wanted)}")
    raise UserError("; ".join([*problems, wanted.advice]))


def problem_of(path: Path, wanted: Wanted) -> str | None:
    """Say why a file is not the one that is wanted; None if it is."""
    size = _size(path)
    if wanted.size is not None and size != wanted.size:
        return f"{size} bytes, expected {wanted.size}: another file or a part"
    actual = sha256(path)
    if actual != wanted.sha256:
        with path.open("rb") as file:
            page = file.read(512).lstrip()[:1] == b"<"
        found = "a web page" if page else "another file"
        return f"sha256 is {actual}, expected {wanted.sha256}: {found}"
    return None


@contextlib.contextmanager
def _kept(folder: Path) -> Iterator[Path]:
    """Make a folder that stays while there is something in it."""
    folder.mkdir(parents=True, exist_ok=True)
    try:
        yield folder
    finally:
        with contextlib.suppress(OSError):
            folder.rmdir()


def _persist(url: str, wanted: Wanted, partial: Path) -> None:
    """Try until `partial` is the whole file, or until `TRIES` tries in a row brought nothing."""
    failures = 0
    while True:
        before = _size(partial)
        try:
            _attempt(url, wanted, partial)
        except _BrokenOffError as error:
            failures = 1 if _size(partial) - before >= BLOCK else failures + 1
            if failures == TRIES:
                msg = f"cannot be fetched ({error}; {TRIES} tries)"
                raise _BrokenOffError(msg) from error
            say(f"{without_secrets(url)}: {error}; trying again")
            time.sleep(PAUSE_SECONDS[failures - 1])
        else:
            return


def _attempt(url: str, wanted: Wanted, partial: Path) -> None:
    """Ask once for what is missing in `partial`, and compare it when nothing is.

    Raises:
        _BrokenOffError: Another try may do better.
        _RefusedError: Another try would not.
    """
    start, sure = _size(partial), True
    if wanted.size is None or start < wanted.size:
        try:
            with _open(url, start) as response:
                start, total = _extent(response, partial, wanted)
                sure = total is not None or response.chunked
                _receive(response, start, total, wanted.name, partial)
        except urllib.error.HTTPError as error:
            error.close()
            if error.code != UNSATISFIABLE or not start:
                raise _answered(error) from error
            # There is nothing after the bytes that are here: all is, or another file was asked.
        except _NETWORK_ERRORS as error:
            raise _BrokenOffError(str(getattr(error, "reason", None) or error)) from error
    problem = problem_of(partial, wanted)
    if problem and not sure:  # nobody said how long it is: it may have broken off
        raise _BrokenOffError(problem)
    if problem:
        partial.unlink()
        if start:
            msg = "the parts do not make the file"
            raise _BrokenOffError(msg)
        raise _RefusedError(problem)


def _answered(error: urllib.error.HTTPError) -> Exception:
    reason = f"the server answers {error.code} {error.reason}"
    passing = error.code >= 500 or error.code in PASSING
    return _BrokenOffError(reason) if passing else _RefusedError(reason)


class _OnlyHttps(urllib.request.HTTPRedirectHandler):
    """Follow a redirect to another https address only."""

    def redirect_request(
        self,
        req: urllib.request.Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: http.client.HTTPMessage,
        newurl: str,
    ) -> urllib.request.Request | None:
        if not newurl.startswith("https://"):
            fp.close()
            complaint = f"redirects to {without_secrets(newurl)}, which is not https"
            raise _RefusedError(complaint)
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _open(url: str, first: int) -> http.client.HTTPResponse:
    """Ask for an https URL, from byte `first` on if the server can."""
    opener = urllib.request.build_opener(_OnlyHttps)
    opener.addheaders = [("User-Agent", "weak-label-pipeline")]  # some servers refuse urllib's own
    if first:
        opener.addheaders.append(("Range", f"bytes={first}-"))
    return cast("http.client.HTTPResponse", opener.open(url, timeout=TIMEOUT_SECONDS))


def _extent(
    response: http.client.HTTPResponse, partial: Path, wanted: Wanted
) -> tuple[int, int | None]:
    """Tell where the body of an answer belongs (0, if the server knows no parts), and where it ends."""
    first, total = 0, response.headers.get("Content-Length")
    if response.status == 206:
        told = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", response.headers.get("Content-Range", ""))
        if not told or int(told[1]) != _size(partial):
            partial.unlink(missing_ok=True)
            msg = "the server sends another part than asked for"
            raise _BrokenOffError(msg)
        first, total = int(told[1]), told[2]
    announced = int(total) if total is not None and total.isdigit() else None
    if None not in {announced, wanted.size} and announced != wanted.size:
        kind = response.headers.get("Content-Type", "no type")
        msg = (
            f"the server has {announced} bytes ({kind}), expected {wanted.size}: another file, "
            f"or a page that asks to sign in"
        )
        raise _RefusedError(msg)
    return first, announced if wanted.size is None else wanted.size


def _receive(
    response: http.client.HTTPResponse, start: int, total: int | None, name: str, partial: Path
) -> None:
    have = start
    with (
        partial.open("ab" if start else "wb") as out,
        progress(f"fetching {name}", "bytes", total) as advance,
    ):
        advance(have)
        # read1 gives what has come: of a connection that stalls or breaks, nothing is lost.
        while block := response.read1(BLOCK if total is None else min(BLOCK, total - have)):
            out.write(block)
            have += len(block)
            advance(len(block))
    if total is not None and have < total:
        msg = f"the connection ended after {have} of {total} bytes"
        raise _BrokenOffError(msg)


def _held(partial: Path, wanted: Wanted) -> str:
    held = _size(partial)
    of = "" if wanted.size is None else f" of {wanted.size}"
    return f", {held}{of} bytes are kept" if held else ""


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0
