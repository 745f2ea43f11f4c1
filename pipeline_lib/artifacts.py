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
    from collections.abc import Callable, Iterator, Mapping, Sequence

    import numpy as np
    import pyarrow as pa
    import pyarrow.parquet as pq
    from numpy.typing import NDArray

# Part of the bytes of every Parquet file: changing one of them changes every hash in dvc.lock.
ROW_GROUP_SIZE = 8192
ROW_GROUP_BYTES = 1 << 26
COMPRESSION = "zstd"
COMPRESSION_LEVEL = 1

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
        locks.callback(
            temporary.unlink, missing_ok=True
        )  # before it is there: signals come any time
        handle = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        locks.callback(os.close, handle)
        ours = _lock(handle) and os.fstat(handle).st_nlink
        if ours:  # else another process has just taken it for a stale one
            return temporary


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
    for stale in path.parent.glob(f"{TEMPORARY_PREFIX}{path.name}.*"):
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


@contextlib.contextmanager
def publish_rows(
    path: Path, schema: pa.Schema, *, row_group_size: int = ROW_GROUP_SIZE, sidecar: bool = True
) -> Iterator[Callable[[pa.Table], None]]:
    """Yield `write(table)` (see `write_rows`) for a file that is then published (see `publish`)."""
    with (
        publish(path, sidecar=sidecar) as temporary,
        write_rows(temporary, schema, row_group_size=row_group_size) as write,
    ):
        yield write


@contextlib.contextmanager
def write_rows(
    path: Path, schema: pa.Schema, *, row_group_size: int = ROW_GROUP_SIZE
) -> Iterator[Callable[[pa.Table], None]]:
    """Yield `write(table)`, the one Parquet writer: same rows, same bytes, on any number of cores.

    Tables may come in pieces of any size; row groups hold `row_group_size` rows all the same, or as
    many as have ROW_GROUP_BYTES in their binary columns. So memory stays flat, and the bytes do not
    depend on the pieces.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    waiting: list[pa.Table] = []
    count = size = 0  # rows and bytes that wait

    def flush(*, last: bool) -> None:
        nonlocal count, size
        rows = pa.concat_tables(waiting) if waiting else schema.empty_table()
        sizes_N, start = _binary_bytes(rows), 0
        for stop in _ends_of_row_groups(sizes_N, row_group_size, last=last):
            group = rows.slice(start, stop - start).combine_chunks()
            writer.write_table(group, group.num_rows)
            start = stop
        waiting[:] = [rows.slice(start)]
        count, size = rows.num_rows - start, int(sizes_N[start:].sum())

    def write(table: pa.Table) -> None:
        nonlocal count, size
        waiting.append(table.cast(schema))
        count += table.num_rows
        size += int(_binary_bytes(table).sum())
        if count >= row_group_size or size > ROW_GROUP_BYTES:
            flush(last=False)

    with pq.ParquetWriter(
        path, schema, compression=COMPRESSION, compression_level=COMPRESSION_LEVEL
    ) as writer:
        yield write
        flush(last=True)


def _binary_bytes(table: pa.Table) -> NDArray[np.int64]:
    """Count the bytes that each row has in binary columns."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    sizes_N = np.zeros(table.num_rows, np.int64)
    for column in table.columns:
        if pa.types.is_binary(column.type):
            sizes_N += pc.fill_null(pc.binary_length(column), 0).to_numpy()
    return sizes_N


def _ends_of_row_groups(sizes_N: NDArray[np.int64], most: int, *, last: bool) -> Iterator[int]:
    """Say where row groups end, as far as that is known before the rows that follow."""
    ends_N = sizes_N.cumsum()
    start = 0
    while start < len(ends_N):
        before = ends_N[start - 1] if start else 0
        fitting = int(ends_N.searchsorted(before + ROW_GROUP_BYTES, side="right")) - start
        stop = start + min(max(fitting, 1), most)
        if stop == len(ends_N) and stop - start < most and not last:
            return
        yield stop
        start = stop


def publish_table(path: Path, table: pa.Table) -> None:
    """Write `table` as Parquet (see `write_table` and `publish`)."""
    with publish(path) as temporary:
        write_table(temporary, table)


def write_table(path: Path, table: pa.Table) -> None:
    """Write `table` as Parquet (see `write_rows`)."""
    with write_rows(path, table.schema) as write:
        write(table)


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
        raise _unusable(path, f"more than {most_bytes} bytes")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise _unusable(path, f"no JSON ({error})") from error
    if not isinstance(content, dict):
        raise _unusable(path, f"a JSON {type(content).__name__}, no object")
    return content


def read_table(path: Path) -> pa.Table:
    """Verify and read a Parquet table.

    Raises:
        UserError: See `verify`; or the file holds something else.
    """
    with _verified_parquet(path) as file:
        return file.read()


def read_row_groups(path: Path) -> Iterator[pa.Table]:
    """Verify a Parquet table and read it some rows at a time: whole, long lists take several times their memory.

    Yields:
        Tables; at least one, that may have no rows.

    Raises:
        UserError: See `read_table`.
    """
    with _verified_parquet(path) as file:
        for group in range(file.num_row_groups):
            yield file.read_row_group(group)
        if not file.num_row_groups:
            yield file.schema_arrow.empty_table()


@contextlib.contextmanager
def _verified_parquet(path: Path) -> Iterator[pq.ParquetFile]:
    """Hold a file open whose sha256 fits; `pq.read_table` would import pyarrow.dataset: 0.3 seconds."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    verify(path)
    try:
        with pq.ParquetFile(path) as file:
            yield file
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise _unusable(path, f"no Parquet ({error})") from error


def _unusable(path: Path, problem: str) -> UserError:
    """The sidecar fits, so it was not damaged on the way: something else wrote it."""
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
