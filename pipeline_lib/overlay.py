"""Params laid over params: what a recipe, a variant or a budget changes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

WHOLE = ("compare.methods", "compare.variants", "compare.budgets", "compare.ms_per_step")
"""Mappings of names that a user gives: they are values, and one of them replaces another whole."""


def overlay(
    content: Mapping[str, Any], changes: Mapping[str, Any], above: str = ""
) -> dict[str, Any]:
    """Lay `changes` over `content`: section by section; a list, or a mapping of names, replaces another.

    Args:
        content: of params.yaml, or of the section `above`.
        changes: what differs.
        above: the dotted name of the section with a dot at its end.
    """
    merged = dict(content)
    for key, value in changes.items():
        name = f"{above}{key}"
        inner = merged.get(key)
        sections = is_section(inner, name) and is_section(value, name)
        merged[key] = overlay(merged[key], value, f"{name}.") if sections else value
    return merged


def is_section(value: object, name: str) -> bool:
    """Whether a value has keys of its own, and is no value itself."""
    return isinstance(value, dict) and name not in WHOLE


def flatten(params: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    """Every key of nested sections with its value, the key dotted."""
    for key, value in params.items():
        if is_section(value, f"{above}{key}"):
            yield from flatten(value, f"{above}{key}.")
        else:
            yield f"{above}{key}", value
