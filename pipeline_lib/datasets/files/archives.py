"""Reading files out of an archive that nobody vouches for.

Nothing is ever extracted: members are read by name into memory, so that no name can point at a place
on the disk. What has no business among images (links, devices, `..`) is refused all the same.
"""

from __future__ import annotations

import contextlib
import gzip
import os
import re
import stat
import tarfile
import tempfile
import zipfile
import zlib
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Literal

from pipeline_lib.datasets.files.sheet import brief
from pipeline_lib.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path
    from typing import Self, TypeVar

    H = TypeVar("H", bound=tarfile.TarInfo)

LONGEST = 200  # letters of a name in a message
MAX_MEMBERS = 4_000_000
MAX_MEMBER_BYTES = 1 << 28
SIZES = MAX_MEMBER_BYTES + 1
MAX_BYTES = 1 << 40
# A packed archive of real images hardly shrinks; small ones may, being mostly padding.
MAX_RATIO = 100
RATIO_FROM_BYTES = 1 << 28
BLOCK = 1 << 20
RECORD = 512
EXTENDED = {
    tarfile.GNUTYPE_LONGNAME,
    tarfile.GNUTYPE_LONGLINK,
    tarfile.XHDTYPE,
    tarfile.XGLTYPE,
    tarfile.SOLARIS_XHDTYPE,
}
MAX_FILE_BYTES = 1 << 62  # of a disk
MAX_EXTENDED_BYTES = 1 << 20  # of a header of these kinds, which tarfile reads as a whole
MARKED_UTF_8 = 0x800  # flag of a zip's member, about its name

DAMAGED = (
    tarfile.TarError,
    zipfile.BadZipFile,
    EOFError,
    zlib.error,
    gzip.BadGzipFile,
    UnicodeError,
)


@dataclass(frozen=True)
class Archive:
    """What an archive holds: the names of regular files and of folders, and how to read a file."""

    names: Sequence[str]
    folders: Sequence[str]
    read: Callable[[str], bytes]


def kind(path: Path, shown: str) -> Literal["tar", "tar.gz", "zip"]:
    """Tell by its first bytes which archive a file is.

    Raises:
        UserError: It is none; `shown` is what the message calls it.
    """
    with path.open("rb") as file:
        head = file.read(512)
    if head.startswith((b"PK\x03\x04", b"PK\x05\x06")):  # the latter: an empty one
        return "zip"
    if head.startswith(b"\x1f\x8b"):
        return "tar.gz"
    if head[257:262] == b"ustar":
        return "tar"
    found = (
        "a web page"
        if head.lstrip()[:1] == b"<"
        else "an empty file"
        if not head
        else "something else"
    )
    msg = f"{shown}: not a tar, tar.gz or zip archive but {found}; pack the images as one of these (a single image is known by its ending, as .jpg or .png)"
    raise UserError(msg)


@contextlib.contextmanager
def open_archive(path: Path, shown: str, scratch: Path | None = None) -> Iterator[Archive]:
    """List an archive and hold it open.

    Args:
        path: of the archive.
        shown: what messages call it.
        scratch: folder for the unpacked tar of a tar.gz, in a file without a name; None is that of `path`.

    Raises:
        UserError: The archive is damaged, a member is no plain file or has a name that leads out of
            the archive, or it unpacks to more than any set of images would.
    """
    form = kind(path, shown)
    try:
        with path.open("rb") as file:
            if form == "zip":
                with zipfile.ZipFile(file) as archive:
                    yield _zip(archive, path.stat().st_size, shown)
            elif form == "tar":
                yield _tar(file, shown)
            else:
                with _unpacked(file, path, shown, scratch or path.parent) as plain:
                    yield _tar(plain, shown)
    except DAMAGED as error:
        raise _damaged(shown, error) from error


@contextlib.contextmanager
def open_stream(path: Path, shown: str) -> Iterator[Iterator[tuple[str, int, IO[bytes]]]]:
    """Give name, size and content of each file of a tar.gz, one after the other.

    For an archive whose files are too large for memory. A content is gone when the next one comes.

    Raises:
        UserError: The archive is damaged.
    """
    try:
        with (
            gzip.open(path) as plain,
            tarfile.open(fileobj=plain, mode="r|", tarinfo=_Header) as archive,
        ):
            yield _members(archive, shown)
    except DAMAGED as error:
        raise _damaged(shown, error) from error


def _members(archive: tarfile.TarFile, shown: str) -> Iterator[tuple[str, int, IO[bytes]]]:
    while (member := archive.next()) is not None:
        archive.members = []  # type: ignore[attr-defined]  # as in _tar
        content = archive.extractfile(member) if member.isreg() else None
        if content is not None:
            yield safe_name(member.name, shown), member.size, content


def _damaged(shown: str, error: Exception) -> UserError:
    return UserError(f"{shown}: damaged archive ({error}); copy or download it again")


@contextlib.contextmanager
def _unpacked(file: IO[bytes], path: Path, shown: str, scratch: Path) -> Iterator[IO[bytes]]:
    """Undo gzip into a nameless file in `scratch`: members are then read in any order."""
    packed, unpacked = path.stat().st_size, 0
    with gzip.open(file) as source, tempfile.TemporaryFile(dir=scratch, buffering=0) as plain:
        while block := source.read(BLOCK):
            unpacked += len(block)
            _check_bytes(unpacked, packed, shown)
            _write(plain, block, f"{shown}: cannot be unpacked in {scratch}")
        yield plain


def _write(file: IO[bytes], block: bytes, failing: str) -> None:
    rest = memoryview(block)
    try:
        while rest:
            rest = rest[file.write(rest) :]
    except OSError as error:
        msg = f"{failing} ({error.strerror or error}); free space, then run again"
        raise UserError(msg) from error


class _Header(tarfile.TarInfo):
    """A header of a tar; that of a plain file with a short name is read at a fifth of the cost."""

    @classmethod
    def fromtarfile(cls, tarfile_: tarfile.TarFile) -> Self:
        """Read the next one; tarfile knows no answer to numbers that are none, or to headers of headers of headers."""
        try:
            return super().fromtarfile(tarfile_)
        except (ValueError, RecursionError) as error:
            msg = f"a header is none: {error}"
            raise tarfile.ReadError(msg) from error

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> Self:
        """Read the 512 bytes of one; what is not so plain is tarfile's to read, or to refuse."""
        return cls._plain(buf, encoding, errors) or _checked(super().frombuf(buf, encoding, errors))

    @classmethod
    def _frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str, **settings: bool) -> Self:
        """The same for Python 3.14, and later releases of those before, whose tarfile reads headers by this."""
        return cls._plain(buf, encoding, errors) or _checked(
            super()._frombuf(buf, encoding, errors, **settings)  # type: ignore[misc]
        )

    @classmethod
    def _plain(cls, buf: bytes | bytearray, encoding: str, errors: str) -> Self | None:
        if buf[156:157] == tarfile.REGTYPE and buf[345:346] == b"\0":
            with contextlib.suppress(ValueError):
                checksum, size = (_octal(field) for field in (buf[148:156], buf[124:136]))
                # Its own 8 bytes count as spaces.
                if sum(buf) - sum(buf[148:156]) + 8 * 32 == checksum:
                    header = cls(buf[:100].split(b"\0", 1)[0].decode(encoding, errors))
                    header.size = size
                    return header
        return None


def _checked(header: H) -> H:
    """With less than no bytes, tarfile goes in circles or fails."""
    most = MAX_EXTENDED_BYTES if header.type in EXTENDED else MAX_FILE_BYTES
    if not 0 <= header.size <= most:
        msg = f"a header tells of {header.size} bytes"
        raise tarfile.ReadError(msg)
    return header


def _octal(field: bytes | bytearray) -> int:
    """Read a number of digits alone, with spaces and NULs behind it at most.

    Raises:
        ValueError: It is something else.
    """
    digits = field.rstrip(b" \0")
    return int(digits if digits.isdigit() else b"", 8)


def _tar(file: IO[bytes], shown: str) -> Archive:
    places: dict[str, int] = {}  # offset and size in one number, for there may be millions
    folders: list[str] = []
    total = end = 0
    file.seek(0)
    with tarfile.open(fileobj=file, mode="r:", tarinfo=_Header) as archive:
        while (member := archive.next()) is not None:
            archive.members = []  # type: ignore[attr-defined]  # tarfile would keep every header
            name = safe_name(member.name, shown)
            end = member.offset_data + (-(-member.size // RECORD) * RECORD if member.isreg() else 0)
            if member.isdir():
                if name:  # `./` holds all of it
                    folders.append(name)
                continue
            if not member.isreg() or member.issparse():
                msg = f"{shown}: {brief(name, LONGEST)}: not a plain file (a link or a device); pack the files themselves"
                raise UserError(msg)
            _check_member(name, member.size, places, shown)
            places[name] = member.offset_data * SIZES + member.size
            total += member.size
            _check_bytes(total, total, shown)
    descriptor = file.fileno()
    if os.pread(descriptor, RECORD, end) != bytes(RECORD):  # the mark of the end
        msg = "it ends too early, or within it a header is damaged"
        raise tarfile.ReadError(msg)

    def read(name: str) -> bytes:
        offset, size = divmod(places[name], SIZES)
        return os.pread(descriptor, size, offset)

    return Archive(list(places), folders, read)


def _zip(archive: zipfile.ZipFile, packed: int, shown: str) -> Archive:
    places: dict[str, zipfile.ZipInfo] = {}
    folders: list[str] = []
    total = 0
    for member in archive.infolist():
        path = _name(member, shown).replace("\\", "/")
        name = safe_name(path, shown)
        if path.endswith("/"):
            if name:
                folders.append(name)
            continue
        if stat.S_IFMT(member.external_attr >> 16) not in {0, stat.S_IFREG}:
            msg = f"{shown}: {brief(name, LONGEST)}: not a plain file (a link or a device); pack the files themselves"
            raise UserError(msg)
        # The other methods unpack all that there is before they look at how much it was to be.
        if member.compress_type not in {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}:
            msg = f"{shown}: {brief(name, LONGEST)}: packed in an unusual way; pack it with the deflate method"
            raise UserError(msg)
        if member.flag_bits & 1:
            msg = f"{shown}: {brief(name, LONGEST)}: encrypted; pack it without a password"
            raise UserError(msg)
        _check_member(name, member.file_size, places, shown)
        places[name] = member
        total += member.file_size
        _check_bytes(total, packed, shown)

    def read(name: str) -> bytes:
        try:
            with archive.open(places[name]) as file:
                return file.read(places[name].file_size)
        except NotImplementedError as error:
            msg = f"{shown}: {brief(name, LONGEST)}: {error}; pack it with the deflate method"
            raise UserError(msg) from error

    return Archive(list(places), folders, read)


def _name(member: zipfile.ZipInfo, shown: str) -> str:
    """The path of a member: UTF-8 also where it is not marked so, as by Finder and `zip`; zipfile takes it for cp437."""
    name = member.filename
    # It is not as it was where zipfile of Python 3.12 found one in Unicode beside it.
    found = not member.orig_filename.startswith(name)
    if member.flag_bits & MARKED_UTF_8 or name.isascii() or found:
        return name
    try:
        return name.encode("cp437").decode()
    except UnicodeError as error:
        msg = f"{shown}: {brief(name, LONGEST)}: the name is not marked as UTF-8 (some packers of Windows do not), and may have other letters; pack the files as tar, or with names in UTF-8"
        raise UserError(msg) from error


def safe_name(name: str, shown: str) -> str:
    """Write the path of a member without `.`; refuse one that leads elsewhere.

    Raises:
        UserError: The path is absolute, holds `..`, or is not text.
    """
    parts = [part for part in name.split("/") if part not in {"", "."}]
    if name.startswith("/") or ".." in parts or re.match(r"[A-Za-z]:[/\\]", name):
        msg = f"{shown}: {name!r}: the path leads out of the archive; pack it with relative paths"
        raise UserError(msg)
    try:
        name.encode()
    except UnicodeEncodeError as error:
        msg = f"{shown}: {name!r}: the name is not UTF-8; rename the file"
        raise UserError(msg) from error
    return "/".join(parts)


def _check_member(name: str, size: int, places: Mapping[str, object], shown: str) -> None:
    problem = None
    if name in places:
        problem = "is in the archive twice"
    elif not 0 <= size <= MAX_MEMBER_BYTES:
        problem = f"{size} bytes, the limit for one file is {MAX_MEMBER_BYTES}"
    elif len(places) >= MAX_MEMBERS:
        problem = f"one file more than the limit of {MAX_MEMBERS}"
    if problem:
        msg = f"{shown}: {brief(name, LONGEST)}: {problem}; repack the archive with the images only"
        raise UserError(msg)


def _check_bytes(unpacked: int, packed: int, shown: str) -> None:
    bomb = unpacked > RATIO_FROM_BYTES and unpacked > MAX_RATIO * packed
    if bomb or unpacked > MAX_BYTES:
        msg = (
            f"{shown}: {packed} bytes unpack to more than {unpacked}; images do not compress like this, "
            f"so it may be a decompression bomb; if it is not, give the unpacked folder"
        )
        raise UserError(msg)
