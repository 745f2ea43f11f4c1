"""Files are replaced whole or not at all, whatever kills the writer (see pipeline_lib.artifacts)."""

import hashlib
import itertools
import json
import os
import random
import shutil
import stat
import struct
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline_lib import artifacts, parquet
from pipeline_lib.artifacts import publish, publish_bytes, publish_json, publish_text, verify
from pipeline_lib.errors import UserError
from pipeline_lib.parquet import ROW_GROUP_SIZE, publish_rows, publish_table, read_row_groups

ROOT = Path(__file__).resolve().parents[2]
OLD, NEW = b"old " * 250_000, b"new " * 250_000
SHA256 = {content: hashlib.sha256(content).hexdigest() for content in (OLD, NEW)}

WRITE_FOR_EVER = """
import sys
from pathlib import Path
from pipeline_lib.artifacts import publish
print("go", flush=True)
while True:
    for word in (b"new ", b"old "):
        with publish(Path("file.bin")) as temporary, temporary.open("wb") as file:
            for _ in range(10):
                file.write(word * 25_000)
"""
KILLED_AT_A_SETTLE = """
import os, signal
from pathlib import Path
from pipeline_lib import artifacts
settle, calls = artifacts._settle, []
def dying(temporary, path):
    calls.append(path)
    if len(calls) == {call}:
        os.kill(os.getpid(), signal.SIGKILL)
    settle(temporary, path)
artifacts._settle = dying
artifacts.publish_bytes(Path("file.bin"), b"new " * 250_000)
"""
ON_A_FULL_DISK = """
import resource
from pathlib import Path
import pyarrow as pa
from pipeline_lib import artifacts, parquet
from pipeline_lib.errors import UserError
table = pa.table({{"x": pa.array(os.urandom(16) for _ in range(40_000))}})
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, resource.RLIM_INFINITY))
try:
    {write}
except UserError as error:
    print(error)
"""


def start(code: str, folder: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", "import os\n" + code],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def temporaries(folder: Path) -> list[str]:
    return [path.name for path in folder.glob(".tmp-*")]


@pytest.fixture
def target(tmp_path) -> Path:
    """A published file with the old content."""
    path = tmp_path / "file.bin"
    with publish(path) as temporary:
        temporary.write_bytes(OLD)
    return path


def test_a_writer_killed_at_any_moment_leaves_old_or_new(target):
    chance = random.Random(1)  # no secret
    left = 0
    for _ in range(30):
        with start(WRITE_FOR_EVER, target.parent) as process:
            assert process.stdout.readline() == "go\n"
            time.sleep(chance.uniform(0, 0.03))
            process.kill()
        assert target.read_bytes() in (OLD, NEW)
        left += len(temporaries(target.parent))
        content = target.read_bytes()
        if target.with_name("file.bin.sha256").read_text().startswith(SHA256[content]):
            verify(target)
        else:  # killed between the file and its sidecar
            with pytest.raises(UserError, match=r"file\.bin: damaged"):
                verify(target)
    assert left, "no kill hit a write: the test shows nothing"
    with publish(target) as temporary:
        temporary.write_bytes(NEW)
    assert temporaries(target.parent) == []
    verify(target)


@pytest.mark.parametrize("call", [1, 2], ids=["before the file", "before its sidecar"])
def test_a_kill_between_file_and_sidecar_is_found_out(target, call):
    with start(KILLED_AT_A_SETTLE.format(call=call), target.parent) as process:
        process.wait()
    assert process.returncode == -9
    assert len(temporaries(target.parent)) == 3 - call
    if call == 1:
        assert target.read_bytes() == OLD
        verify(target)
    else:
        assert target.read_bytes() == NEW
        with pytest.raises(UserError, match=r"file\.bin: damaged"):
            verify(target)
    publish_text(target, "again")
    assert temporaries(target.parent) == []
    verify(target)


@pytest.mark.parametrize(
    "write",
    [
        'artifacts.publish_bytes(Path("file.bin"), b"new " * 250_000)',
        'parquet.publish_table(Path("file.bin"), table)',
    ],
    ids=["bytes", "parquet"],
)
def test_row_28_a_disk_that_fills_up_leaves_the_old_file(target, write):
    """Files may grow to 100 kB only: the write fails in the middle, as on a full disk."""
    with start(ON_A_FULL_DISK.format(write=write), target.parent) as process:
        said, complaints = process.communicate()
    assert (process.returncode, complaints) == (0, "")
    assert said.startswith("file.bin: cannot be written (")
    assert "large" in said
    assert said.endswith("; free space or fix the rights, then run again\n")
    assert said.count("\n") == 1
    assert target.read_bytes() == OLD
    verify(target)
    assert temporaries(target.parent) == []


def test_a_file_where_the_folder_should_be(tmp_path):
    (tmp_path / "data").write_text("in the way")
    for path in (tmp_path / "data/a.txt", tmp_path / "data/split/a.txt"):
        with pytest.raises(UserError, match=r"a\.txt: cannot be written") as caught:
            publish_text(path, "text")
        assert "\n" not in str(caught.value)
    assert (tmp_path / "data").read_text() == "in the way"


def test_a_folder_where_the_file_should_be(tmp_path):
    (tmp_path / "a.txt").mkdir()
    with pytest.raises(UserError, match=r"a\.txt: cannot be written"):
        publish_text(tmp_path / "a.txt", "text")
    assert temporaries(tmp_path) == []


@pytest.mark.skipif(os.geteuid() == 0, reason="the superuser may write anywhere")
def test_row_28_a_folder_that_may_not_be_written(target):
    target.parent.chmod(0o555)
    try:
        with pytest.raises(UserError, match=r"file\.bin: cannot be written"):
            publish_text(target, "text")
    finally:
        target.parent.chmod(0o755)
    verify(target)


@pytest.mark.parametrize(("mask", "mode"), [(0o022, 0o644), (0o077, 0o600), (0o002, 0o664)])
def test_files_have_the_rights_that_the_umask_asks_for(tmp_path, mask, mode):
    before = os.umask(mask)
    try:
        publish_text(tmp_path / "a.txt", "text")
    finally:
        os.umask(before)
    for name in ("a.txt", "a.txt.sha256"):
        assert stat.S_IMODE((tmp_path / name).stat().st_mode) == mode


@pytest.mark.skipif(shutil.which("sha256sum") is None, reason="needs sha256sum")
def test_sha256sum_accepts_the_sidecar(target):
    command = ["sha256sum", "--strict", "-c", "file.bin.sha256"]
    done = subprocess.run(command, cwd=target.parent, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "file.bin: OK\n", "")
    target.write_bytes(OLD[:-1] + b"?")
    done = subprocess.run(command, cwd=target.parent, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    with pytest.raises(UserError, match="damaged"):
        verify(target)


def flip(path: Path) -> None:
    """Change a byte in place, and set the time of the last write back."""
    before = path.stat()
    with path.open("r+b") as file:
        file.write(b"?")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


@pytest.mark.parametrize("settled", [0, artifacts.SETTLED_NS])
def test_a_change_after_a_check_is_found_in_the_same_process(target, monkeypatch, settled):
    monkeypatch.setattr(artifacts, "SETTLED_NS", settled)
    time.sleep(0 if settled else 0.1)  # clocks of file systems tick every few milliseconds
    verify(target)
    flip(target)
    with pytest.raises(UserError, match=r"file\.bin: damaged"):
        verify(target)
    publish_text(target, "again")
    verify(target)
    target.with_name("file.bin.sha256").write_text(f"{SHA256[OLD]}  file.bin\n")
    with pytest.raises(UserError, match=r"file\.bin: damaged"):
        verify(target)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), [1, -float("inf")]])
def test_row_31_json_holds_no_nan(tmp_path, value):
    path = tmp_path / "a.json"
    publish_json(path, {"accuracy": 0.5})
    with pytest.raises(ValueError, match="not JSON compliant"):
        publish_json(path, {"accuracy": value})
    assert json.loads(path.read_text()) == {"accuracy": 0.5}
    verify(path)
    assert temporaries(tmp_path) == []


def test_an_error_of_the_writer_leaves_the_old_file(target):
    def write_half():
        with publish(target) as temporary:
            temporary.write_bytes(b"half of i")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        write_half()
    assert target.read_bytes() == OLD
    verify(target)
    assert temporaries(target.parent) == []


SCHEMA = pa.schema([("id", pa.int32()), ("name", pa.string()), ("of", pa.list_(pa.int16()))])


def rows_between(first: int, last: int) -> pa.Table:
    numbers = range(first, last)
    columns = [
        list(numbers),
        [f"n{n % 3}" if n % 4 else None for n in numbers],
        [[n % 5] * (n % 3) for n in numbers],
    ]
    return pa.table(columns, schema=SCHEMA)


@settings(max_examples=30)
@given(st.integers(0, 40), st.lists(st.integers(0, 40), max_size=6), st.integers(1, 15))
def test_the_same_rows_in_other_pieces_are_the_same_bytes(count, cuts, row_group_size):
    bounds = [0, *sorted(min(cut, count) for cut in cuts), count]
    with tempfile.TemporaryDirectory() as name:
        whole, pieces = Path(name, "whole.parquet"), Path(name, "pieces.parquet")
        with publish_rows(whole, SCHEMA, row_group_size=row_group_size, sidecar=False) as write:
            write(rows_between(0, count))
        with publish_rows(pieces, SCHEMA, row_group_size=row_group_size, sidecar=False) as write:
            for first, last in itertools.pairwise(bounds):
                write(rows_between(first, last))
        assert pieces.read_bytes() == whole.read_bytes()
        read = pa.parquet.ParquetFile(whole)
        assert read.read() == rows_between(0, count)
        sizes = [read.metadata.row_group(n).num_rows for n in range(read.num_row_groups)]
        assert all(size == row_group_size for size in sizes[:-1])


@pytest.mark.parametrize("count", [0, 1, 9000, 20_000])
def test_a_table_is_read_row_group_by_row_group(tmp_path, count):
    publish_table(tmp_path / "a.parquet", rows_between(0, count))
    pieces = list(read_row_groups(tmp_path / "a.parquet"))
    assert pa.concat_tables(pieces) == rows_between(0, count)
    assert max(piece.num_rows for piece in pieces) <= ROW_GROUP_SIZE


def test_a_table_that_is_none_is_refused_in_one_line(tmp_path):
    publish_text(tmp_path / "a.parquet", "no table")
    with pytest.raises(UserError, match=r"^.*a\.parquet: no Parquet \(.*\); delete it, .*$"):
        next(read_row_groups(tmp_path / "a.parquet"))
    (tmp_path / "a.parquet").write_text("no tab1e")
    with pytest.raises(UserError, match=r"a\.parquet: damaged"):
        next(read_row_groups(tmp_path / "a.parquet"))


FILES = pa.schema([("id", pa.int32()), ("file", pa.binary())])


def by_hand(sizes: list[int], most: int, limit: int) -> list[int]:
    """Rows per group: as many as fit, but at least one."""
    groups: list[list[int]] = []
    for size in sizes:
        if not groups or len(groups[-1]) == most or sum(groups[-1]) + size > limit:
            groups.append([])
        groups[-1].append(size)
    return [len(group) for group in groups]


@settings(max_examples=60)
@given(
    st.lists(st.integers(0, 30), max_size=40),
    st.lists(st.integers(0, 40), max_size=6),
    st.integers(1, 15),
    st.integers(1, 60),
)
def test_row_groups_of_large_values_have_fewer_rows(sizes, cuts, most, limit):
    bounds = [0, *sorted(min(cut, len(sizes)) for cut in cuts), len(sizes)]
    whole = pa.table([list(range(len(sizes))), [bytes(size) for size in sizes]], schema=FILES)
    with tempfile.TemporaryDirectory() as name, pytest.MonkeyPatch.context() as patch:
        patch.setattr(parquet, "ROW_GROUP_BYTES", limit)
        path = Path(name, "a.parquet")
        with publish_rows(path, FILES, row_group_size=most, sidecar=False) as write:
            for first, last in itertools.pairwise(bounds):
                write(whole.slice(first, last - first))
        file = pa.parquet.ParquetFile(path)
        groups = [file.metadata.row_group(n).num_rows for n in range(file.num_row_groups)]
        assert groups == by_hand(sizes, most, limit)
        assert file.read() == whole


WRITE_ONE = """
from pathlib import Path
from pipeline_lib.artifacts import publish_text
publish_text(Path("file.bin"), "other")
"""


def written_meanwhile(folder):
    command = [sys.executable, "-c", WRITE_ONE]
    subprocess.run(command, cwd=folder, env=os.environ | {"PYTHONPATH": str(ROOT)}, check=True)


def test_two_who_write_the_same_do_not_take_each_others_file(tmp_path):
    """Hours of predictions were gone, and the user's input was blamed. What was left by a kill goes."""
    (stale := tmp_path / ".tmp-file.bin.killed").touch()
    with publish(tmp_path / "file.bin") as temporary:
        assert not stale.exists()
        temporary.write_bytes(NEW)
        stale.touch()
        written_meanwhile(tmp_path)
        assert temporary.exists()
        assert not stale.exists()
    assert (tmp_path / "file.bin").read_bytes() == NEW
    verify(tmp_path / "file.bin")
    assert {path.name for path in tmp_path.iterdir()} == {"file.bin", "file.bin.sha256"}


def test_names_are_no_patterns(tmp_path):
    """What a kill left of them is found, and nothing of others."""
    for name in ("p [2026].bin", "a**b.bin"):
        (stale := tmp_path / f".tmp-{name}.killed").touch()
        publish_bytes(tmp_path / name, NEW, sidecar=False)
        assert not stale.exists()
        assert (tmp_path / name).read_bytes() == NEW


def test_a_name_that_is_too_long_is_told_in_a_line(tmp_path):
    with pytest.raises(UserError, match=r"xx: cannot be written \(File name too long\)"):
        publish_bytes(tmp_path / ("x" * 250), NEW)


def test_locks_are_asked_for_as_network_file_systems_give_them(tmp_path, monkeypatch):
    """NFS locks for writing only what is open for writing; SMB keeps others from the bytes that are locked."""
    asked, fcntl = [], artifacts.fcntl.fcntl

    def noted(handle, command, lock):
        asked.append((handle, os.get_inheritable(handle), struct.unpack("hhqqi4x", lock)[2:4]))
        assert os.write(handle, b"") == 0, "open for writing"
        return fcntl(handle, command, lock)

    (tmp_path / ".tmp-file.bin.killed").touch()
    monkeypatch.setattr(artifacts.fcntl, "fcntl", noted)
    with publish(tmp_path / "file.bin") as temporary:
        temporary.write_bytes(NEW)
    assert len(asked) == 3, "of a stale file, of a new one and of its sidecar"
    assert {(inherited, place) for _, inherited, place in asked} == {(False, (1 << 62, 1))}


def test_a_file_that_was_taken_for_a_stale_one_at_its_birth_is_made_anew(tmp_path, monkeypatch):
    made, lock = [], artifacts._lock

    def taken(handle):
        made.extend(tmp_path.glob(".tmp-*"))
        if len(made) == 1:
            made[0].unlink()
        return lock(handle)

    monkeypatch.setattr(artifacts, "_lock", taken)
    publish_bytes(tmp_path / "file.bin", NEW, sidecar=False)
    assert len(set(made)) == 2
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [NEW]


def test_a_signal_at_the_birth_of_a_file_leaves_nothing(tmp_path, monkeypatch):
    def interrupted(handle):
        assert list(tmp_path.iterdir())
        raise KeyboardInterrupt

    monkeypatch.setattr(artifacts, "_lock", interrupted)
    with pytest.raises(KeyboardInterrupt):
        publish_bytes(tmp_path / "file.bin", NEW)
    assert list(tmp_path.iterdir()) == []
