"""Rows 9 to 12, 19 and 20 of the faults, as a user meets them: tables of labels, and folders."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline_lib.datasets.files import supervision
from pipeline_lib.errors import UserError
from tests.as_user import as_anybody

HEAD = "file,label\ncat/00.png,cat\n"
CANDIDATES = "file,candidates\n"


@pytest.fixture
def ingested(workspace):
    """A workspace in which an earlier run went well, up to the split."""
    workspace.two_classes(12)
    workspace.table(HEAD)
    workspace.run("configure", "download", "ingest", "split")
    return workspace


def sets(*rows: str) -> str:
    return CANDIDATES + "\n".join(rows) + "\n"


def test_row_9_empty_candidate_sets_are_refused_with_the_first_ten(ingested):
    ingested.table(sets(*(f"cat/{number:02d}.png," for number in range(12))))
    ingested.run("download")
    message = ingested.refused_as_a_user("ingest")
    named = ", ".join(f"labels.csv:{line}" for line in range(2, 12))
    assert message.startswith(
        f"labels.csv: 12 rows with an empty candidate set ({named} and 2 more); name all classes"
    )


def test_row_10_sets_without_the_true_label_are_refused_unless_allowed_and_counted(ingested):
    rows = [f"cat/{number:02d}.png,dog" for number in range(12)]
    ingested.table(sets(*rows))
    ingested.run("download", "ingest")
    message = ingested.refused_as_a_user("split")
    assert "candidate sets miss the true label (cat/" in message
    assert "correct them, or set split.allow_noisy_candidates: true" in message
    ingested.set(split={"allow_noisy_candidates": True})
    ingested.run("split")
    noisy = json.loads((ingested.root / "data/split/summary.json").read_text())["noisy"]
    training = ingested.read("split/train.parquet")
    assert 0 < noisy["train"] < len(training)


def test_row_11_sets_of_all_classes_are_unlabeled_images_and_counted(ingested):
    names = [f"{name}/{number:02d}.png" for name in ("cat", "dog") for number in range(6)]
    ingested.table(sets(*(f"{name},cat|dog" for name in names)))
    ingested.run("download", "ingest")
    assert run_as_a_user(ingested, "split").returncode == 0
    sources = {row["id"]: row["source"] for row in ingested.read("labels.parquet")}
    training = ingested.read("split/train.parquet")
    unlabeled = {sources[row["id"]] for row in training if row["role"] == "unlabeled"}
    assert unlabeled == set(names) & {sources[row["id"]] for row in training}
    summary = json.loads((ingested.root / "data/split/summary.json").read_text())
    assert summary["roles"]["train"]["unlabeled"] == len(unlabeled) > 0


def test_row_12_names_that_differ_at_their_ends_are_shown_whole():
    """The letter that differs was cut off in both."""
    classes = {
        f"Carex nigra {k} (L.) Reichard, sect. {'longissima ' * 7}nomenclaturae" for k in range(9)
    }
    (name, *_) = sorted(classes)
    with pytest.raises(UserError) as error:
        supervision._check_classes([name[:-1]], classes, [], "t.csv:2")
    assert str(error.value).startswith(f"t.csv:2: {name[:-1]!r} is not one of the classes Carex")
    assert str(error.value).endswith(f" and 6 more; did you mean {name!r}?")


@pytest.mark.parametrize(
    ("label", "reason"),
    [
        ("7", "'7' is not one of the classes cat, dog"),
        ("caat", "'caat' is not one of the classes cat, dog; did you mean 'cat'?"),
        ("dog ", "column label: 'dog ' begins or ends with a space"),
    ],
)
def test_row_12_what_is_no_class_is_refused_with_row_and_allowed_values(ingested, label, reason):
    ingested.table(f"{HEAD}cat/01.png,{label}\n")
    ingested.run("download")
    message = ingested.refused_as_a_user("ingest")
    assert message.startswith(f"labels.csv:3: {reason}")
    assert message.endswith("; once corrected: dvc repro --force download && dvc repro")


def test_row_19_what_spreadsheets_write_is_read(ingested):
    """A byte order mark, line ends of Windows, and a comma within quotes."""
    ingested.add("cat/a, b.png", 50)
    ingested.table(b'\xef\xbb\xbffile,label\r\n"cat/a, b.png",dog\r\n')
    ingested.run("download")
    done = run_as_a_user(ingested, "ingest")
    assert (done.returncode, done.stderr) == (0, "")
    rows = {row["source"]: row for row in ingested.read("labels.parquet")}
    assert (rows["cat/a, b.png"]["label"], rows["cat/a, b.png"]["true_label"]) == (1, 0)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (f"{HEAD}cat/01.png,cat,dog\n", ":3: 3 fields, but the header names 2 columns; put quotes"),
        (HEAD.encode() + b"cat/01.png,\xe9\n", ":3: not UTF-8 (byte 0xe9); save the table as UTF-8"),
        ("00,cat\n", ":1: no column `file` (found '00', 'cat'); begin with a line like file,label"),
        (f"{HEAD}/cat/01.png,cat\n", ":3: '/cat/01.png': name files by their path inside data.path"),
        (f"{HEAD}../cat/01.png,cat\n", ":3: '../cat/01.png': name files by their path inside"),
    ],
    ids=["ragged", "latin-1", "no header", "absolute", "upwards"],
)  # fmt: skip
def test_row_19_other_tables_are_refused_with_line_and_remedy(ingested, content, reason: str):
    ingested.table(content)
    ingested.run("download")
    assert ingested.refused_as_a_user("ingest").startswith(f"labels.csv{reason}")


def test_row_20_links_out_of_the_folder_are_refused(ingested):
    outside = ingested.root / "secret.png"
    outside.write_bytes((ingested.photos / "cat/00.png").read_bytes())
    link = ingested.photos / "cat/link.png"
    link.symlink_to(outside)
    message = ingested.refused_as_a_user("download")
    assert message == "photos/cat/link.png: a link out of the folder; put the file itself there"
    link.unlink()
    link.symlink_to("00.png")
    ingested.run("download")


def test_row_20_a_pipe_in_the_folder_is_refused(ingested):
    os.mkfifo(ingested.photos / "cat/pipe.png")
    message = ingested.refused_as_a_user("download")
    assert message == "photos/cat/pipe.png: a pipe, a device or a link to nothing; remove it"


def test_row_20_a_file_without_the_right_to_read_it_is_named(ingested):
    secret = ingested.photos / "cat/00.png"
    secret.chmod(0)
    if subprocess.run(["cat", secret], preexec_fn=as_anybody, capture_output=True).returncode == 0:
        pytest.skip("here root reads every file, and cannot do without")
    message = ingested.refused_as_a_user("download", as_anybody)
    assert message.startswith("photos/cat/00.png: cannot be read (Permission denied)")


def test_row_20_names_of_any_kind_are_read(ingested):
    names = [
        "a\nb.png",
        "\N{CAT FACE}.png",
        "x" * 251 + ".png",
        "e\u0301.png",
        "q\",'.png",
        "#?&.png",
    ]
    for shade, name in enumerate(names):
        ingested.add(f"dog/{name}", 200 + shade)
    ingested.set(data={"table": None})
    ingested.run("download")
    assert run_as_a_user(ingested, "ingest").returncode == 0
    ingested.run("split")
    sources = {row["source"] for row in ingested.read("labels.parquet")}
    assert {f"dog/{name}" for name in names} < sources


def run_as_a_user(workspace, stage: str) -> subprocess.CompletedProcess[str]:
    (workspace.root / "params.yaml").write_text(json.dumps(workspace.params))
    return subprocess.run(
        [sys.executable, "-m", f"stages.{stage}"],
        cwd=workspace.root,
        env=os.environ | {"PYTHONPATH": str(Path(__file__).resolve().parents[2])},
        capture_output=True,
        text=True,
        check=False,
    )
