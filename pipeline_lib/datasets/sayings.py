"""What is said of the images' classes: kept in a file until all names are known, then numbered.

Classes and annotators are numbered in the order of their names, which is known at the end only. So
that memory stays flat, rows go to a nameless file under provisional numbers, and come back from it.
"""

from __future__ import annotations

from array import array
from typing import IO, TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from pipeline_lib.records import Row

DIGEST_BYTES = 32
KEY_BYTES = 8

# `annotators` and `annotations` go together: who said it (a position in classes.json), and what.
# `twin` is the first image with the same pixels, null for that one and for those that have none.
LABELS = pa.schema(
    {
        "id": pa.int32(),
        "source": pa.string(),
        "split": pa.string(),
        "label": pa.int16(),
        "candidates": pa.list_(pa.int16()),
        "annotators": pa.list_(pa.int32()),
        "annotations": pa.list_(pa.int16()),
        "true_label": pa.int16(),
        "twin": pa.int32(),
    }
)
PROVISIONAL = pa.schema(
    {
        "source": pa.string(),
        "split": pa.string(),
        "label": pa.int32(),
        "candidates": pa.list_(pa.int32()),
        "annotators": pa.list_(pa.int32()),
        "annotations": pa.list_(pa.int32()),
        "true_label": pa.int32(),
        "digest": pa.binary(DIGEST_BYTES),
    }
)


class Sayings:
    """The rows of labels.parquet so far.

    Attributes:
        classes: provisional number by name, also of images that are not kept.
        annotators: likewise, of images that are kept.
    """

    def __init__(self, file: IO[bytes]) -> None:
        """Keep them in `file`, which is empty and open for reading and writing."""
        self.classes: dict[str, int] = {}
        self.annotators: dict[str, int] = {}
        self._keys = array("Q")  # the beginning of every digest
        self._file = file
        self._writer = pa.ipc.new_stream(file, PROVISIONAL)

    def mention(self, row: Row) -> None:
        """Take only the classes that a row names."""
        _number(row.label, self.classes)
        _number(row.true_label, self.classes)
        _numbers(row.candidates, self.classes)
        _numbers((name for _, name in row.annotations or ()), self.classes)

    def add(self, rows: Sequence[Row], digests: bytes) -> None:
        """Take rows that are kept, with the sha256 of their pixels, 32 bytes each."""
        told = [row.annotations for row in rows]
        who = [None if pairs is None else [name for name, _ in pairs] for pairs in told]
        what = [None if pairs is None else [name for _, name in pairs] for pairs in told]
        buffers = [None, pa.py_buffer(digests)]
        columns = {
            "source": [row.source_id for row in rows],
            "split": [row.split for row in rows],
            "label": [_number(row.label, self.classes) for row in rows],
            "candidates": [_numbers(row.candidates, self.classes) for row in rows],
            "annotators": [_numbers(names, self.annotators) for names in who],
            "annotations": [_numbers(names, self.classes) for names in what],
            "true_label": [_number(row.true_label, self.classes) for row in rows],
            "digest": pa.Array.from_buffers(PROVISIONAL.field("digest").type, len(rows), buffers),
        }
        self._writer.write_batch(pa.record_batch(columns, schema=PROVISIONAL))
        self._keys.frombytes(_keys(digests).tobytes())

    def tables(self) -> Iterator[pa.Table]:
        """Give labels.parquet, some rows at a time."""
        self._writer.close()
        self._file.seek(0)
        class_ranks, annotator_ranks = _ranks(self.classes), _ranks(self.annotators)
        repeated = _repeated(np.frombuffer(self._keys, np.uint64))
        first: dict[bytes, int] = {}
        start = 0
        for rows in pa.ipc.open_stream(self._file):
            columns = {
                "id": np.arange(start, start + rows.num_rows),
                "source": rows["source"],
                "split": rows["split"],
                "label": class_ranks.take(rows["label"]),
                "candidates": _sorted(_renumbered(rows["candidates"], class_ranks)),
                "annotators": _renumbered(rows["annotators"], annotator_ranks),
                "annotations": _renumbered(rows["annotations"], class_ranks),
                "true_label": class_ranks.take(rows["true_label"]),
                "twin": _twins(rows["digest"], start, repeated, first),
            }
            yield pa.table(columns).cast(LABELS)
            start += rows.num_rows


def _number(name: str | None, known: dict[str, int]) -> int | None:
    return None if name is None else known.setdefault(name, len(known))


def _numbers(names: Iterable[str] | None, known: dict[str, int]) -> list[int] | None:
    return None if names is None else [known.setdefault(name, len(known)) for name in names]


def _ranks(known: Mapping[str, int]) -> pa.Array:
    """Say which place each provisional number has among the sorted names."""
    place = {name: rank for rank, name in enumerate(sorted(known))}
    return pa.array([place[name] for name in known], pa.int32())


def _renumbered(lists: pa.ListArray, ranks: pa.Array) -> pa.ListArray:
    values = ranks.take(lists.flatten())
    return pa.ListArray.from_arrays(lists.offsets, values, mask=lists.is_null())


def _sorted(lists: pa.ListArray) -> pa.ListArray:
    """Sort the numbers within each list."""
    parents, values = pc.list_parent_indices(lists), lists.flatten()
    values = values.take(pa.array(np.lexsort((values, parents))))
    return pa.ListArray.from_arrays(lists.offsets, values, mask=lists.is_null())


def _keys(digests: bytes | pa.Buffer) -> NDArray[np.uint64]:
    return np.frombuffer(digests, np.uint64)[:: DIGEST_BYTES // KEY_BYTES]


def _repeated(keys_N: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Find the keys that several images have: 8 bytes an image, and as many again to sort."""
    sorted_N = np.sort(keys_N)
    return np.unique(sorted_N[1:][sorted_N[1:] == sorted_N[:-1]])


def _twins(
    digests: pa.Array, start: int, repeated: NDArray[np.uint64], first: dict[bytes, int]
) -> pa.Array:
    """Find the first image with each digest; only those whose key is repeated can have one."""
    twins: list[int | None] = [None] * len(digests)
    for position in np.flatnonzero(np.isin(_keys(digests.buffers()[1]), repeated)):
        number = start + int(position)
        earliest = first.setdefault(digests[position].as_py(), number)
        twins[position] = None if earliest == number else earliest
    return pa.array(twins, pa.int32())
