"""The split stage: divide the images, weaken the labels, and keep the true ones apart."""

from __future__ import annotations

import importlib
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, cast

import numpy as np
import pyarrow as pa

from pipeline_lib.errors import LabelsError, UserError, listed
from pipeline_lib.params.split import Split
from pipeline_lib.protocols import agreement, clean, groups
from pipeline_lib.protocols.duplicates import describe, first_copies, resolve_rule, warnings
from pipeline_lib.protocols.labels import (
    BLOCK,
    ROLES,
    TEST,
    UNKNOWN,
    Labels,
    Task,
    Weakened,
    singletons,
)
from pipeline_lib.protocols.parts import divide
from pipeline_lib.protocols.summary import misses, summarize
from pipeline_lib.protocols.table import from_table
from pipeline_lib.records import LIST_VALUES

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from numpy.typing import NDArray

    from pipeline_lib.protocols.labels import Part, Pixels
    from pipeline_lib.records import Kind


class LabelProtocol(Protocol):
    """A module of this package that is named after a `split.protocol`, or `clean`."""

    def weaken(self, labels: Labels, task: Task, part: Part) -> Weakened:
        """Decide what training may see of the labels."""


class Tables(NamedTuple):
    """What the stage writes to data/split, and lines of warning that it prints."""

    train: pa.Table
    val: pa.Table
    test: pa.Table
    oracle: pa.Table
    summary: dict[str, Any]
    warnings: list[str]


def split(
    table: pa.Table,
    classes: Mapping[str, Any],
    kind: Kind,
    params: Split,
    seed: int,
    limit: int | None,
    pixels: Pixels,
) -> Tables:
    """Divide the images of labels.parquet and weaken their labels.

    Args:
        table: labels.parquet.
        classes: classes.json.
        kind: what the method learns from.
        params: `split` of params.yaml.
        seed: of every draw.
        limit: `data.limit`.
        pixels: gives images by their ids (see `Task`).

    Raises:
        UserError: The labels do not allow what params.yaml asks for.
    """
    names = classes["classes"]
    if len(names) < 2:
        msg = f"a classifier needs at least two classes, the data have {listed(names) or 'none'}"
        raise LabelsError(msg)
    known = groups.grouped(from_table(table, names, classes["annotators"]), params.group_by)
    del table  # most of the memory of this stage
    name = resolve_protocol(kind, params, known)
    rule = resolve_rule(params, classes["dataset"])
    kept = known.where(first_copies(known)) if rule == "drop" else known
    given = is_given(params, known)
    parts = divide(
        kept, params.test_fraction, params.val_fraction, limit, seed, given, classes["dataset"]
    )
    group_counts = groups.describe(parts)
    duplicates = describe(known, parts, rule)
    task = Task(params, seed, parts.unlimited, classes["superclasses"], pixels)
    protocol = load_protocol(name)
    train = protocol.weaken(parts.train, task, "train")
    if params.labeled_in_unlabeled:
        train = _with_labeled_ones(train)
    val_protocol = clean if params.val_labels == "clean" else protocol
    has_truth_N = parts.val.truth_N != UNKNOWN
    measurable = parts.val.where(has_truth_N) if val_protocol is clean else parts.val
    val = val_protocol.weaken(measurable, task, "val")
    _check_classes(train, name, known, parts.unlimited)
    noisy = _check_noise(train, val, allowed=params.allow_noisy_candidates)
    summary = (
        summarize(name, kind, params, parts, train, val)
        | noisy
        | {"duplicates": duplicates, "groups": group_counts}
    )
    cast_votes = getattr(protocol, "cast_votes", None)
    if cast_votes is not None and len(cast_votes(task.training, task)):
        summary["annotators"] = agreement.describe(task, cast_votes)
    return Tables(
        _table(train),
        _table(val),
        _test_table(parts.test),
        _oracle_table(train, val),
        summary,
        [*groups.warnings(known), *warnings(known, classes["dataset"])],
    )


def _with_labeled_ones(train: Weakened) -> Weakened:
    """Put labeled images into the unlabeled set too, if there is one."""
    labeled, unlabeled, both = map(ROLES.index, ("labeled", "unlabeled", "labeled_and_unlabeled"))
    if unlabeled not in train.role_N:
        return train
    role_N = np.where(train.role_N == labeled, both, train.role_N).astype(np.int8)
    return replace(train, role_N=role_N)


def is_given(params: Split, labels: Labels) -> bool:
    """Whether all but `oracle` learn from labels as the data give them; it gets the same images."""
    if params.protocol != "auto":
        return params.protocol == "given"
    return bool(labels.weak_N[labels.split_N != TEST].any())


def resolve_protocol(kind: Kind, params: Split, labels: Labels) -> str:
    """Name the protocol: a clean method overrides the params, and `auto` looks at data and method.

    A limit does not change it, as all images but the data's own test split are looked at.

    Raises:
        UserError: The protocol would weaken true labels where a table gives other supervision.
    """
    if kind == "clean":
        return "clean"
    if params.protocol not in {"auto", "given"}:
        _check_unsupervised(params.protocol, labels.where(labels.split_N != TEST))
    if params.protocol != "auto":
        return params.protocol
    if is_given(params, labels):
        return "given"
    return {"partial": "uniform_candidates", "few_shot": "few_shot"}[kind]


def _check_unsupervised(protocol: str, labels: Labels) -> None:
    """Refuse images of which the data say something else than the true label, or than nothing."""
    supervised_N = _supervised(labels)
    if supervised_N.any():
        msg = (
            f"split.protocol {protocol} would weaken true classes, but data.table supervises "
            f"({labels.named(supervised_N, limit=3)}); "
            f"set split.protocol to auto or given, or data.table to null"
        )
        raise UserError(msg)


def _supervised(labels: Labels) -> NDArray[np.bool_]:
    supervised_N: NDArray[np.bool_] = labels.truth_N != labels.said.label_M[labels.row_N]
    named_NK = labels.candidates()
    votes = labels.votes()
    silent_V = (named_NK.sum(axis=1) == 0)[votes.image_V]
    named_NK[votes.image_V[silent_V], votes.class_V[silent_V]] = True
    named_N = named_NK.any(axis=1)
    expected_NK = singletons(labels) | (labels.truth_N == UNKNOWN)[:, None]
    supervised_N[named_N] = (named_NK[named_N] != expected_NK[named_N]).any(axis=1)
    return supervised_N


def load_protocol(name: str) -> LabelProtocol:
    """Import the module of a protocol."""
    return cast("LabelProtocol", importlib.import_module(f"pipeline_lib.protocols.{name}"))


def _check_classes(train: Weakened, protocol: str, known: Labels, unlimited: Labels) -> None:
    """Refuse a class of which training would see nothing, and name one of the `known` images that has it."""
    names, seen_K = train.labels.class_names, train.told()
    if not seen_K.any():
        has_knobs = protocol in Split.model_fields
        advice = f"let split.{protocol} keep more of the labels, or " if has_knobs else ""
        msg = (
            f"no training image says anything of its class: all candidate sets hold all classes; "
            f"{advice}give labels"
        )
        raise UserError(msg)
    truth_N = train.labels.truth_N
    if (truth_N != UNKNOWN).all():
        seen_K = np.bincount(truth_N, minlength=len(names)) > 0
    if not seen_K.all():
        missing = listed(_with_images(known, np.flatnonzero(~seen_K)))
        if len(train.labels) < len(unlimited) and (_said(unlimited)[:, ~seen_K]).any():
            msg = f"data.limit: {len(train.labels)} training images leave classes without any: {missing}; raise it"
            raise UserError(msg)
        advice = "add images of them or remove the classes"
        if known.said.group_M is not None:
            advice = f"if all their groups are tested or validated with (split.group_by), take another seed; else {advice}"
        msg = f"classes without training images: {missing}; {advice}"
        raise LabelsError(msg)


def _said(labels: Labels) -> NDArray[np.bool_]:
    """Which classes are said of each image: as its true label, as a candidate, or by an annotator."""
    votes, said_NK = labels.votes(), labels.candidates()
    said_NK[votes.image_V, votes.class_V] = True
    known_N = np.flatnonzero(labels.truth_N != UNKNOWN)
    said_NK[known_N, labels.truth_N[known_N]] = True
    return said_NK


def _with_images(known: Labels, classes: NDArray[np.intp]) -> Iterator[str]:
    """Name classes, each with the first image of which it is said, if one is left."""
    said_NK = _said(known)
    for k in classes:
        said_N = said_NK[:, k]
        image = f" ({known.named(said_N, limit=1)})" if said_N.any() else ""
        yield f"{known.class_names[k]!r}{image}"


def _check_noise(train: Weakened, val: Weakened, *, allowed: bool) -> dict[str, Any]:
    """Count candidate sets without the true label; refuse them unless they are allowed."""
    missed = {"train": misses(train), "val": misses(val)}
    counts = {part: int(missed_N.sum()) for part, missed_N in missed.items()}
    number = sum(counts.values())
    firsts = [part.labels.first(misses(part), 10) for part in (train, val)]
    sources = [*firsts[0], *firsts[1]][:10]
    if number and not allowed:
        total = len(train.labels) + len(val.labels)
        more = f" and {number - len(sources)} more" if number > len(sources) else ""
        msg = (
            f"{number} of {total} candidate sets miss the true label ({', '.join(sources)}{more}); "
            f"correct them, or set split.allow_noisy_candidates: true"
        )
        raise UserError(msg)
    return {"noisy": counts, "noisy_first": sources}


def _table(part: Weakened) -> pa.Table:
    ends_N = np.cumsum(part.candidates_NK.sum(axis=1))
    if ends_N.max(initial=0) > LIST_VALUES:
        msg = (
            f"data.limit: {len(ends_N):,} images have {ends_N[-1]:,} candidates, more than the {LIST_VALUES:,} that a "
            f"table can list (an unlabeled image has all classes); set it lower"
        )
        raise UserError(msg)
    offsets = pa.array(np.concatenate([[0], ends_N]), pa.int32())
    classes = [
        np.nonzero(part.candidates_NK[start : start + BLOCK])[1].astype(np.int16)
        for start in range(0, len(part.labels), BLOCK)
    ]
    flat = pa.array(np.concatenate([np.empty(0, np.int16), *classes]))
    columns = {
        "id": pa.array(part.labels.id_N, pa.int32()),
        "candidates": pa.ListArray.from_arrays(offsets, flat),
        "role": pa.array(ROLES).take(pa.array(part.role_N)),
    }
    return pa.table(columns)


def _test_table(labels: Labels) -> pa.Table:
    columns = {
        "id": pa.array(labels.id_N, pa.int32()),
        "label": pa.array(labels.truth_N, pa.int16()),
        "group": pa.array(_drawn_together(labels), pa.int32()),
    }
    return pa.table(columns)


def _drawn_together(labels: Labels) -> NDArray[np.int32]:
    """Name the group of each image by the id of its first one; an image by itself is its own."""
    if labels.said.group_M is None:
        return labels.id_N
    _, first_U, unit_N = np.unique(labels.groups(), return_index=True, return_inverse=True)
    group_N: NDArray[np.int32] = labels.id_N[first_U][unit_N]
    return group_N


def _oracle_table(train: Weakened, val: Weakened) -> pa.Table:
    """What is known of the images and training must not see: true labels, and names of files."""
    truth_N = np.concatenate([train.labels.truth_N, val.labels.truth_N])
    part_N = np.repeat(np.arange(2, dtype=np.int8), [len(train.labels), len(val.labels)])
    sources = [*train.labels.sources().chunks, *val.labels.sources().chunks]
    columns = {
        "id": pa.array(np.concatenate([train.labels.id_N, val.labels.id_N]), pa.int32()),
        "source": pa.chunked_array(sources, pa.string()),
        "label": pa.array(truth_N, pa.int16(), mask=truth_N == UNKNOWN),
        "part": pa.array(["train", "val"]).take(pa.array(part_N)),
    }
    return pa.table(columns)
