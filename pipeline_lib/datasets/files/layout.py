"""What the path of a file says: its split and its class."""

from __future__ import annotations

import unicodedata
from collections import Counter
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Literal

from pipeline_lib.datasets.files.sheet import brief
from pipeline_lib.errors import UserError, listed
from pipeline_lib.images import SUFFIXES

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

SPLITS: dict[str, Literal["train", "val", "test"]] = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
    "testing": "test",
}
UNLABELED = ("unlabeled", "unlabelled")
CLUTTER = ("thumbs.db", "desktop.ini", "__macosx", "@eadir")


@dataclass(frozen=True)
class Place:
    """One image: the name of its member in the archive, and what that name says.

    Attributes:
        source: the name without an enclosing folder; what the user sees.
    """

    member: str
    source: str
    split: Literal["train", "val", "test"] | None
    label: str | None


def is_clutter(name: str) -> bool:
    """Whether a file is none of the user's: hidden, or left by a file manager."""
    return any(part.startswith(".") or part.lower() in CLUTTER for part in name.split("/"))


def is_image(name: str) -> bool:
    """Whether the name ends like an image's."""
    return name.lower().endswith(SUFFIXES)


def composed(name: str) -> str:
    """Write accents as part of their letters: a Mac writes them apart, and they look the same."""
    return unicodedata.normalize("NFC", name)


def split_of(folder: str) -> Literal["train", "val", "test"] | None:
    """Tell which split a folder is named after."""
    return SPLITS.get(folder.casefold())


def is_unlabeled(folder: str) -> bool:
    """Whether a folder is named after images without a class."""
    return folder.casefold() in UNLABELED


def holds_no_image(shown: str) -> UserError:
    """Say that there is nothing to read."""
    return UserError(f"{shown}: holds no image; names of images end in {' '.join(SUFFIXES)}")


def endings(names: Iterable[str]) -> str:
    """Count files by their endings, most frequent first."""
    counts = Counter(PurePosixPath(name.lower()).suffix or "without ending" for name in names)
    return listed(f"{count} {brief(ending)}" for ending, count in counts.most_common())


def arrange(names: Iterable[str], shown: str) -> list[Place]:
    """Read `<split>/<class>/<file>`, `<class>/<file>` or `<file>`, in one enclosing folder or none.

    Folders are splits only where all of the topmost ones have names of splits; `unlabeled` may stand beside. It is
    never a class, as in a table.

    Args:
        names: paths of the images.
        shown: what messages call the whole.

    Returns:
        One place per image, sorted by `source`: the order does not depend on the archive's.

    Raises:
        UserError: There is no image, or one lies too deep.
    """
    members = {name: PurePosixPath(name).parts for name in names}
    if not members:
        raise holds_no_image(shown)
    tops = {parts[0] for parts in members.values()}
    enclosed = (
        len(tops) == 1
        and not any(map(split_of, tops))
        and all(len(parts) > 1 for parts in members.values())
    )
    inner = {name: parts[enclosed:] for name, parts in members.items()}
    folders = {parts[0] for parts in inner.values() if len(parts) > 1}
    some_split = any(map(split_of, folders))
    others = sorted(
        folder
        for folder in folders
        if not split_of(folder) and not (some_split and is_unlabeled(folder))
    )
    has_splits = some_split and not others
    for name, parts in inner.items():
        if len(parts) > (3 if has_splits else 2):
            raise _too_deep(name, shown, others if len(others) < len(folders) else [])
    places = [_place(name, parts, has_splits=has_splits) for name, parts in inner.items()]
    return sorted(places, key=lambda place: place.source)


def check_folders(folders: Iterable[str], places: Sequence[Place]) -> None:
    """Refuse class folders without images: their classes would vanish.

    Args:
        folders: paths of all folders, named like `Place.member`.
        places: what `arrange` gave; where none has a label, no folder is a class.

    Raises:
        UserError: The classes without images.
    """
    classes = {place.label for place in places if place.label is not None}
    above = {tuple(p.member.split("/")[:-2]) for p in places if p.label is not None}
    paths = [tuple(name.split("/")) for name in folders]
    empty = {composed(path[-1]) for path in paths if path[:-1] in above} - classes
    names = listed(
        repr(name) for name in sorted(empty) if not split_of(name) and not is_unlabeled(name)
    )
    if names:
        msg = f"classes without images: {names}; add images or remove the folder"
        raise UserError(msg)


def _place(name: str, parts: tuple[str, ...], *, has_splits: bool) -> Place:
    split = split_of(parts[0]) if has_splits and len(parts) > 1 else None
    if has_splits and is_unlabeled(parts[0]):
        return Place(name, "/".join(parts), "train", None)
    rest = parts[1:] if split else parts
    classed = len(rest) > 1 and not is_unlabeled(rest[0])
    return Place(name, "/".join(parts), split, composed(rest[0]) if classed else None)


def _too_deep(name: str, shown: str, others: Sequence[str]) -> UserError:
    strange = f"; no split is named {listed(map(repr, others), 3)}" if others else ""
    return UserError(
        f"{shown}: {brief(name, 200)}: lies too deep; arrange files as <split>/<class>/<file> "
        f"(split: {', '.join(SPLITS)}; without classes: unlabeled), <class>/<file> or <file>{strange}"
    )
