"""Importing what annotators said in Label Studio, in both of its JSON exports."""

from __future__ import annotations

import gzip
import json
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING
from xml.etree import ElementTree

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline_lib.datasets.files.forms import Supervision
from pipeline_lib.datasets.files.layout import arrange
from pipeline_lib.datasets.files.supervision import read_supervision
from pipeline_lib.datasets.label_studio import BY, read_export
from pipeline_lib.errors import UserError
from pipeline_lib.labeling.studio import configuration
from tests.as_user import run_app

if TYPE_CHECKING:
    from collections.abc import Sequence


def answer(*names: str, control: str = "animal", kind: str = "choices") -> dict:
    return {
        "id": "abc", "type": kind, "from_name": control, "to_name": "image", "origin": "manual",
        "value": {kind: list(names)},
    }  # fmt: skip


def annotation(*results: dict, by: object = 1, cancelled: bool = False) -> dict:
    return {"id": 5, "completed_by": by, "was_cancelled": cancelled, "result": list(results)}


def task(image: str, *annotations: dict, **data: object) -> dict:
    guess = {"model_version": "v1", "result": [answer("guess")]}
    return {
        "id": 7, "data": {"image": image, **data}, "annotations": list(annotations),
        "predictions": [guess], "project": 3,
    }  # fmt: skip


FULL = [
    task(
        "/data/upload/3/1a2b3c4d-one.jpg",
        annotation(answer("cat"), by={"id": 4, "email": "ann@x.org", "first_name": ""}),
        annotation(answer("dog"), by={"id": 9}),
        annotation(answer("emu"), by=2, cancelled=True),
    ),
    task("/data/upload/3/9f8e7d6c-two.jpg", annotation(answer("cat", "dog"), by=4)),
    task("/data/upload/3/9f8e7d6c-three.jpg", annotation(by=4)),
    task("/data/upload/3/9f8e7d6c-four.jpg"),
]


def imported(tmp_path: Path, content: object, **options):
    path = tmp_path / "export.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return read_export(path, **options)


def test_every_answer_is_a_row_and_an_image_without_one_is_unlabeled(tmp_path: Path):
    read = imported(tmp_path, FULL)
    assert read.as_csv() == (
        "file,annotator,label\n"
        "four.jpg,,\n"
        "one.jpg,annotator_4,cat\n"
        "one.jpg,annotator_9,dog\n"
        "three.jpg,,\n"
        "two.jpg,annotator_4,cat\n"
        "two.jpg,annotator_4,dog\n"
    )
    assert read.summary() == (
        "4 images, 2 of them unlabeled; 2 annotators; 2 classes (cat, dog); "
        "1 skipped or cancelled annotations left out"
    )


def test_the_table_is_one_that_the_pipeline_reads(tmp_path: Path):
    (tmp_path / "labels.csv").write_text(imported(tmp_path, FULL).as_csv())
    places = arrange(["one.jpg", "two.jpg", "three.jpg", "four.jpg"], "photos")
    said = read_supervision(tmp_path / "labels.csv", "labels.csv", places)
    assert said["one.jpg"].annotations == (("annotator_4", "cat"), ("annotator_9", "dog"))
    assert said["four.jpg"] == Supervision(annotations=())


ONE_EACH = [
    task(
        "/data/upload/3/1a2b3c4d-one.jpg",
        annotation(answer("cat"), by=1),
        annotation(answer("cat"), by=2),
    ),
    task("/data/upload/3/9f8e7d6c-two.jpg", annotation(answer("dog"))),
    task("/data/upload/3/9f8e7d6c-three.jpg"),
]


def test_a_table_of_labels_stays_one(tmp_path: Path):
    """As it was, labels without annotator would be refused, and would not be known ones any more."""
    table = tmp_path / "labels.csv"
    table.write_text("file,label\nfour.jpg,cow\none.jpg,\ntwo.jpg,dog\n")
    added = imported(tmp_path, ONE_EACH).added_to(table)
    expected = "file,label\nfour.jpg,cow\none.jpg,cat\nthree.jpg,\ntwo.jpg,dog\n"
    assert added.as_csv() == expected
    assert added.summary().startswith("4 images, 1 of them unlabeled; 2 annotators; 3 classes")
    table.write_text(added.as_csv())
    assert imported(tmp_path, ONE_EACH).added_to(table).as_csv() == expected


def test_a_true_label_is_kept_and_is_not_made_of_an_answer(tmp_path: Path):
    tables = {
        "file,candidates,true_label\nfour.jpg,cow|dog,cow\none.jpg,cat|dog|cow,dog\n": (
            "file,candidates,true_label\nfour.jpg,cow|dog,cow\none.jpg,cat,dog\ntwo.jpg,dog,\n"
        ),
        "true_label,file,label\ncow,four.jpg,dog\ndog,one.jpg,\n": (
            "file,label,true_label\nfour.jpg,dog,cow\none.jpg,cat,dog\nthree.jpg,,\ntwo.jpg,dog,\n"
        ),
        "file,annotator,label,true_label\nfour.jpg,,,cow\none.jpg,eve,dog,\none.jpg,eve,cow,dog\n": (
            "file,annotator,label,true_label\nfour.jpg,,,cow\none.jpg,annotator_1,cat,dog\n"
            "one.jpg,annotator_2,cat,dog\none.jpg,eve,cow,dog\none.jpg,eve,dog,dog\nthree.jpg,,,\n"
            "two.jpg,annotator_1,dog,\n"
        ),
    }
    table = tmp_path / "labels.csv"
    for before, after in tables.items():
        table.write_text(before)
        assert imported(tmp_path, ONE_EACH).added_to(table).as_csv() == after


CONFLICTS = {
    "the table and an answer": (
        "file,label\none.jpg,cat\ntwo.jpg,cat\n",
        ONE_EACH,
        ": two.jpg has two labels, 'cat' in the table and 'dog' in the export; correct one of them, or give "
        "the table a column `annotator`",
    ),
    "two annotators": (
        "file,label\none.jpg,\n",
        FULL,
        ": one.jpg has two labels, 'cat' in the export and 'dog' in the export; correct one",
    ),
    "two rows": (
        "file,label\nsix.jpg,cow\nsix.jpg,hen\n",
        ONE_EACH,
        ": six.jpg has two labels, 'cow' in the table and 'hen' in the table; correct one",
    ),
    "two truths": (
        "file,annotator,label,true_label\nsix.jpg,ann,cow,cow\nsix.jpg,bob,cow,hen\n",
        ONE_EACH,
        ":3: column true_label: 'hen', but 'cow' above, of the same six.jpg; correct one",
    ),
    "nobody": (
        "file,annotator,label\nsix.jpg,,cow\n",
        ONE_EACH,
        ":2: 'cow' has no annotator; name whoever said it",
    ),
    "a column twice": ("file,label,label\n", ONE_EACH, ":1: columns need names, and every one another"),
    "no columns": ("one.jpg,cat\n", ONE_EACH, ": no columns with names; labels are added to a table of"),
    "no file": ("file,label\n,cow\n", ONE_EACH, ":2: no file name; remove the row"),
    "a file of several rows": (
        "file,label\na/one.jpg,\nb/one.jpg,\n",
        ONE_EACH,
        ": one.jpg in the export may be a/one.jpg, b/one.jpg here; write its folder too",
    ),
    "a row of several files": (
        "file,label\none.jpg,\n",
        [task(f"s3://b/{folder}/one.jpg", annotation(answer("cat"))) for folder in "xy"],
        ": one.jpg may be x/one.jpg or y/one.jpg in the export; write its folder too",
    ),
    "other columns": ("file,ann,true_label\n", ONE_EACH, ": columns ann, file, true_label; labels"),
}  # fmt: skip


@pytest.mark.parametrize("conflict", CONFLICTS)
def test_labels_that_contradict_a_table_are_refused(tmp_path: Path, conflict: str):
    before, export, expected = CONFLICTS[conflict]
    table = tmp_path / "labels.csv"
    table.write_text(before)
    with pytest.raises(UserError) as caught:
        imported(tmp_path, export).added_to(table)
    assert str(caught.value).startswith(f"{table}{expected}")
    assert "\n" not in str(caught.value)


def test_answers_that_differ_go_into_a_table_with_annotators(tmp_path: Path):
    table = tmp_path / "labels.csv"
    table.write_text("file,annotator,label\none.jpg,eve,cow\n")
    assert imported(tmp_path, FULL).added_to(table).as_csv() == (
        "file,annotator,label\nfour.jpg,,\none.jpg,annotator_4,cat\none.jpg,annotator_9,dog\n"
        "one.jpg,eve,cow\nthree.jpg,,\ntwo.jpg,annotator_4,cat\ntwo.jpg,annotator_4,dog\n"
    )


def test_an_answer_takes_the_place_of_candidates(tmp_path: Path):
    table = tmp_path / "candidates.csv"
    table.write_text("file,candidates\none.jpg,cat|dog|cow\nfour.jpg,cow|dog\n")
    added = imported(tmp_path, FULL).added_to(table)
    assert added.as_csv() == (
        "file,candidates\nfour.jpg,cow|dog\none.jpg,cat|dog\ntwo.jpg,cat|dog\n"
    )
    assert added.summary().startswith("4 images, 1 of them unlabeled; 2 annotators; 3 classes")
    table.write_text(added.as_csv())
    assert imported(tmp_path, FULL).added_to(table).as_csv() == added.as_csv()
    places = arrange([f"{name}.jpg" for name in ("one", "two", "three", "four")], "photos")
    said = read_supervision(table, "candidates.csv", places)
    assert {file: one.candidates for file, one in said.items()} == {
        "four.jpg": ("cow", "dog"),
        **dict.fromkeys(("one.jpg", "two.jpg"), ("cat", "dog")),
    }


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ("one.jpg,cat,dog", "candidates.csv:3: 3 fields, but the header names 2 columns"),
        ("one.jpg", "candidates.csv:3: 1 fields, but the header names 2 columns"),
        ("one.jpg,", "candidates.csv:3: no candidates; name all classes there"),
    ],
)
def test_rows_of_candidates_that_would_be_lost_are_refused(tmp_path: Path, rows: str, message: str):
    table = tmp_path / "candidates.csv"
    table.write_text(f"file,candidates\nfour.jpg,cow|dog\n{rows}\n")
    with pytest.raises(UserError, match=message):
        imported(tmp_path, FULL).added_to(table)


@pytest.mark.parametrize(
    ("row", "file"),
    [
        ("photos/cat/\u00e9.jpg", "cat/\u00e9.jpg"),  # the folder itself in front
        ("\u00e9.jpg", "cat/\u00e9.jpg"),  # the last part alone
        ("cat/\u00e9.jpg", "photos/cat/\u00e9.jpg"),
        ("cat/e\u0301.jpg", "cat/\u00e9.jpg"),  # of a Mac
        ("cat\\e\u0301.jpg", "cat/\u00e9.jpg"),
    ],
)
def test_a_file_is_found_whatever_folder_is_in_front_and_keeps_the_name_of_the_table(
    tmp_path: Path, row: str, file: str, capsys
):
    """Under another name it would have two rows, which ingest refuses."""
    export = imported(tmp_path, [task(f"s3://b/{file}", annotation(answer("cat"))), task("1.jpg")])
    table = tmp_path / "labels.csv"
    for before, after in {
        f"file,label\n{row},\n": f"file,label\n1.jpg,\n{row},cat\n",
        f"file,candidates\n{row},cat|dog\n": f"file,candidates\n{row},cat\n",
        f"file,annotator,label\n{row},ann,dog\n": (
            f"file,annotator,label\n1.jpg,,\n{row},ann,dog\n{row},annotator_1,cat\n"
        ),
    }.items():
        table.write_text(before)
        assert export.added_to(table).as_csv() == after
        taken = f"{table}: {file} of the export is taken for {row}" in capsys.readouterr().out
        assert taken is (row.count("/") != file.count("/") and "\\" not in row)


def test_a_file_that_is_named_alike_is_meant_before_one_in_another_folder(tmp_path: Path):
    table = tmp_path / "labels.csv"
    table.write_text("file,label\none.jpg,\nx/one.jpg,\n")
    files = ["one.jpg", "y/x/one.jpg"]
    export = [task(f"s3://b/{file}", annotation(answer(file[0]))) for file in files]
    expected = "file,label\none.jpg,o\nx/one.jpg,y\n"
    assert imported(tmp_path, export).added_to(table).as_csv() == expected


def test_an_earlier_table_may_have_any_format_that_the_pipeline_reads(tmp_path: Path):
    expected = "file,candidates\nfour.jpg,cow|dog\none.jpg,cat|dog\ntwo.jpg,cat|dog\n"
    table = tmp_path / "candidates"
    semicolons = b"\xef\xbb\xbf" + b"file;candidates\r\none.jpg;cow\r\nfour.jpg;cow|dog\r\n"
    lines = '{"file": "one.jpg", "candidates": "cow"}\n{"file": "four.jpg", "candidates": ["cow", "dog"]}\n'
    pq.write_table(
        pa.table({"file": ["one.jpg", "four.jpg"], "candidates": [["cow"], ["cow", "dog"]]}), table
    )
    parquet = table.read_bytes()
    as_excel = "\ufeff" + expected.replace(",", ";").replace("\n", "\r\n")
    for content, kept in (
        (semicolons, as_excel),
        (gzip.compress(semicolons), expected),
        (lines.encode(), expected),
        (parquet, expected),
    ):
        table.write_bytes(content)
        assert imported(tmp_path, FULL).added_to(table).as_csv() == kept
    table.write_text(lines + '{"file": "five.jpg", "candidates": null}\n')  # says nothing
    assert imported(tmp_path, FULL).added_to(table).as_csv() == expected
    table.write_text('{"file": "four.jpg", "candidates": ["we|ird"]}\n')
    with pytest.raises(UserError, match=r"a class called 'we\|ird' cannot stand in a set"):
        imported(tmp_path, FULL).added_to(table)


def test_a_class_that_would_be_two_in_a_set_is_refused(tmp_path: Path):
    table = tmp_path / "candidates.csv"
    table.write_text("file,candidates\n")
    odd = [task("/data/upload/3/1a2b3c4d-one.jpg", annotation(answer("we|ird")))]
    with pytest.raises(UserError, match=r"a class called 'we\|ird' cannot stand in a set"):
        imported(tmp_path, odd).added_to(table)
    assert imported(tmp_path, FULL).added_to(table).as_csv().startswith("file,candidates\n")


def test_the_short_export_says_the_same(tmp_path: Path):
    about = {"annotation_id": 5, "created_at": "2026", "updated_at": "2026", "lead_time": 1.5}
    short = [
        {"image": "/data/upload/3/1a2b3c4d-one.jpg", "id": 7, "animal": "cat", "annotator": 4},
        {"image": "/data/upload/3/1a2b3c4d-one.jpg", "id": 7, "animal": "dog", "annotator": 9},
        {"image": "/data/upload/3/9f8e7d6c-two.jpg", "id": 8, "animal": {"choices": ["cat", "dog"]}, "annotator": 4},
        {"image": "/data/upload/3/9f8e7d6c-three.jpg", "id": 9, "annotator": 4},
        {"image": "/data/upload/3/9f8e7d6c-four.jpg", "id": 9, "annotator": 4},
    ]  # fmt: skip
    rows = imported(tmp_path, [row | about for row in short]).rows
    assert rows == imported(tmp_path, FULL).rows
    known = {"image": "a.jpg", "id": 7, "animal": "cat", "annotator": "ann@x.org"}
    assert imported(tmp_path, [known | about]).rows == [("a.jpg", "ann@x.org", "cat")]


@pytest.mark.parametrize("file", ["a b.jpg", "00017"])  # some datasets name no files
def test_in_the_short_export_an_address_is_no_choice(tmp_path: Path, file: str):
    """A task of label-next holds its image; one of another program may name a page beside it."""
    ours = {"image": "data:image/png;base64,iVBORw0K", "file": file, "label": "cat", "annotator": 1}
    assert imported(tmp_path, [ours]).rows == [(file, "annotator_1", "cat")]
    other = {
        "image": "https://x.org/1.jpg",
        "page": "https://x.org/?photo=1",
        "label": "cat",
        "annotator": 1,
    }
    assert imported(tmp_path, [other]).rows == [("1.jpg", "annotator_1", "cat")]


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("/data/upload/3/1a2b3c4d-a%20b.jpg", "a b.jpg"),
        ("/data/upload/3/plain.jpg", "data/upload/3/plain.jpg"),
        ("https://studio.example/data/upload/12/1a2b3c4d-a.jpg", "a.jpg"),
        ("/data/local-files/?d=photos/cat/a%20b.jpg", "photos/cat/a b.jpg"),
        ("/data/local-files/?d=photos/cat/a+b.jpg", "photos/cat/a+b.jpg"),
        ("/storage-data/uploaded/?filepath=upload/12/1a2b3c4d-a.jpg", "a.jpg"),
        ("s3://bucket/photos/cat/1.jpg", "photos/cat/1.jpg"),
        ("gs://bucket/1.jpg", "1.jpg"),
        ("https://host.example:8080/cat/1.jpg?sig=abc", "cat/1.jpg"),
        ("photos/#1?.jpg", "photos/#1?.jpg"),
        ("/photos/1.jpg", "photos/1.jpg"),
    ],
)
def test_the_path_of_an_image_is_found_in_its_address(tmp_path: Path, url: str, expected: str):
    rows = imported(tmp_path, [task(url, annotation(answer("cat")))]).rows
    assert rows == [(expected, "annotator_1", "cat")]


def test_a_prefix_is_left_out_on_request(tmp_path: Path):
    tasks = [task("s3://b/photos/cat/1.jpg", annotation(answer("cat"))), task("s3://b/x/2.jpg")]
    rows = imported(tmp_path, tasks, strip="photos/").rows
    assert [row[0] for row in rows] == ["cat/1.jpg", "x/2.jpg"]


def test_the_image_may_have_another_name_and_data_beside_it(tmp_path: Path):
    one = task("", annotation(answer(" cat ")))
    one["data"] = {"photo": "s3://b/1.jpg", "caption": "a cat", "size": 3}
    assert imported(tmp_path, [one]).rows == [("1.jpg", "annotator_1", "cat")]


def test_of_several_choices_one_is_chosen(tmp_path: Path):
    both = annotation(answer("cat"), answer("blurred", control="quality"), by=None)
    assert imported(tmp_path, [task("1.jpg", both)], control="quality").rows == [
        ("1.jpg", "unknown", "blurred")
    ]


TWO = [task("1.jpg", annotation(answer("cat"), answer("good", control="quality")))]
BAD = {
    "no JSON": ("[{", {}, "no JSON (Expecting property name"),
    "half a character": ('[{"data": "\\ud83d"}]', {}, "no JSON ('utf-8' codec can't encode"),
    "deep": ("[" * 200_000, {}, "no JSON ("),
    "no list": ({"tasks": []}, {}, "no list of tasks (it begins with {'tasks': []})"),
    "empty": ([], {}, "no list of tasks (an empty list)"),
    "no object": ([task("1.jpg"), 7], {}, "task 2: Input should be a valid dictionary"),
    "no data": ([task("1.jpg"), {"annotations": []}], {}, "task 2, data: Field required"),
    "odd result": (
        [{"data": {"image": "1.jpg"}, "annotations": [{"result": 3}]}],
        {},
        "task 1, annotations, 0, result: Input should be a valid list",
    ),
    "a choice that is no list": (
        [task("1.jpg", annotation({**answer(), "value": {"choices": "cat"}}))],
        {},
        "task 1, annotations, 0, result, 0, value, choices: Input should be a valid list",
    ),
    "a choice that is no text": (
        [task("1.jpg", annotation({**answer(), "value": {"choices": [3]}}))],
        {},
        "task 1, annotations, 0, result, 0, value, choices, 0: Input should be a valid string",
    ),
    "another format": (
        [task("/data/upload/3/1a2b3c4d-1.heic", annotation(answer("cat")))],
        {},
        "task 1: no value is the path of an image (image: '/data/upload/3/1a2b3c4d-1.heic'); paths of "
        "images end in .jpg .jpeg",
    ),
    "no image": ([task("https://x.org/page")], {"control": None}, "no answers of type choices"),
    "text": (
        [task("some text", annotation(answer("cat")))],
        {},
        "task 1: no value is the path of an image (image: 'some text')",
    ),
    "two images": (
        [{"data": {"a": "1.jpg", "b": "2.jpg"}, "annotations": [annotation(answer("cat"))]}],
        {},
        "task 1: several values are the path of an image",
    ),
    "boxes": (
        [task("1.jpg", annotation(answer("cat", kind="rectanglelabels")), annotation())],
        {},
        "no answers of type choices (found rectanglelabels)",
    ),
    "boxes of the short export": (
        [{"image": "1.jpg", "annotator": 1, "box": [{"x": 1, "rectanglelabels": ["cat"]}]}],
        {},
        "no answers of type choices (found other)",
    ),
    "tasks": (
        [{"data": {"image": "1.jpg"}, "predictions": [{"result": [answer("cat")]}]}],
        {},
        "no answers of type choices (found none at all)",
    ),
    "several choices": (TWO, {}, "several choices; say which are meant: --control animal | quality"),
    "other choices": (TWO, {"control": "x"}, "no choices named 'x'; say which are meant: --control"),
    "nothing to strip": (TWO, {"control": "animal", "strip": "a/"}, "--strip a/: no path begins"),
    "one name for two": (
        [
            task("/data/upload/3/1a2b3c4d-1.jpg", annotation(answer("cat"))),
            task("/data/upload/3/9f8e7d6c-1.jpg"),
        ],
        {},
        "'/data/upload/3/1a2b3c4d-1.jpg' and '/data/upload/3/9f8e7d6c-1.jpg' would both be '1.jpg'",
    ),
}  # fmt: skip


@pytest.mark.parametrize("mistake", BAD)
def test_a_malformed_export_is_one_line(tmp_path: Path, mistake: str):
    content, options, expected = BAD[mistake]
    with pytest.raises(UserError) as caught:
        imported(tmp_path, content, **options)
    assert str(caught.value).startswith(f"{tmp_path / 'export.json'}: {expected}")
    assert "\n" not in str(caught.value)


def test_the_command_writes_the_table_or_leaves_it_as_it_was(tmp_path: Path):
    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return run_app(tmp_path, "import-labels", *arguments)

    (tmp_path / "export.json").write_text(json.dumps(FULL))
    done = run("export.json", "-o", "labels.csv", "--from", "label-studio")
    assert done.stdout.startswith("labels.csv: 4 images, 2 of them unlabeled"), done.stderr
    written = (tmp_path / "labels.csv").read_text()
    assert written == read_export(tmp_path / "export.json").as_csv()
    for arguments in (["export.json", "--control", "x"], ["none.json"]):
        done = run(*arguments, "-o", "labels.csv")
        assert (done.returncode, done.stderr.count("\n")) == (1, 1), done.stderr
    done = run("export.json", "-o", "export.json")
    assert "is the export itself" in done.stderr
    done = run("export.json", "-o", "labels.xlsx")
    assert done.stderr.strip() == "labels.xlsx: the table is CSV; choose a name that ends in .csv"
    assert (tmp_path / "labels.csv").read_text() == written
    assert sorted(path.name for path in tmp_path.iterdir()) == ["export.json", "labels.csv"]


def test_a_table_with_other_labels_is_not_replaced(tmp_path: Path) -> None:
    """Who forgets --add-to would lose what nobody else has."""
    export, table = tmp_path / "export.json", tmp_path / "labels.csv"
    export.write_text(
        json.dumps([task("/data/upload/1/1a2b3c4d-1.png", annotation(answer("cat")))])
    )
    table.write_text("file,label\n1.png,\n2.png,dog\n")
    with pytest.raises(UserError, match=r"says of 1 files .*2\.png.* give --add-to"):
        read_export(export).refuse_loss(table)
    table.write_text(read_export(export).as_csv())
    read_export(export).refuse_loss(table)


@pytest.mark.parametrize(
    "before",
    [
        "file,label\n2.png,dog\n",
        "file,annotator,label\n1.png,alice,dog\n",
        "file,annotator,label\n1.png,annotator_1,dog\n",
        "file,annotator,label\n1.png,annotator_1,cat\n1.png,annotator_1,dog\n",
        "file,label\n1.png,dog\n",
        "file,label\n1.png,cat\n",
        "file,candidates\n1.png,cat|dog\n",
        "file,label,true_label\n1.png,cat,cat\n",
    ],
    ids=[
        "answered before only",
        "another annotator",
        "corrected by hand",
        "one of two",
        "another label",
        "a known label would be an answer",
        "candidates",
        "truth",
    ],
)
def test_nothing_that_a_table_tells_is_lost(tmp_path: Path, before: str) -> None:
    export, table = tmp_path / "export.json", tmp_path / "labels.csv"
    tasks = [task("1.png", annotation(answer("cat"))), task("2.png")]
    export.write_text(json.dumps(tasks))
    table.write_text(before)
    other = tmp_path / "other.csv"
    other.write_text("file,label\n3.png,cat\n")
    for words in ((), ("--add-to", str(other))):
        done = run_app(tmp_path, "import-labels", str(export), *words, "-o", str(table))
        assert done.returncode == 1, words
        assert f"give --add-to {table} to keep it" in done.stderr
        assert table.read_text() == before


def test_a_link_is_not_replaced(tmp_path: Path) -> None:
    """Others would never see the answers: the table that it leads to would stay as it was."""
    export, table, link = (tmp_path / n for n in ("export.json", "shared.csv", "labels.csv"))
    export.write_text(
        json.dumps([task("/data/upload/1/1a2b3c4d-1.png", annotation(answer("cat")))])
    )
    table.write_text("file,label\n1.png,\n")
    link.symlink_to(table)
    done = run_app(tmp_path, "import-labels", str(export), "--add-to", str(link), "-o", str(link))
    assert done.returncode == 1
    assert f"{link}: is a link; name the file that it leads to, {table}" in done.stderr
    assert link.is_symlink()


def picked(file: str, *annotations: dict, prefix: str | None = None) -> dict:
    """A task of label-next."""
    image = "data:image/png;base64,AAAA" if prefix is None else prefix + file
    return task(image, *annotations, file=file, by=BY)


def added(tmp_path: Path, table: str, *tasks: dict, sources: Sequence[str] = (), **options) -> str:
    (tmp_path / "labels.csv").write_text(table)
    return (
        imported(tmp_path, list(tasks), **options)
        .added_to(tmp_path / "labels.csv", sources)
        .as_csv()
    )


CAT = annotation(answer("cat"))


@pytest.mark.parametrize("known", [False, True])
def test_a_file_of_label_next_is_no_other_one_of_the_same_name(tmp_path: Path, known: bool) -> None:
    """`1.png` is an image without a row, and `2024/1.png` another one; and the other way round."""
    sources = ["1.png", "2.png", "2024/1.png", "3.png"] if known else []
    for two in ("2.png,dog\n", ""):
        table = f"file,label\n{two}2024/1.png,\n"
        assert added(tmp_path, table, picked("1.png", CAT), sources=sources) == (
            f"file,label\n1.png,cat\n{two}2024/1.png,\n"
        )
    table = "file,annotator,label\n1.png,ann,dog\n"
    new = "2024/1.png,annotator_1,cat\n"
    assert added(tmp_path, table, picked("2024/1.png", CAT), sources=sources) == table + new
    assert added(
        tmp_path, table, picked("2024/1.png", CAT), picked("3.png", CAT), sources=sources
    ) == (table + new + "3.png,annotator_1,cat\n")


def test_a_row_is_of_the_image_that_ingest_takes_it_for(tmp_path: Path) -> None:
    sources = ["a/1.png", "b/1.png", "b/2.png"]
    table = "file,label\nphotos/a/1.png,\nphotos/b/1.png,\n"
    assert added(tmp_path, table, picked("a/1.png", CAT), sources=sources) == (
        "file,label\nphotos/a/1.png,cat\nphotos/b/1.png,\n"
    )
    table = "file,label\n2.png,\na/1.png,\n"
    assert added(tmp_path, table, picked("b/2.png", CAT), sources=sources) == (
        "file,label\n2.png,cat\na/1.png,\n"
    )


@pytest.mark.parametrize("prefix", [None, "/data/local-files/?d=mnt/nas/", "s3://bucket/mnt/nas/"])
@pytest.mark.parametrize(
    "file",
    ["2024/new.jpg", "a&b 45.jpg", "100% +247 #2.jpg", "Müller?.jpg", "a%20b.jpg", "x?d=y.jpg"],
)
def test_the_name_that_label_next_gave_is_kept(tmp_path: Path, prefix: str, file: str) -> None:
    one = picked(file, CAT, prefix=prefix)
    assert imported(tmp_path, [one]).rows == [(file, "annotator_1", "cat")]
    short = {"id": 1, **one["data"], "label": "cat", "annotator": 1}
    assert imported(tmp_path, [short]).rows == [(file, "annotator_1", "cat")]


def test_a_column_file_of_the_users_own_is_no_name(tmp_path: Path) -> None:
    tasks = [task(f"s3://b/{folder}/1.png", CAT, file="1.png") for folder in "xy"]
    assert [file for file, _, _ in imported(tmp_path, tasks).rows] == ["x/1.png", "y/1.png"]


def test_true_labels_are_not_lost(tmp_path: Path) -> None:
    sets = tmp_path / "sets.jsonl"
    sets.write_text(
        '{"file":"1.png","candidates":null,"true_label":"cat"}\n'
        '{"file":"2.png","candidates":["cat","dog"],"true_label":"cat"}\n'
    )
    done = imported(tmp_path, [task("2.png", CAT)])
    with pytest.raises(UserError, match="null, which CSV cannot say, beside a true label"):
        done.added_to(sets)
    first, other = tmp_path / "first.csv", tmp_path / "other.csv"
    first.write_text("file,label,true_label\n1.png,,dog\n")
    other.write_text("file,label,true_label\n1.png,,cat\n")
    with pytest.raises(UserError, match=r"says of 1 files .*1\.png"):
        done.added_to(first).refuse_loss(other)
    done.added_to(first).refuse_loss(first)


def test_a_new_answer_takes_the_place_of_the_same_persons_earlier_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = "file,annotator,label\n1.png,annotator_1,dog\n1.png,bob,dog\n2.png,annotator_1,cat\n"
    assert added(tmp_path, table, task("1.png", CAT), task("2.png", CAT)) == (
        "file,annotator,label\n1.png,annotator_1,cat\n1.png,bob,dog\n2.png,annotator_1,cat\n"
    )
    assert "what annotator_1 said of 1.png, 'dog', gives way" in capsys.readouterr().out
    assert added(tmp_path, table, task("1.png"), task("2.png", CAT)) == table


GONE = annotation(answer("dog"), cancelled=True)


def test_an_answer_that_was_taken_back_leaves_the_table(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Skipping what one has never answered changes nothing, nor does it where another answer of the person stands."""
    table = (
        "file,annotator,label\n1.png,annotator_1,dog\n1.png,bob,dog\n2.png,annotator_1,dog\n"
        "3.png,bob,dog\n4.png,annotator_1,dog\n"
    )
    tasks = [task(f"{number}.png", GONE) for number in (1, 2, 3)] + [
        task("4.png", GONE, annotation(answer("dog")))
    ]
    expected = (
        "file,annotator,label\n1.png,bob,dog\n2.png,,\n3.png,bob,dog\n4.png,annotator_1,dog\n"
    )
    assert added(tmp_path, table, *tasks) == expected
    told = "what annotator_1 said of 1.png, 'dog', gives way to what the export says, and 1 more"
    assert told in capsys.readouterr().out
    table = table.replace("annotator_1", "ann")
    skipped = task("3.png", annotation(by=2, cancelled=True))  # of somebody else
    emptied = [task("1.png", annotation()), task("2.png", CAT)]
    assert "dog" not in added(tmp_path, "file,annotator,label\n1.png,annotator_1,dog\n", *emptied)
    expected = expected.replace("annotator_1", "ann")
    assert added(tmp_path, table, *tasks, skipped, annotator="ann") == expected


GOOD = answer("good", control="quality")


@pytest.mark.parametrize(
    "other",
    [
        task("1.png", annotation(GOOD)),
        task("1.png", annotation(answer("cat", kind="rectanglelabels"))),
        {"image": "1.png", "quality": "good", "annotator": 1},
        {"image": "1.png", "box": [{"x": 1, "rectanglelabels": ["cat"]}], "annotator": 1},
        {"image": "1.png", "comment": {"text": ["blurry", "dark"]}, "annotator": 1},
    ],
)
def test_an_answer_to_another_question_takes_nothing_back(tmp_path: Path, other: dict) -> None:
    table = "file,annotator,label\n1.png,annotator_1,dog\n"
    short = "annotations" not in other
    cat = {"image": "2.png", "animal": "cat", "annotator": 1} if short else task("2.png", CAT)
    assert added(tmp_path, table, other, cat, control="animal") == (
        f"{table}2.png,annotator_1,cat\n"
    )


@pytest.mark.parametrize(
    "emptied",
    [
        task("1.png", annotation()),
        task("1.png", annotation(cancelled=True)),
        task("1.png", annotation(answer(" "))),
        {"image": "1.png", "annotator": 1},
    ],
)
@pytest.mark.parametrize("control", [None, "animal"])
def test_an_export_in_which_every_answer_was_taken_back_is_read(
    tmp_path: Path, emptied: dict, control: str | None
) -> None:
    table = "file,annotator,label\n1.png,annotator_1,dog\n"
    assert added(tmp_path, table, emptied, control=control) == "file,annotator,label\n1.png,,\n"


@pytest.mark.parametrize("column", ["label", "candidates"])
def test_a_table_without_annotators_keeps_what_was_taken_back_and_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], column: str
) -> None:
    table = f"file,{column}\n1.png,dog\n2.png,{'cat|dog' if column == 'candidates' else ''}\n"
    tasks = [task("1.png", GONE), task("2.png", GONE), task("3.png", CAT, GONE)]
    assert added(tmp_path, table, *tasks) == f"{table}3.png,cat\n"
    assert "labels.csv: 1 images keep their class, though the export skips them or takes an" in (
        capsys.readouterr().out
    )


def test_a_deleted_image_does_not_come_back(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A row of it would stop `ingest`; another image of the same name is not meant."""
    tasks = [picked("1.png", CAT), picked("a/2.png", CAT), task("3.png", CAT)]
    sources = ["a/1.png", "a/2.png"]
    done = imported(tmp_path, tasks, sources=sources)
    assert [file for file, _, _ in done.rows] == ["3.png", "a/2.png"]
    with pytest.raises(
        UserError, match=r"label-next has named \(1.png, a/2.png\) are not those of data"
    ):
        imported(tmp_path, tasks[:2], sources=["of other data.png"])
    assert len(imported(tmp_path, tasks, sources=["of other data.png"]).rows) == 1
    told = "left out 1 images that are not in data.path any more (1.png)"
    assert told in capsys.readouterr().out
    assert len(imported(tmp_path, tasks).rows) == 3
    done = imported(tmp_path, tasks[1:], sources=sources, strip="a/")
    assert [file for file, _, _ in done.rows] == ["2.png", "3.png"]


def test_accents_are_part_of_letters_in_table_and_export(tmp_path: Path) -> None:
    """A Mac writes them apart: what looks the same is the same class, and the same person."""
    apart, composed = "Ba\u0308r", "B\u00e4r"
    one = task("1.png", annotation(answer(composed), by=composed))
    for table, answers, expected in (
        ("file,label\n1.png,{}\n", one, "file,label\n1.png,{}\n"),
        ("file,annotator,label\n1.png,{0},{0}\n", one, "file,annotator,label\n1.png,{0},{0}\n"),
    ):
        assert added(tmp_path, table.format(apart), answers) == expected.format(composed)
    assert imported(tmp_path, [task("1.png", annotation(answer(apart), by=apart))]).rows == [
        ("1.png", composed, composed)
    ]
    assert imported(tmp_path, [one], annotator=apart).rows[0][1] == composed
    truths = f"file,label,true_label\n1.png,,{apart}\n1.png,,{composed}\n"
    assert added(tmp_path, truths, one).count("1.png") == 1


def test_a_class_may_be_called_like_a_blank(tmp_path: Path) -> None:
    """Where a folder is: label-next offers it."""
    tasks = [task("1.png", annotation(answer("NA")))]
    with pytest.raises(UserError, match="the choice 'NA' is a way to write a blank"):
        imported(tmp_path, tasks)
    assert imported(tmp_path, tasks, classes=["NA", "cat"]).rows == [("1.png", "annotator_1", "NA")]


def test_people_of_two_installations_can_be_told_apart(tmp_path: Path) -> None:
    table = "file,annotator,label\n1.png,annotator_1,cat\n"
    assert added(tmp_path, table, task("1.png", CAT), annotator="bob") == (
        "file,annotator,label\n1.png,annotator_1,cat\n1.png,bob,cat\n"
    )
    two = [task("1.png", CAT, annotation(answer("dog"), by=2))]
    with pytest.raises(UserError, match=r"several people \(annotator_1, annotator_2\)"):
        imported(tmp_path, two, annotator="bob")
    assert imported(tmp_path, [task("1.png", CAT)], annotator=" bob ").rows[0][1] == "bob"
    with pytest.raises(UserError, match="--annotator: is blank"):
        imported(tmp_path, [task("1.png", CAT)], annotator=" ")


def test_choices_that_are_no_class_leave_an_image_without_a_label(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tasks = [task("1.png", annotation(answer("unsure"))), task("2.png", CAT)]
    done = imported(tmp_path, tasks, no_answer=["unsure"])
    assert done.rows == [("1.png", "", ""), ("2.png", "annotator_1", "cat")]
    table = "file,annotator,label\n1.png,annotator_1,unsure\n1.png,bob,dog\n"
    assert added(tmp_path, table, *tasks, no_answer=["unsure", "x"]) == (
        "file,annotator,label\n1.png,bob,dog\n2.png,annotator_1,cat\n"
    )
    said = capsys.readouterr().out
    assert "nobody has chosen x, which --no-answer names" in said
    assert "what annotator_1 said of 1.png, 'unsure', gives way" in said
    blank = [task("1.png", annotation(answer("Unknown")))]
    with pytest.raises(UserError, match="--no-answer Unknown leaves such images"):
        imported(tmp_path, blank)
    assert imported(tmp_path, blank, no_answer=["Unknown"]).rows == [("1.png", "", "")]


def test_a_class_that_xml_cannot_hold_is_named() -> None:
    with pytest.raises(UserError, match=r"class 'a\\x1bb': cannot be a choice of Label Studio"):
        configuration(["a & <b>", "a\x1bb"])
    with pytest.raises(UserError, match=r"class 'a\\ufffe': cannot be a choice"):
        configuration(["a\ufffe"])


def test_names_with_joiners_and_wide_spaces_are_choices() -> None:
    """Of Persian, Japanese and emoji."""
    classes = ["نمی\u200cخ", "桜\u3000花", "\N{WOMAN}\u200d\N{MICROSCOPE}"]
    view = ElementTree.fromstring(configuration(classes))  # noqa: S314 - our own
    assert [choice.attrib["value"] for choice in view.iter("Choice")] == classes


@pytest.mark.parametrize(
    ("start", "between", "ending"),
    [("\ufeff", ";", "\r\n"), ("", "\t", "\n"), ("", ",", "\r\n")],
    ids=["as Excel writes it", "tabs", "DOS"],
)
def test_a_table_that_is_added_to_stays_as_its_program_writes_it(
    tmp_path: Path, start: str, between: str, ending: str
) -> None:
    def table(*rows: tuple[str, str]) -> str:
        return start + "".join(between.join(row) + ending for row in (("file", "label"), *rows))

    path = tmp_path / "labels.csv"
    path.write_bytes(table(("nine.jpg", "Bär"), ("one.jpg", "")).encode())
    expected = table(("nine.jpg", "Bär"), ("one.jpg", "cat"), ("three.jpg", ""), ("two.jpg", "dog"))
    assert imported(tmp_path, ONE_EACH).added_to(path).as_csv() == expected


def test_what_is_added_to_a_table_in_json_lines_is_written_as_usual(tmp_path: Path) -> None:
    path = tmp_path / "labels.jsonl"
    path.write_text('{"file": "nine.jpg", "label": "Bär"}\n')
    written = imported(tmp_path, ONE_EACH).added_to(path).as_csv()
    assert written.startswith("file,label\nnine.jpg,Bär\none.jpg,cat\n")
