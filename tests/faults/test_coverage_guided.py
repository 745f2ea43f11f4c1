"""A fuzzer that follows the code, on all that a stranger may have written; seeds are files of the pipeline's own."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import polars as pl
import pyarrow as pa
import pytest

from pipeline_lib.artifacts import publish_json
from pipeline_lib.parquet import publish_table
from tests.toy_predictors import FILES, save_each

ROOT = Path(__file__).resolve().parents[2]
SECONDS = int(os.environ.get("FUZZ_SECONDS", "60"))  # of each target
TARGETS = ("params", "description", "weights", "sidecar", "manifest", "table", "labels", "export")

pytestmark = [
    pytest.mark.soak,
    pytest.mark.timeout(3600),
    pytest.mark.skipif(
        importlib.util.find_spec("atheris") is None,
        reason="atheris is not installed (requirements-fuzz.txt; Python 3.11 only)",
    ),
]


def seeds(target: str, folder: Path, models: list[Path]) -> list[bytes]:
    predictor = models[0]
    match target:
        case "params":
            return [(ROOT / "params.yaml").read_bytes()]
        case "description":
            return [(model / FILES[0]).read_bytes() for model in models]
        case "weights":
            return [(predictor / FILES[1]).read_bytes()]
        case "sidecar":
            return [(predictor / f"{FILES[0]}.sha256").read_bytes(), b"0" * 64 + b"  file\n"]
        case "manifest":
            publish_json(folder / "m.json", {"classes": ["a", "b"], "height": 8, "x": [1.5, None]})
            return [(folder / "m.json").read_bytes()]
        case "table":
            rows = {"id": pa.array([1, 2], pa.int32()), "candidates": [[0], [0, 1]]}
            publish_table(folder / "t.parquet", pa.table(rows))
            return [(folder / "t.parquet").read_bytes()]
        case "labels":
            frame = pl.DataFrame({"file": ["1.png", "2.png"], "candidates": ["cat|dog", "dog"]})
            frame.write_parquet(folder / "l.parquet")
            plain = [b"file,label\n1.png,cat\n2.png,\n", b'{"file": "1.png", "label": "cat"}\n']
            return [*plain, (folder / "l.parquet").read_bytes()]
    answer = {"type": "choices", "from_name": "label", "value": {"choices": ["cat"]}}
    tasks = [{"data": {"image": "1.png"}, "annotations": [{"result": [answer]}]}]
    return [json.dumps(tasks).encode(), b'[{"image": "1.png", "label": "cat", "annotator": 1}]']


@pytest.mark.parametrize("target", TARGETS)
def test_nothing_that_it_makes_up_is_a_traceback_or_takes_long(target: str, tmp_path: Path) -> None:
    whole = save_each(tmp_path / "models")
    corpus, beside = tmp_path / "corpus", tmp_path / "corpus.beside"
    corpus.mkdir()
    beside.mkdir()
    for number, content in enumerate(seeds(target, tmp_path, whole)):
        (corpus / str(number)).write_bytes(content)
    if target == "weights":
        for name in (FILES[0], f"{FILES[0]}.sha256"):
            (beside / name).write_bytes((whole[0] / name).read_bytes())
    limits = [f"-max_total_time={SECONDS}", "-timeout=20", "-rss_limit_mb=4096", "-max_len=65536"]
    found = f"-artifact_prefix={tmp_path}/"
    done = subprocess.run(
        [sys.executable, "-m", "tests.coverage_guided", target, str(corpus), *limits, found],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    (last,) = [line for line in done.stderr.splitlines() if line.startswith("Done ")]
    print(f"{target}: {last}")
    assert int(last.split()[1]) > 100, "it has tried some"
