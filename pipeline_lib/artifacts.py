"""Writing files so that a reader sees the old bytes or the new ones, and finding out when bytes rot.

Every file `X` of the pipeline has a sidecar `X.sha256`, in the format of `sha256sum`, written after
`X` itself. A stage calls `verify` on each input before it works: DVC restores a corrupted cache
object without a word, and a flipped bit in Parquet or safetensors can load silently.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import functools
import glob
import hashlib
import json
import os
import secrets
import struct
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline_lib.errors import UserError, in_one_line, listed

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence


SIDECAR = ".sha256"
TEMPORARY_PREFIX = ".tmp-"
FAR = 1 << 62  # no file is as large
SETTLED_NS = 2_000_000_000  # after a change; sooner, another may bear the same time


@contextlib.contextmanager
def publish(path: Path, *, sidecar: bool = True) -> Iterator[Path]:
    """Yield a temporary path beside `path`; on success it becomes `path`, with its sidecar.

    The old file stays intact until the new one is complete and on the disk. On an exception the
    temporary file is removed and `path` is untouched. `sidecar=False` is for files that DVC and
    people read, and no stage does.

    Raises:
        UserError: The disk is full or the folder cannot be written.
    """
    with publish_together(path, sidecar=sidecar) as (temporary,):
        yield temporary


@contextlib.contextmanager
def publish_together(*paths: Path, sidecar: bool = True) -> Iterator[list[Path]]:
    """The same for files that belong together: all of them are replaced, or none.

    Raises:
        UserError: See `publish`.
    """
    ready: dict[Path, Path] = {}  # temporary -> its name to be
    locks = contextlib.ExitStack()
    try:
        for path in paths:
            ready[_temporary(path, locks)] = path
        yield list(ready)
        for temporary, path in list(ready.items()) if sidecar else ():
            line = f"{sha256(temporary)}  {path.name}\n"
            ready[written := _temporary(sidecar_of(path), locks)] = sidecar_of(path)
            written.write_text(line, "utf-8", "surrogateescape")
        for temporary in ready:
            _flush(temporary)
        for temporary, path in ready.items():
            _settle(temporary, path)
    except OSError as error:
        # a file of ours is not found where the folder is gone, or is none that holds files
        ours = Path(str(error.filename)).name.startswith(TEMPORARY_PREFIX)
        if isinstance(error, FileNotFoundError) and not ours:
            raise
        raise _unwritable(paths, error) from error
    finally:
        locks.close()


def _temporary(path: Path, locks: contextlib.ExitStack) -> Path:
    """Make an empty file beside `path`, and the folder if need be; as long as `locks` is open, it is there and locked."""
    path.parent.mkdir(parents=True, exist_ok=True)
    _sweep(path)
    while True:
        temporary = path.with_name(f"{TEMPORARY_PREFIX}{path.name}.{secrets.token_hex(4)}")
        locks.callback(_remove, temporary)  # before it is there: signals come any time
        handle = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        locks.callback(os.close, handle)
        ours = _lock(handle) and os.fstat(handle).st_nlink
        if ours:  # else another process has just taken it for a stale one
            return temporary


def _remove(temporary: Path) -> None:
    """As far as it is there and may be; what went wrong before is told, not this."""
    with contextlib.suppress(OSError):
        temporary.unlink()


def _lock(handle: int) -> bool:
    """Lock a file that is open for writing, unless it is locked; a file system without locks has none.

    One byte far behind the content: SMB keeps everyone else from reading and writing what is locked. The lock is the
    open file's (Linux), so that others of this process may open and close it meanwhile.
    """
    if not hasattr(fcntl, "F_OFD_SETLK"):  # of other systems
        return True
    byte = struct.pack("hhqqi4x", fcntl.F_WRLCK, os.SEEK_SET, FAR, 1, 0)
    try:
        fcntl.fcntl(handle, fcntl.F_OFD_SETLK, byte)
    except (BlockingIOError, PermissionError):
        return False
    except OSError:
        pass
    return True


def _unwritable(paths: Sequence[Path], error: OSError) -> UserError:
    where, reason = listed(paths, 1), error.strerror or error
    return UserError(
        f"{where}: cannot be written ({reason}); free space or fix the rights, then run again"
    )


def _flush(temporary: Path) -> None:
    """Bring a file to the disk, with the rights that the umask asks for."""
    temporary.chmod(0o666 & ~_umask())
    with temporary.open("rb") as file:
        os.fsync(file.fileno())


def _settle(temporary: Path, path: Path) -> None:
    """Bring a file to its name."""
    temporary.replace(path)
    directory = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(directory)
    except OSError as error:
        # Some file systems cannot do it with a folder: shared ones of VirtualBox.
        if error.errno not in {errno.EINVAL, errno.ENOTSUP}:
            raise
    finally:
        os.close(directory)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _sweep(path: Path) -> None:
    """Remove what a killed run left of earlier attempts at `path`; what a live one writes is locked."""
    for stale in path.parent.glob(f"{TEMPORARY_PREFIX}{glob.escape(path.name)}.*"):
        with contextlib.suppress(FileNotFoundError, PermissionError), stale.open("r+b") as file:
            if _lock(file.fileno()):
                stale.unlink(missing_ok=True)


def publish_bytes(path: Path, content: bytes, *, sidecar: bool = True) -> None:
    """Write `content` to `path` (see `publish`)."""
    with publish(path, sidecar=sidecar) as temporary:
        temporary.write_bytes(content)


def publish_text(path: Path, content: str, *, sidecar: bool = True) -> None:
    """Write `content` as UTF-8 with line feeds, whatever the platform (see `publish`)."""
    publish_bytes(path, content.encode(), sidecar=sidecar)


def publish_json(path: Path, content: Mapping[str, Any], *, sidecar: bool = True) -> None:
    """Write `content` as indented JSON (see `publish`).

    Raises:
        ValueError: See `as_json`.
    """
    publish_text(path, as_json(content), sidecar=sidecar)


def as_json(content: Mapping[str, Any]) -> str:
    """Indented JSON with a line feed at the end.

    Raises:
        ValueError: `content` holds NaN or infinity, which are not JSON.
    """
    return json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def read_json(path: Path, most_bytes: int | None = None) -> dict[str, Any]:
    """Verify and read a JSON object.

    Args:
        path: of the file.
        most_bytes: more are refused unread; None where the pipeline itself wrote the file.

    Raises:
        UserError: See `verify`; or the file holds something else.
    """
    verify(path)
    if most_bytes and path.stat().st_size > most_bytes:
        raise unusable(path, f"more than {most_bytes} bytes")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise unusable(path, f"no JSON ({error})") from error
    if not isinstance(content, dict):
        raise unusable(path, f"a JSON {type(content).__name__}, no object")
    return content


def unusable(path: Path, problem: str) -> UserError:
    """The error of a file whose sidecar fits: it was not damaged on the way, something else wrote it."""
    return UserError(f"{path}: {in_one_line(problem)}; delete it, then `dvc repro`")


def sidecar_of(path: Path) -> Path:
    """Where the sha256 of a file stands."""
    return path.with_name(path.name + SIDECAR)


def refuse_strangers(folder: Path) -> None:
    """Refuse to let `folder` be replaced where somebody has put files into it; hidden ones do not count.

    Raises:
        UserError: It holds files without a sha256 beside them, which all have that a stage has written.
    """
    found = sorted(path for path in folder.rglob("*") if not path.is_dir())
    others = [
        p
        for p in found
        if not (p.name.startswith(".") or p.suffix == SIDECAR or sidecar_of(p).exists())
    ]
    if others:
        msg = (
            f"{folder}: holds {len(others)} files that no download has put there ({listed(others, 3)}), and is to be "
            f"replaced: move them elsewhere, and set data.path to where they are then"
        )
        raise UserError(msg)


def recorded_sha256(path: Path) -> str:
    """What the sidecar of a file says, whether or not the file is there.

    Raises:
        UserError: There is no sidecar, or it says nothing.
    """
    sidecar = sidecar_of(path)
    try:
        return sidecar.read_bytes().split()[0].decode("ascii")  # behind it is any name
    except (OSError, ValueError, IndexError) as error:
        msg = f"{sidecar}: missing or damaged; run `dvc repro` (or `dvc pull`) to get it"
        raise UserError(msg) from error


def discard(path: Path) -> None:
    """Delete a file with its sidecar, as far as they are there."""
    path.unlink(missing_ok=True)
    sidecar_of(path).unlink(missing_ok=True)


def sha256(path: Path) -> str:
    """Hex sha256 of a file, read in blocks."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sha256_once(path: Path) -> str:
    """The same, once per process as long as nothing touches the file: stages read large ones several times."""
    about = path.stat()
    if time.time_ns() - about.st_ctime_ns < SETTLED_NS:
        return sha256(path)
    times = about.st_mtime_ns, about.st_ctime_ns  # the second cannot be set back
    return _remembered(path, (about.st_dev, about.st_ino, about.st_size, *times))


@functools.cache
def _remembered(path: Path, state: tuple[int, ...]) -> str:
    del state
    return sha256(path)


def verify(path: Path) -> None:
    """Check `path` against its sidecar.

    Raises:
        UserError: The file or its sidecar is missing or unreadable, or the bytes are not those that were
            written.
    """
    sidecar = sidecar_of(path)
    for needed in (path, sidecar):
        if not needed.is_file():
            msg = f"{needed}: missing; run `dvc repro` (or `dvc pull`) to get it"
            raise UserError(msg)
    try:
        with sidecar.open("rb") as file:
            expected = file.read(64).decode("ascii", "replace")
        actual = _sha256_once(path)
    except OSError as error:
        msg = f"{path}: cannot be read ({error.strerror}); give yourself the right to, or mend the disk"
        raise UserError(msg) from error
    if actual != expected:
        written = f"{expected[:16]}..." if expected.isalnum() else "none"
        msg = (
            f"{path}: damaged: sha256 is {actual[:16]}..., written was {written}; "
            f"delete the file and its object in .dvc/cache, then `dvc pull` or `dvc repro`"
        )
        raise UserError(msg)
