"""Params laid over params: what a recipe, a variant or a budget changes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping


def overlay(content: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Lay `changes` over `content`: section by section; a list replaces a list."""
    merged = dict(content)
    for key, value in changes.items():
        inner = merged.get(key)
        sections = isinstance(inner, dict) and isinstance(value, dict)
        merged[key] = overlay(merged[key], value) if sections else value
    return merged
