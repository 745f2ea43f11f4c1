"""The page on augmentation is true: its picture is the one that its script draws, its tables are the code's."""

import re

from docs.explanation.make_augmentation import CREDIT, PICTURE, ROWS, picture
from pipeline_lib.augment.policies import AUTO
from pipeline_lib.params.policy_names import POLICIES

PAGE = PICTURE.with_suffix(".md").read_text(encoding="utf-8")


def rows(heading: str) -> list[list[str]]:
    """The cells of the first table of a section, without its head."""
    section = PAGE.split(f"\n## {heading}\n")[1]
    table = section[section.index("|") :].split("\n\n")[0].splitlines()
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table[2:]]


def test_the_picture_of_the_policies_is_up_to_date():
    assert picture() == PICTURE.read_bytes()


def test_the_picture_shows_every_policy_and_both_mixtures_once():
    shown = [name for names in ROWS.values() for name in names]
    assert sorted(shown) == sorted([*set(POLICIES) - {"auto", "none"}, "CutMix", "MixUp"])
    drawn = re.findall(r"<text[^>]*>([^<]*)</text>", PICTURE.read_text(encoding="utf-8"))
    assert [text for text in drawn if text in shown] == shown
    assert all(line in drawn for line in CREDIT)


def test_the_picture_is_small():
    assert PICTURE.stat().st_size < 600_000


def test_the_page_names_every_policy():
    named = [name for row in rows("Policies") for name in re.findall(r"`(\w+)`", row[0])]
    assert sorted(named) == sorted([*set(POLICIES) - {"auto", "none"}, "randaugment_N_M"])


def test_the_page_says_what_auto_is():
    table = {
        kind.strip("`"): [name.strip("`") for name in names]
        for kind, *names in rows("What `auto` is")
    }
    assert table == {kind: list(policies.values()) for kind, policies in AUTO.items()}
    assert all(
        list(policies) == ["weak", "strong", "global", "small"] for policies in AUTO.values()
    )
