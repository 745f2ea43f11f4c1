"""A large array of bytes in a MATLAB file (version 5), some at a time.

scipy reads a variable whole, which is 1.6 GB of SVHN's extra digits. The last axis of an array is the slowest
one in the file, so that the bytes of an image lie together.
"""

from __future__ import annotations

import struct
import zlib
from typing import IO, TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

HEADER = 128
LITTLE_ENDIAN = b"IM"
COMPRESSED, MATRIX, BYTES = 15, 14, 2  # types of elements
SMALL = 1 << 16  # no flags, dimensions or name take more
BLOCK = 1 << 20


def slices(path: Path, name: str, size: int, count: int) -> Iterator[bytes]:
    """Give the `count` times `size` bytes of a compressed variable, `size` at a time, in their order.

    Raises:
        ValueError, EOFError, struct.error, zlib.error: The file is damaged, or is none of that kind.
    """
    with path.open("rb") as file:
        if file.read(HEADER)[-2:] != LITTLE_ENDIAN:
            msg = "not of version 5, little-endian"
            raise ValueError(msg)
        while tag := file.read(8):
            kind, packed = struct.unpack("<II", tag)
            behind = file.tell() + packed
            if kind == COMPRESSED:
                stream = _Inflated(file, packed)
                if _name(stream) == name:
                    yield from _content(stream, size, count)
                    return
            file.seek(behind)
    msg = f"no compressed variable {name}"
    raise ValueError(msg)


class _Inflated:
    """What a zlib stream holds, some at a time."""

    def __init__(self, file: IO[bytes], packed: int) -> None:
        self._file, self._packed = file, packed
        self._inflate = zlib.decompressobj()
        self._ready = bytearray()

    def take(self, size: int) -> bytes:
        while len(self._ready) < size:
            self._ready += self._more()
        taken = bytes(self._ready[:size])
        del self._ready[:size]
        return taken

    def finish(self) -> None:
        """Read to the end, where zlib compares its checksum."""
        while not self._inflate.eof:
            self._more()

    def _more(self) -> bytes:
        packed = self._inflate.unconsumed_tail or self._file.read(min(BLOCK, self._packed))
        if not packed or self._inflate.eof:
            msg = "it ends too early"
            raise EOFError(msg)
        self._packed -= 0 if self._inflate.unconsumed_tail else len(packed)
        return self._inflate.decompress(packed, BLOCK)


def _name(stream: _Inflated) -> str:
    kind, _ = struct.unpack("<II", stream.take(8))
    if kind != MATRIX:
        msg = "no matrix"
        raise ValueError(msg)
    _flags, _dimensions, name = (_element(stream) for _ in range(3))
    return name.decode("ascii", "replace")


def _element(stream: _Inflated) -> bytes:
    """Read a small element: its type, its size, its content, up to a multiple of 8 bytes."""
    head = stream.take(8)
    kind, size = struct.unpack("<II", head)
    if kind >> 16:  # up to 4 bytes stand in the place of the size
        return head[4 : 4 + (kind >> 16)]
    if size > SMALL:
        msg = f"a header of {size} bytes"
        raise ValueError(msg)
    return stream.take(-(-size // 8) * 8)[:size]


def _content(stream: _Inflated, size: int, count: int) -> Iterator[bytes]:
    kind, total = struct.unpack("<II", stream.take(8))
    if kind != BYTES or total != size * count:
        msg = f"{total} bytes of type {kind}, not {count} times {size} bytes"
        raise ValueError(msg)
    for _ in range(count):
        yield stream.take(size)
    stream.finish()
