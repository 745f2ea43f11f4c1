"""Known holes in what requirements.txt pins, and the licences of what is installed."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from dataclasses import dataclass
from importlib.metadata import distributions
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from pipeline_lib.errors import UserError, in_one_line, listed
from stages.dvc_command import environment

if TYPE_CHECKING:
    from collections.abc import Iterator
    from importlib.metadata import PackageMetadata

REQUIREMENTS = Path("requirements.txt")
SHORT = 60  # characters; more are the text of the licence itself
# In an environment of its own, which cannot change the one that it looks at. It installs nothing of ours.
PIP_AUDIT = (
    *("tool", "run", "pip-audit", "--require-hashes", "--disable-pip"),
    *("--progress-spinner", "off", "--format", "json", "-r", str(REQUIREMENTS)),
)
# How programs say that they found nobody to ask.
_NO_ANSWER = re.compile(
    r"connect|resolve|\bdns\b|timed? ?out|max retries|unreachable|network|offline|failed to fetch|proxy",
    re.IGNORECASE,
)
_PERMISSIVE = re.compile(
    r"\b(MIT|0?BSD|Apache|ISC|PSF|Python Software Foundation|Zlib|CC0|BSL-1\.0|ZPL|Zope|CNRI|HPND)",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Licence:
    """Of an installed distribution, in its own words."""

    name: str
    words: str

    @property
    def permissive(self) -> bool:
        """Whether one of its choices asks for no more than a notice, as far as its words tell."""
        choices = re.split(r"\s+OR\s+|\|", self.words)
        return any(
            all(_PERMISSIVE.search(part) for part in re.split(r"\s+AND\s+", choice))
            for choice in choices
        )


def audit() -> None:
    """Look for known holes in the pinned packages (exit code 1 if there are), and list licences.

    Without an answer from the database of holes it says so, and that is no failure.
    """
    others = [one for one in licences() if not one.permissive]
    total = sum(1 for _ in licences())
    print(
        f"licences: {total - len(others)} of {total} packages ask for no more than a notice; not:"
    )
    print(*(f"  {one.name}: {one.words or 'unknown'}" for one in others), sep="\n")
    found = known_holes()
    if found is None:
        return
    print(f"known holes: {len(found)}", *(f"  {line}" for line in found), sep="\n")
    if found:
        raise typer.Exit(1)


def licences() -> Iterator[Licence]:
    """Every installed distribution by its name."""
    for one in sorted(distributions(), key=lambda one: one.name.lower()):
        yield Licence(one.name, _words(one.metadata))


def _words(metadata: PackageMetadata) -> str:
    """The expression of a licence, or what older packages have: a short text, or classifiers."""
    for text in metadata.get_all("License-Expression") or []:
        return in_one_line(text)
    for text in metadata.get_all("License") or []:
        if 0 < len(text.strip()) <= SHORT and text.strip() != "Dual License":
            return in_one_line(text)
    kinds = (c for c in metadata.get_all("Classifier") or [] if c.startswith("License ::"))
    return " OR ".join(kind.rpartition(" :: ")[2] for kind in kinds)


def known_holes() -> list[str] | None:
    """One line per hole that is known of a pinned package; None where nobody answers.

    Raises:
        UserError: The audit failed for another reason.
    """
    uv = shutil.which("uv", path=environment()["PATH"])
    if uv is None:
        print("known holes: not looked for; it needs uv, which `make audit` sets up")
        return None
    done = subprocess.run([uv, *PIP_AUDIT], capture_output=True, text=True, check=False)
    try:
        answer: dict[str, Any] = json.loads(done.stdout)
    except ValueError as error:
        why = in_one_line(done.stderr.strip().rpartition("\n")[2])
        if _NO_ANSWER.search(done.stderr):
            print(
                f"known holes: the database could not be reached ({why}); try again with a network"
            )
            return None
        msg = f"pip-audit: {why}"
        raise UserError(msg) from error
    asked = answer["dependencies"]
    skipped = [package["name"] for package in asked if "skip_reason" in package]
    if len(skipped) == len(asked):
        print(
            "known holes: the database knows none of the packages, as without a network; try again"
        )
        return None
    if skipped:
        print(f"known holes: nothing is known of {listed(skipped)}")
    return [
        f"{package['name']} {package['version']}: {hole['id']}, mended in {listed(hole['fix_versions']) or 'no version'}"
        for package in asked
        for hole in package.get("vulns", [])
    ]
