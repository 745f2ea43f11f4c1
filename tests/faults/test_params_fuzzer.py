"""Thousands of params files with mistakes: what is accepted is what the file says; the rest is told in lines."""

from __future__ import annotations

import copy
import re
from pathlib import Path
from random import Random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline_lib.errors import UserError
from pipeline_lib.params.load import check, load, read_yaml
from tests.fuzzing import TOKENS, broken, check_message, counts, in_little_memory, reworded, soon

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "params.yaml").read_text(encoding="utf-8")
CONTENT = read_yaml(ROOT / "params.yaml")
MANY = 10_000  # lines
YAML = [
    *("2026-13-45", "!!python/object/apply:os.system [ls]", "!!binary x", "!!float x", "!!set {a}"),
    *("&a [*a]", "*nobody", "? [a]\n: b", "'", '"', "- a: b", "{[1]: 2}", "|\n x", ".nan", "0x1F"),
    *("1_000", "yes", "~", "<<: {a: 1}", "%YAML 1.1\n---", "\x07", "\u202e", "\t", "--- a\n--- b"),
]
LAUGHS = "\n".join(
    ["a0: &a0 [x, x]"] + [f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}]" for n in range(1, 40)]
)

leaves = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=20),
    st.sampled_from([0, 1, -1, 0.5, 10**30, "auto", "cr_dpll", "x" * 3000, "\x1b[2J\n", "../.."]),
)
values = st.recursive(
    leaves,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(max_size=8) | st.integers(), inner, max_size=3)
    ),
    max_leaves=6,
)


def places(content: dict, above: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    """Every key, as a path."""
    found = []
    for name, value in content.items():
        found.append((*above, name))
        found += places(value, (*above, name)) if isinstance(value, dict) else []
    return found


PLACES = places(dict(CONTENT))
edits = st.tuples(
    st.sampled_from(PLACES),
    st.sampled_from(["set", "drop", "add", "copy", "nudge", "nudge"]),
    values,
)


def edited(changes: list[tuple[tuple[str, ...], str, object]]) -> dict:
    content = copy.deepcopy(dict(CONTENT))
    for (*above, name), how, value in changes:
        section = content
        for part in above:
            section = section.get(part) if isinstance(section, dict) else None
        if not isinstance(section, dict):
            continue
        match how:
            case "drop":
                section.pop(name, None)
            case "add":
                section[str(value)[:20] if isinstance(value, str) else f"{name}s"] = value
            case "copy":  # that of another key
                section[name] = CONTENT[PLACES[len(str(value)) % len(PLACES)][0]]
            case "nudge":
                section[name] = nudged(section.get(name))
            case _:
                section[name] = value
    return content


def nudged(value: object) -> object:
    """Another value of the kind."""
    if isinstance(value, bool):
        return not value
    return (
        value + 1 if isinstance(value, int) else value * 0.9 if isinstance(value, float) else value
    )


def same(ours: object, said: object) -> bool:
    """Equal, and of the same type but for whole numbers where others may be."""
    if isinstance(ours, dict) and isinstance(said, dict):
        return ours.keys() == said.keys() and all(same(ours[k], said[k]) for k in ours)
    if isinstance(ours, list | tuple) and isinstance(said, list):
        return len(ours) == len(said) and all(map(same, ours, said))
    if isinstance(ours, float) and type(said) is int:
        return ours == float(said)
    equal = ours == said or (ours != ours and said != said)
    return equal and type(ours) is type(said)


def checked(content: dict) -> bool:
    """Whether it is accepted; see that what was accepted is what was said."""
    try:
        with soon():
            params = check(content, Path("params.yaml"))
    except UserError as error:
        check_message(error, MANY, "params.yaml: ")
        return False
    assert same(params.model_dump(), content)
    return True


@counts(quick=300, full=5000)
def test_rows_1_2_3_any_value_anywhere_is_taken_as_it_is_or_refused(cases: int, capsys) -> None:
    accepted = {True: 0, False: 0}

    @settings(
        max_examples=cases,
        derandomize=True,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(st.lists(edits, min_size=1, max_size=3))
    def run(changes) -> None:
        accepted[checked(edited(changes))] += 1

    assert checked(dict(CONTENT))
    with in_little_memory():
        run()
    with capsys.disabled():
        print(f"params: {accepted[False]} of {sum(accepted.values())} refused")
    assert min(accepted.values()) > cases // 100


# At 2,000 brackets Python's recursion ends within the collector of garbage too, which hypothesis listens to.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@counts(quick=40, full=2000)
def test_row_4_broken_text_is_yaml_or_refused_with_a_line(
    cases: int, tmp_path: Path, capsys
) -> None:
    draw, path, refused = Random(4), tmp_path / "params.yaml", 0
    # Short: YAML takes a tenth of a second for all of it.
    short = re.sub(r" *#.*", "", TEXT)
    with in_little_memory():
        for _ in range(cases):
            match draw.randrange(4):
                case 0:
                    content = broken(TEXT.encode(), draw)
                case 1:
                    content = reworded(short, draw).encode("utf-8", "replace")
                case _:
                    lines = short.splitlines()
                    number = draw.randrange(len(lines))
                    key = lines[number].partition(":")[0]
                    lines[number] = f"{key}: {draw.choice([*YAML, *TOKENS])}"
                    content = "\n".join(lines).encode()
            path.write_bytes(content)
            try:
                with soon():
                    params = load(path)
            except UserError as error:
                refused += 1
                check_message(error, MANY, str(path))
            else:
                assert same(params.model_dump(), read_yaml(path))
    with capsys.disabled():
        print(f"params.yaml: {refused} of {cases} refused")
    assert cases // 10 < refused < cases


@pytest.mark.parametrize("key", ["seed", "data", "compare"])
def test_row_4_aliases_that_grow_without_bound_are_refused_soon(key: str, tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    path.write_text(f"{LAUGHS}\n{key}: *a39\n")
    with in_little_memory(), soon(), pytest.raises(UserError) as caught:
        load(path)
    check_message(caught.value, MANY)
