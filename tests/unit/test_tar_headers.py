"""The quick way to read the header of a tar gives what tarfile gives, or leaves it to tarfile."""

from __future__ import annotations

import io
import tarfile
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pipeline_lib.datasets.files import archives
from pipeline_lib.datasets.files.archives import open_archive
from pipeline_lib.errors import UserError

FORMATS = {"ustar": tarfile.USTAR_FORMAT, "gnu": tarfile.GNU_FORMAT, "pax": tarfile.PAX_FORMAT}
NAME, SIZE, CHECKSUM_AND_KIND = range(100), range(124, 136), range(148, 157)
MAGIC, PREFIX = range(257, 265), range(345, 500)
SEEN = ("name", "size", "type", "offset_data", "linkname")


def tar(names: dict[str, bytes], form: int = tarfile.PAX_FORMAT, **headers: str) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=form, pax_headers=headers) as archive:
        for name, content in names.items():
            header = tarfile.TarInfo(name)
            header.size = len(content)
            archive.addfile(header, io.BytesIO(content))
    return file.getvalue()


def listed(content: bytes, header: type[tarfile.TarInfo]) -> list[tuple] | str:
    """What tarfile sees in an archive with this reader of headers, or how it refuses it."""
    try:
        with tarfile.open(fileobj=io.BytesIO(content), mode="r:", tarinfo=header) as archive:
            return [tuple(getattr(member, name) for name in SEEN) for member in archive]
    except tarfile.TarError as error:
        return f"{type(error).__name__}: {error}"


NAMES = st.text(st.characters(codec="utf-8", exclude_characters="\0/\\"), min_size=1, max_size=130)


@pytest.mark.parametrize("form", ["gnu", "pax"])
@settings(max_examples=60)
@given(st.dictionaries(NAMES.map("a{}".format), st.binary(max_size=1200), max_size=5))
def test_names_and_contents_are_those_of_tarfile(form: str, files: dict[str, bytes]):
    content = tar(files, FORMATS[form])
    assert listed(content, archives._Header) == listed(content, tarfile.TarInfo)


@settings(max_examples=300)
@given(
    st.sampled_from([*NAME, *SIZE, *CHECKSUM_AND_KIND, *MAGIC, *PREFIX]),
    st.integers(0, 255),
    st.booleans(),
    st.sampled_from(sorted(FORMATS)),
)
@example(place=SIZE[0], value=ord("-"), repaired=True, form="gnu")  # less than no bytes
@example(place=SIZE[0], value=0, repaired=True, form="gnu")  # a size that begins with a NUL
def test_a_changed_byte_is_seen_as_tarfile_sees_it(place, value, repaired, form: str):
    """In the second of three headers; `repaired`: with a checksum that fits again."""
    content = bytearray(tar({"a/1": b"x" * 600, "a/2": b"y" * 700, "a/3": b"z"}, FORMATS[form]))
    start = 512 + 1024
    assert content[start : start + 3] == b"a/2"
    content[start + place] = value
    if repaired:
        header = content[start : start + 512]
        checksum = sum(header) - sum(header[148:156]) + 8 * 32
        content[start + 148 : start + 156] = b"%06o\0 " % checksum
    ours = listed(bytes(content), archives._Header)
    if isinstance(ours, str) and "a header tells of" in ours:
        return  # below: tarfile goes in circles, or fails
    assert ours == listed(bytes(content), tarfile.TarInfo)


@pytest.mark.parametrize("kind", [b"0", b"\0", b"5", b"L", b"K", b"x", b"g", b"S", b"V"])
@pytest.mark.parametrize("size", [-700, -512, -(1 << 80), 1 << 80])
def test_a_size_that_cannot_be_is_damage(tmp_path: Path, kind: bytes, size: int):
    """As base 256 gives it; of some kinds tarfile would read so much, or look at a header for ever."""
    content = bytearray(tar({"a/1.png": b"x" * 600, "a/2.png": b"y"}, tarfile.GNU_FORMAT))
    start = 512 + 1024
    number = size.to_bytes(12, "big", signed=True)
    content[start + 124 : start + 136] = number if size < 0 else b"\x80" + number[1:]
    content[start + 156 : start + 157] = kind
    header = content[start : start + 512]
    checksum = sum(header) - sum(header[148:156]) + 8 * 32
    content[start + 148 : start + 156] = b"%06o\0 " % checksum
    path = tmp_path / "images.tar"
    path.write_bytes(content)
    said = f"damaged archive .a header tells of {size} bytes"
    with pytest.raises(UserError, match=said), open_archive(path, "images.tar"):
        pass


def test_names_from_a_header_for_all_members_are_known():
    content = tar({"a": b"1", "b": b"22"}, comment="for all", path="c")
    assert listed(content, archives._Header) == listed(content, tarfile.TarInfo)


def test_plain_files_take_the_quick_way(monkeypatch):
    content = tar({f"train/cat/{n}.png": bytes(n) for n in range(20)})
    slow = []
    name = "_frombuf" if hasattr(tarfile.TarInfo, "_frombuf") else "frombuf"  # as of Python 3.14
    frombuf = getattr(tarfile.TarInfo, name).__func__

    def noted(cls, buf, *rest, **settings):
        slow.append(buf)
        return frombuf(cls, buf, *rest, **settings)

    monkeypatch.setattr(tarfile.TarInfo, name, classmethod(noted))
    assert len(listed(content, archives._Header)) == 20
    assert set(slow) == {bytes(512)}, "only the mark of the end"


def test_a_list_of_many_members_takes_less_than_120_bytes_each_beyond_their_names(tmp_path: Path):
    count = 12_000
    names = [f"train/cat/{number:06d}.png" for number in range(count)]
    path = tmp_path / "many.tar"
    path.write_bytes(tar(dict.fromkeys(names, b"x")))
    tracemalloc.start()
    try:
        with open_archive(path, "many.tar") as archive:
            held, _ = tracemalloc.get_traced_memory()
            assert archive.names == names
    finally:
        tracemalloc.stop()
    name_bytes = sum(len(name) + 49 for name in names)  # a str of ASCII
    assert (held - name_bytes) / count < 120
