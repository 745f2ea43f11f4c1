"""Bringing the user's images here: a folder is packed, an archive copied, a URL fetched."""

from __future__ import annotations

import http.client
import os
import shutil
import tarfile
import urllib.error
import urllib.request
from pathlib import Path
from typing import IO, TYPE_CHECKING

from pipeline_lib.artifacts import sha256
from pipeline_lib.datasets.files import archives
from pipeline_lib.datasets.files.layout import is_clutter, is_image
from pipeline_lib.datasets.progress import progress, say
from pipeline_lib.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Iterator

TIMEOUT_SECONDS = 30.0
BLOCK = 1 << 20


def resolve(path: str) -> Path:
    """Find a path of params.yaml from the repository's root.

    DVC runs some experiments in a copy of the repository elsewhere; it then sets DVC_ROOT to the
    original, where the user's relative paths point.
    """
    return Path(os.environ.get("DVC_ROOT") or Path.cwd()) / Path(path).expanduser()


def copy(source: Path, target: Path, shown: str) -> None:
    """Copy a file of the user.

    Raises:
        UserError: It is not there, no file, or not readable.
    """
    if not source.is_file():
        problem = "not a file" if source.exists() else "not found"
        msg = f"{shown}: {problem} (looked for {source}); correct the path in params.yaml"
        raise UserError(msg)
    with _open(source, shown) as file, target.open("wb") as copied:
        shutil.copyfileobj(file, copied, BLOCK)


def pack(folder: Path, target: Path, shown: str) -> None:
    """Pack the images under `folder` into a tar whose bytes depend on names and contents only.

    Raises:
        UserError: A file cannot be read, or a link leads out of the folder.
    """
    files = sorted(_files(folder, shown))
    images = [name for name in files if is_image(name)]
    if len(images) < len(files):
        say(f"{shown}: left out {len(files) - len(images)} files that are no images")
    with (
        tarfile.open(target, "w", format=tarfile.PAX_FORMAT) as archive,
        progress("packing", "images", len(images)) as advance,
    ):
        for name in images:
            with _open(folder / name, f"{shown}/{name}") as file:
                header = tarfile.TarInfo(archives.safe_name(name, shown))
                header.size = os.fstat(file.fileno()).st_size
                header.mode = 0o644
                archive.addfile(header, file)
            advance(1)


def _files(folder: Path, shown: str) -> Iterator[str]:
    """Name every file under `folder` that is the user's, relative to it."""
    for place, folders, names in os.walk(folder):
        relative = Path(place).relative_to(folder)
        for name in folders:
            if (Path(place) / name).is_symlink():
                msg = f"{shown}/{relative / name}: a link to a folder; put the folder itself there"
                raise UserError(msg)
        folders[:] = [name for name in folders if not is_clutter(name)]
        for name in names:
            path = Path(place) / name
            if is_clutter(name):
                continue
            if path.is_symlink() and not path.resolve().is_relative_to(folder.resolve()):
                msg = f"{shown}/{relative / name}: a link out of the folder; put the file itself there"
                raise UserError(msg)
            yield (relative / name).as_posix()


def _open(path: Path, shown: str) -> IO[bytes]:
    try:
        return path.open("rb")
    except OSError as error:
        msg = f"{shown}: cannot be read ({error.strerror}); give yourself the right to, or move it away"
        raise UserError(msg) from error


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
            complaint = (
                f"{req.full_url}: redirects to {newurl}, which is not https; use another address"
            )
            raise UserError(complaint)
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def fetch(url: str, target: Path) -> None:
    """Fetch an https URL.

    Raises:
        UserError: No answer within the timeout, an error of the server, or fewer bytes than announced.
    """
    opener = urllib.request.build_opener(_OnlyHttps)
    try:
        with opener.open(url, timeout=TIMEOUT_SECONDS) as response, target.open("wb") as file:
            _receive(response, file, url)
    except urllib.error.HTTPError as error:
        error.close()
        msg = f"{url}: the server answers {error.code} {error.reason}; check data.path"
        raise UserError(msg) from error
    except (
        urllib.error.URLError,
        TimeoutError,
        ConnectionError,
        http.client.HTTPException,
    ) as error:
        reason = getattr(error, "reason", None) or error
        msg = f"{url}: cannot be fetched ({reason}); check the address and the network, then run again"
        raise UserError(msg) from error


def _receive(response: http.client.HTTPResponse, file: IO[bytes], url: str) -> None:
    announced = response.headers.get("Content-Length")
    expected = int(announced) if announced else None
    received = 0
    with progress("fetching", "bytes", expected) as advance:
        while block := response.read(BLOCK):
            file.write(block)
            received += len(block)
            advance(len(block))
    if expected is not None and received != expected:
        msg = f"{url}: the connection ended after {received} of {expected} bytes; run again"
        raise UserError(msg)


def check_sha256(path: Path, expected: str, shown: str) -> None:
    """Compare a file with `data.sha256`.

    Raises:
        UserError: It is another file.
    """
    actual = sha256(path)
    if actual != expected:
        msg = f"{shown}: sha256 is {actual}, data.sha256 says {expected}; get the file again or correct it"
        raise UserError(msg)
