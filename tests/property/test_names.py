"""Names that are cut to fit: none is taken for another."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline_lib.figures import style

# Letters that are not printable, that are two wide, that are none wide, and spaces, which are joined.
TEXT = st.text("ab \x00\u00e9\N{CJK UNIFIED IDEOGRAPH-732B}\N{ZERO WIDTH JOINER}", max_size=40)
PLANTS = st.tuples(
    st.sampled_from(["Carex", "Rubus"]),
    st.sampled_from(["mulleri", "muelleri", "m\u00fclleri"]),
    st.sampled_from(["subsp.", "var."]),
    st.sampled_from(["001", "002"]),
    st.sampled_from(["(L., 1753) Nyman ex W.D.J.Koch", "(L., 1753) Nyman ex G.D.J.Koch"]),
).map(" ".join)


@given(st.lists(TEXT | PLANTS, max_size=30), st.integers(10, 40))
def test_different_names_are_shown_differently(names: list[str], limit: int) -> None:
    shown = dict(zip(names, style.labels(names, limit), strict=True))
    assert len(set(shown.values())) == len(shown)
    assert all(text and style.width(text) <= limit for text in shown.values())
    assert style.told_apart(names, limit) == shown


@given(st.lists(TEXT | PLANTS, max_size=30), st.integers(10, 40))
def test_names_that_look_different_as_they_are_stay_so(names: list[str], limit: int) -> None:
    """One that stands alone is cut as ever, and short ones are not changed at all."""
    alone = [style.label(name, limit) for name in names]
    if len(set(alone)) == len(set(names)):
        assert style.labels(names, limit) == alone


@pytest.mark.parametrize("limit", [14, 18, 24])
def test_names_that_differ_in_two_places_are_numbered(limit: int) -> None:
    names = [
        f"Carex {species} var. {number} (L.) Nyman"
        for species in ("mulleri", "muelleri", "m\u00fclleri")
        for number in ("001", "002")
    ]
    shown = style.labels(names, limit)
    assert len(set(shown)) == 6
    assert [text[-2:] for text in shown[2:]] == ["\N{MIDDLE DOT}2"] * 2 + ["\N{MIDDLE DOT}3"] * 2
    assert all(
        "001" in one and "002" in other for one, other in zip(shown[::2], shown[1::2], strict=True)
    )
