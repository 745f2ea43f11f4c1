"""Rows 9 to 12 and 19 of the faults: what can be wrong in a table of labels."""

from __future__ import annotations

import gzip
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

CATS = "cat/00.png"

# Text of the table -> what the message must say, from its beginning.
BAD = {
    "ragged row": ("file,label\ncat/00.png,cat,dog\n", "labels.csv:2: 3 fields, but the header names 2 columns"),
    "short row": ("file,label\ncat/00.png\n", "labels.csv:2: 1 fields, but the header names 2 columns"),
    "latin-1": (b"file,label\ncat/00.png,cat\ncat/01.png,\xe9t\xe9\n", "labels.csv:3: not UTF-8 (byte 0xe9)"),
    "no header": ("00,cat\n01,cat\n", "labels.csv:1: no column `file` (found '00', 'cat'); begin with a line like file,label"),
    "unknown file in the first row": ("00.jpg,cat\n01.jpg,cat\n", "labels.csv:1: '00.jpg' is not one of the images in data.path"),
    "semicolons and a ragged row": ("file;label\ncat/00.png;cat;dog\n", "labels.csv:2: 3 fields, but the header names 2 columns; put quotes (\") around a field that holds a semicolon"),
    "another truth than the folder's": ("file,candidates,true_label\ncat/00.png,cat|dog,cat\ncat/01.png,cat|dog,dog\n", "labels.csv:3: column true_label: 'dog', but cat/01.png lies in the folder of 'cat'; correct one of them, or leave the cell blank"),
    "a truth that is no class": ("file,ann,true_label\ncat/00.png,cat,caat\n", "labels.csv:2: 'caat' is not one of the classes cat, dog; did you mean 'cat'?"),
    "two truths": ("file,annotator,label,true_label\nstray.png,ann,cat,cat\nstray.png,ann,dog,\nstray.png,bob,cat,dog\n", "labels.csv:4: column true_label: 'dog', but 'cat' on labels.csv:2, of the same stray.png; correct one of them"),
    "only the truth": ("file,true_label\ncat/00.png,cat\n", "labels.csv: only columns `file` and `true_label`; add `label`, `candidates`, or one column per annotator"),
    "truth under another name": ("file,candidates,Ground Truth\ncat/00.png,cat,cat\n", "labels.csv:1: column Ground Truth: is `true_label` meant? rename it, or remove it"),
    "nearly the truth": ("file,candidates,true_lable\ncat/00.png,cat,cat\n", "labels.csv:1: column true_lable: is `true_label` meant? rename it, or remove it"),
    "nearly the truth beside annotators": ("file,ann,bob,True_labels\ncat/00.png,cat,dog,cat\n", "labels.csv:1: column True_labels: is `true_label` meant?"),
    "nearly an annotator": ("file,annotater,label\ncat/00.png,ann,cat\n", "labels.csv:1: column annotater: is `annotator` meant? rename it, or remove it"),
    "truth beside annotators, under another name": ("file,ann,bob,gold\ncat/00.png,cat,dog,cat\n", "labels.csv:1: column gold: is `true_label` meant? rename it, or remove it"),
    "a blank of a program": ("file,label\ncat/00.png,cat\ncat/01.png,NaN\n", "labels.csv:3: 'NaN' is a way to write a blank; leave the cell of an unlabeled image blank"),
    "numbers beside annotators": ("ID,file,ann,bob\n7,cat/00.png,cat,dog\n", "labels.csv:1: column ID: would be taken for an annotator; remove it"),
    "splits": ("file,split\ncat/00.png,train\n", "labels.csv:1: column split: would be taken for an annotator; remove it, and put the files into folders train and test: these tell what is for testing"),
    "splits beside labels": ("file,label,split\ncat/00.png,cat,train\n", "labels.csv: `label` stands alone beside `file`; remove the columns split, and put the files into folders train and test"),
    "groups": ("file,ann,bob,Camera,true_label\ncat/00.png,cat,dog,c1,cat\n", "labels.csv:1: column Camera: would be taken for an annotator; remove it, and write groups into the paths of the files, where split.group_by finds them"),
    "groups beside labels": ("file,label,patient_id\ncat/00.png,cat,7\n", "labels.csv: `label` stands alone beside `file`; remove the columns patient_id, and write groups into the paths of the files, where split.group_by finds them"),
    "splits and groups beside labels": ("file,label,split,site\ncat/00.png,cat,train,a\n", "labels.csv: `label` stands alone beside `file`; remove the columns split, site, and put the files into folders train and test: these tell what is for testing, and write groups into the paths of the files, where split.group_by finds them"),
    "probabilities": ("file,cat,dog,true_label\ncat/00.png,0.75,.25,cat\ncat/01.png,,,\n", "labels.csv: the columns cat, dog hold probabilities, which are not read; write the names of the classes in a column `label` or `candidates`"),
    "a column per class": ("file,cat,dog,eel\ncat/00.png,1,0,0\ncat/01.png,,,\ndog/00.png,0,1,0\n", "labels.csv: the columns cat, dog, eel hold a 1 or a 0 for each class, which are not read"),
    "a column per class, with several 1s": ("file,cat,dog\ncat/00.png,1,1\ndog/00.png,0,1\n", "labels.csv: the columns cat, dog hold a 1 or a 0 for each class, which are not read; write the names of the classes in a column `label` or `candidates`, cat|dog"),
    "a column per class, under other names": ("file,is_cat,is_dog,is_eel\ncat/00.png,1,1,0\ndog/00.png,0,1,1\n", "labels.csv: the columns is_cat, is_dog, is_eel hold a 1 or a 0 for each class"),
    "a column per class, as pandas writes what is so": ("file,cat,dog\ncat/00.png,True,True\ndog/00.png,False,True\n", "labels.csv: the columns cat, dog hold a 1 or a 0 for each class"),
    "a line for Excel": ("sep=;\nfile;label\ncat/00.png;cat\n", "labels.csv:1: 'sep=;' is for Excel alone; remove the line"),
    "another line for Excel": ("\ufeffSEP=,\r\nfile,label\r\n", "labels.csv:1: 'SEP=' is for Excel alone; remove the line"),
    "votes for each class": ("file,cat,dog,eel\ncat/00.png,5,1,0\ndog/00.png,0,6,0\n", "labels.csv: the columns cat, dog, eel hold votes or marks for each class, which are not read; write the names of the classes in a column `label` or `candidates`, cat|dog (of annotators: in rows of file, annotator, label, or call the columns otherwise, as annotator_cat)"),
    "a mark for each class": ("file,cat,dog\ncat/00.png,x,\ndog/00.png,x,x\n", "labels.csv: the columns cat, dog hold votes or marks for each class"),
    "nothing": ("", "labels.csv:1: no column `file` (it is empty)"),
    "no rows": ("file,label\n", "labels.csv: no rows"),
    "only files": ("file\ncat/00.png\n", "labels.csv: only a column `file`"),
    "twice the same column": ("file,ann,ann\ncat/00.png,cat,cat\n", "labels.csv:1: columns need names"),
    "label and more": ("file,label,ann\ncat/00.png,cat,cat\n", "labels.csv: `label` stands alone beside `file`; remove the columns ann"),
    "open quote": ('file,label\n"cat/00.png,cat\n', "labels.csv:2: unexpected end of data"),
    "absolute path": ("file,label\n/etc/passwd,cat\n", "labels.csv:2: '/etc/passwd': name files by their path inside data.path"),
    "drive": ("file,label\nC:\\a.png,cat\n", "labels.csv:2: 'C:\\\\a.png': name files by their path"),
    "path upwards": ("file,label\n../cat/00.png,cat\n", "labels.csv:2: '../cat/00.png': name files by their path"),
    "unknown file": ("file,label\ncat/99.png,cat\n", "labels.csv:2: 'cat/99.png' is not one of the images in data.path; names are like"),
    "unknown files": ("file,label\ncat/00.png,cat\ncat/97.png,cat\ncat/98.png,cat\ncat/01.png,cat\ncat/99.png,\n", "labels.csv:3: 'cat/97.png' is not one of the images in data.path; names are like cat/00.png (2 more of the rows below name no image)"),
    "file elsewhere": ("file,label\nlion/00.png,cat\n", "labels.csv:2: 'lion/00.png' is not one of the images in data.path; did you mean cat/00.png?"),
    "no file": ("file,label\n,cat\n", "labels.csv:2: no file name"),
    "file twice": ("file,label\ncat/00.png,cat\n\ncat/01.png,cat\n./cat/00.png,cat\n", "labels.csv:5: cat/00.png is named on labels.csv:2 already"),
    "unknown class": ("file,label\ncat/00.png,caat\n", "labels.csv:2: 'caat' is not one of the classes cat, dog; did you mean 'cat'?"),
    "class number": ("file,label\ncat/00.png,7\n", "labels.csv:2: '7' is not one of the classes cat, dog; the class folders are all the classes"),
    "negative number": ("file,label\ncat/00.png,-1\n", "labels.csv:2: '-1' is a way to write a blank"),
    "fraction": ("file,label\ncat/00.png,0.5\n", "labels.csv:2: '0.5' is not one of the classes cat, dog"),
    "space before": ("file,label\ncat/00.png, cat\n", "labels.csv:2: column label: ' cat' begins or ends with a space"),
    "space after": ("file,label\ncat/00.png,cat \n", "labels.csv:2: column label: 'cat ' begins or ends with a space"),
    "space in the header": ("file, label\ncat/00.png,cat\n", "labels.csv:1: ' label' begins or ends with a space"),
    "unknown candidate": ("file,candidates\ncat/00.png,cat|dgo\n", "labels.csv:2: 'dgo' is not one of the classes cat, dog; did you mean 'dog'?"),
    "semicolons between candidates": ("file,candidates\ncat/00.png,cat;dog\n", "labels.csv:2: 'cat;dog' is not one of the classes cat, dog"),
    "spaces between candidates": ("file,candidates\ncat/00.png,cat | dog\n", "labels.csv:2: column candidates: 'cat | dog': write class names with | between"),
    "a list as pandas writes it": ("file,candidates\ncat/00.png,\"['cat', 'dog']\"\n", "labels.csv:2: column candidates: \"['cat', 'dog']\": write class names with | between, not as a list"),
    "hole between candidates": ("file,candidates\ncat/00.png,cat||dog\n", "labels.csv:2: column candidates: 'cat||dog'"),
    "nearly a label": ("file,lable\ncat/00.png,cat\n", "labels.csv:1: column lable: is `label` meant? rename it"),
    "nearly candidates": ("file,candidate\ncat/00.png,cat|dog\n", "labels.csv:1: column candidate: is `candidates` meant? rename it"),
    "capital letters": ("file,Label,ann\ncat/00.png,cat,dog\n", "labels.csv:1: column Label: is `label` meant? rename it"),
    "nearly the long form": ("file,annotator,lable\ncat/00.png,ann,cat\n", "labels.csv:1: column annotator: is file, annotator, label meant?"),
    "long form and more": ("file,annotator,label,time\ncat/00.png,ann,cat,3\n", "labels.csv: `label` stands alone beside `file` and `annotator`; remove the columns time"),
    "nobody said it": ("file,annotator,label\ncat/00.png,,cat\n", "labels.csv:2: 'cat' has no annotator"),
    "nearly a file": ("filename,label\ncat/00.png,cat\n", "labels.csv:1: no column `file` (found 'filename', 'label'); rename 'filename'"),
    "name of two files": ("file,label\n00.png,cat\n", "labels.csv:2: '00.png' is the name of several images (cat/00.png, dog/00.png); write its folder too"),
    "unknown class in a row": ("cat/00.png,cat,dog\ncat/01.png,cat,wolf\n", "labels.csv:2: 'wolf' is not one of the classes cat, dog"),
    "row of nothing": ("cat/00.png,cat\ncat/98.png\n", "labels.csv:2: 'cat/98.png' is not one of the images"),
    "list of unknown names": ("cat/00.png\ncat/98.png\n", "labels.csv:2: 'cat/98.png' is not one of the images"),
    "Excel": (b"PK\x03\x04\x14\x00", "labels.csv: not a table of labels but an Excel workbook or a zip archive; save the sheet as CSV"),
    "old Excel": (b"\xd0\xcf\x11\xe0\xa1\xb1", "labels.csv: not a table of labels but an old Excel workbook"),
    "SQLite": (b"SQLite format 3\x00", "labels.csv: not a table of labels but an SQLite database"),
    "JSON array": ('\n [{"file": "cat/00.png"}]', "labels.csv: not a table of labels but a JSON array; write one object a line"),
    "UTF-16": ("file,label\n".encode("utf-16"), "labels.csv: not a table of labels but text in UTF-16; save it as UTF-8"),
    "web page": ("<!doctype html>", "labels.csv: not a table of labels but a web page"),
    "endless line": ("file,label\n" + "x" * 2_000_000, "labels.csv:2: a line of more than 1048576 bytes"),
    "unknown annotation": ("file,a,b\ncat/00.png,cat,wolf\n", "labels.csv:2: 'wolf' is not one of the classes cat, dog"),
}  # fmt: skip


@pytest.mark.parametrize("mistake", BAD)
def test_a_mistake_in_a_table_is_one_line_with_its_place(workspace, mistake: str):
    text, expected = BAD[mistake]
    workspace.two_classes(3)
    workspace.add("stray.png", 50)
    workspace.table(text)
    message = workspace.refused("ingest", "download")
    assert message.startswith(expected)
    assert "\n" not in message


# Line of JSON -> what the message must say, from its beginning.
BAD_LINES = {
    "no JSON": ("{file: 1}", "no JSON (Expecting property name enclosed in double quotes); write each line like"),
    "cut off": ('{"file": "cat/00.png"', "no JSON (Expecting ',' delimiter)"),
    "no object": ("7", "7 is no object; write each line like"),
    "no file": ('{"label": "cat"}', "no key `file`; write each line like"),
    "null as file": ('{"file": null, "label": "cat"}', "no file name"),
    "number as file": ('{"file": 3, "label": "cat"}', "'3' is not one of the images in data.path"),
    "key twice": ('{"file": "cat/01.png", "label": "cat", "label": "dog"}', "no JSON (the key 'label' stands there twice)"),
    "not a number": ('{"file": "cat/01.png", "label": NaN}', "no JSON (NaN is no number)"),
    "fraction": ('{"file": "cat/01.png", "label": 0.5}', "label: 0.5; use text (or a list of texts for candidates)"),
    "truth value": ('{"file": "cat/01.png", "label": true}', "label: True; use text"),
    "object within": ('{"file": "cat/01.png", "label": {"choice": "cat"}}', "label: {'choice': 'cat'}; use text"),
    "list within a list": ('{"file": "cat/01.png", "label": [["cat"]]}', "label: [['cat']]; use text"),
    "list of truths": ('{"file": "cat/01.png", "label": "cat", "true_label": ["cat"]}', "column true_label: a list of classes outside of the column `candidates`"),
    "list of labels": ('{"file": "cat/01.png", "label": ["cat", "dog"]}', "a list of classes outside of the column `candidates`"),
    "space": ('{"file": "cat/01.png", "label": "cat "}', "column label: 'cat ' begins or ends with a space"),
    "half a character": ('{"file": "cat/01.png", "label": "\\ud83d"}', "no JSON ('utf-8' codec can't encode character"),
    "other key": ('{"file": "cat/01.png", "lable": "cat"}', "labels.jsonl: `label` stands alone beside `file`; remove the columns lable (labels.jsonl:2)"),
    "deep nest": ('{"file": ' + "[" * 200_000, "no JSON ("),
    "unknown class": ('{"file": "cat/01.png", "label": "ct"}', "'ct' is not one of the classes cat, dog; did you mean 'cat'?"),
    "file twice": ('{"file": "00.png", "label": "cat"}', "'00.png' is the name of several images"),
}  # fmt: skip


@pytest.mark.parametrize("mistake", BAD_LINES)
def test_a_mistake_in_json_lines_is_one_line_with_its_place(workspace, mistake: str):
    line, expected = BAD_LINES[mistake]
    text = f'{{"file": "cat/00.png", "label": "cat"}}\n{line}\n'.encode()
    workspace.two_classes(3)
    workspace.table(text, "labels.jsonl")
    message = workspace.refused("ingest", "download")
    place = "" if expected.startswith("labels.jsonl") else "labels.jsonl:2: "
    assert message.startswith(place + expected)
    assert "\n" not in message
    assert len(message) < 400


def test_a_class_with_a_bar_in_its_name_needs_lists(workspace):
    workspace.add("cat/0.png", 0)
    workspace.add("cat|dog/1.png", 1)
    workspace.table("file,candidates\ncat/0.png,cat|dog\n")
    message = workspace.refused("ingest", "download")
    assert "a class has | in its name: write lists, as JSON lines or Parquet" in message
    workspace.table('{"file": "cat/0.png", "candidates": ["cat|dog", "cat"]}', "labels.jsonl")
    workspace.run("download", "ingest")
    assert workspace.read("labels.parquet")[0]["candidates"] == [0, 1]


def test_empty_candidate_sets_are_all_named_up_to_ten(workspace):
    workspace.two_classes(12)
    names = [f"cat/{number:02d}.png," for number in range(12)]
    workspace.table("\n".join(["file,candidates", *names, ""]))
    message = workspace.refused("ingest", "download")
    assert message.startswith(
        "labels.csv: 12 rows with an empty candidate set (labels.csv:2, labels.csv:3,"
    )
    assert "labels.csv:11 and 2 more" in message


def test_a_set_of_all_classes_leaves_its_image_unlabeled_and_is_counted(workspace):
    workspace.two_classes(12)
    rows = [f"{name}/{i:02d}.png,cat|dog" for name in ("cat", "dog") for i in range(6)]
    workspace.table("\n".join(["file,candidates", *rows, ""]))
    workspace.run("configure", "download", "ingest", "split")
    listed = {row["id"] for row in workspace.read("labels.parquet") if row["candidates"]}
    train = workspace.read("split/train.parquet")
    assert {row["id"] for row in train if row["role"] == "unlabeled"} == listed & {
        row["id"] for row in train
    }
    summary = json.loads((workspace.root / "data/split/summary.json").read_text())
    unlabeled = sum(row["role"] == "unlabeled" for row in train)
    assert summary["roles"]["train"]["unlabeled"] == unlabeled > 0


def test_a_damaged_gzip_table_is_refused(workspace):
    workspace.two_classes()
    workspace.table(gzip.compress(b"file,label\ncat/00.png,cat\n" * 100)[:-9], "labels.csv.gz")
    assert workspace.refused("ingest", "download").startswith("labels.csv.gz: damaged gzip file")


def test_a_missing_table_is_named_before_anything_is_kept(workspace):
    workspace.two_classes()
    workspace.set(data={"table": "tables/none.csv"})
    message = workspace.refused("download")
    assert message.startswith("tables/none.csv: not found")


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
@pytest.mark.parametrize("ending", ["\n", "\r\n"])
def test_spreadsheet_dialects_are_read(workspace, encoding: str, ending: str):
    workspace.two_classes(2)
    workspace.add('cat/a, "b".png', 7)
    lines = ["file,label", '"cat/a, ""b"".png",dog', "cat/00.png,", ""]
    workspace.table(ending.join(lines).encode(encoding))
    workspace.run("download", "ingest")
    rows = {row["source"]: row for row in workspace.read("labels.parquet")}
    assert (rows['cat/a, "b".png']["label"], rows['cat/a, "b".png']["true_label"]) == (1, 0)
    assert (rows[CATS]["label"], rows[CATS]["true_label"]) == (None, 0)
    assert (rows["dog/00.png"]["label"], rows["dog/00.png"]["true_label"]) == (1, 1)


class TestParquet:
    def put(self, workspace, **columns) -> None:
        pq.write_table(pa.table(columns), workspace.root / "labels.parquet")
        workspace.two_classes(3)
        workspace.set(data={"table": "labels.parquet"})

    def test_lists_of_candidates_and_categories_are_read(self, workspace):
        names = pa.array([CATS, "dog/01.png"]).dictionary_encode()
        self.put(workspace, file=names, candidates=[["dog", "cat"], ["dog"]])
        workspace.run("download", "ingest")
        rows = {row["source"]: row for row in workspace.read("labels.parquet")}
        assert rows[CATS]["candidates"] == [0, 1]
        assert rows["dog/01.png"]["candidates"] == [1]
        assert rows["dog/00.png"]["candidates"] is None

    def test_fractions_are_refused(self, workspace):
        self.put(workspace, file=[CATS], label=[1.0])
        message = workspace.refused("ingest", "download")
        assert message.startswith("labels.parquet: column label: holds double; use text")

    def test_a_class_out_of_range_is_found_by_row(self, workspace):
        self.put(workspace, file=[CATS, "cat/01.png"], label=["cat", "5"])
        assert workspace.refused("ingest", "download").startswith(
            "labels.parquet: row 2: '5' is not one of"
        )

    def test_an_empty_list_is_an_empty_candidate_set(self, workspace):
        self.put(workspace, file=[CATS, "cat/01.png"], candidates=[["cat"], []])
        message = workspace.refused("ingest", "download")
        assert message.startswith(
            "labels.parquet: 1 rows with an empty candidate set (labels.parquet: row 2)"
        )

    def test_a_truncated_file_is_refused(self, workspace):
        self.put(workspace, file=[CATS], label=["cat"])
        path = workspace.root / "labels.parquet"
        path.write_bytes(path.read_bytes()[:-20])
        assert workspace.refused("ingest", "download").startswith(
            "labels.parquet: no Parquet file, or a damaged one"
        )


def test_flat_files_take_their_classes_from_the_table(workspace):
    for number in range(4):
        workspace.add(f"{number}.png", number)
    workspace.table("file,label\n0.png,b\n1.png,a\n2.png,\n")
    workspace.run("download", "ingest")
    rows = workspace.read("labels.parquet")
    assert [row["label"] for row in rows] == [1, 0, None, None]
    assert {row["true_label"] for row in rows} == {None}


def test_columns_that_a_spreadsheet_left_blank_do_not_count(workspace):
    for number in range(3):
        workspace.add(f"{number}.png", number)
    workspace.table("file;label;;\n0.png;b;;x\n")
    message = workspace.refused("ingest", "download")
    assert message.startswith("labels.csv:2: 4 fields, but the header")
    workspace.table("file;;label\n0.png;;b\n")
    assert "columns need names" in workspace.refused("ingest", "download")
    workspace.table("file;label;;\n0.png;b;;\n1.png;a;;\n;;;\n2.png;;;\n")
    workspace.run("download", "ingest")
    assert [row["label"] for row in workspace.read("labels.parquet")] == [1, 0, None]


def test_a_column_about_something_else_is_no_annotator(workspace):
    rows = [
        f"{number}.png,{'cat' if number % 2 else 'dog'},{'m' if number % 3 else 'f'}"
        for number in range(6)
    ]
    for number in range(6):
        workspace.add(f"{number}.png", number)
    workspace.table("\n".join(["file,species,sex", *rows, ""]))
    message = workspace.refused("ingest", "download")
    assert message.startswith(
        "labels.csv: columns sex, species: would be taken for annotators, but sex names no class that another does ('f', 'm')"
    )
    workspace.table("\n".join(["file,ann,bob", *rows[:4], "4.png,cat,dog", "5.png,m,", ""]))
    workspace.run("download", "ingest")
    shared = [f"{n}.png,{'cat,' if n % 2 else ',dog'}" for n in range(6)] * 2
    workspace.table("\n".join(["file,ann,bob", *shared[:6], ""]))
    workspace.run("download", "ingest")


def test_the_only_column_of_another_name_is_asked_about(workspace, capsys):
    for number in range(2):
        workspace.add(f"{number}.png", number)
    workspace.table("file,Art\n0.png,cat\n1.png,dog\n")
    workspace.run("download", "ingest")
    assert (
        "labels.csv: column Art: taken for what one annotator said; if it is the class, call it `label`"
        in capsys.readouterr().out
    )


def several_folders(workspace) -> None:
    for number in range(4):
        workspace.add(f"train/batch{number % 2}/{number}.png", number)
    workspace.add("test/batch0/4.png", 4)


def test_folders_that_are_no_classes_of_the_table_say_nothing(workspace, capsys):
    """An empty one would otherwise be a class without images, and every image of the class `batch0`."""
    several_folders(workspace)
    (workspace.photos / "train/batch2").mkdir()
    workspace.table("file,label\n0.png,dog\n1.png,cat\n4.png,cat\n")
    workspace.run("download", "ingest")
    told = "photos: the folders batch0, batch1 are no classes of labels.csv: only the table says what an image is"
    assert told in capsys.readouterr().out.splitlines()
    rows = workspace.read("labels.parquet")
    assert [row["label"] for row in rows] == [0, 1, None, 0, None]
    assert [row["split"] for row in rows] == ["test", *["train"] * 4]
    assert {row["true_label"] for row in rows} == {None}


def test_a_class_that_is_named_like_a_part_of_the_data_is_told(workspace, capsys):
    for number, folder in enumerate(["cat", "dog", "test"]):
        workspace.add(f"{folder}/{number}.png", number)
    workspace.run("download", "ingest")
    told = "warning: photos: test: taken for a class, like the folders beside it; for parts of the data arrange all as "
    assert f"{told}<split>/<class>/<file>" in capsys.readouterr().out.splitlines()
    assert {row["split"] for row in workspace.read("labels.parquet")} == {None}


def test_folders_that_differ_in_capitals_only_are_classes_of_their_own_and_told(workspace, capsys):
    told = "classes of their own, by folders that differ in capitals, spaces or invisible characters only"
    for number, folder in enumerate(["train/cat", "train/dog", "train/eel", "test/dog"]):
        workspace.add(f"{folder}/{number}.png", number)
    workspace.run("download", "ingest")
    assert told not in capsys.readouterr().out
    for number, folder in enumerate(["test/Cat", "train/Eel", "train/EEL"]):
        workspace.add(f"{folder}/{number}.png", 10 + number)
    workspace.run("download", "ingest")
    advice = "put the files into one folder if one class is meant"
    warning = f"warning: photos: 'Cat' and 'cat', 'EEL' and 'Eel' and 'eel' are {told}; {advice}"
    assert warning in capsys.readouterr().out.splitlines()
    assert {row["true_label"] for row in workspace.read("labels.parquet")} == set(range(6))


def test_a_folder_for_testing_may_stand_beside_folders_that_are_no_classes(workspace, capsys):
    for number, folder in enumerate(["", "2024/", "2025/", "test/"]):
        workspace.add(f"{folder}{number}.png", number)
    workspace.table("file,label\n0.png,dog\n1.png,cat\n3.png,cat\n")
    workspace.run("download", "ingest")
    assert (
        "photos: the folders 2024, 2025, test are no classes of labels.csv: only the table says what an image is; "
        "as parts are taken: test"
    ) in capsys.readouterr().out.splitlines()
    rows = {row["source"]: row["split"] for row in workspace.read("labels.parquet")}
    assert rows == {"0.png": None, "2024/1.png": None, "2025/2.png": None, "test/3.png": "test"}


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("file,label\n0.png,cat\n1.png,Batch1\n", "'cat' is not one of the classes"),
        ("file,label\n0.png,cat\n1.png,bacth1\n", "'cat' is not one of the classes"),
        ("file,label\n0.png,1.0\n1.png,2.0\n", "'1.0' is not one of the classes"),
        ("file,label\n0.png,NA\n1.png,cat\n", "'NA' is "),
        ("file,candidates\n0.png,batch1;cat\n", "'batch1;cat' is not one of the classes"),
        ("file,annotator,label\n0.png,ann,cat\n1.png,bob,cat\n", "'cat' is not one of the classes"),
    ],
)  # fmt: skip
def test_folders_stay_classes_where_the_table_knows_one_or_has_no_two(workspace, text, told):
    several_folders(workspace)
    workspace.table(text)
    assert workspace.refused("ingest", "download").startswith(f"labels.csv:2: {told}")


# Table of flat files -> what the message must say, from its beginning.
BAD_FLAT = {
    "semicolons": ("0.png,cat\n1.png,dog\n2.png,dog\n3.png,cat;dog\n", ":5: column candidates: 'cat;dog': write 'cat|dog'"),
    "slashes and a truth": ("0.png,cat/emu,cat\n1.png,cat,emu\n", ":2: column candidates: 'cat/emu': write 'cat|emu'"),
    "commas and spaces": ('0.png,dog\n1.png,"cat, dog"\n2.png,cat\n', ":3: column candidates: 'cat, dog': write 'cat|dog'"),
    "a wide bar": ("0.png,カ\n1.png,桜\n2.png,カ\uff5c桜\n", ":4: column candidates: 'カ\uff5c桜': write 'カ|桜'"),
    "a bar between some": ("0.png,cat|dog\n1.png,cat/dog\n", ":3: column candidates: 'cat/dog': write 'cat|dog', or rename it if it is one class"),
    "a blank of pandas": ("0.png,cat\n1.png,dog\n2.png,nan\n", ":4: 'nan' is a way to write a blank; leave the cell of an unlabeled image blank (in `candidates`: name all classes), or rename the class"),
    "a blank of R among candidates": ("0.png,cat\n1.png,dog|NA\n", ":3: 'NA' is a way to write a blank"),
    "no label": ("0.png,cat\n1.png,Unlabelled\n", ":3: 'Unlabelled' is a way to write a blank"),
    "no label among candidates": ("0.png,cat|?\n1.png,dog\n", ":2: '?' is a way to write a blank"),
    "a blank of Python as the truth": ("0.png,cat,cat\n1.png,dog,None\n", ":3: 'None' is a way to write a blank"),
}  # fmt: skip


@pytest.mark.parametrize("mistake", BAD_FLAT)
def test_what_is_hardly_a_class_is_refused_where_no_folder_names_them(workspace, mistake: str):
    rows, expected = BAD_FLAT[mistake]
    for number in range(4):
        workspace.add(f"{number}.png", number)
    truth = ",true_label" if "truth" in mistake else ""
    workspace.table(f"file,candidates{truth}\n{rows}")
    message = workspace.refused("ingest", "download")
    assert message.startswith(f"labels.csv{expected}")
    assert "\n" not in message


# Table of flat files in which a cell holds several classes -> what the message must say.
SEVERAL = {
    "label": ('file,label\n0.png,cat\n1.png,dog\n2.png,"cat, dog"\n', ":4: column label: 'cat, dog': write 'cat|dog' in a column `candidates`, or rename it if it is one class"),
    "annotators": ("file,ann,bob\n0.png,cat,\n1.png,dog,cat|dog\n", ":3: column bob: 'cat|dog': leave one class, or write rows of file, annotator, label, one for each class, or rename"),
    "rows": ("file,annotator,label\n0.png,ann,cat;dog\n0.png,bob,cat\n1.png,bob,dog\n", ":2: column label: 'cat;dog': leave one class, or write rows of file, annotator, label"),
    "classes": ("0.png,cat|dog\n1.png,dog,cat\n", ":1: 'cat|dog': write each class in a field of its own, or"),
    "the truth": ("file,candidates,true_label\n0.png,cat|dog,cat/dog\n", ":2: column true_label: 'cat/dog': leave one class or a blank, or"),
}  # fmt: skip


@pytest.mark.parametrize("table", SEVERAL)
def test_several_classes_in_a_cell_for_one_are_no_class_of_their_own(workspace, table: str):
    text, expected = SEVERAL[table]
    for number in range(3):
        workspace.add(f"{number}.png", number)
    workspace.table(text)
    message = workspace.refused("ingest", "download")
    assert message.startswith(f"labels.csv{expected}")
    assert "\n" not in message


def test_a_class_with_a_bar_in_its_name_may_stand_in_lists_beside_its_parts(workspace):
    workspace.add("0.png")
    workspace.table('{"file": "0.png", "candidates": ["a|b", "a", "b"]}', "labels.jsonl")
    workspace.run("download", "ingest")
    assert workspace.read("labels.parquet")[0]["candidates"] == [0, 1, 2]


# Table of flat files -> what the message must say, from its beginning.
ALIKE = {
    "labels": ("file,label\n0.png,Pollen\n1.png,\n2.png,pollen\n3.png,Pollen\n", ":4: 'pollen', but 'Pollen' on labels.csv:2: they differ in capitals, spaces or invisible characters only; write both alike, or rename one if they are two classes"),
    "candidates": ("file,candidates\n0.png,cat|Owl\n1.png,dog|owl\n", ":3: 'owl', but 'Owl' on labels.csv:2"),
    "one set": ("file,candidates\n0.png,cat\n1.png,dog|DOG\n", ":3: 'DOG', but 'dog' on labels.csv:3: they differ"),
    "the truth": ("file,candidates,true_label\n0.png,cat|dog,Cat\n", ":2: 'Cat', but 'cat' on labels.csv:2"),
    "annotators": ("file,ann,bob\n0.png,cat,dog\n1.png,Dog,\n", ":3: 'Dog', but 'dog' on labels.csv:2"),
    "rows": ("file,annotator,label\n0.png,ann,cat\n0.png,bob,dog\n0.png,eve,CAT\n", ":4: 'CAT', but 'cat' on labels.csv:2"),
    "classes": ("0.png,cat,dog\n1.png,Cat\n", ":2: 'Cat', but 'cat' on labels.csv:1"),
    "an invisible space": ("file,label\n0.png,桜\n1.png,桜\u200b\n2.png,cat\n", r":3: '桜\u200b', but '桜' on labels.csv:2"),
    "a joiner": ("file,label\n0.png,نمی\u200cخ\n1.png,نمیخ\n2.png,cat\n", r":3: 'نمیخ', but 'نمی\u200cخ' on labels.csv:2"),
    "a Turkish capital": ("file,label\n0.png,İris\n1.png,iris\n2.png,cat\n", ":3: 'iris', but 'İris' on labels.csv:2"),
    "two spaces": ("file,label\n0.png,red owl\n1.png,red  owl\n2.png,cat\n", ":3: 'red  owl', but 'red owl' on"),
}  # fmt: skip


@pytest.mark.parametrize("table", ALIKE)
def test_classes_that_look_alike_are_refused_where_no_folder_names_them(workspace, table: str):
    text, expected = ALIKE[table]
    for number in range(4):
        workspace.add(f"{number}.png", number)
    workspace.table(text)
    message = workspace.refused("ingest", "download")
    assert message.startswith(f"labels.csv{expected}")
    assert "\n" not in message
    for name in ("cat", "Cat"):
        workspace.add(f"{name}/{name}.png", 7)
    workspace.table("file,label\n0.png,Cat\n1.png,cat\n")
    workspace.run("download", "ingest")


@pytest.mark.parametrize(
    ("rows", "classes"),
    [
        ("0.png,cat;dog\n1.png,emu\n", ["cat;dog", "emu"]),
        ("0.png,cat|dog\n1.png,cat/eel\n", ["cat", "cat/eel", "dog"]),
        ("0.png,nandu\n1.png,nonesuch\n", ["nandu", "nonesuch"]),
        ("0.png,Maße\n1.png,Masse\n", ["Masse", "Maße"]),
    ],
)
def test_classes_may_hold_other_marks_and_words(workspace, rows: str, classes: list[str]):
    for number in range(2):
        workspace.add(f"{number}.png", number)
    workspace.table(f"file,candidates\n{rows}")
    workspace.run("download", "ingest")
    assert json.loads((workspace.root / "data/classes.json").read_text())["classes"] == classes


@pytest.mark.parametrize("name", ["unknown", "Unlabeled", "-1", "?"])
@pytest.mark.parametrize(
    "rows",
    ["file,label\n0.png,cat", "file,ann\n0.png,cat", "file,annotator,label\n0.png,ann,cat", "0.png\n2.png,cat"],
)  # fmt: skip
def test_a_way_to_write_a_blank_is_no_class_in_any_form(workspace, rows: str, name: str):
    for number in range(3):
        workspace.add(f"{number}.png", number)
    workspace.table(f"{rows}\n1.png,{'bob,' * ('annotator' in rows)}{name}\n")
    message = workspace.refused("ingest", "download")
    assert message.startswith(f"labels.csv:3: {name!r} is a way to write a blank; leave the cell")


@pytest.mark.parametrize("name", ["nan", "None", "unknown"])
def test_a_folder_may_name_a_class_as_it_likes(workspace, name: str):
    for shade, file in enumerate((f"{name}/0.png", "cat/1.png")):
        workspace.add(file, shade)
    workspace.table(f"file,label\n1.png,{name}\n")
    workspace.run("download", "ingest")
    labels = {row["source"]: row["label"] for row in workspace.read("labels.parquet")}
    assert labels["cat/1.png"] == labels[f"{name}/0.png"]


@pytest.mark.parametrize("form", ["label", "annotators"])
def test_a_rare_class_that_is_nearly_a_frequent_one_is_told(workspace, capsys, form: str):
    """`eel` is like none, `kind 3` another number, `bear` as frequent as `bears`."""
    names = [
        *["dog"] * 10,
        *["kind 1"] * 10,
        "dgo",
        "eel",
        "kind 3",
        "bear",
        "bears",
        *["wolf"] * 30,
        "wolfe",
        "wolfe",
        "wofl",
    ]
    for number in range(len(names)):
        workspace.add(f"{number}.png", number)
    head = "file,label" if form == "label" else "file,ann,bob"
    more = "" if form == "label" else ",wolf"
    rows = [f"{number}.png,{name}{more}" for number, name in enumerate(names)]
    workspace.table("\n".join([head, *rows, ""]))
    workspace.run("download", "ingest")
    told = (
        "warning: labels.csv:22: 'dgo' is a class of its own, of 1 image; is 'dog' meant? "
        "labels.csv:57: 'wolfe' is a class of its own, of 2 images; is 'wolf' meant? "
        "labels.csv:59: 'wofl' is a class of its own, of 1 image; is 'wolf' meant?"
    )
    assert told in capsys.readouterr().out.splitlines()


def test_many_rare_classes_are_what_the_data_are_like(workspace, capsys):
    names = ["wolf"] * 30 + [f"wolf{letter}" for letter in "abcdefghijklmnopqrstuvwxyz"]
    for number in range(len(names)):
        workspace.add(f"{number}.png", number)
    workspace.table(
        "".join(["file,label\n", *(f"{n}.png,{name}\n" for n, name in enumerate(names))])
    )
    workspace.run("download", "ingest")
    assert "meant?" not in capsys.readouterr().out


def test_grades_of_annotators_are_no_probabilities(workspace):
    for number in range(3):
        workspace.add(f"{number}.png", number)
    workspace.table("file,ann,bob,eve\n0.png,0,0.5,1\n1.png,0.5,0.5,0\n2.png,0,,1\n")
    workspace.run("download", "ingest")
    assert json.loads((workspace.root / "data/classes.json").read_text())["classes"] == [
        "0",
        "0.5",
        "1",
    ]


@pytest.mark.parametrize("path", ["photos", "photos/", "./photos"])
def test_the_folder_itself_may_stand_in_front_of_the_files_of_a_table(workspace, path: str):
    workspace.two_classes(2)
    workspace.table("file,label\nphotos/cat/00.png,dog\n")
    workspace.set(data={"path": path})
    workspace.run("download", "ingest")
    rows = {row["source"]: row for row in workspace.read("labels.parquet")}
    assert (rows[CATS]["label"], rows[CATS]["true_label"]) == (1, 0)


def test_flat_files_need_a_table(workspace):
    workspace.add("0.png")
    message = workspace.refused("ingest", "download")
    assert message.startswith(
        "photos: no folders name classes; use <class>/<file> with two classes or more, or give"
    )


def test_annotators_are_kept_apart_and_blanks_say_nothing(workspace):
    workspace.two_classes(2)
    workspace.table("file,ann,bob,eve\ncat/00.png,cat,,dog\ncat/01.png,,,\n")
    workspace.run("configure", "download", "ingest")
    rows = {row["source"]: row for row in workspace.read("labels.parquet")}
    assert rows[CATS]["annotations"] == [0, 1]
    assert rows[CATS]["annotators"] == [0, 1], "of ann and eve, bob said nothing at all"
    assert rows["cat/01.png"]["annotations"] == []
    assert rows[CATS]["label"] is None


@pytest.mark.parametrize("rows", ["1,0,0\n1.png,1,1,0", "0,1,0\n1.png,0,0,0", "1,0,0\n1.png,0,1,"])
def test_annotators_may_call_two_classes_0_and_1(workspace, rows: str):
    for number in range(2):
        workspace.add(f"{number}.png", number)
    workspace.table(f"file,ann,bob,eve\n0.png,{rows}\n")
    workspace.run("download", "ingest")
    assert json.loads((workspace.root / "data/classes.json").read_text())["classes"] == ["0", "1"]


@pytest.mark.parametrize("truth", ["of folders", "of the table", "of nobody"])
def test_a_column_per_class_with_several_1s_is_no_annotators(workspace, truth: str):
    """Of classes called 0 to 9, ten annotators may say 0 or 1."""
    rows = []
    for number in range(10):
        folder = f"{number}/" if truth == "of folders" else ""
        workspace.add(f"{folder}{number}.png", number)
        sets = [str(int(k in {number, 3, 7})) for k in range(10)]
        told = f",{number}" if truth == "of the table" else ""
        rows.append(f"{folder}{number}.png,{','.join(sets)}{told}")
    told = ",true_label" if truth == "of the table" else ""
    workspace.table("\n".join([f"file,{','.join('0123456789')}{told}", *rows, ""]))
    assert workspace.refused("ingest", "download").startswith(
        "labels.csv: the columns 0, 1, 2, 3 and 6 more hold a 1 or a 0 for each class, which are not read; write the "
        "names of the classes in a column `label` or `candidates`, 0|1 (of annotators: in rows of file, annotator, label, or call the columns otherwise, as annotator_0)"
    )


@pytest.mark.parametrize("people", ["anna,bert,carl", "1,2,3"])
def test_annotators_say_0_and_1_of_folders_called_so(workspace, people: str):
    for number in range(4):
        workspace.add(f"{number % 2}/{number}.png", number)
    workspace.table(f"file,{people}\n0.png,0,0,1\n1.png,1,1,1\n2.png,0,0,\n")
    workspace.run("download", "ingest")
    rows = {row["source"]: row["annotations"] for row in workspace.read("labels.parquet")}
    assert rows["0/0.png"] == [0, 0, 1]


# Table of flat files that is a column per class -> what it holds.
PER_CLASS = {
    "votes": ("file,cat,dog,eel,true_label\n0.png,6,0,0,cat\n1.png,1,4,1,dog\n2.png,0,0,6,\n", "votes or marks for each class"),
    "votes, and classes that are numbers": ("file,0,1,true_label\n0.png,1,0,0\n1.png,0,2,1\n", "votes or marks for each class"),
    "yes and no": ("file,cat,dog,true_label\n0.png,yes,no,cat\n1.png,yes,yes,dog\n", "votes or marks for each class"),
    "x and blank": ("file,cat,dog,sex,true_label\n0.png,x,,f,cat\n1.png,x,x,m,dog\n", "votes or marks for each class"),
    "people called 1, 2, 3": ("file,1,2,3\n0.png,0,0,1\n1.png,1,1,1\n", "a 1 or a 0 for each class"),
}  # fmt: skip


@pytest.mark.parametrize("table", PER_CLASS)
def test_a_column_per_class_is_no_annotator_where_the_truth_names_the_classes(workspace, table):
    text, found = PER_CLASS[table]
    for number in range(3):
        workspace.add(f"{number}.png", number)
    workspace.table(text)
    message = workspace.refused("ingest", "download")
    columns = text.partition(",true_label")[0].partition("\n")[0].split(",")[1:]
    assert message.startswith(f"labels.csv: the columns {', '.join(columns)} hold {found}, which")
    assert f"or call the columns otherwise, as annotator_{columns[0]})" in message


# Answers of annotators that are near a column per class, and the folders, if they are the classes.
ANNOTATORS = {
    "0 and 1 as pandas writes them": ("file,anna,bert,carl,true_label\n0.png,0.0,0.0,1.0,0.0\n1.png,1.0,1.0,,1.0\n", ""),
    "whether it is so": ("file,anna,bert,true_label\n0.png,True,False,True\n1.png,False,False,False\n", ""),
    "whether it is so, by folders": ("file,anna,bert\n0.png,True,False\n1.png,False,False\n", "True False"),
    "00 and 01": ("file,anna,bert,carl\n0.png,00,01,01\n1.png,01,01,01\n", "00 01"),
    "people called 1, 2, 3 among ten classes": ("file,1,2,3\n0.png,7,7,1\n1.png,3,3,\n", "0 1 2 3 4 5 6 7 8 9"),
    "one called like a class": ("file,ann,art\n0.png,art,cat\n1.png,cat,cat\n", "art cat"),
}  # fmt: skip


@pytest.mark.parametrize("table", ANNOTATORS)
def test_annotators_are_told_from_a_column_per_class(workspace, table: str):
    text, folders = ANNOTATORS[table]
    for number, folder in enumerate(folders.split() or ["", ""]):
        workspace.add(f"{folder}/{number}.png".lstrip("/"), number)
    workspace.table(text)
    workspace.run("download", "ingest")
    rows = {row["source"].split("/")[-1]: row for row in workspace.read("labels.parquet")}
    answers = [line.split(",") for line in text.splitlines()]
    people = len([name for name in answers[0][1:] if name != "true_label"])
    for row in answers[1:]:
        said = len([cell for cell in row[1 : 1 + people] if cell])
        assert len(rows[row[0]]["annotations"]) == said


def test_files_in_train_and_test_take_their_classes_from_a_table(workspace):
    for number in range(6):
        workspace.add(f"{'test' if number < 2 else 'train'}/{number}.png", number)
    rows = ["0.png,cat", "test/1.png,dog", "2.png,cat", "3.png,cat", "4.png,dog", "train/5.png,dog"]
    workspace.table("\n".join(["file,label", *rows, ""]))
    workspace.run("configure", "download", "ingest", "split")
    assert [row["label"] for row in workspace.read("split/test.parquet")] == [0, 1]


def test_what_was_taken_for_a_class_or_an_annotator_is_told(workspace, capsys):
    for number in range(4):
        workspace.add(f"{number}.png", number)
    workspace.table("file,quality\n0.png,bad\n1.png,good\n")
    workspace.run("download", "ingest")
    told = "4 images of 8x8x3, 2 classes (bad, good), 1 annotators (quality)"
    assert f"image_folder: {told}\n" in capsys.readouterr().out
