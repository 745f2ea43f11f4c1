"""Parquet files that hold images, as the Hugging Face Hub keeps them: which columns, and their rows."""

from __future__ import annotations

import contextlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline_lib.datasets.files.parquet_pages import BATCH_ROWS, batches, open_parquet
from pipeline_lib.datasets.files.sheet import brief, quoted
from pipeline_lib.errors import UserError, listed

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

# A class by number or name, several of them, or nothing.
Said: TypeAlias = int | str | list[int | str | None] | None


@dataclass(frozen=True)
class Columns:
    """What to read of a file.

    Attributes:
        image: struct with `bytes`, or the bytes themselves.
        label: one class per image, by number or name; None if no image has one.
        candidates: several classes per image; None if there is no such column.
        names: of each of these columns, the classes that its numbers stand for; none for text. Numbers of
            candidates that have no names of their own are those of the label.
        ignored: the other columns.
    """

    image: str
    label: str | None
    candidates: str | None
    names: dict[str, tuple[str, ...]]
    ignored: tuple[str, ...]


@contextlib.contextmanager
def open_shard(path: Path, shown: str) -> Iterator[tuple[pq.ParquetFile, Columns]]:
    """Open a Parquet file and find its columns.

    Raises:
        UserError: It is damaged, or which columns are meant is not clear; `shown` is its name.
    """
    with open_parquet(path, shown) as file:
        yield file, _columns(file.schema_arrow, shown)


def read_said(file: pq.ParquetFile, columns: Columns, shown: str) -> Iterator[tuple[Said, Said]]:
    """Give label and candidates of each row."""
    wanted = [name for name in (columns.label, columns.candidates) if name]
    for batch in batches(file, wanted, shown, BATCH_ROWS):
        yield from _said(batch, columns)


def read_rows(
    file: pq.ParquetFile, columns: Columns, shown: str
) -> Iterator[tuple[bytes, Said, Said]]:
    """Give the encoded image, label and candidates of each row.

    In memory are some images and the page of the file that holds them: up to 1024, as files are written.

    Raises:
        UserError: A row names an image that is not in the file.
    """
    wanted = [name for name in (columns.image, columns.label, columns.candidates) if name]
    number = 0
    for batch in batches(file, wanted, shown):
        images = encoded(batch.column(columns.image), shown, number)
        for image, (label, candidates) in zip(images, _said(batch, columns), strict=True):
            yield image, label, candidates
        number += batch.num_rows


def encoded(images: pa.Array, shown: str, first: int) -> Iterator[bytes]:
    """Give the files in a column of images, empty where there is none.

    Args:
        images: bytes, or structs with `bytes` and perhaps `path`.
        shown: name of the file.
        first: number of the first row.

    Raises:
        UserError: A row names an image that is not in the file.
    """
    paths = None
    if pa.types.is_struct(images.type):
        if images.type.get_field_index("path") >= 0:
            paths = pc.struct_field(images, "path")
        images = pc.struct_field(images, "bytes")
    for row, value in enumerate(images):
        image = value.as_py() or b""
        if not image and paths is not None and (path := paths[row].as_py()):
            msg = (
                f"{shown}:{first + row}: holds no image, only its path {quoted(path)}; write the "
                f"images themselves (push_to_hub does), or use image_folder"
            )
            raise UserError(msg)
        yield image


def _said(batch: pa.RecordBatch, columns: Columns) -> Iterator[tuple[Said, Said]]:
    label, candidates = (
        batch.column(name).to_pylist() if name else [None] * batch.num_rows
        for name in (columns.label, columns.candidates)
    )
    return zip(label, candidates, strict=True)


def _columns(schema: pa.Schema, shown: str) -> Columns:
    if len(set(schema.names)) < len(schema.names) or "" in schema.names:
        found = listed(quoted(name) for name in schema.names)
        msg = f"{shown}: columns need names, every one another; found {found}"
        raise UserError(msg)
    names = _class_names(schema)
    image = image_column(schema, shown)
    candidates = "candidates" if "candidates" in schema.names else None
    others = [name for name in schema.names if name not in {image, candidates}]
    label = None
    if "label" in others or (others and not candidates):
        numbered = [name for name in names if name in others]
        label = _only(
            "label", ["label"] if "label" in others else numbered, schema, "classes", shown
        )
    for name in filter(None, (label, candidates)):
        _check_type(schema.field(name), listing=name == candidates, shown=shown)
    if candidates and label in names:
        names.setdefault(candidates, names[label])
    ignored = tuple(name for name in others if name != label)
    return Columns(image, label, candidates, names, ignored)


def image_column(schema: pa.Schema, shown: str) -> str:
    """Find the column of images.

    Raises:
        UserError: There is none, or more than one and none of them is `image`.
    """
    images = [field.name for field in schema if _holds_images(field.type)]
    return _only("image", images, schema, "bytes of image files", shown)


def _only(name: str, alike: Sequence[str], schema: pa.Schema, what: str, shown: str) -> str:
    """Choose the column of this name, else the only one like it."""
    if name in alike or len(alike) == 1:
        return name if name in alike else alike[0]
    columns = listed(f"{brief(field.name)}: {_kind(field.type)}" for field in schema)
    found = (
        f"several columns hold {what} ({listed(map(brief, alike))})"
        if alike
        else f"no column holds {what}"
    )
    msg = f"{shown}: {found}; rename the one that is meant to `{name}` (there are {columns})"
    raise UserError(msg)


def _kind(kind: pa.DataType) -> str:
    return "struct" if pa.types.is_struct(kind) else str(kind)


def _holds_images(kind: pa.DataType) -> bool:
    if pa.types.is_struct(kind) and kind.get_field_index("bytes") >= 0:
        kind = kind.field("bytes").type
    return bool(
        pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_binary_view(kind)
    )


def _check_type(field: pa.Field, *, listing: bool, shown: str) -> None:
    kind = field.type
    if listing and (pa.types.is_list(kind) or pa.types.is_large_list(kind)):
        kind = kind.value_type
    kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    texts = (
        pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)
    )
    if not (texts or pa.types.is_integer(kind) or pa.types.is_null(kind)):
        wanted = (
            "lists of class names or numbers, or text as cat|dog"
            if listing
            else "class names or numbers"
        )
        msg = f"{shown}: column {brief(field.name)}: holds {_kind(field.type)}; use {wanted}"
        raise UserError(msg)


def _class_names(schema: pa.Schema) -> dict[str, tuple[str, ...]]:
    """Find the classes of each numbered column where the `datasets` library writes them."""
    try:
        features = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"]
        found = {name: _names_of(features[name]) for name in schema.names if name in features}
    except (KeyError, ValueError, TypeError, RecursionError):
        return {}
    return {name: names for name, names in found.items() if names}


def _names_of(feature: object) -> tuple[str, ...]:
    """Take the names of a ClassLabel, or of a list of them."""
    if isinstance(feature, list):
        feature = next(iter(feature), None)
    if isinstance(feature, dict) and isinstance(feature.get("feature"), dict):
        feature = feature["feature"]
    names = feature.get("names") if isinstance(feature, dict) else None
    texts = isinstance(names, list) and all(isinstance(name, str) and name for name in names)
    return tuple(names) if names and texts else ()
