"""Arrays read from MATLAB files in slices are those that scipy reads whole."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy.io import loadmat, savemat

from pipeline_lib.datasets.files import matlab

DAMAGED = (ValueError, EOFError, struct.error, zlib.error)
SHAPE = (5, 4, 3)
OTHERS = {"y": np.arange(9.0), "long_name_of_another": np.arange(6, dtype=np.uint8), "Xs": "text"}
fixtures = [HealthCheck.function_scoped_fixture]


def written(path: Path, content: dict[str, object], *, compressed: bool = True) -> Path:
    file = io.BytesIO()
    savemat(file, content, do_compression=compressed)
    path.write_bytes(file.getvalue())
    return path


def array(count: int, high: int = 256) -> np.ndarray:
    return np.random.default_rng(count).integers(0, high, (*SHAPE, count), np.uint8)


@settings(max_examples=40, suppress_health_check=fixtures)
@given(
    count=st.integers(1, 300),
    high=st.sampled_from([1, 2, 256]),
    before=st.sets(st.sampled_from(sorted(OTHERS))),
    block=st.sampled_from([1, 7, 64, 1 << 20]),
    name=st.sampled_from(["X", "images"]),
)
def test_slices_are_those_of_scipy(tmp_path: Path, monkeypatch, count, high, before, block, name):
    monkeypatch.setattr(matlab, "BLOCK", block)
    content = {key: OTHERS[key] for key in sorted(before)} | {name: array(count, high)}
    path = written(tmp_path / "a.mat", content | {"Z": 1})
    given_N = list(matlab.slices(path, name, 60, count))
    expected = loadmat(path)[name]
    assert [np.frombuffer(one, np.uint8).reshape(SHAPE, order="F").tolist() for one in given_N] == [
        expected[..., number].tolist() for number in range(count)
    ]


@settings(max_examples=150, suppress_health_check=fixtures)
@given(place=st.integers(0, 10_000), value=st.integers(1, 255), cut=st.booleans())
def test_a_damaged_file_is_never_read_wrong(tmp_path: Path, place: int, value: int, cut: bool):
    path = written(tmp_path / "a.mat", {"y": np.arange(9.0), "X": array(50)})
    content = bytearray(path.read_bytes())
    expected = [array(50)[..., number].tobytes("F") for number in range(50)]
    place %= len(content)
    content[place] ^= value
    path.write_bytes(content[:place] if cut else content)
    try:
        found = list(matlab.slices(path, "X", 60, 50))
    except DAMAGED:
        return
    assert found == expected


REFUSED = {
    "another name": ({"Y": array(3)}, "no compressed variable X"),
    "floats": ({"X": array(3) / 2}, "1440 bytes of type 9, not 3 times 60 bytes"),
    "fewer": ({"X": array(2)}, "120 bytes of type 2, not 3 times 60 bytes"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_no_such_array_is_refused(tmp_path: Path, case: str):
    content, problem = REFUSED[case]
    with pytest.raises(ValueError, match=problem):
        list(matlab.slices(written(tmp_path / "a.mat", content), "X", 60, 3))


def test_a_file_that_is_not_compressed_is_refused(tmp_path: Path):
    path = written(tmp_path / "a.mat", {"X": array(3)}, compressed=False)
    with pytest.raises(ValueError, match="no compressed variable X"):
        list(matlab.slices(path, "X", 60, 3))
