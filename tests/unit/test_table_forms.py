"""What a table of labels says, in each of its forms and formats."""

from __future__ import annotations

import gzip
import json
import unicodedata
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline_lib.datasets.files.forms import Supervision
from pipeline_lib.datasets.files.layout import Place, arrange
from pipeline_lib.datasets.files.supervision import read_supervision
from pipeline_lib.errors import UserError

FILES = ["cat/1.png", "cat/2.png", "dog/3.png", "dog/4.png", "emu/5.png"]
UNLABELED = Supervision()


def said(
    tmp_path: Path,
    text: str | bytes,
    shown: str = "labels.csv",
    files: list[str] = FILES,
    folder: str = "",
) -> dict[str, Supervision]:
    path = tmp_path / "table"  # as in the snapshot, where its name is gone
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return read_supervision(path, shown, arrange(files, "photos"), folder)


def candidates(*names: str) -> Supervision:
    return Supervision(candidates=names)


def annotations(*pairs: tuple[str, str]) -> Supervision:
    return Supervision(annotations=pairs)


def lines(*rows: dict) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


LABELS = {"cat/1.png": Supervision("cat"), "dog/3.png": UNLABELED, "emu/5.png": Supervision("dog")}
SETS = {"cat/1.png": candidates("dog", "cat"), "dog/3.png": candidates("dog")}
VOTES = {
    "cat/1.png": annotations(("ann", "cat"), ("bob", "dog")),
    "dog/3.png": annotations(("bob", "dog")),
    "dog/4.png": annotations(),
}
TRUE_SETS = {
    "cat/1.png": Supervision(candidates=("dog", "cat"), true_label="cat"),
    "dog/3.png": candidates("cat"),
}
TRUE_LABELS = {
    "cat/1.png": Supervision("dog", true_label="cat"),
    "cat/2.png": Supervision("cat", true_label="cat"),
    "dog/3.png": candidates("cat"),
    "dog/4.png": Supervision(true_label="dog"),
    "emu/5.png": UNLABELED,
}
TRUE_VOTES = {
    "cat/1.png": Supervision(annotations=(("ann", "cat"), ("bob", "dog")), true_label="cat"),
    "dog/3.png": annotations(("bob", "dog")),
    "dog/4.png": Supervision(annotations=(), true_label="dog"),
}
FORMS = {
    "candidates and truth": (
        "file,true_label,candidates\ncat/1.png,cat,dog|cat\ndog/3.png,,cat\n",
        TRUE_SETS,
    ),
    "candidates and truth, JSON": (
        lines(
            {"file": "dog/3.png", "candidates": "cat"},
            {"file": "cat/1.png", "candidates": ["dog", "cat"], "true_label": "cat"},
        ),
        TRUE_SETS,
    ),
    "label and truth: a label counts as the truth only where the truth is told": (
        "file,label,true_label\ncat/1.png,dog,cat\ncat/2.png,cat,cat\ndog/3.png,cat,\ndog/4.png,,dog\n"
        "emu/5.png,,\n",
        TRUE_LABELS,
    ),
    "annotators and truth": (
        "true_label,file,bob,ann\ncat,cat/1.png,dog,cat\n,dog/3.png,dog,\ndog,dog/4.png,,\n",
        TRUE_VOTES,
    ),
    "long and truth, which one row may tell": (
        "file,annotator,label,true_label\ncat/1.png,bob,dog,\ncat/1.png,ann,cat,cat\ndog/3.png,bob,dog,\n"
        "dog/4.png,,,dog\ncat/1.png,ann,cat,cat\n",
        TRUE_VOTES,
    ),
    "label": ("file,label\ncat/1.png,cat\ndog/3.png,\nemu/5.png,dog\n", LABELS),
    "label, other order": ("label,file\ncat,cat/1.png\n,dog/3.png\ndog,emu/5.png\n", LABELS),
    "label, JSON": (
        lines({"file": "cat/1.png", "label": "cat"}, {"file": "dog/3.png"})
        + "\n"
        + lines({"label": "dog", "file": "emu/5.png"}),
        LABELS,
    ),
    "candidates": ("file,candidates\ncat/1.png,dog|cat|dog\ndog/3.png,dog\n", SETS),
    "candidates, JSON": (
        lines(
            {"file": "cat/1.png", "candidates": ["dog", "cat"]},
            {"file": "dog/3.png", "candidates": "dog"},
        ),
        SETS,
    ),
    "null candidates": (
        lines({"file": "cat/1.png", "candidates": ["cat"]}, {"file": "cat/2.png"}),
        {"cat/1.png": candidates("cat"), "cat/2.png": UNLABELED},
    ),
    "annotators": ("file,ann,bob\ncat/1.png,cat,dog\ndog/3.png,,dog\ndog/4.png,,\n", VOTES),
    "annotators, other order": (
        "bob,file,ann\ndog,cat/1.png,cat\ndog,dog/3.png,\n,dog/4.png,\n",
        VOTES,
    ),
    "annotators, JSON": (
        lines(
            {"file": "cat/1.png", "ann": "cat", "bob": "dog"},
            {"file": "dog/3.png", "bob": "dog"},
            {"file": "dog/4.png"},
        ),
        VOTES,
    ),
    "long": (
        "file,annotator,label\ndog/3.png,bob,dog\ncat/1.png,bob,dog\ncat/1.png,ann,cat\ndog/4.png,,\n"
        "cat/1.png,bob,dog\ndog/3.png,ann,\n",
        VOTES,
    ),
    "long, other order": (
        "label,annotator,file\ncat,ann,cat/1.png\ndog,bob,cat/1.png\ndog,bob,dog/3.png\n,,dog/4.png\n",
        VOTES,
    ),
    "long, JSON": (
        lines(
            {"file": "cat/1.png", "annotator": "ann", "label": "cat"},
            {"file": "cat/1.png", "annotator": "bob", "label": "dog"},
            {"file": "dog/3.png", "annotator": "bob", "label": "dog"},
            {"file": "dog/4.png"},
        ),
        VOTES,
    ),
    "an annotator who names two": (
        "file,annotator,label\ncat/1.png,ann,dog\ncat/1.png,ann,cat\n",
        {"cat/1.png": annotations(("ann", "cat"), ("ann", "dog"))},
    ),
    "rows of a file and classes": (
        "cat/1.png,cat,dog\ncat/2.png\ndog/3.png,dog\ndog/4.png,dog,,dog\n",
        {
            "cat/1.png": candidates("cat", "dog"),
            "cat/2.png": UNLABELED,
            "dog/3.png": Supervision("dog"),
            "dog/4.png": Supervision("dog"),
        },
    ),
    "rows whose first says nothing": (
        "cat/2.png\ndog/3.png,dog\n",
        {"cat/2.png": UNLABELED, "dog/3.png": Supervision("dog")},
    ),
    "names without folders": (
        "file,label\n1.png,cat\n./dog/4.png,dog\nemu\\5.png,emu\n",
        {
            "cat/1.png": Supervision("cat"),
            "dog/4.png": Supervision("dog"),
            "emu/5.png": Supervision("emu"),
        },
    ),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    "dialect", ["plain", "gzip", "windows", "semicolons", "tabs", "blank rows"]
)
def test_each_form_says_what_it_says(tmp_path: Path, form: str, dialect: str):
    text, expected = FORMS[form]
    content = text.encode()
    if dialect == "windows":
        content = b"\xef\xbb\xbf" + content.replace(b"\n", b"\r\n")
    if not text.startswith("{"):
        if dialect in {"semicolons", "tabs"}:
            content = content.replace(b",", b";" if dialect == "semicolons" else b"\t")
        if dialect == "blank rows":
            content += b",,\n,,\n"
    assert said(tmp_path, gzip.compress(content) if dialect == "gzip" else content) == expected


PARQUET = {
    "truth": (
        {
            "true_label": ["cat", None, "emu"],
            "label": ["dog", None, ""],
        },
        {
            "cat/1.png": Supervision("dog", true_label="cat"),
            "dog/3.png": UNLABELED,
            "emu/5.png": Supervision(true_label="emu"),
        },
    ),
    "label": ({"label": ["cat", None, "dog"]}, LABELS),
    "blank label": ({"label": ["cat", "", "dog"]}, LABELS),
    "index of pandas": ({"label": ["cat", None, "dog"], "__index_level_0__": [4, 5, 6]}, LABELS),
}


@pytest.mark.parametrize("case", PARQUET)
def test_parquet_says_the_same(tmp_path: Path, case: str):
    columns, expected = PARQUET[case]
    table = pa.table({"file": list(LABELS)} | columns)
    pq.write_table(table, tmp_path / "x")
    assert said(tmp_path, (tmp_path / "x").read_bytes()) == expected


def test_a_long_form_in_parquet_runs_over_batches(tmp_path: Path):
    files = ["cat/1.png"] * 9000 + ["dog/3.png"]
    who = [f"a{number}" for number in range(9000)] + ["bob"]
    pq.write_table(
        pa.table({"file": files, "annotator": who, "label": ["cat"] * 9001}), tmp_path / "x"
    )
    read = said(tmp_path, (tmp_path / "x").read_bytes())
    assert len(read["cat/1.png"].annotations or ()) == 9000
    assert read["dog/3.png"] == annotations(("bob", "cat"))


@pytest.mark.parametrize("shown", ["few.txt", "few.csv"])
def test_a_list_of_names_leaves_the_other_training_images_unlabeled(tmp_path: Path, shown: str):
    files = [f"train/{name}" for name in FILES] + ["val/cat/6.png", "test/dog/7.png"]
    read = said(tmp_path, "1.png\ntrain/dog/3.png\n7.png\n", shown, files)
    assert set(read) == {"train/cat/2.png", "train/dog/4.png", "train/emu/5.png"}
    assert set(read.values()) == {UNLABELED}


def test_a_list_of_names_takes_commas_and_quotes_as_they_are(tmp_path: Path):
    files = ['cat/a, "b".png', "cat/2.png", "dog/3.png"]
    assert set(said(tmp_path, 'a, "b".png\n\n', "few.txt", files)) == {"cat/2.png", "dog/3.png"}


def test_a_list_of_names_in_no_class_folder_gives_no_label(tmp_path: Path):
    with pytest.raises(UserError, match=r"few\.txt:2: 2\.png lies in no class folder"):
        said(tmp_path, "1.png\n2.png\n", "few.txt", ["cat/1.png", "2.png", "dog/3.png"])


def test_a_list_of_nothing_is_refused(tmp_path: Path):
    with pytest.raises(UserError, match=r"few\.txt: no rows"):
        said(tmp_path, "\n", "few.txt")


def test_the_first_row_may_write_its_file_in_any_way(tmp_path: Path):
    for file in ("1.png", "./cat/1.png", "cat\\1.png", ".\\cat\\1.png"):
        assert said(tmp_path, f"{file},dog\n") == {"cat/1.png": Supervision("dog")}


def test_a_list_of_names_may_have_columns_between_tabs(tmp_path: Path):
    read = said(tmp_path, "file\tlabel\n1.png\tdog\n", "labels.txt")
    assert read == {"cat/1.png": Supervision("dog")}


def test_quotes_around_every_field_do_not_hide_the_semicolons(tmp_path: Path):
    read = said(tmp_path, '"file";"label"\n"1.png";"dog"\n')
    assert read == {"cat/1.png": Supervision("dog")}


@pytest.mark.parametrize("on_disk", ["NFC", "NFD"])
@pytest.mark.parametrize("in_table", ["NFC", "NFD"])
def test_an_accent_is_the_same_however_it_is_written(tmp_path: Path, on_disk: str, in_table: str):
    """A Mac writes the names of files with the accent apart from its letter."""
    files = [unicodedata.normalize(on_disk, f"chaton/{name}.png") for name in ("\u00e9", "e")]
    files.append(unicodedata.normalize(on_disk, "ch\u00e2t/1.png"))
    text = unicodedata.normalize(in_table, "file,candidates\nchaton/\u00e9.png,ch\u00e2t|chaton\n")
    assert said(tmp_path, text, files=files) == {files[0]: candidates("ch\u00e2t", "chaton")}
    flat = unicodedata.normalize(in_table, "file,label\n\u00e9.png,ch\u00e2t\n")
    assert said(tmp_path, flat, files=files) == {files[0]: Supervision("ch\u00e2t")}


def test_two_files_that_differ_in_their_accent_only_stay_two(tmp_path: Path):
    files = ["cat/\u00e9.png", "cat/e\u0301.png", "dog/1.png"]
    text = "file,label\ncat/\u00e9.png,cat\ncat/e\u0301.png,dog\n"
    read = said(tmp_path, text, files=files)
    assert read == {files[0]: Supervision("cat"), files[1]: Supervision("dog")}
    with pytest.raises(UserError, match="is the name of several images"):
        said(tmp_path, "file,label\ne\u0301.png,cat\n", files=files)


def test_a_path_is_found_before_a_name_without_folder(tmp_path: Path):
    read = said(tmp_path, "file,label\n1.png,dog\n", files=["1.png", "cat/1.png", "dog/2.png"])
    assert read == {"1.png": Supervision("dog")}


def test_the_enclosing_folder_may_be_written_or_left_out(tmp_path: Path):
    files = [f"photos/{name}" for name in FILES]
    text = "file,label\nphotos/cat/1.png,cat\ncat/2.png,cat\n"
    assert set(said(tmp_path, text, files=files)) == {"cat/1.png", "cat/2.png"}


@pytest.mark.parametrize(
    "cell", ["photos/cat/1.png", ".\\photos\\cat\\1.png", "cat/1.png", "./cat/1.png"]
)
def test_the_name_of_the_folder_itself_may_be_written_or_left_out(tmp_path: Path, cell: str):
    read = said(tmp_path, f"file,label\n{cell},dog\n", folder="photos")
    assert read == {"cat/1.png": Supervision("dog")}


def test_the_same_image_is_found_by_both_names(tmp_path: Path):
    with pytest.raises(UserError, match=r"labels\.csv:3: cat/1\.png is named on labels\.csv:2"):
        said(tmp_path, "file,label\ncat/1.png,cat\nphotos/cat/1.png,cat\n", folder="photos")


@pytest.mark.parametrize("enclosed", ["", "photos/"])
def test_a_folder_within_a_folder_of_its_name_is_not_mistaken_for_it(tmp_path: Path, enclosed: str):
    inner = ["photos/1.png", "photos/2.png", "cat/1.png", "1.png"]
    files = [enclosed + name for name in inner]
    told = r"'photos/1\.png' is the name of several images \(photos/1\.png, 1\.png\)"
    with pytest.raises(UserError, match=told):
        said(tmp_path, "file,label\nphotos/1.png,cat\n", files=files, folder="photos")
    for cell, source in {
        "photos/photos/1.png": "photos/1.png",
        "photos/2.png": "photos/2.png",
        "photos/cat/1.png": "cat/1.png",
        "1.png": "1.png",
    }.items():
        read = said(tmp_path, f"file,label\n{cell},cat\n", files=files, folder="photos")
        assert read == {source: Supervision("cat")}


def test_another_folder_in_front_is_refused(tmp_path: Path):
    with pytest.raises(UserError, match=r"'pictures/cat/1\.png' is not one of the images"):
        said(tmp_path, "file,label\npictures/cat/1.png,cat\n", folder="photos")


@pytest.mark.parametrize(
    ("file", "uploaded"),
    [
        ("Probe 101.jpg", "Probe_101.jpg"),
        ("b/Probe (3), rot.jpg", "Probe_3_rot.jpg"),
        ("Pr\u00e4parat 1.jpg", "Pr\u00e4parat_1.jpg"),
        ("Pra\u0308parat 1.jpg", "Praparat_1.jpg"),  # of a Mac: the accent is no letter
    ],
)
def test_a_name_that_label_studio_has_changed_is_recognized(
    tmp_path: Path, file: str, uploaded: str
):
    files = [file, "b/other.jpg", "b/another one.jpg"]
    with pytest.raises(UserError) as caught:
        said(tmp_path, f"file,label\n{uploaded},cat\n", files=files)
    assert str(caught.value) == (
        f"labels.csv:2: {uploaded!r} is not one of the images in data.path; is {file.split('/')[-1]!r} meant? "
        f"Label Studio renames files (spaces become _); correct the name"
    )
    with pytest.raises(UserError, match="names are like"):  # which of both, nobody knows
        said(
            tmp_path, f"file,label\n{uploaded},cat\n", files=[*files, file.replace(".jpg", "?.jpg")]
        )


def test_the_table_introduces_classes_where_no_folder_does(tmp_path: Path):
    read = said(tmp_path, "file,candidates\na.png,x|y\n", files=["a.png", "b.png"])
    assert read == {"a.png": candidates("x", "y")}


def test_equal_rows_are_one_object(tmp_path: Path):
    """A million rows would otherwise take a million of them."""
    read = said(tmp_path, "file,ann\ncat/1.png,cat\ncat/2.png,cat\n")
    assert read["cat/1.png"] is read["cat/2.png"]
    read = said(tmp_path, "file,annotator,label\ncat/1.png,ann,cat\ncat/2.png,ann,cat\n")
    assert read["cat/1.png"] is read["cat/2.png"]
    read = said(tmp_path, "file,ann,true_label\ncat/1.png,cat,cat\ncat/2.png,cat,cat\n")
    assert read["cat/1.png"] is read["cat/2.png"]


def test_a_place_knows_its_name_in_the_archive_and_its_own():
    assert arrange(["photos/cat/1.png", "photos/dog/2.png"], "photos")[0] == Place(
        "photos/cat/1.png", "cat/1.png", None, "cat"
    )
