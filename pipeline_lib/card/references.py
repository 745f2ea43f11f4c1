"""What to cite of a run: the paper of its method, and that of its dataset."""

from __future__ import annotations

import re
from pathlib import Path

ENTRIES = Path(__file__).with_name("references.bib")
# Those without an entry of their own.
CITED_AS = {
    "pawsb": "paws",
    "snn": "paws",
    "cifar10": "cifar",
    "cifar100": "cifar",
    "svhn_extra": "svhn",
}


def to_cite(method: str, dataset: str) -> list[str]:
    """Entries of BibTeX; none for a baseline, and none for images of the user's own."""
    known = entries()
    keys = (CITED_AS.get(name, name) for name in (method, dataset))
    return [known[key] for key in keys if key in known]


def terms(dataset: str) -> str | None:
    """What its publisher allows with a dataset, in short; None for images of the user's own."""
    entry = entries().get(CITED_AS.get(dataset, dataset), "")
    found = re.search(r"^  terms += \{(.*)\}$", entry, re.MULTILINE)
    return found[1] if found else None


def entries() -> dict[str, str]:
    """Every entry by its key, which is the name of a method or a dataset."""
    text = ENTRIES.read_text(encoding="utf-8")
    found = re.finditer(r"^@\w+\{(\w+),.*?^\}$", text, re.MULTILINE | re.DOTALL)
    return {entry[1]: entry[0] for entry in found}
