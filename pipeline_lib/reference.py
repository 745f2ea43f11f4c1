"""params.yaml described from the classes that check it: JSON Schema for editors, tables for people."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pipeline_lib.params.load import Params, in_yaml
from pipeline_lib.params.methods import KINDS

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

HEAD = """\
# Every key of params.yaml

Written by `python -m stages.app reference` from `pipeline_lib/params/`; edit the docstrings there, not this
file. No key has a default: params.yaml names them all, and the last column shows what it says. An unknown
key, a missing key or a value out of range stops `python -m stages.configure`, one line per mistake.
"""
TABLE = ["| key | values | meaning | in params.yaml |", "|---|---|---|---|"]
TYPES = {
    "string": "text",
    "integer": "integer",
    "number": "number",
    "boolean": "`true`, `false`",
    "null": "`null`",
}
LIMITS = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}


def json_schema() -> dict[str, Any]:
    """JSON Schema of params.yaml; a key's description is the docstring of its field.

    What only the whole file can say (an image folder needs a path, a torchvision model's name) is
    checked by `configure`, not by the schema.
    """
    schema = Params.model_json_schema()
    schema["properties"]["method"]["enum"] = list(KINDS)
    for section in (schema, *schema["$defs"].values()):
        for titled in (section, *section["properties"].values()):
            titled.pop("title", None)  # pydantic makes them up from the names
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "params.yaml",
        **schema,
    }


def tables(values: Mapping[str, Any]) -> str:
    """The same as Markdown, one table per section.

    Args:
        values: the content of params.yaml.
    """
    schema = json_schema()
    lines = [HEAD]
    for path, section in _sections((), schema, schema["$defs"]):
        name = ".".join(path)
        lines += [f"## {name or 'top level'}", "", _purpose(path, section), ""]
        lines += [*TABLE, *_rows(section, _at(values, path)), ""]
    return "\n".join(lines)


def _sections(
    path: tuple[str, ...], section: Mapping[str, Any], definitions: Mapping[str, Any]
) -> Iterator[tuple[tuple[str, ...], Mapping[str, Any]]]:
    """Every section that has keys of its own, in the order of the file."""
    if any("$ref" not in key for key in section["properties"].values()):
        yield path, section
    for name, key in section["properties"].items():
        if "$ref" in key:
            inner = definitions[key["$ref"].rpartition("/")[2]]
            yield from _sections((*path, name), inner, definitions)


def _purpose(path: tuple[str, ...], section: Mapping[str, Any]) -> str:
    if not path:
        return "What is trained, and the seed of everything random."
    kind = f" Kind of labels: `{KINDS[path[-1]]}`." if path[0] == "methods" else ""
    return f"{section['description']}{kind}"


def _rows(section: Mapping[str, Any], values: Mapping[str, Any]) -> Iterator[str]:
    for name, key in section["properties"].items():
        if "$ref" not in key:
            cells = [f"`{name}`", _allowed(key), key["description"], f"`{in_yaml(values[name])}`"]
            one_line = (" ".join(cell.split()).replace("|", "\\|") for cell in cells)
            yield "| " + " | ".join(one_line) + " |"


def _allowed(key: Mapping[str, Any]) -> str:
    """In words, what a key may be."""
    if "anyOf" in key:
        return " or ".join(_allowed(choice) for choice in key["anyOf"])
    if "enum" in key:
        return ", ".join(f"`{choice}`" for choice in key["enum"])
    if key["type"] == "array":
        return f"list of: {_allowed(key['items'])}"
    if key["type"] == "object":
        inner = key["additionalProperties"]
        free = inner is True or inner.get("additionalProperties") is True or "$ref" in inner
        return f"mapping of names to: {'settings' if free else _allowed(inner)}"
    if "pattern" in key:
        return f"text like `{key['pattern']}`"
    limits = [f"{sign} {key[limit]:g}" for limit, sign in LIMITS.items() if limit in key]
    return " ".join([TYPES[key["type"]], *([", ".join(limits)] if limits else [])])


def _at(values: Mapping[str, Any], path: tuple[str, ...]) -> Mapping[str, Any]:
    for name in path:
        values = values[name]
    return values
