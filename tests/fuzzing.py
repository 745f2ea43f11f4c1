"""Broken files by the thousand: how they are broken, and what is asked of whatever reads them."""

from __future__ import annotations

import contextlib
import hashlib
import re
import signal
from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest

from pipeline_lib.errors import UserError

SECONDS = 10  # for one file, on a machine that is busy with others
LONGEST = 1000  # of a message
GIB = 1 << 30


def counts(quick: int, full: int) -> pytest.MarkDecorator:
    """A test with a parameter `cases`: few in `make test`, all of them in `make soak`."""
    soak = [pytest.mark.soak, pytest.mark.timeout(3600)]
    return pytest.mark.parametrize("cases", [quick, pytest.param(full, marks=soak)])


class HangsError(BaseException):
    """Not an Exception: nothing that reads files catches it."""


@contextlib.contextmanager
def soon() -> Iterator[None]:
    """Within, what takes longer than SECONDS fails."""

    def ring(_number, _frame):
        raise HangsError

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, SECONDS, 1)  # and again, where nothing can be raised
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def check_message(error: UserError, lines: int = 1, start: str = "") -> None:
    """One line, or some, that can be printed anywhere and begin with where the mistake is."""
    message = str(error)
    assert 1 <= len(message.splitlines()) <= lines, message
    for line in message.splitlines():
        assert len(line) < LONGEST, message
        assert line.startswith(start), message
    message.encode()
    assert "\x1b" not in message
    assert "\0" not in message


@contextlib.contextmanager
def in_little_memory(limit: int = GIB) -> Iterator[None]:
    """Within, no more than that is added to the memory of the process, at any moment (on Linux)."""
    if not Path("/proc/self/clear_refs").exists():
        yield
        return
    before = memory("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # forget the peak
    yield
    assert memory("VmHWM") - before < limit


def memory(field: str) -> int:
    """VmRSS or VmHWM, its peak, in bytes."""
    status = Path("/proc/self/status").read_text()
    return int(re.search(rf"{field}:\s+(\d+) kB", status)[1]) << 10


def seal(path: Path) -> None:
    """Give a file the sidecar that fits it, as somebody would who means harm."""
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    path.with_name(path.name + ".sha256").write_text(f"{digest}  {path.name}\n")


def broken(content: bytes, draw: Random) -> bytes:
    """Flip bits, cut out, repeat, put in noise, cut off or add to the end."""
    data = bytearray(content)
    for _ in range(draw.choice([1, 1, 1, 2, 8])):
        place = draw.randrange(max(len(data), 1))
        if draw.random() < 0.4:  # beginnings hold what is read first
            place = draw.randrange(min(max(len(data), 1), 400))
        length = draw.choice([1, 1, 2, 8, 64])
        match draw.randrange(7):
            case 0 | 1 if data:
                data[place % len(data)] ^= 1 << draw.randrange(8)
            case 2:
                data[place : place + length] = draw.randbytes(length)
            case 3:
                del data[place : place + length]
            case 4:
                data[place:place] = data[place : place + length]
            case 5:
                del data[place:]
            case _:
                data += draw.randbytes(length)
    return bytes(data)


# Values that programs trip over, in JSON.
TOKENS = [
    *("0", "-1", "1", "2", "3.5", "1e400", "-1e-400", "NaN", "Infinity", "1" * 5000),
    *("9223372036854775807", "9223372036854775808", "2147483648", "100000", "4096", "true"),
    *("null", '""', "[]", "{}", '"../../etc/passwd"', '"\\u0000"', '"\\ud800"', '"\\u001b[2J\\n"'),
    *("[1]", "[[]]", '{"a": 1}', f'"{"x" * 3000}"', "[" * 2000 + "]" * 2000, "vit_h_14"),
    *('"wrn_34_10"', '"vit_h_14"', '"resnet18"', '"lenet"', '"soft_neighbours"', '"F64"', '"I8"'),
]
_VALUE = re.compile(r'"(?:[^"\\]|\\.)*"|-?\d[\d.e+-]*|true|false|null|\[\]|\{\}')


def reworded(text: str, draw: Random) -> str:
    """Put another value, or the one of another place, where a value or key is; or leave a piece out."""
    for _ in range(draw.choice([1, 1, 1, 2, 3])):
        found = list(_VALUE.finditer(text))
        if not found:
            return text
        one, other = draw.choice(found), draw.choice(found)
        instead = draw.choice([draw.choice(TOKENS), draw.choice(TOKENS), other[0], ""])
        text = text[: one.start()] + instead + text[one.end() :]
    return text
