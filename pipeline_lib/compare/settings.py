"""What each contender changes in params.yaml, and which settings they do not share: from what trained."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pipeline_lib.compare.words import joined
from pipeline_lib.methods.phases import GIVEN
from pipeline_lib.overlay import flatten, overlay
from pipeline_lib.params.load import in_yaml
from pipeline_lib.report.labels import Note

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pipeline_lib.compare.read import Results
    from pipeline_lib.params.compare import Compare

SECTIONS = {"network": "model", "training": "train"}
STRETCHED = "steps_per_epoch"  # what compare.amount sets
MOST_NAMED = 6  # settings in one note


def changes(results: Results) -> list[tuple[str, list[tuple[str, str]]]]:
    """What `params` of its method and its variant set, by contender: dotted keys and values as in YAML."""
    compare = results.compare
    return [
        (results.names[f"{method}-{variant}"], _changes(compare, method, variant))
        for method in compare.methods
        for variant in compare.variants
    ]


def _changes(compare: Compare, method: str, variant: str) -> list[tuple[str, str]]:
    both = overlay(compare.methods[method].params, compare.variants[variant])
    of_method = f"methods.{method}."
    return [
        (key.removeprefix(of_method), in_yaml(value))
        for key, value in flatten(both)
        if key.startswith(of_method) or not key.startswith("methods.")
    ]


def notes(results: Results) -> list[Note]:
    """Whether all contenders have the same network and the same settings of training."""
    return [_note(results, name, section) for name, section in SECTIONS.items()]


def made_with(results: Results) -> Note:
    """Whether all cells ran on the same kind of device, with the same versions: their bits depend on it."""
    who: dict[str, dict[str, dict[str, None]]] = {}
    for row in results.cells.rows(named=True):
        for name, value in results.phases[row["key"]]["made_with"].items():
            who.setdefault(name, {}).setdefault(in_yaml(value), {})[row["contender"]] = None
    told = [
        f"{name} {'; '.join(f'{value} ({joined(names)})' for value, names in values.items())}"
        for name, values in who.items()
        if len(values) > 1
    ]
    if told:
        return Note("made with", "not equal", "; ".join(told))
    same = ", ".join(f"{name} {next(iter(values))}" for name, values in who.items())
    return Note("made with", "equal", same)


def unfinished(results: Results) -> list[Note]:
    """For which settings of whom training was too short; nothing where that is true of none."""
    who: dict[str, dict[str, None]] = {}
    for row in results.cells.rows(named=True):
        for why in results.phases[row["key"]]["unfinished"]:
            who.setdefault(why, {})[row["contender"]] = None
    told = [f"{why} ({joined(names)})" for why, names in who.items()]
    more = [f"{len(told) - MOST_NAMED} more"] if len(told) > MOST_NAMED else []
    words = "; ".join([*told[:MOST_NAMED], *more])
    return [Note("long enough for the settings", "not all", words)] if told else []


def _note(results: Results, name: str, section: str) -> Note:
    told = _differing(_by_contender(results, section), stretched=results.compare.amount is not None)
    sought = _sought(results) if section == "train" else ""
    if not told:
        return Note(
            name, "equal", f"{section}, in params.yaml, is the same for all contenders{sought}"
        )
    more = [f"{len(told) - MOST_NAMED} more"] if len(told) > MOST_NAMED else []
    words = "; ".join([*told[:MOST_NAMED], *more])
    return Note(name, "not equal", f"{section}, in params.yaml: {words}{sought}")


def _by_contender(results: Results, section: str) -> dict[str, dict[str, Any]]:
    """A section of what trained, by name; a budget or a seed changes nothing in it."""
    budget = next(iter(results.compare.budgets))
    return {
        name: dict(flatten(results.params[results.keys(contender, budget)[0]][section]))
        for contender, name in results.names.items()
    }


def _differing(values: Mapping[str, Mapping[str, Any]], *, stretched: bool) -> list[str]:
    """Every setting that is not the same for all: its values, each with its contenders."""
    told = []
    for key in dict.fromkeys(key for own in values.values() for key in own):
        who: dict[str, list[str]] = {}
        for name, own in values.items():
            who.setdefault(in_yaml(own.get(key)), []).append(name)
        if len(who) > 1 and not (stretched and key == STRETCHED):
            (most, _), *fewer = sorted(who.items(), key=lambda pair: -len(pair[1]))
            parts = [f"{value} ({joined(names)})" for value, names in fewer]
            told.append(f"{key} {most} but for {'; '.join(parts)}")
    return told


def _sought(results: Results) -> str:
    """Who looked for settings of its own before training."""
    searchers = [
        name
        for contender, name in results.names.items()
        if any(
            _searched(results.phases[key])
            for budget in results.compare.budgets
            for key in results.keys(contender, budget)
        )
    ]
    if not searchers:
        return ""
    return f"; {joined(searchers)} looked for batch size or learning rate before training, and used what came of it"


def _searched(phases: Mapping[str, Any]) -> bool:
    """Whether a setting was not given."""
    reasons = phases.get("found", {}).get("reasons", {})
    return any(why != GIVEN for why in reasons.values())
