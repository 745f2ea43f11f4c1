"""What is known of the labels of some images, as arrays, and what a protocol makes of it.

N images, K classes, V votes. Nothing here is a Python object per image: names of images stay in
Arrow and are looked up for messages and when tables are written.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Literal, NamedTuple, get_args

import numpy as np

from pipeline_lib.errors import UserError
from pipeline_lib.records import Role
from pipeline_lib.rng import generator

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    import pyarrow as pa
    from numpy.typing import NDArray

    from pipeline_lib.params.split import Split

    Pixels = Callable[[NDArray[np.int32]], Iterator[tuple[NDArray[np.intp], NDArray[np.uint8]]]]

Part = Literal["train", "val"]
UNKNOWN = -1
BLOCK = 8192
ROLES: tuple[Role, ...] = get_args(Role)
SPLITS = ("train", "val", "test")
TRAIN, VAL, TEST = range(len(SPLITS))


@dataclass(frozen=True)
class Votes:
    """What annotators said, one vote per entry, no vote twice; ordered by image, annotator, class.

    Attributes:
        image_V: positions in `Labels`.
        annotator_V: positions in `annotators`.
        class_V: classes.
        annotators: names.
    """

    image_V: NDArray[np.int32]
    annotator_V: NDArray[np.int32]
    class_V: NDArray[np.int16]
    annotators: Sequence[str]

    def __len__(self) -> int:
        return len(self.image_V)


class Said(NamedTuple):
    """What the data say of all M images of labels.parquet; `Labels.row_N` points into it.

    Attributes:
        source: what the user calls the images, M strings.
        label_M: the label that was given, else UNKNOWN.
        candidate_row, candidate_class: the candidate sets, one entry per candidate.
        votes: of the annotators.
        twin_M: id of the first image with the same pixels, else UNKNOWN.
        group_M: number of the group that stays in one part (`protocols.groups`), below zero if it is one image that nothing
            groups; None where nothing is grouped.
    """

    source: pa.ChunkedArray
    label_M: NDArray[np.int16]
    candidate_row: NDArray[np.int32]
    candidate_class: NDArray[np.int32]
    votes: Votes
    twin_M: NDArray[np.int32]
    group_M: NDArray[np.int32] | None = None


@dataclass(frozen=True)
class Labels:
    """The labels of N images.

    Attributes:
        id_N: int32, ascending.
        row_N: where `said` has them, ascending too.
        split_N: TRAIN, VAL, TEST, or UNKNOWN where the data do not say.
        truth_N: the true label, else the label that was given, else UNKNOWN.
        weak_N: bool, whether more or less was given than the true label.
        class_names: K names.
        said: what the data say of these images and of others.
    """

    id_N: NDArray[np.int32]
    row_N: NDArray[np.int32]
    split_N: NDArray[np.int8]
    truth_N: NDArray[np.int16]
    weak_N: NDArray[np.bool_]
    class_names: tuple[str, ...]
    said: Said

    @property
    def num_classes(self) -> int:
        """K."""
        return len(self.class_names)

    def __len__(self) -> int:
        return len(self.id_N)

    def where(self, keep: NDArray[np.bool_]) -> Labels:
        """Give the images that the mask keeps."""
        return Labels(
            self.id_N[keep],
            self.row_N[keep],
            self.split_N[keep],
            self.truth_N[keep],
            self.weak_N[keep],
            self.class_names,
            self.said,
        )

    def as_told(self) -> Labels:
        """The same as training may know them: a class only where a label was given."""
        return replace(self, truth_N=self.said.label_M[self.row_N])

    def with_groups(self, group_M: NDArray[np.int32]) -> Labels:
        """The same with groups."""
        return replace(self, said=self.said._replace(group_M=group_M))

    def groups(self) -> NDArray[np.int32]:
        """The group of each image, where there are any."""
        assert self.said.group_M is not None  # noqa: S101
        return self.said.group_M[self.row_N]

    def sources(self) -> pa.ChunkedArray:
        """Names of the images."""
        here_M = np.zeros(len(self.said.source), bool)
        here_M[self.row_N] = True
        return self.said.source.filter(here_M)

    def first(self, keep: NDArray[np.bool_], limit: int) -> list[str]:
        """Names of the first images that the mask keeps."""
        rows = self.row_N[np.flatnonzero(keep)[:limit]]
        return [self.said.source[row].as_py() for row in rows.tolist()]

    def named(self, keep: NDArray[np.bool_], limit: int = 10) -> str:
        """Name the images that the mask keeps, as `errors.listed` does, however many they are."""
        shown = self.first(keep, limit)
        more = int(keep.sum()) - len(shown)
        return ", ".join(shown) + (f" and {more} more" if more else "")

    def votes(self) -> Votes:
        """What annotators said of these images."""
        said = self.said.votes
        at_V = self._position()[said.image_V]
        here_V = at_V != UNKNOWN
        return Votes(at_V[here_V], said.annotator_V[here_V], said.class_V[here_V], said.annotators)

    def candidates(self) -> NDArray[np.bool_]:
        """Mask of the candidates that the data name, (N, K); empty where they name none."""
        at = self._position()[self.said.candidate_row]
        return marks(len(self), self.num_classes, at[at >= 0], self.said.candidate_class[at >= 0])

    def with_sets(self) -> NDArray[np.bool_]:
        """Mask of the images of which the data name candidates, or that annotators voted on."""
        named_N = np.asarray(self.candidates().any(axis=1))
        named_N[self.votes().image_V] = True
        return named_N

    def _position(self) -> NDArray[np.int32]:
        """Position of each row of `said` among these images, else UNKNOWN."""
        at_M = np.full(len(self.said.label_M), UNKNOWN, np.int32)
        at_M[self.row_N] = np.arange(len(self), dtype=np.int32)
        return at_M


@dataclass(frozen=True)
class Weakened:
    """The labels that training may see.

    Attributes:
        labels: the N images that a protocol kept.
        candidates_NK: bool, their candidate sets.
        role_N: position in ROLES.
    """

    labels: Labels
    candidates_NK: NDArray[np.bool_]
    role_N: NDArray[np.int8]

    def told(self) -> NDArray[np.bool_]:
        """The classes (K,) that labels and candidate sets name; a set of all classes names none."""
        telling_N = self.candidates_NK.sum(axis=1) < self.labels.num_classes
        told_K: NDArray[np.bool_] = self.candidates_NK[telling_N].any(axis=0)
        return told_K


@dataclass(frozen=True, eq=False)
class Task:
    """What a protocol may use, beside the labels that it weakens. The same one for all parts.

    Attributes:
        params: `split` of params.yaml.
        seed: of every draw.
        training: the training images before `data.limit`, so that what is learned from them does not
            depend on it.
        superclasses: the dataset's own, by name, or None.
        pixels: gives images by their ids, block by block: positions among the ids (B,), and uint8 (B, H, W, C).
    """

    params: Split
    seed: int
    training: Labels
    superclasses: Mapping[str, Sequence[str]] | None
    pixels: Pixels


def marks(
    number: int, num_classes: int, row: NDArray[np.integer], of_class: NDArray[np.integer]
) -> NDArray[np.bool_]:
    """Turn pairs of a row and a class into a mask (number, K)."""
    marks_NK = np.zeros((number, num_classes), bool)
    marks_NK[row, of_class] = True
    return marks_NK


def roles(candidates_NK: NDArray[np.bool_]) -> NDArray[np.int8]:
    """Name each image after its candidate set: one class, all classes, or something between."""
    size_N = candidates_NK.sum(axis=1)
    role_N = np.full(len(size_N), ROLES.index("partial"), np.int8)
    role_N[size_N == candidates_NK.shape[1]] = ROLES.index("unlabeled")
    role_N[size_N == 1] = ROLES.index("labeled")
    return role_N


def singletons(labels: Labels) -> NDArray[np.bool_]:
    """Mask of the true label only, (N, K)."""
    mask_NK: NDArray[np.bool_] = labels.truth_N[:, None] == np.arange(
        labels.num_classes, dtype=np.int16
    )
    return mask_NK


def require_truth(labels: Labels, who: str) -> None:
    """Refuse images whose true label is unknown.

    Raises:
        UserError: `who` needs it; the first images without.
    """
    without_N = labels.truth_N == UNKNOWN
    if without_N.any():
        sources = labels.named(without_N, limit=3)
        msg = f"{who} needs the label of every image, {without_N.sum()} have none ({sources})"
        raise UserError(msg)


def blocks(
    id_N: NDArray[np.int32], width: int, seed: int, purpose: str, *counters: str | int
) -> Iterator[tuple[slice, NDArray[np.float64]]]:
    """Draw `width` uniform numbers for each image, which depend on its id but not on the others.

    Args:
        id_N: ascending.
        width: how many numbers.
        seed: of the draws.
        purpose: of the draws.
        counters: that tell several draws of one purpose apart.

    Yields:
        Some images that stand together, and their numbers in [0, 1), (B, width).
    """
    block_N = id_N // BLOCK
    ends = np.append(np.flatnonzero(np.diff(block_N)) + 1, len(block_N))
    start = 0
    for end in map(int, ends):
        if start == end:
            return
        block = int(block_N[start])
        numbers_MK = _numbers(width, seed, purpose, *counters, block)
        yield slice(start, end), numbers_MK[id_N[start:end] % BLOCK]
        start = end


@lru_cache(maxsize=1)  # images that come in smaller groups ask for the same block again and again
def _numbers(width: int, seed: int, purpose: str, *counters: str | int) -> NDArray[np.float64]:
    """Draw the numbers of BLOCK images; the array is shared."""
    numbers_MK = generator(seed, purpose, *counters).random((BLOCK, width))
    numbers_MK.setflags(write=False)
    return numbers_MK


def draws(labels: Labels, seed: int, purpose: str, *counters: str | int) -> NDArray[np.float64]:
    """Draw one number for each image (see `blocks`), (N,)."""
    number_N = np.empty(len(labels))
    for here, number_B1 in blocks(labels.id_N, 1, seed, purpose, *counters):
        number_N[here] = number_B1[:, 0]
    return number_N
