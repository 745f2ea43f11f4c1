"""What lies in data/raw is replaced only where a download has put it there."""

from pathlib import Path

import pytest

from pipeline_lib.datasets.load import snapshot
from pipeline_lib.errors import UserError
from pipeline_lib.params.load import load

ROOT = Path(__file__).parents[2]


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


def test_a_snapshot_of_itself_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An archive with its sha256 beside it looks like a file of a download."""
    monkeypatch.chdir(tmp_path)
    raw = Path("data/raw")
    raw.mkdir(parents=True)
    for name in ("photos.tar", "photos.tar.sha256"):
        (raw / name).write_bytes(b"the only copy")
    for key in ("path", "table"):
        data = load(ROOT / "params.yaml").data.model_copy(update={key: "data/raw/photos.tar"})
        with pytest.raises(UserError, match=rf"data\.{key}: data/raw/photos\.tar: data/raw is"):
            snapshot(data, raw)
    assert (raw / "photos.tar").read_bytes() == b"the only copy"


def test_what_a_file_manager_left_does_not_count_and_a_link_is_replaced(tmp_path: Path) -> None:
    raw, elsewhere = tmp_path / "raw", tmp_path / "elsewhere"
    data = load().data
    snapshot(data, elsewhere)
    (elsewhere / ".DS_Store").touch()
    raw.symlink_to(elsewhere)
    snapshot(data, raw)
    assert not raw.is_symlink()
    assert (elsewhere / ".DS_Store").exists()
    (raw / ".DS_Store").touch()
    snapshot(data, raw)
