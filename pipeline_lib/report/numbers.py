"""Numbers as the pages write them."""

from __future__ import annotations

from pipeline_lib.figures import style


def percent(share: float | None, digits: int = 1) -> str:
    """A share in percent, or a dash."""
    return "\N{EN DASH}" if share is None else style.percent(share, digits)


def number(value: float | None) -> str:
    """A count with thousands separators, another number with four digits, or a dash."""
    if value is None:
        return "\N{EN DASH}"
    return f"{value:,}" if isinstance(value, int) else f"{value:.4f}"
