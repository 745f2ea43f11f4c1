"""Strategies of broken tables of labels: good ones with mistakes, and damaged bytes."""

from __future__ import annotations

import gzip
import io
import json

import pyarrow as pa
import pyarrow.parquet as pq
from hypothesis import strategies as st

FILES = [
    *(f"{split}/{name}/{i}.png" for split in ("train", "test") for name in ("cat", "dog") for i in (1, 2)),
    "train/cat/caf\u00e9, \U0001f408.png",
]  # fmt: skip

# What people and programs put into tables.
WORDS = [
    "file", "label", "candidates", "annotator", "true_label", "ann", "cat", "dog", "cat|dog", "|", "cat||dog", " cat", "1.png",
    "train/cat/1.png", "test/dog/2.png", "train/dog/1.png", "./train/cat/2.png", "train\\dog\\2.png", "/etc/passwd",
    "../1.png", "C:\\1.png", "", " ", '"', '""', '"cat', "'", ";", "\t", "\x00", "\ufeff", "\u2028", "\u00e9", "-1",
    "0", "7", "1e999", "NaN", "null", "true", "#N/A", "=1+1", "\U0001f408", "\u202e", "x" * 3000, "9" * 5000,
    "train/cat/caf\u00e9, \U0001f408.png", "Label", "lable", "path", "file_name", "__index_level_0__",
]  # fmt: skip
CSV = [
    "file,label\ntrain/cat/1.png,cat\ntrain/dog/1.png,\ntrain/dog/2.png,cat\n",
    "file,candidates\r\ntrain/cat/1.png,cat|dog\r\ntrain/dog/1.png,dog\r\n",
    '\ufefffile,ann,bob\ntrain/cat/1.png,cat,dog\n"train/cat/caf\u00e9, \U0001f408.png",,cat\n',
    "file,annotator,label\ntrain/cat/1.png,ann,cat\ntrain/cat/1.png,bob,dog\ntrain/dog/2.png,,\n",
    "train/cat/1.png,cat,dog\ntrain/cat/2.png\ntrain/dog/1.png,dog\n",
    "train/cat/1.png\ntrain/dog/1.png\n",
    "file,label,true_label\ntrain/cat/1.png,dog,cat\ntrain/dog/1.png,dog,\n",
]
JSON = [
    "".join(json.dumps(row) + "\n" for row in rows)
    for rows in (
        [{"file": "train/cat/1.png", "label": "cat"}, {"file": "train/dog/1.png", "label": None}],
        [{"file": "train/cat/1.png", "candidates": ["cat", "dog"]}, {"file": "train/dog/2.png"}],
        [{"file": "train/cat/1.png", "annotator": "ann", "label": "cat"}],
        [{"file": "train/cat/1.png", "candidates": ["dog"], "true_label": "cat"}, {"file": "train/dog/1.png"}],
        [{"file": "train/cat/1.png", "ann": "cat", "bob": "dog"}, {"file": "train/dog/2.png", "ann": "dog"}],
    )
]  # fmt: skip
TOKENS = [
    "{",
    "}",
    "[",
    "]",
    ":",
    ",",
    "\n",
    "\r",
    '"',
    "\\u",
    "\\ud83d",
    "1e5",
    "-",
    "{}",
    "[[",
    "Infinity",
]
# Lengths and counts that somebody forgot to check.
EXTREMES = [b"\x00", b"\xff" * 4, b"\xff" * 9 + b"\x7f", b"\x80" * 8 + b"\x01", b"\xfe\xff\xff\xff\x0f"]  # fmt: skip


def parquet(**columns: object) -> bytes:
    file = io.BytesIO()
    pq.write_table(pa.table(columns), file, row_group_size=2)
    return file.getvalue()


NAMED = ["train/cat/1.png", "train/dog/1.png", "train/dog/2.png"]
TABLES = [
    parquet(file=NAMED, label=["cat", None, "dog"]),
    parquet(file=pa.array(NAMED).dictionary_encode(), candidates=[["cat"], ["dog", "cat"], None]),
    parquet(file=NAMED, ann=["cat", "", "dog"], bob=pa.array([None] * 3, pa.string())),
    parquet(file=NAMED, annotator=[1, 2, 2], label=["cat", "dog", "dog"]),
    parquet(file=NAMED, label=["cat", "cat", "cat"], true_label=["cat", None, "dog"]),
]
STRUCT = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
SHARDS = [
    parquet(image=pa.array([{"bytes": b"1", "path": "1.png"}] * 3, STRUCT), label=[0, 1, -1]),
    parquet(image=[b"1", None, b"3"], candidates=[["cat"], ["cat", "dog"], None]),
    parquet(image=[b"1", b"2", b"3"], label=["cat", "dog", None], note=["a", "b", "c"]),
]


@st.composite
def composed(draw: st.DrawFn, words: list[str]) -> str:
    """CSV with a header that mostly makes sense, and rows that mostly do."""
    heads = [
        "file,label",
        "file,candidates",
        "file,ann,bob",
        "file,true_label,candidates",
        "label,file,annotator",
        "train/cat/1.png,cat",
    ]
    head = draw(
        st.sampled_from(
            [*heads, *heads, ",".join(draw(st.lists(st.sampled_from(words), max_size=3)))]
        )
    )
    cells = st.sampled_from([*NAMED, "cat", "dog", "", "cat", "dog"] * 3 + words)
    rows = []
    for name in draw(st.lists(st.sampled_from(NAMED), max_size=3, unique=draw(st.booleans()))):
        row = [name if column == "file" else draw(cells) for column in head.split(",")]
        if draw(st.integers(0, 9)) == 0:
            row.append(draw(cells))
        rows.append(",".join(row if "file" in head else [name, *row[1:]]))
    return draw(st.sampled_from(["\n", "\r\n", "\n\n"])).join([head, *rows, ""])  # fmt: skip


@st.composite
def objects(draw: st.DrawFn) -> str:
    """Lines of JSON with keys that mostly make sense, and values of any type now and then."""
    style = draw(
        st.sampled_from([["label"], ["candidates"], ["ann", "bob"], ["annotator", "label"]])
    )
    plain = st.sampled_from(["cat", "dog", "cat", "dog", None, "cat|dog", ""])
    odd = st.recursive(
        st.sampled_from([*WORDS, None, 7, 0.5, True]), lambda inner: st.lists(inner, max_size=3)
    )
    lines = []
    for name in draw(st.lists(st.sampled_from(NAMED), max_size=3, unique=draw(st.booleans()))):
        row = {"file": name} | {key: draw(plain) for key in style if draw(st.integers(0, 4))}
        if draw(st.integers(0, 5)) == 0:
            row[draw(st.sampled_from([*style, *style, *WORDS]))] = draw(odd)
        lines.append(json.dumps(row, ensure_ascii=draw(st.booleans())))
    return "\n".join([*lines, ""])  # fmt: skip


@st.composite
def typed(draw: st.DrawFn, seeds: list[str], words: list[str]) -> bytes:
    """A text of words, or a good one in which some were typed over; packed now and then."""
    if draw(st.booleans()):
        lines = draw(st.sampled_from(seeds)).splitlines(keepends=True)
        text = lines[0] + "".join(draw(st.permutations(lines[1:])))
        for _ in range(draw(st.integers(0, 2))):
            start = draw(st.integers(0, len(text)))
            stop = min(len(text), start + draw(st.sampled_from([0, 0, 1, 4, 16])))
            text = text[:start] + draw(st.sampled_from(words)) + text[stop:]
    else:
        text = draw(composed(words) if seeds is CSV else objects())
    content = text.encode(draw(st.sampled_from(["utf-8"] * 20 + ["utf-16", "utf-8-sig"])))
    content = draw(changed(content)) if draw(st.integers(0, 3)) == 0 else content
    packed = draw(st.integers(0, 9))
    if packed < 2:
        content = gzip.compress(content, mtime=0)
        content = draw(changed(content)) if packed else content
    return content


@st.composite
def changed(draw: st.DrawFn, content: bytes) -> bytes:
    """Bytes with a bit flipped, some of them gone, or others among them, one to three times."""
    for _ in range(draw(st.integers(1, 3))):
        place = draw(st.integers(0, max(0, len(content) - 1)))
        kind = draw(st.sampled_from(["bit", "bit", "extreme", "cut", "insert"]))
        if kind == "bit" and content:
            flipped = bytes([content[place] ^ 1 << draw(st.integers(0, 7))])
            content = content[:place] + flipped + content[place + 1 :]
        elif kind == "extreme":
            other = draw(st.sampled_from(EXTREMES))
            content = content[:place] + other + content[place + len(other) :]
        elif kind == "cut":
            content = content[:place]
        else:
            content = content[:place] + draw(st.binary(max_size=12)) + content[place:]
    return content


@st.composite
def stored(draw: st.DrawFn, seeds: list[bytes], names: list[str]) -> bytes:
    """A Parquet file with damage, or a whole one with columns of any type."""
    if draw(st.booleans()):
        return draw(changed(draw(st.sampled_from(seeds))))
    words = st.sampled_from([*WORDS, None])
    classes = st.sampled_from(["cat", "dog", None])
    usual = {
        "file": st.sampled_from(NAMED), "image": st.binary(max_size=3) | st.none(),
        "candidates": st.lists(st.sampled_from(["cat", "dog"]), min_size=1, max_size=2),
    }  # fmt: skip
    kinds = [
        words, st.integers(-3, 3) | st.none(), st.floats(), st.booleans(), st.binary(max_size=3),
        st.lists(words, max_size=3), st.lists(st.integers(-2, 3), max_size=3), st.just(None),
        st.fixed_dictionaries({"bytes": st.binary(max_size=3) | st.none(), "path": words}),
    ]  # fmt: skip
    styles = [["label"], ["candidates"], ["ann", "bob"], ["annotator", "label"]]
    chosen = [
        names[0],
        *draw(st.sampled_from(styles) | st.lists(st.sampled_from(names), max_size=3)),
    ]
    size = draw(st.integers(0, 3))
    columns = []
    for name in chosen:
        cells = (
            draw(st.sampled_from(kinds))
            if draw(st.integers(0, 5)) == 0
            else usual.get(name, classes)
        )
        columns.append(draw(st.lists(cells, min_size=size, max_size=size)))
    file = io.BytesIO()
    pq.write_table(pa.Table.from_arrays([pa.array(c) for c in columns], names=chosen), file)
    return file.getvalue()  # fmt: skip
