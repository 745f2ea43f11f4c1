"""Recipes: named overlays of params.yaml that aim at a published number, or at a cheaper version of it.

`recipes/NAME.yaml` holds the fields of `Recipe`; with `based_on: OTHER` it holds only what differs from
`recipes/OTHER.yaml`. A name that begins with an underscore is no recipe, but something to base others on.
"""

from __future__ import annotations

import difflib
import functools
import io
import re
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field, ValidationError, field_validator
from ruamel.yaml import YAML

from pipeline_lib.artifacts import publish_text
from pipeline_lib.errors import UserError, closest
from pipeline_lib.overlay import flatten, is_section, overlay
from pipeline_lib.params.load import check, in_yaml, load, read_yaml
from pipeline_lib.params.sections import Section

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

RECIPES = Path("recipes")
# What Hydra, which reads the flags of `dvc exp run`, takes for text without quotes.
_BARE = re.compile(r"(?!(null|true|false|nan|inf)$)[A-Za-z_][\w./-]*", re.ASCII | re.IGNORECASE)


class Recipe(Section):
    """A recipe together with what it is based on."""

    title: str = Field(min_length=1)
    """What it is, in a few words."""
    source: str = Field(min_length=1)
    """The paper or the official code, and what it says."""
    target: str = Field(min_length=1)
    """The number to reach, its metric and where it was published; or that there is none."""
    cost: str = Field(min_length=1)
    """Derived from the number of images, or measured; it says which."""
    notes: list[str]
    """Where it differs from its source. Those of the recipe it is based on come first."""
    params: dict[str, Any] = Field(min_length=1)
    """The overlay of params.yaml."""

    @field_validator("params")
    @classmethod
    def _no_empty_list(cls, params: dict[str, Any]) -> dict[str, Any]:
        for key, value in flatten(params):
            if value == []:
                msg = f"{key} is an empty list, which says nothing; leave it out"
                raise ValueError(msg)
        return params


def names(folder: Path = RECIPES) -> list[str]:
    """All recipes; q005 means 0.05 and comes before q01, 250 labels come before 1000.

    Raises:
        UserError: There is no folder of recipes.
    """
    if not folder.is_dir():
        msg = f"{folder}: not found; run from the root of the repository"
        raise UserError(msg)
    return sorted((p.stem for p in folder.glob("*.yaml") if p.stem[0] != "_"), key=_in_order)


def _in_order(name: str) -> tuple[list[str | float], str]:
    parts = re.split(r"(\d+)", name)
    numbers = [float(f"0.{d[1:]}") if d[0] == "0" else float(d) for d in parts[1::2]]
    return [x for pair in zip(parts[::2], [*numbers, 0.0], strict=True) for x in pair], name


def read_all(folder: Path = RECIPES) -> dict[str, Recipe]:
    """Read every recipe (see `read`), and each file once."""
    files: dict[Path, Mapping[str, Any]] = {}
    return {name: read(name, folder, files) for name in names(folder)}


def read(
    name: str, folder: Path = RECIPES, files: dict[Path, Mapping[str, Any]] | None = None
) -> Recipe:
    """Read a recipe and what it is based on.

    Args:
        name: of the recipe.
        folder: of all recipes.
        files: the files that were read before; what is read now is added.

    Raises:
        UserError: There is no such recipe, or its file does not say what a recipe must.
    """
    known = names(folder)
    if name not in known:
        close = closest(name, known, most=3)
        hint = f"did you mean {', '.join(close)}? " if close else ""
        msg = f"no recipe {name!r}; {hint}`python -m stages.app recipe list` shows all"
        raise UserError(msg)
    path = folder / f"{name}.yaml"
    try:
        return Recipe.model_validate(_with_base(path, (), {} if files is None else files))
    except ValidationError as error:
        problems = [f"{path}: {'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors()]
        raise UserError("\n".join(problems)) from error


def _with_base(
    path: Path, above: tuple[Path, ...], files: dict[Path, Mapping[str, Any]]
) -> dict[str, Any]:
    """The content of a file, laid over what it is based on; notes add up."""
    if path in above or not path.is_file():
        problem = "is based on itself" if path in above else "not found"
        msg = f"{above[-1]}: based_on: {path} {problem}"
        raise UserError(msg)
    if path not in files:
        files[path] = read_yaml(path)
    content = {"notes": [], **files[path]}
    if "based_on" not in content:
        return content
    base = _with_base(path.with_name(f"{content.pop('based_on')}.yaml"), (*above, path), files)
    notes = [*base["notes"], *content["notes"]]
    params = overlay(base.get("params", {}), content.get("params", {}))
    return {**base, **content, "notes": notes, "params": params}


def changes(content: Mapping[str, Any], recipe: Recipe) -> list[tuple[str, Any, Any]]:
    """Key, old and new value of what a recipe changes, in the order of params.yaml.

    Args:
        content: of params.yaml.
        recipe: any.
    """
    new = dict(flatten(recipe.params))
    old = dict(flatten(content))
    return [(key, old[key], new[key]) for key in old if key in new and new[key] != old[key]]


def flags(recipe: Recipe) -> str:
    """The whole overlay as `-S key=value ...`, in the grammar of Hydra and without a space in a value.

    Raises:
        UserError: A text holds a space, where the shell would split it.
    """
    return " ".join(f"-S {key}={_as_flag(key, value)}" for key, value in flatten(recipe.params))


def _as_flag(key: str, value: object) -> str:
    if value is None:
        return "null"
    if isinstance(value, dict):
        msg = (
            f"{key}: a mapping of names cannot be a flag, which would add to it; use `recipe apply`"
        )
        raise UserError(msg)
    if isinstance(value, list):
        return f"[{','.join(_as_flag(key, item) for item in value)}]"
    if not isinstance(value, str):
        return str(value).lower()
    if _BARE.fullmatch(value):
        return value
    if re.search(r"[\s'\\]", value):
        msg = f"{key}: {value!r} cannot be a flag (space, quote or backslash); use `recipe apply`"
        raise UserError(msg)
    return f"'{value}'"


def apply(recipe: Recipe, path: Path, shown: str) -> str:
    """Edit params.yaml, and give the difference; nothing is written if the result would be refused.

    Args:
        recipe: any.
        path: of params.yaml.
        shown: what to call the recipe in an error.

    Raises:
        UserError: params.yaml is wrong already, or would be afterwards.
    """
    load(path)
    before = path.read_text(encoding="utf-8")
    after = edited(before, recipe.params)
    check(YAML(typ="safe", pure=True).load(after), Path(shown))
    if after != before:
        publish_text(path, after, sidecar=False)
    return "".join(
        difflib.unified_diff(
            before.splitlines(keepends=True),
            after.splitlines(keepends=True),
            f"{path} before",
            f"{path} after",
        )
    )


def edited(text: str, params: Mapping[str, Any]) -> str:
    """Lay `params` over YAML text, with its comments, in the form in which `dvc exp run -S` leaves it."""
    yaml = YAML()
    yaml.default_flow_style = False
    content = yaml.load(text)
    _edit(content, params)
    stream = io.StringIO()
    yaml.dump(content, stream)
    return stream.getvalue()


def _edit(section: dict[str, Any], params: Mapping[str, Any], above: str = "") -> None:
    for key, value in params.items():
        old, name = section.get(key), f"{above}{key}"
        if isinstance(old, dict) and is_section(value, name):
            _edit(old, value, f"{name}.")
        elif isinstance(value, list) and isinstance(old, list):
            old[:] = value  # in place: the comments hang on the list
        elif isinstance(value, dict) and isinstance(old, dict) and value != old:
            old.clear()  # likewise
            old.update(value)
        elif value != old or isinstance(value, bool) != isinstance(old, bool):
            section[key] = value


def described(recipe: Recipe, content: Mapping[str, Any], path: Path) -> str:
    """A recipe in words, and what it changes.

    Args:
        recipe: any.
        content: of params.yaml.
        path: of params.yaml.
    """
    wrap = functools.partial(textwrap.wrap, width=88, break_on_hyphens=False)
    fields = {"to reach": recipe.target, "source": recipe.source, "cost": recipe.cost}
    lines = [recipe.title, ""]
    for name, text in [*fields.items(), *(("note", note) for note in recipe.notes)]:
        lines += wrap(text, initial_indent=f"{name}: ", subsequent_indent="  ")
    changed = changes(content, recipe)
    lines += ["", f"{path}: {len(changed)} of the {len(list(flatten(recipe.params)))} keys change"]
    lines += [f"  {key}: {in_yaml(old)} -> {in_yaml(new)}" for key, old, new in changed]
    return "\n".join(lines)


def markdown(recipes: Mapping[str, Recipe]) -> str:
    """A page with a table of all recipes."""
    head = [
        "# All recipes",
        "",
        "Written by `python -m stages.app recipe list --markdown > docs/reference/recipes.md` from the files",
        "in `recipes/`. What they are for: [how to use recipes](../how-to/recipes.md).",
        "",
        "EFLOP: 10^18 floating-point operations; GMAC: 10^9 multiplications with an addition. USB and TorchSSL: code bases for",
        "few labels with tables of their own; WSC (ICML 2025) and DMIS: papers with tables that are quoted; RCR: their name for",
        "CR-DPLL; GLWS: a code base for weak labels.",
        "",
    ]
    rows: list[Sequence[str]] = [("recipe", "what", "to reach", "cost"), ("---",) * 4]
    rows += [(f"`{name}`", r.title, r.target, r.cost) for name, r in recipes.items()]
    lines = ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows]
    return "\n".join([*head, *lines]) + "\n"
