"""The verdict on every budget, in sentences: who is ahead, by how much, and how sure that is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import polars as pl

from pipeline_lib.compare.figures.accuracy import p_words
from pipeline_lib.compare.verdicts import POINT, corrected
from pipeline_lib.figures.style import NARROW
from pipeline_lib.report.numbers import percent
from pipeline_lib.statistics.paired import ALPHA
from pipeline_lib.statistics.power import MOST_SEEDS

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

MOST_NAMED = 5  # contenders in one sentence
UNBALANCED = 1.5  # times its even share, of the most frequent class


@dataclass(frozen=True)
class Verdict:
    """On one budget.

    Attributes:
        budget: its name.
        title: in words.
        leaders: the contenders with the highest mean.
        mean: their accuracy.
        sentences: what is known, the most important first.
    """

    budget: str
    title: str
    leaders: tuple[str, ...]
    mean: float
    sentences: tuple[str, ...]


def verdicts(
    groups: pl.DataFrame, comparisons: pl.DataFrame, titles: Mapping[str, str]
) -> list[Verdict]:
    """One per budget.

    Args:
        groups: of `verdicts.groups`, rounded.
        comparisons: of `verdicts.comparisons`, rounded.
        titles: of `budgets.titles`.
    """
    tested = corrected(comparisons)
    return [
        _verdict(
            groups.filter(pl.col("budget") == budget),
            comparisons.filter(pl.col("budget") == budget),
            titles[budget],
            tested,
        )
        for budget in groups["budget"].unique(maintain_order=True)
    ]


def _verdict(groups: pl.DataFrame, comparisons: pl.DataFrame, title: str, tested: int) -> Verdict:
    top = groups.filter(pl.col("mean") == pl.col("mean").max()).rows(named=True)
    leaders = tuple(row["contender"] for row in top)
    others = [name for name in groups["contender"] if name not in leaders]
    sentences = [_lead(top, title, alone=len(groups) == 1), _unbalanced(groups, top[0])]
    refused: dict[str, list[str]] = {}  # leaders that are as far ahead are refused alike: said once
    not_asked = []
    for leader in leaders:
        about = [_from(row, leader) for row in comparisons.rows(named=True)]
        own = [row for row in about if row and row["other"] not in leaders]
        asked = {row["other"] for row in own}
        who = leader if len(leaders) > 1 else ""
        sentences += [
            _better(own, tested, who),
            _undecided(own, who),
        ]
        for words in _refused(own):
            refused.setdefault(words, []).append(leader)
        not_asked.append(_not_asked([name for name in others if name not in asked], who))
    sentences += [
        _begun(joined(who) if len(leaders) > 1 else "", "was" if len(who) == 1 else "were", words)
        for words, who in refused.items()
    ]
    sentences += not_asked
    sentences.append(_elsewhere(comparisons.rows(named=True), leaders))
    return Verdict(
        groups["budget"][0], title, leaders, top[0]["mean"], tuple(filter(None, sentences))
    )


def _from(row: Mapping[str, Any], leader: str) -> dict[str, Any] | None:
    """A comparison as the leader's: its difference from the other one. None where it takes no part."""
    if leader == row["first"]:
        return {**row, "other": row["second"]}
    if leader != row["second"]:
        return None
    return {**row, "other": row["first"], "difference": -row["difference"]}


def interval(low: float | None, high: float | None) -> str | None:
    """An interval of accuracies, cut where accuracies end; None where there is none."""
    if low is None or high is None:
        return None
    return f"{100 * max(low, 0):.1f} to {100 * min(high, 1):.1f}{NARROW}%"


def points(difference: float) -> str:
    """A difference of accuracies."""
    return f"{100 * difference:+.1f}".replace("-", "\N{MINUS SIGN}")


def joined(names: Iterable[str]) -> str:
    """`a`, `a and b`, `a, b and c`."""
    *most, last = list(names)
    return f"{', '.join(most)} and {last}" if most else last


def _lead(top: Sequence[Mapping[str, Any]], title: str, *, alone: bool) -> str:
    row = top[0]
    names, accuracy = joined(row["contender"] for row in top), percent(row["mean"])
    if row["seeds"] == 1:
        about = (
            f"{accuracy} in one training each" if len(top) > 1 else f"{accuracy} in one training"
        )
        luck = "; what another seed would change is not known"
    else:
        of_seeds = f"over {row['seeds']} seeds"
        found = [interval(row["low"], row["high"]) or "none" for row in top]
        about = f"{accuracy} {of_seeds}"
        if len(top) > 1 and any(row["low"] is not None for row in top):
            about = f"{accuracy} (95{NARROW}% intervals {joined(found)}, {of_seeds})"
        elif row["low"] is not None:
            about = f"{accuracy} (95{NARROW}% interval {found[0]} {of_seeds})"
        luck = ""
    if alone:
        return f"With {title} {names} gets {about}{luck}; there is nothing to compare it with."
    if len(top) > 1:
        return f"With {title} {names} share the best mean, {about}{luck}."
    return f"With {title} {names} {'is best on average' if not luck else 'comes out best'}, {about}{luck}."


def _unbalanced(groups: pl.DataFrame, best: Mapping[str, Any]) -> str:
    """What accuracy hides where some classes have far more test images than others."""
    if best["commonest"] * best["classes"] < UNBALANCED:
        return ""
    constant = f"always naming the most frequent class would get {percent(best['commonest'])}"
    said = (
        f"{constant[0].upper()}{constant[1:]}."
        if best["mean"] > best["commonest"]
        else f"No better than a constant: {constant}."
    )
    ahead = groups.sort("balanced_accuracy", descending=True, maintain_order=True).row(
        0, named=True
    )
    if ahead["balanced_accuracy"] > best["balanced_accuracy"]:
        said += (
            f" Where every class counts alike (balanced accuracy), {ahead['contender']} is ahead on average: "
            f"{percent(ahead['balanced_accuracy'])} against {percent(best['balanced_accuracy'])}."
        )
    return said


def _named(rows: Sequence[Mapping[str, Any]]) -> str:
    """The others with their differences, the closest ones first."""
    closest = sorted(rows, key=lambda row: abs(row["difference"]))
    said = [
        f"{row['other']} ({points(row['difference'])} points"
        + (")" if row["p_holm"] is None else f", {_unbroken(p_words(row['p_holm']))})")
        for row in closest[:MOST_NAMED]
    ]
    more = len(rows) - MOST_NAMED
    return joined([*said, f"{more} more"] if more > 0 else said)


def _unbroken(text: str) -> str:
    return text.replace(" ", "\N{NO-BREAK SPACE}")


def _begun(who: str, verb: str, words: str) -> str:
    """The beginning of a sentence about the leader, who is named where there are several."""
    return f"{who} {verb} {words}" if who else f"{words[0].upper()}{words[1:]}"


def _better(own: Sequence[Mapping[str, Any]], tested: int, who: str) -> str:
    """Whom the leader beats."""
    rows = [row for row in own if row["significant"]]
    if not rows:
        return ""
    corrected = f"after Holm\N{RIGHT SINGLE QUOTATION MARK}s correction for {tested} tests"
    better = f"{_begun(who, 'is', 'better than')} {_named(rows)}"
    return f"{better} {corrected if tested > 1 else ''}".rstrip() + "."


def _undecided(own: Sequence[Mapping[str, Any]], who: str) -> str:
    rows = [row for row in own if row["p_holm"] is not None and row["p_holm"] > ALPHA]
    if not rows:
        return ""
    hidden = max(row["hidden_by_images"] for row in rows)
    more = (
        f" These test images may hide differences of up to {100 * hidden:.1f} points from any number of seeds, so that it "
        "may take more images as well."
        if hidden > POINT
        else ""
    )
    return f"{_begun(who, 'is', 'not told apart from')} {_named(rows)}{_seeds_needed(rows)}.{more}"


def _seeds_needed(rows: Sequence[Mapping[str, Any]]) -> str:
    """For a difference of a point; nothing of pairs whose differences are the same with every seed."""
    spread = [row for row in rows if row["sd"]]
    if not spread:
        return ""
    needed = seeds_words(row["seeds_for_a_point"] for row in spread)
    rough = seeds_words(row[name] for row in spread for name in ("fewest_seeds", "most_seeds"))
    return (
        f"; as far as trainings decide, a difference of one point takes about {needed} seeds, a rough number: {rough}, "
        f"as far as {spread[0]['seeds']} seeds tell the spread"
    )


def seeds_words(seeds: Iterable[int | None]) -> str:
    """From the fewest to the most of the numbers of seeds that were sought; None: not even `MOST_SEEDS` are enough."""
    ranked = sorted(set(seeds), key=lambda n: (n is None, n))
    ends = dict.fromkeys((ranked[0], ranked[-1]))
    return " to ".join(f"more than {MOST_SEEDS:,}" if n is None else f"{n:,}" for n in ends)


def _refused(own: Sequence[Mapping[str, Any]]) -> list[str]:
    """Per reason, whom the leader was not tested against."""
    by_reason: dict[str, list[Mapping[str, Any]]] = {}
    for row in own:
        if row["refused"] is not None:
            by_reason.setdefault(row["refused"], []).append(row)
    return [
        f"not tested against {_named(rows)}. {reason[0].upper()}{reason[1:]}."
        for reason, rows in by_reason.items()
    ]


def _not_asked(names: Sequence[str], who: str) -> str:
    if not names:
        return ""
    return f"No test {f'of {who} ' if who else ''}against {joined(names)} was asked for (compare.pairs)."


def _elsewhere(rows: Iterable[Mapping[str, Any]], leaders: Sequence[str]) -> str:
    """The tested pairs without a leader, counted."""
    others = [
        row["significant"]
        for row in rows
        if row["p_holm"] is not None and not {row["first"], row["second"]} & set(leaders)
    ]
    if not others:
        return ""
    return (
        f"Other tested pairs that differ significantly: {sum(others) or 'none'} of {len(others)}."
    )
