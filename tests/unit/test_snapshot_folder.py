"""What lies in data/raw is replaced only where a download has put it there."""

from pathlib import Path

import pytest

from pipeline_lib.datasets.load import snapshot
from pipeline_lib.errors import UserError
from pipeline_lib.params.load import load


def test_images_that_a_person_put_there_stay(tmp_path: Path) -> None:
    raw = tmp_path / "raw"
    data = load().data
    snapshot(data, raw)
    snapshot(data, raw)
    own = raw / "cat/1.png"
    own.parent.mkdir()
    own.write_bytes(b"the only copy")
    with pytest.raises(UserError, match=r"holds 1 files that no download has put there .*1\.png"):
        snapshot(data, raw)
    assert own.read_bytes() == b"the only copy"
