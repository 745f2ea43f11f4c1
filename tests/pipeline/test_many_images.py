"""More images take more time, but not more of it each, nor more memory."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import pytest

from benchmarks.ingest import synthetic


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads memory from /proc")
def test_memory_and_time_per_image_stay_flat(tmp_path: Path):
    options = argparse.Namespace(folder=tmp_path, seed=1)
    few, many = (synthetic(options, count) for count in (20_000, 60_000))
    assert (few["images"], many["images"]) == (20_000, 60_000)
    assert many["peak_mib"] < 1.2 * few["peak_mib"]
    per_image = [
        sum(run["stages"][stage]["processor_seconds"] for stage in run["timed"]) / run["images"]
        for run in (few, many)
    ]
    assert per_image[1] < 1.2 * per_image[0]
