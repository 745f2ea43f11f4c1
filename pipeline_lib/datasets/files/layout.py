"""What the path of a file says: its split and its class."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Literal

from pipeline_lib.errors import UserError, listed
from pipeline_lib.images import SUFFIXES

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

SPLITS: dict[str, Literal["train", "val", "test"]] = {
    "train": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
}
DEEPEST = 3
CLUTTER = ("thumbs.db", "desktop.ini", "__macosx")


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


def arrange(names: Iterable[str], shown: str) -> list[Place]:
    """Read `<split>/<class>/<file>`, `<class>/<file>` or `<file>`, in one enclosing folder or none.

    Folders are splits only where all of the topmost ones have names of splits.

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
        msg = f"{shown}: holds no image; names of images end in {' '.join(SUFFIXES)}"
        raise UserError(msg)
    tops = {parts[0] for parts in members.values()}
    enclosed = (
        len(tops) == 1 and not tops & SPLITS.keys() and all(len(p) > 1 for p in members.values())
    )
    inner = {name: parts[enclosed:] for name, parts in members.items()}
    folders = {parts[0] for parts in inner.values() if len(parts) > 1}
    has_splits = bool(folders) and folders <= SPLITS.keys()
    places = [
        _place(name, parts, has_splits=has_splits, shown=shown) for name, parts in inner.items()
    ]
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
    empty = {path[-1] for path in paths if path[:-1] in above} - classes - SPLITS.keys()
    if empty:
        names = listed(repr(name) for name in sorted(empty))
        msg = f"classes without images: {names}; add images or remove the folder"
        raise UserError(msg)


def _place(name: str, parts: tuple[str, ...], *, has_splits: bool, shown: str) -> Place:
    source = "/".join(parts)
    split = SPLITS[parts[0]] if has_splits and len(parts) > 1 else None
    rest = parts[1:] if split else parts
    if len(rest) >= DEEPEST:
        msg = (
            f"{shown}: {name}: lies too deep; arrange files as <split>/<class>/<file> "
            f"(split: {', '.join(SPLITS)}), <class>/<file> or <file>"
        )
        raise UserError(msg)
    return Place(name, source, split, rest[0] if len(rest) > 1 else None)
